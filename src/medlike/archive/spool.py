"""The spool: what was received and acknowledged, and is not yet committed.

An entry is `<ticket><suffix>`, the file as received, and `<ticket>.json`, what was said of it. Both are
fsynced, then the folder; only then is the ticket returned, which is the acknowledgement. The entry is deleted
after its commit. Taking it in twice is harmless: ids do not depend on when an image came.
"""

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medlike.archive import durable

REFUSED = "refused"
_ABANDONED = 3600.0  # seconds
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}$")


@dataclass(frozen=True)
class Entry:
    """One received file. name: as the sender called it; reason: why it was refused, if it was."""

    ticket: str
    path: Path
    name: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    identifiers: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None


class Spool:
    """The spool folder of an archive. Writing into it needs no lock: many receivers beside one writer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(
        self,
        data: bytes,
        name: str = "",
        metadata: Mapping[str, Any] | None = None,
        texts: Mapping[str, str] | None = None,
        identifiers: Mapping[str, str] | None = None,
    ) -> str:
        """Keep a received file and what is said of it; the ticket returned is the acknowledgement."""
        # The time puts entries in the order they came: of two versions of an image the later one stays.
        ticket = f"{time.time_ns():020d}-{hashlib.sha256(data).hexdigest()[:16]}"
        suffix = _SUFFIX.search(name)
        kind = suffix.group().lower() if suffix else ""
        path = self.folder / (ticket + (kind if kind not in ("", ".json") else ".bin"))
        sidecar = {
            "file": path.name,
            "name": name,
            "metadata": dict(metadata or {}),
            "texts": dict(texts or {}),
            "identifiers": dict(identifiers or {}),
        }
        # The file's name is safe before the sidecar is there: a sidecar without a file is damage, never a crash.
        durable.write(path, data, mode=0o600)
        said = json.dumps(sidecar, ensure_ascii=False).encode()
        durable.write(self._sidecar(ticket), said, mode=0o600)
        return ticket

    def entries(self) -> Iterator[Entry]:
        """Acknowledged entries in the order they came."""
        for sidecar in sorted(self.folder.glob("*.json")):
            # A damaged one is left to `verify`.
            with contextlib.suppress(ValueError, KeyError, TypeError):
                yield self._entry(sidecar)

    def damaged(self) -> list[str]:
        """What is wrong with acknowledged entries, as sentences."""
        problems = []
        for sidecar in sorted(self.folder.glob("*.json")):
            try:
                entry = self._entry(sidecar)
            except (ValueError, KeyError, TypeError) as error:
                problems.append(f"{sidecar} is damaged ({error}) though it was acknowledged")
                continue
            if not entry.path.is_file() and sidecar.exists():
                problems.append(f"{entry.path} is missing though it was acknowledged")
        return problems

    def refused(self) -> Iterator[Entry]:
        """Entries that could not be taken in, kept with the reason."""
        for sidecar in sorted((self.folder / REFUSED).glob("*.json")):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                yield self._entry(sidecar)

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
        sidecar = json.loads(self._sidecar(entry.ticket).read_bytes())
        durable.write(folder / entry.path.name, entry.path.read_bytes(), mode=0o600)
        said = json.dumps({**sidecar, "reason": reason}, ensure_ascii=False).encode()
        durable.write(folder / f"{entry.ticket}.json", said, mode=0o600)
        self.done(entry)

    def forget(self, uids: list[str]) -> int:
        """Delete files set aside or left by a crash that hold one of the UIDs; how many."""
        needles = [_whole(uid) for uid in uids if uid]
        doomed = []
        for entry in self.refused():
            sidecar = entry.path.with_name(f"{entry.ticket}.json")
            content = entry.path.read_bytes() + sidecar.read_bytes()
            if any(needle.search(content) for needle in needles):
                doomed += [sidecar, entry.path]
        for path in self._strays():
            with contextlib.suppress(FileNotFoundError):
                content = path.read_bytes()
                if any(needle.search(content) for needle in needles):
                    doomed.append(path)
        for path in doomed:
            path.unlink(missing_ok=True)
        durable.sync_folders(sorted({path.parent for path in doomed}))
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
            if path.is_file() and path.suffix != ".json" and path.name not in named
        ]

    def _sidecar(self, ticket: str) -> Path:
        return self.folder / f"{ticket}.json"

    @staticmethod
    def _entry(sidecar: Path) -> Entry:
        said = json.loads(sidecar.read_bytes())
        path = sidecar.parent / said["file"]
        return Entry(
            sidecar.stem,
            path,
            said["name"],
            said["metadata"],
            said["texts"],
            said["identifiers"],
            said.get("reason"),
        )


def _whole(uid: str) -> re.Pattern[bytes]:
    """A UID that is no part of a longer one. File names set it between dots: CT.1.2.3.dcm.

    In big-endian files the byte before a value is its length, which for 48 to 57 characters looks like a digit.
    """
    return re.compile(rb"(?:(?<=UI\0.)|(?<!\d)(?<!\d\.))" + re.escape(uid.encode()) + rb"(?!\.?\d)", re.DOTALL)
