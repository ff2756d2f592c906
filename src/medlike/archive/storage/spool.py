"""The spool: what was received and acknowledged, and is not yet committed.

An entry is `<ticket><suffix>`, the file as received, and `<ticket>.json`, its sidecar. Both are fsynced, then the
folder; only then is the ticket returned, which is the acknowledgement. The entry is deleted after its commit.
Taking it in twice is harmless: ids do not depend on when an image came.

A sidecar names its file. The name must be its own ticket and a suffix, and the file a regular one, so that nothing
outside of the folder is ever read, moved or deleted. A sidecar that breaks a rule is set aside with its file.

Beside the entries lie `counter`, the number of the newest ticket, and, while a drain runs, `tried`: the tickets under
way. Tickets of an earlier medlike begin with a time, later ones with the next number.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from medlike import files as durable
from medlike import strict_json
from medlike.archive.storage import arrival
from medlike.errors import ArchiveError, InputError
from medlike.types import Json

REFUSED = "refused"
COUNTER = "counter"
TRIED = "tried"
_ABANDONED = 3600.0  # seconds
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}$")
_TICKET = re.compile(r"\d{20}-[0-9a-f]{16}")
_NAME = re.compile(r"\.[a-z0-9]{1,8}")
DAMAGED = ".damaged"  # suffix of a sidecar that was set aside as it was


@dataclass(frozen=True)
class Entry:
    """One received file. name: as the sender called it; reason: why it was refused, if it was."""

    ticket: str
    path: Path
    name: str
    metadata: Mapping[str, Json] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    identifiers: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None

    @property
    def number(self) -> int:
        """Return the place of the entry in the order of arrival."""
        return _number(self.ticket)


class Spool:
    """The spool folder of an archive. Writing into it needs no lock: many receivers beside one writer."""

    def __init__(self, place: Callable[[], Path]) -> None:
        """Open nothing yet.

        Args:
            place: Returns the folder, which an upgrade of the archive moves.
        """
        self._place = place

    @property
    def folder(self) -> Path:
        """Return the folder as it lies now."""
        return self._place()

    def put(
        self,
        data: bytes | BinaryIO,
        name: str = "",
        metadata: Mapping[str, Json] | None = None,
        texts: Mapping[str, str] | None = None,
        identifiers: Mapping[str, str] | None = None,
    ) -> str:
        """Store a received file and its facts durably, and return the ticket, which is the acknowledgement.

        Raises InputError where a fact is of a wrong type, too long or no finite number.
        """
        facts = arrival.checked(name, metadata, texts, identifiers)
        folder = self.folder
        try:
            return self._put(data, name, facts)
        except ArchiveError:
            if self.folder == folder:
                raise
            # An upgrade moved the folder meanwhile, and nothing was acknowledged. A file left behind is no entry, or
            # an entry twice, which is harmless.
            return self._put(data, name, facts)

    def _put(self, data: bytes | BinaryIO, name: str, facts: Mapping[str, Json]) -> str:
        # The number puts entries in the order they came: of two versions of an image the later one stays.
        ticket = f"{self._next_number():020d}-{_digest(data)}"
        suffix = _SUFFIX.search(name)
        kind = suffix.group().lower() if suffix else ""
        path = self.folder / (ticket + (kind if kind not in ("", ".json") else ".bin"))
        sidecar = json.dumps({"file": path.name, **facts}, ensure_ascii=False).encode()
        # The file's name is safe before the sidecar is there: a sidecar without a file is damage, never a crash.
        try:
            durable.write(path, data, mode=0o600)
            durable.write(self._sidecar(ticket), sidecar, mode=0o600)
        except BaseException:
            # Nothing was acknowledged: on a full disk the file must not stay until the next sweep.
            self._sidecar(ticket).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise
        return ticket

    def newest(self) -> int:
        """Return the highest number of a ticket that waits or was set aside, 0 without any."""
        paths = [*sidecars(self.folder), *sidecars(self.folder / REFUSED)]
        return max((_number(path.stem) for path in paths if _TICKET.fullmatch(path.stem)), default=0)

    def _next_number(self) -> int:
        """Draw the number of the next ticket. Receivers take turns, and a power cut does not turn it back."""
        path = self.folder / COUNTER
        with durable.disk_errors(path):
            descriptor = durable.create(path, 0o600, os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                # Written twice, so that a damaged number is not believed. The first is above those of an earlier
                # medlike, which are times: no ticket is given out again.
                match = re.fullmatch(rb"(\d{20}) \1\n", os.pread(descriptor, 64, 0))
                last = int(match[1]) if match else max(time.time_ns(), self.newest())
                os.pwrite(descriptor, b"%020d %020d\n" % (last + 1, last + 1), 0)
                durable.sync_files([path])
            finally:
                os.close(descriptor)
        return last + 1

    def entries(self) -> Iterator[Entry]:
        """Yield the acknowledged entries in the order they came, without damaged ones."""
        return _sound(self.folder)

    def waits(self, ticket: str) -> bool:
        """Return whether the file of a ticket waits to be committed."""
        return _TICKET.fullmatch(ticket) is not None and self._sidecar(ticket).exists()

    def damaged(self) -> list[str]:
        """Return what is wrong with acknowledged entries, as sentences."""
        problems = []
        for sidecar in sidecars(self.folder):
            try:
                entry = _entry(sidecar)
            except FileNotFoundError:
                continue  # committed just now
            except _DAMAGE as error:
                problems.append(f"{sidecar} is damaged ({error}) though it was acknowledged")
                continue
            try:
                if _digest(durable.read(entry.path)) != entry.ticket[-16:]:
                    problems.append(f"{entry.path} is damaged though it was acknowledged: receive it again")
            except FileNotFoundError:
                if sidecar.exists():
                    problems.append(f"{entry.path} is missing though it was acknowledged")
            except (OSError, ArchiveError) as error:
                problems.append(f"{entry.path} cannot be read ({error}) though it was acknowledged")
        return problems

    def refused(self) -> Iterator[Entry]:
        """Yield the entries that could not be used, each with the reason."""
        return _sound(self.folder / REFUSED)

    def set_damaged_aside(self) -> list[tuple[str, str]]:
        """Move entries whose sidecar is damaged to the refused ones; their tickets and the reasons.

        The sidecar stays as it was, under another name, and a sound one with the reason takes its place.
        """
        moved = []
        for sidecar in sidecars(self.folder):
            try:
                _entry(sidecar)
            except FileNotFoundError:
                continue
            except _DAMAGE as error:
                # What bears no ticket is not of the spool's making: `verify` names it, and nobody touches it.
                if _TICKET.fullmatch(sidecar.stem):
                    moved.append((sidecar.stem, f"what was received with the file is damaged: {error}"))
        for ticket, reason in moved:
            self._set_aside(ticket, reason)
        return moved

    def _set_aside(self, ticket: str, reason: str) -> None:
        folder = self.folder / REFUSED
        durable.make_folder(folder, 0o700)
        files = [path for path in sorted(self.folder.glob(f"{ticket}.*")) if _is_of(path.name, ticket)]
        name = next((path.name for path in files if durable.is_regular(path)), f"{ticket}.bin")
        facts = {"file": name, **arrival.checked(ticket), "reason": reason}
        durable.write(folder / f"{ticket}.json", json.dumps(facts, ensure_ascii=False).encode(), mode=0o600)
        with durable.disk_errors(folder):
            for path in files:
                # A link or a pipe is kept as well, under a name that nothing reads.
                durable.move(path, folder / (path.name if durable.is_regular(path) else path.name + DAMAGED))
            # Last: an interruption before leaves the damaged sidecar, and the next attempt begins again.
            durable.move(self._sidecar(ticket), folder / f"{ticket}{DAMAGED}")
            durable.sync_folders([folder, self.folder])

    def done(self, entry: Entry) -> None:
        """Forget an entry: it was committed."""
        # The sidecar is gone for good before the file goes: what is left of half of this is no entry.
        self._sidecar(entry.ticket).unlink(missing_ok=True)
        durable.sync_folders([self.folder])
        entry.path.unlink(missing_ok=True)

    def refuse(self, entry: Entry, reason: str) -> None:
        """Set an entry aside with the reason; nothing acknowledged is thrown away."""
        folder = self.folder / REFUSED
        durable.make_folder(folder, 0o700)
        facts = {
            "file": entry.path.name,
            "name": entry.name,
            "metadata": dict(entry.metadata),
            "texts": dict(entry.texts),
            "identifiers": dict(entry.identifiers),
            "reason": reason.encode(errors="backslashreplace").decode(),
        }
        try:
            durable.write(folder / entry.path.name, durable.read(entry.path), mode=0o600)
        except OSError:
            # What cannot be read is set aside all the same.
            with contextlib.suppress(FileExistsError):
                (folder / entry.path.name).hardlink_to(entry.path)
        durable.write(folder / f"{entry.ticket}.json", json.dumps(facts, ensure_ascii=False).encode(), mode=0o600)
        self.done(entry)

    def tried(self) -> dict[str, int]:
        """Return how often each ticket was under way when a drain died. Empty where the last one came to its end."""
        try:
            tries = strict_json.loads(durable.read(self.folder / TRIED, arrival.SIDECAR))
            return {str(ticket): int(count) for ticket, count in tries.items()}
        except (AttributeError, *_DAMAGE):
            return {}

    def note_tries(self, tries: Mapping[str, int]) -> None:
        """Note the tickets that are under way, each with the number of its try; none: the drain came to its end."""
        if tries:
            durable.write(self.folder / TRIED, json.dumps(dict(tries)).encode(), mode=0o600)
        else:
            (self.folder / TRIED).unlink(missing_ok=True)

    def holding(self, uids: Iterable[str], others: bool) -> Iterator[Entry]:
        """Yield the waiting entries that state one of the UIDs, and with `others` those that are no DICOM file."""
        needles = [_whole(uid) for uid in uids if uid]
        for entry in self.entries():
            with contextlib.suppress(OSError, ArchiveError):
                data = durable.read(entry.path)
                stated = data + b"\0" + json.dumps(dict(entry.identifiers)).encode()
                if any(needle.search(stated) for needle in needles) or (others and data[128:132] != b"DICM"):
                    yield entry

    def forget(self, uids: list[str]) -> int:
        """Delete files set aside or left by a crash that hold one of the UIDs; how many."""
        needles = [_whole(uid) for uid in uids if uid]
        doomed = []
        for entry in self.refused():
            parts = [entry.path.with_name(entry.ticket + end) for end in (".json", DAMAGED)] + [entry.path]
            parts = [path for path in parts if durable.is_regular(path)]
            if any(needle.search(durable.read(path)) for path in parts for needle in needles):
                doomed += parts
        for path in self._strays():
            with contextlib.suppress(FileNotFoundError):
                content = durable.read(path)
                if any(needle.search(content) for needle in needles):
                    doomed.append(path)
        for path in doomed:
            path.unlink(missing_ok=True)
        # What `done` deleted must not come back either.
        durable.sync_folders(sorted({self.folder, *(path.parent for path in doomed)}))
        return len(doomed)

    def sweep(self) -> None:
        """Delete what receivers left that died before they acknowledged; a young file may be under way."""
        for path in self._strays():
            # One that a receiver renames meanwhile is no stray.
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _ABANDONED:
                    path.unlink()

    def _strays(self) -> list[Path]:
        """Files of no entry."""
        named = {entry.path.name for entry in self.entries()}
        return [
            path
            for path in self.folder.glob("*")
            if durable.is_regular(path)
            and path.suffix != ".json"
            and path.name not in (COUNTER, TRIED)
            and path.name not in named
        ]

    def _sidecar(self, ticket: str) -> Path:
        return self.folder / f"{ticket}.json"


def sidecars(folder: Path) -> list[Path]:
    """Return the sidecars in a folder, in the order they came; none where it is missing or closed to this user."""
    return sorted(folder.glob("*.json")) if os.path.isdir(folder) else []  # noqa: PTH112 (a closed one is no error)


def move_spool(outside: Path, inside: Path) -> int:
    """Move the folder of received files, with whatever receivers write meanwhile; how many files wait in it.

    It is renamed in one step, so that each file is acknowledged in the one place or in the other. What lies at the
    new place already, as after an interrupted attempt and a repair by hand, is put with the others first.

    Args:
        outside: Where it lies.
        inside: Where it is to lie.
    """
    with durable.disk_errors(inside):
        if outside.exists():
            if inside.exists():
                _merge(inside, outside)
            durable.move(outside, inside)
            durable.sync_folders([inside, inside.parent, outside.parent])
    durable.make_folder(inside, 0o700)
    return sum(1 for _ in _sound(inside))


def _merge(folder: Path, into: Path) -> None:
    """Move all files of a spool into another one; the tickets that are given out next are those of the other."""
    for path in list(folder.iterdir()):
        target = into / path.name
        if path.is_dir() and not path.is_symlink():
            durable.make_folder(target, 0o700)
            _merge(path, target)
        elif path.name in (COUNTER, TRIED) and target.exists():
            path.unlink()
        else:
            durable.move(path, target)
    durable.sync_folders([into])
    folder.rmdir()


def _digest(data: bytes | BinaryIO) -> str:
    """Return the digest of a received file that its ticket ends in."""
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()[:16]
    data.seek(0)
    return hashlib.file_digest(data, "sha256").hexdigest()[:16]  # type: ignore[arg-type]


# What reading a sidecar can end in; a directory or one without permission among it.
_DAMAGE = (ValueError, KeyError, TypeError, OSError, ArchiveError, InputError)


def _number(ticket: str) -> int:
    return int(ticket[:20])


def _sound(folder: Path) -> Iterator[Entry]:
    for sidecar in sidecars(folder):
        with contextlib.suppress(*_DAMAGE):
            yield _entry(sidecar)


def _is_of(name: str, ticket: str) -> bool:
    """Return whether a name is that of a received file with this ticket."""
    return name.startswith(ticket) and _NAME.fullmatch(name[len(ticket) :]) is not None and not name.endswith(".json")


def _entry(sidecar: Path) -> Entry:
    """Read a sidecar. Raises one of _DAMAGE where it is damaged or names another file than its own."""
    if not _TICKET.fullmatch(sidecar.stem):
        raise ValueError("its name is no ticket")
    facts = strict_json.loads(durable.read(sidecar, arrival.SIDECAR))
    if not isinstance(facts, dict):
        raise ValueError("it is no object")
    name = facts["file"]
    if not isinstance(name, str) or not _is_of(name, sidecar.stem):
        raise ValueError(f"it names the file {str(name)[:60]!r}, not one of its own ticket")
    path = sidecar.parent / name
    durable.require_plain(path)
    reason = facts.get("reason")
    if reason is not None and not isinstance(reason, str):
        raise ValueError("its reason is no text")
    sound = arrival.checked(facts["name"], facts["metadata"], facts["texts"], facts["identifiers"])
    return Entry(sidecar.stem, path, sound["name"], sound["metadata"], sound["texts"], sound["identifiers"], reason)


def _whole(uid: str) -> re.Pattern[bytes]:
    """A UID that is no part of a longer one. File names set it between dots: CT.1.2.3.dcm.

    In big-endian files the byte before a value is its length, which for 48 to 57 characters looks like a digit.
    """
    return re.compile(rb"(?:(?<=UI\0.)|(?<!\d)(?<!\d\.))" + re.escape(uid.encode()) + rb"(?!\.?\d)", re.DOTALL)
