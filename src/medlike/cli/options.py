"""Options that several commands share, and how their values are read."""

import os
import re
from collections.abc import Collection, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from medlike import Archive

# How many digits of an id a narrow table shows.
SHORT = 12
FEWEST = 4  # digits that an id may be given by
WHOLE = 32  # digits of an id


class Format(StrEnum):
    """What goes to stdout."""

    table = "table"
    json = "json"
    csv = "csv"


class Report(StrEnum):
    """What goes to stdout, for commands whose answer is not a list."""

    table = "table"
    json = "json"


ArchiveFolder = Annotated[
    Path | None,
    typer.Option(
        "--archive", "-a", metavar="DIR", envvar="MEDLIKE_ARCHIVE", help="Folder of the archive.",
        show_default="an archive in your data directory",
    ),
]  # fmt: skip
ReportFormat = Annotated[Report, typer.Option("--format", "-f", help="Output format: a table, or JSON for programs.")]
ListFormat = Annotated[
    Format, typer.Option("--format", "-f", help="Output format: a table, or JSON or CSV for programs.")
]


def refuse(context: typer.Context, names: Collection[str], why: str) -> None:
    """typer.BadParameter for the first of these parameters that was written on the command line."""
    for option in context.command.params:
        source = context.get_parameter_source(option.name) if option.name in names else None
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"{why}: leave it out", param_hint=option.opts[0])


def archive_folder(given: Path | None) -> Path:
    """The folder given, else the archive in the user's data directory."""
    if given is not None:
        return given
    from platformdirs import user_data_path

    return user_data_path("medlike", appauthor=False) / "archive"


def full_id(opened: "Archive", given: str) -> str:
    """The id that begins with these digits; what was given where none does. Too few: typer.BadParameter."""
    if not re.fullmatch(r"[0-9a-fA-F]+", given):
        return given
    if len(given) < FEWEST:
        raise typer.BadParameter(f"{given} is too short; give at least {FEWEST} digits of an id", param_hint="ID")
    given = given.lower()
    if len(given) >= WHOLE:
        return given
    ids = opened.ids(given)
    if len(ids) > 1:
        raise typer.BadParameter(f"{given} begins {len(ids)} ids; give more digits", param_hint="ID")
    return ids[0] if ids else given


def conditions(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read the texts of --where into a filter; typer.BadParameter where one is no condition."""
    from medlike.archive.index.filters import parse
    from medlike.errors import QueryError

    try:
        return parse(texts)
    except QueryError as error:
        raise typer.BadParameter(str(error), param_hint="--where") from None


Passphrase = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file", metavar="FILE",
        help="Read the passphrase of an encrypted backup from the first line of a file; - to type it. The environment "
        "variable MEDLIKE_PASSPHRASE works too.",
    ),
]  # fmt: skip


def passphrase(given: Path | None, again: bool = False) -> str | None:
    """Return the passphrase: a file's first line, typed where the file is `-`, else of MEDLIKE_PASSPHRASE, or None.

    It is never an argument, which other users of the machine could see. again: it is typed twice.
    """
    if given is None:
        return os.environ.get("MEDLIKE_PASSPHRASE") or None
    if str(given) == "-":
        return str(typer.prompt("Passphrase", hide_input=True, err=True, confirmation_prompt=again))
    with given.open(encoding="utf-8") as file:
        lines = file.read(4096).splitlines()
    if not lines or not lines[0]:
        raise typer.BadParameter(f"{given} is empty", param_hint="--passphrase-file")
    return lines[0]
