"""Reports of a service as the classes that an archive's own verbs return."""

from collections.abc import Mapping
from dataclasses import fields
from typing import TypeVar

from medlike.archive.intake.reindex import ReindexReport
from medlike.archive.intake.text_codes import TextReport
from medlike.archive.storage.fits import FitReport, LabelTrial
from medlike.types import Json

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


def fit_report(facts: Mapping[str, Json]) -> FitReport:
    """Return the report of a fit, whole or so far.

    Args:
        facts: Its plain form.
    """
    labels = facts.get("labels")
    if labels is not None:
        gain = None if labels.get("gain") is None else tuple(labels["gain"])
        labels = made(LabelTrial, labels, left_out=_sequence(labels.get("left_out")), gain=gain)
    return made(FitReport, {"reason": "", **facts}, labels=labels)


def reindex_report(facts: Mapping[str, Json]) -> ReindexReport:
    """Return the report of encoding images again, whole or so far.

    Args:
        facts: Its plain form.
    """
    text, fit = facts.get("text"), facts.get("fit")
    return made(
        ReindexReport,
        facts,
        lost=list(_sequence(facts.get("lost"))),
        text=None if text is None else made(TextReport, text),
        fit=None if fit is None else fit_report(fit),
    )


def _sequence(value: Json) -> tuple[str, ...]:
    """Return a list as a tuple; of work under way only its length is told."""
    return ("",) * value if isinstance(value, int) else tuple(value or ())
