"""Reports of jobs as the classes that an archive's own verbs return."""

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar

from medlike.archive.intake.conflicts import Conflict
from medlike.archive.intake.report import AddReport
from medlike.archive.storage.fits import FitReport, LabelTrial
from medlike.archive.storage.upkeep import CompactReport
from medlike.archive.storage.verify import Problem
from medlike.types import Json

if TYPE_CHECKING:
    from medlike.archive.intake.reindex import ReindexReport
    from medlike.archive.storage.backup import BackupReport

Kind = TypeVar("Kind")


def made(kind: type[Kind], facts: Mapping[str, Json], **values: object) -> Kind:
    """Return a report from its plain form; what a newer service adds to it is left out.

    Args:
        kind: The class of the report.
        facts: The plain form.
        **values: Fields that are more than plain values.
    """
    names = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**({name: value for name, value in facts.items() if name in names} | values))


def fit_report(facts: Mapping[str, Json] | None) -> FitReport | None:
    """Return the report of a fit, None for None."""
    if facts is None:
        return None
    labels = facts.get("labels")
    trial = None
    if labels is not None:
        gain = labels.get("gain")
        trial = made(
            LabelTrial, labels, left_out=tuple(labels.get("left_out", ())), gain=None if gain is None else tuple(gain)
        )
    return made(FitReport, facts, labels=trial)


def add_report(facts: Mapping[str, Json]) -> AddReport:
    """Return the report of an intake."""
    pairs = {name: [tuple(each) for each in facts.get(name, ())] for name in ("skipped", "duplicates", "remarks")}
    return made(
        AddReport,
        facts,
        **pairs,
        replacements=[tuple(each) for each in facts.get("replacements", ())],
        dropped={column: tuple(each) for column, each in facts.get("dropped", {}).items()},
        conflicts=[
            made(Conflict, each, differs=tuple(each["differs"])) for each in facts.get("conflicts", ())
        ],
        fit=fit_report(facts.get("fit")),
    )


def reindex_report(facts: Mapping[str, Json]) -> "ReindexReport":
    """Return the report of encoding images again."""
    from medlike.archive.intake.reindex import ReindexReport
    from medlike.archive.intake.text_codes import TextReport

    text = facts.get("text")
    return made(
        ReindexReport,
        facts,
        text=None if text is None else made(TextReport, text),
        fit=fit_report(facts.get("fit")),
    )


def compact_report(facts: Mapping[str, Json]) -> CompactReport:
    """Return the report of a compaction."""
    return made(CompactReport, facts)


def backup_report(facts: Mapping[str, Json]) -> "BackupReport":
    """Return the report of a backup."""
    from medlike.archive.storage.backup import BackupReport

    return made(BackupReport, facts)


def problems(facts: list[Mapping[str, Json]]) -> list[Problem]:
    """Return what a check found."""
    return [made(Problem, each) for each in facts]
