"""Options of several commands, and how their values are read."""

import os
import re
from collections.abc import Collection, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medlike import Archive, Client
    from medlike.archive.searchable import Searchable
    from medlike.types import JsonObject

# How many digits of an id a narrow table shows.
SHORT = 12
FEWEST = 4  # digits that may stand for an id
WHOLE = 32  # digits of an id


class Format(StrEnum):
    """Forms of output on stdout."""

    table = "table"
    json = "json"
    csv = "csv"


class Report(StrEnum):
    """Forms of output on stdout, for commands whose result is not a list."""

    table = "table"
    json = "json"


#: A folder as it was typed: a Path would fold the slashes of an address.
ArchiveFolder = Annotated[
    str | None,
    typer.Option(
        "--archive", "-a", metavar="DIR", envvar="MEDLIKE_ARCHIVE", help="Folder of the archive.",
        show_default="an archive in your data directory",
    ),
]  # fmt: skip
ArchivePlace = Annotated[
    str | None,
    typer.Option(
        "--archive", "-a", metavar="DIR|URL", envvar="MEDLIKE_ARCHIVE",
        help="Folder of the archive, or address of a medlike service that holds it, with its token in MEDLIKE_TOKEN.",
        show_default="an archive in your data directory",
    ),
]  # fmt: skip
BundleName = Annotated[
    str | None,
    typer.Option(
        "--bundle", "-b", help="Name of a shipped bundle, or the folder of one.", show_default="the default bundle"
    ),
]
Wait = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for another writer.")
]
ReportFormat = Annotated[Report, typer.Option("--format", "-f", help="Output format: a table, or JSON for programs.")]
ListFormat = Annotated[
    Format, typer.Option("--format", "-f", help="Output format: a table, or JSON or CSV for programs.")
]


def refuse(context: typer.Context, names: Collection[str], why: str) -> None:
    """Refuse parameters that have no effect.

    Args:
        context: The context of the command.
        names: The names of the parameters.
        why: The reason.

    Raises:
        typer.BadParameter: One of them is on the command line.
    """
    for option in context.command.params:
        source = context.get_parameter_source(option.name) if option.name in names else None
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"{why}: leave it out", param_hint=option.opts[0])


def archive_folder(folder: str | None) -> Path:
    """Return the folder of the archive: by default one in the user's data directory.

    Raises:
        typer.BadParameter: It is the address of a service.
    """
    if folder is not None:
        if remote(folder):
            raise typer.BadParameter(
                f"{folder} is a service, and this needs the folder of the archive: run it on the service's machine",
                param_hint="--archive",
            )
        return Path(folder)
    from platformdirs import user_data_path

    return user_data_path("medlike", appauthor=False) / "archive"


def remote(place: str | None) -> bool:
    """Return True if an archive is given as the address of a service."""
    from medlike.cluster.address import is_address

    return place is not None and is_address(place)


def client(address: str) -> "Client":
    """Return a client of a service. That of the owner shows where images came from.

    Args:
        address: The address, as typed.

    Raises:
        MissingExtra: httpx is not installed.
        InputError: The address is none.
        typer.BadParameter: The address on the command line holds a token.
    """
    from medlike import Client
    from medlike.cluster.address import Address

    parsed = Address.of(address)
    if parsed.token is not None and address != os.environ.get("MEDLIKE_ARCHIVE"):
        raise typer.BadParameter(
            "the address holds the token, and other users of this machine see what you type here: set MEDLIKE_TOKEN "
            "to it, and leave it out",
            param_hint="--archive",
        )
    # A service elsewhere tells other services nothing of sources, and refuses to be asked.
    return Client(address, sources=parsed.local)


def opened(place: str | None, wait: float = 0.0) -> "Archive | Client":
    """Open an archive, in a folder or held by a service.

    Args:
        place: The folder or the address.
        wait: Seconds to wait for another writer, as typed.

    Raises:
        ArchiveError: There is no archive in the folder.
        typer.BadParameter: `wait` is given with an address, or what `client` refuses.
    """
    from medlike import Archive

    if place is not None and remote(place):
        if wait:
            raise typer.BadParameter("a service does one write after the other: leave it out", param_hint="--wait")
        return client(place)
    return Archive.open(archive_folder(place))


def full_id(opened: "Searchable", digits: str) -> str:
    """Return the id that begins with some digits, or the digits themselves if there is none.

    Raises:
        typer.BadParameter: There are too few digits, or several ids begin with them.
    """
    if not re.fullmatch(r"[0-9a-fA-F]+", digits):
        return digits
    if len(digits) < FEWEST:
        raise typer.BadParameter(f"{digits} is too short; give at least {FEWEST} digits of an id", param_hint="ID")
    digits = digits.lower()
    if len(digits) >= WHOLE:
        return digits
    ids = opened.ids(digits)
    if len(ids) > 1:
        raise typer.BadParameter(f"{digits} begins {len(ids)} ids; give more digits", param_hint="ID")
    return ids[0] if ids else digits


def conditions(texts: Sequence[str]) -> "JsonObject":
    """Read the values of --where as a filter.

    Raises:
        typer.BadParameter: A text is not a condition.
    """
    from medlike.archive.index import filters
    from medlike.archive.index.filter_text import parse
    from medlike.errors import QueryError

    try:
        where = parse(texts)
        filters.require_comparable(filters.conditions(where))
        return where
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


def passphrase(file: Path | None, again: bool = False) -> str | None:
    """Return the passphrase of a backup, which is never an argument: other users of the machine could see it.

    Args:
        file: A file with the passphrase in its first line, or `-` to type it. None: read MEDLIKE_PASSPHRASE.
        again: If true, it is typed twice.

    Returns:
        The passphrase, or None if there is none.

    Raises:
        typer.BadParameter: The file is empty.
    """
    if file is None:
        return os.environ.get("MEDLIKE_PASSPHRASE") or None
    if str(file) == "-":
        return str(typer.prompt("Passphrase", hide_input=True, err=True, confirmation_prompt=again))
    with file.open(encoding="utf-8") as opened:
        lines = opened.read(4096).splitlines()
    if not lines or not lines[0]:
        raise typer.BadParameter(f"{file} is empty", param_hint="--passphrase-file")
    return lines[0]
