"""Who an image is: public ids by a keyed hash, and the private table that links them to true identifiers."""

import hashlib
import hmac
import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from medlike import files as durable
from medlike import strict_json
from medlike.archive.storage import digests
from medlike.archive.storage.database import EACH, DigestedDatabase, each, require_sound, storage_errors, transaction
from medlike.errors import ArchiveError
from medlike.types import Json, JsonObject

KEY_FILE = "key"
LINKS_FILE = "links.sqlite"
MISSING = (
    "put it back from a backup with links; without one, run `medlike backup` and `medlike restore`, which makes an "
    "archive with an empty one"
)
NO_KEY = "id_key"  # a setting of the store: "absent" in an archive that was restored without the key

# Without keep_identifiers the link table says where an image came from, not whose it is.
_NUMBERS = ("series_number", "instance_number")
_EVENTS = ("study_", "series_", "acquisition_", "content_", "instance_")


class Identity:
    """The id key of an archive: 32 random bytes in private/key, readable by the owner only."""

    def __init__(self, private: Path, answer: str | None = None) -> None:
        """Read the key. Raises ArchiveError where it is missing, damaged, or not the one that gives `answer`."""
        path = private / KEY_FILE
        try:
            self._key = bytes.fromhex(durable.read(path, 1024).decode("ascii").strip())
        except FileNotFoundError:
            raise ArchiveError(
                f"{path} is missing: without the key no image can get an id or be known again, so none is added; "
                "put the original archive's private/key there, or restore again with `medlike restore --key FILE`"
            ) from None
        except (OSError, ValueError) as error:
            raise ArchiveError(f"{path} cannot be read ({error}): restore it from a backup") from error
        if len(self._key) != 32:
            raise ArchiveError(f"{path} holds {len(self._key)} bytes, not 32: restore it from a backup")
        if answer not in (None, self.answer):
            raise ArchiveError(f"{path} is not this archive's: take the key of the archive that the images came from")

    @staticmethod
    def create(private: Path) -> "Identity":
        """Make the private folder and a new key."""
        durable.make_folder(private, 0o700)
        durable.write(private / KEY_FILE, secrets.token_hex(32).encode() + b"\n", mode=0o600)
        return Identity(private)

    @property
    def answer(self) -> str:
        """What this key, and no other, makes of a fixed text."""
        return self._hash("check:this key")

    def public_id(self, sop_uid: str | None, frame: int, digest: str) -> str:
        """32 lower-case hex digits: HMAC-SHA256 of SOP instance UID and frame, else of the pixels' digest."""
        return self._hash(f"sop:{sop_uid}:{frame}" if sop_uid else f"pixels:{digest}")

    def hashed(self, kind: str, value: object) -> str | None:
        """A keyed hash of a study, series or patient identifier; None for an empty one."""
        text = "" if value is None else str(value).strip()
        return self._hash(f"{kind}:{text}") if text else None

    def _hash(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()[:32]


@dataclass(frozen=True)
class Link:
    """Where an image came from. path: absolute, None for a received one. identifiers: UIDs, dates."""

    id: str
    path: str | None
    frame: int = 0
    identifiers: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """A file that was taken in whole: its state (mtime, size), what was said of it, the ids it became."""

    path: str
    state: str
    facts: str
    ids: Sequence[str]


class Links(DigestedDatabase):
    """The link table, private/links.sqlite: public id -> path, UIDs, true dates; and the files seen."""

    def __init__(self, private: Path) -> None:
        sound = {table: digests.SOUND[table] for table in digests.LINK_TABLES}
        super().__init__(private / LINKS_FILE, sound, digests.LINKS_HAVE_DIGESTS)

    @staticmethod
    def create(private: Path) -> "Links":
        """Make an empty link table."""
        links = Links(private)
        with durable.disk_errors(links.path):
            os.close(durable.create(links.path, 0o600, flags=0))
        with storage_errors(links.path), closing(sqlite3.connect(links.path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(
                "BEGIN;"
                "CREATE TABLE links(id TEXT PRIMARY KEY, path TEXT, frame INTEGER, identifiers TEXT, digest BLOB)"
                " WITHOUT ROWID;"
                "CREATE INDEX link_paths ON links(path);"
                "CREATE TABLE files(path TEXT PRIMARY KEY, state TEXT, facts TEXT, digest BLOB) WITHOUT ROWID;"
                "CREATE TABLE file_ids(path TEXT, id TEXT, digest BLOB, PRIMARY KEY (path, id)) WITHOUT ROWID;"
                "CREATE INDEX id_files ON file_ids(id);"
                "COMMIT;"
            )
        durable.sync_folders([private])
        return links

    @property
    def present(self) -> bool:
        """Return False where the file is missing, and for readers who may not know the links."""
        return os.access(self.path, os.R_OK, effective_ids=True)

    def opened(self) -> sqlite3.Connection:
        """Open one more connection, which the caller closes. Raises ArchiveError where the file is missing."""
        if not os.path.lexists(self.path) and os.access(self.path.parent, os.X_OK, effective_ids=True):
            raise ArchiveError(f"{self.path} is missing: {MISSING}")
        return super().opened()

    def find(self, ids: Iterable[str]) -> dict[str, Link]:
        """Return links by id, for the ids that have one."""
        if not self.present:
            return {}
        sql = f"SELECT id, path, frame, identifiers, {self.sound('links')} FROM links WHERE id IN {EACH}"
        rows = self.query(sql, (each(ids),))
        for id, *_, checked in rows:
            require_sound(self.path, "links", id, checked)
        with storage_errors(self.path):
            return {id: Link(id, path, frame, strict_json.loads(facts)) for id, path, frame, facts, _ in rows}

    def all_ids(self) -> list[str]:
        """Return every id that has a link."""
        return [id for (id,) in self.query("SELECT id FROM links")] if self.present else []

    def seen(self, path: str) -> Seen | None:
        """Return what is known of a file that was added before, None for an unknown one."""
        row = self.first(f"SELECT path, state, facts, {self.sound('files')} FROM files WHERE path = ?", (path,))
        if row is None:
            return None
        require_sound(self.path, "files", path, row[-1])
        ids = self.query(f"SELECT id, {self.sound('file_ids')} FROM file_ids WHERE path = ?", (path,))
        for _, checked in ids:
            require_sound(self.path, "file_ids", path, checked)
        return Seen(path, row[1], row[2], tuple(id for id, _ in ids))

    def write(self, links: Iterable[Link] = (), seen: Iterable[Seen] = ()) -> None:
        """Write links and files seen in one commit."""
        rows = [
            (link.id, link.path, link.frame, json.dumps(dict(link.identifiers), ensure_ascii=False))
            for link in links
        ]
        seen = list(seen)
        if not rows and not seen:
            return
        connection = self.connection
        with storage_errors(self.path), transaction(connection):
            connection.executemany(
                "INSERT OR REPLACE INTO links(id, path, frame, identifiers) VALUES (?, ?, ?, ?)", rows
            )
            for file in seen:
                connection.execute("DELETE FROM file_ids WHERE path = ?", (file.path,))
                connection.execute(
                    "INSERT OR REPLACE INTO files(path, state, facts) VALUES (?, ?, ?)",
                    (file.path, file.state, file.facts),
                )
                connection.executemany(
                    "INSERT OR IGNORE INTO file_ids(path, id) VALUES (?, ?)", [(file.path, id) for id in file.ids]
                )
            if self.has_digests:
                digests.seal(connection, "links", f"id IN {EACH}", (each(row[0] for row in rows),))
                for table in ("files", "file_ids"):
                    digests.seal(connection, table, f"path IN {EACH}", (each(file.path for file in seen),))

    def add_digests(self) -> None:
        """Add the columns of the digests where an earlier medlike made the file; rows get theirs by `seal_all`."""
        if not self.has_digests:
            # Never by a mere write: an earlier medlike could not write to the table any more.
            with storage_errors(self.path), transaction(self.connection):
                for table in self.tables:
                    self.connection.execute(f"ALTER TABLE {table} ADD COLUMN digest BLOB")

    def delete(self, ids: Sequence[str]) -> None:
        """Delete the links of ids, and what is known of the files they came from."""
        self._drop(ids, links=True)

    def forget_files(self, ids: Sequence[str]) -> None:
        """Forget that the files of ids were taken in, so that the next `add` reads them again."""
        self._drop(ids, links=False)

    def _drop(self, ids: Sequence[str], links: bool) -> None:
        if not self.present or not ids:
            return
        connection = self.connection
        with storage_errors(self.path), transaction(connection):
            for id in ids:
                # An equal image may have come from several files: all of them are forgotten.
                for (path,) in self.query("SELECT path FROM file_ids WHERE id = ?", (id,)):
                    connection.execute("DELETE FROM files WHERE path = ?", (path,))
                    connection.execute("DELETE FROM file_ids WHERE path = ?", (path,))
                if links:
                    connection.execute("DELETE FROM links WHERE id = ?", (id,))


def permitted(identifiers: Mapping[str, Json], keep_identifiers: bool) -> JsonObject:
    """The identifiers that go to the link table: all of them, or UIDs, numbers and dates of the imaging only."""

    def bare(name: str) -> bool:
        dated = name.startswith(_EVENTS) and name.endswith(("_date", "_time"))
        return name.endswith("_uid") or name in _NUMBERS or dated

    return {
        name: value
        for name, value in identifiers.items()
        if value is not None and (keep_identifiers or bare(name))
    }


def as_source(link: Link, named: bool = True) -> JsonObject:
    """Return a link as `hit.source` shows it. named: with kept identifiers, such as names and patient ids."""
    identifiers = link.identifiers if named else permitted(link.identifiers, False)
    return {"path": link.path, "frame": link.frame, **identifiers}
