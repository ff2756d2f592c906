"""Options that several commands share, and how their values are read."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


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
        "--archive", "-a", metavar="DIR", envvar="MEDLIKE_ARCHIVE", help="The archive's folder.",
        show_default="your own, in the user's data directory",
    ),
]  # fmt: skip
ReportFormat = Annotated[Report, typer.Option("--format", "-f", help="Table for people, JSON for programs.")]


def archive_folder(given: Path | None) -> Path:
    """The folder given, else the archive in the user's data directory."""
    if given is not None:
        return given
    from platformdirs import user_data_path

    return user_data_path("medlike", appauthor=False) / "archive"


def conditions(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read the texts of --where into a filter; typer.BadParameter where one is no condition."""
    from medlike.archive.filters import parse
    from medlike.errors import QueryError

    try:
        return parse(texts)
    except QueryError as error:
        raise typer.BadParameter(str(error), param_hint="--where") from None


Passphrase = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file", metavar="FILE",
        help="Encrypts the id key in the backup; the file's first line, or - to be asked.",
    ),
]  # fmt: skip


def passphrase(given: Path | None) -> str | None:
    """The passphrase in a file's first line, or typed where the file is `-`."""
    if given is None:
        return None
    if str(given) == "-":
        return str(typer.prompt("Passphrase", hide_input=True, err=True))
    lines = given.read_text(encoding="utf-8").splitlines()
    if not lines or not lines[0]:
        raise typer.BadParameter(f"{given} is empty", param_hint="--passphrase-file")
    return lines[0]
