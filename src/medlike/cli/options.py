"""Options that several commands share, and how their values are read."""

import re
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


_CONDITION = re.compile(r"^\s*([A-Za-z_][\w.]*)\s*(>=|<=|!=|=|>|<)\s*(.*?)\s*$", re.DOTALL)
_OPERATORS = {"=": "eq", "!=": "ne", ">=": "gte", "<=": "lte", ">": "gt", "<": "lt"}


def conditions(texts: Sequence[str]) -> dict[str, Any]:
    """Read `modality=CT`, `age>=40`, `modality=CT,MR` into the filter that a search takes.

    Several conditions on one field must all hold. Raises typer.BadParameter where a text is no condition.
    """
    where: dict[str, Any] = {}
    for text in texts:
        match = _CONDITION.match(text)
        if match is None:
            raise typer.BadParameter(
                f"{text!r} is no condition; write FIELD=VALUE or FIELD>=NUMBER, like modality=CT or age>=40",
                param_hint="--where",
            )
        field, sign, value = match.groups()
        name = _OPERATORS[sign]
        read: Any
        if sign in (">", ">=", "<", "<="):
            read = _number(text, value)
        elif sign == "=" and "," in value:
            name, read = "in", [_plain(v.strip()) for v in value.split(",") if v.strip()]
        else:
            read = _plain(value)
        if name in where.setdefault(field, {}):
            raise typer.BadParameter(f"{field} has two conditions with {sign}", param_hint="--where")
        where[field][name] = read
    return where


def _number(text: str, value: str) -> int | float:
    try:
        return _plain_number(value)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} compares with {value!r}, which is no number", param_hint="--where"
        ) from None


def _plain_number(value: str) -> int | float:
    number = float(value)
    return int(number) if number.is_integer() and "e" not in value.lower() else number


def _plain(value: str) -> str | int | float:
    if re.fullmatch(r"-?\d+(\.\d+)?", value):
        return _plain_number(value)
    return value


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
