"""Taking images out: `remove` ends their life at a generation, `erase` leaves no trace in the folder.

An erasure is announced in the store, then carried out, then struck off: whatever interrupts it, the next
writer finishes it. What lies outside the folder (backups, exports, the original files) is out of its reach.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medlike.archive.storage.database import Database, log_emptied, storage_errors
from medlike.archive.storage.fits import FitReport
from medlike.archive.storage.identity import Links
from medlike.archive.storage.pixels import Pixels
from medlike.archive.storage.spool import Spool
from medlike.archive.storage.store import Store
from medlike.errors import ArchiveLocked

# How long an erasure waits for readers who still see the old pages.
PATIENCE = 30.0  # seconds


@dataclass
class RemovalReport:
    """removed: images whose life ended now. erased: rows of which nothing is left. unknown: ids not found.

    fit: the fit that was made because more than a twentieth of the images of the one in use are erased.
    """

    removed: int = 0
    erased: int = 0
    unknown: list[str] = field(default_factory=list)
    generation: int = 0
    fit: FitReport | None = None


def owned(store: Store, hashes: Mapping[str, str | None], removed: bool) -> list[str]:
    """Return the ids of the images of a patient, study or series.

    Args:
        store: The store.
        hashes: The keyed hash by column; all of them must hold.
        removed: If true, removed images count too.
    """
    conditions = [f"{column} = ?" for column in hashes] + ([] if removed else ["removed IS NULL"])
    sql = f"SELECT id FROM images WHERE {' AND '.join(conditions)} GROUP BY id ORDER BY min(row)"
    return [id for (id,) in store.query(sql, tuple(hashes.values()))]


def remove(store: Store, links: Links, ids: Iterable[str]) -> RemovalReport:
    """End the life of images, in one generation. Their rows, pixels and links stay until `compact`."""
    report = RemovalReport(generation=store.generation())
    live = {id: store.find(id) is not None for id in ids}
    known = [id for id in live if live[id]]
    report.unknown = [id for id in live if not live[id]]
    if known:
        with store.commit("remove") as commit:
            for id in known:
                commit.remove(id)
        report.removed, report.generation = len(known), commit.generation
        links.forget_files(known)
    return report


def announce_erasure(store: Store, ids: Iterable[str]) -> RemovalReport:
    """End the life of images and note them, with every earlier version, for `finish_erasure`."""
    report = RemovalReport(generation=store.generation())
    rows = {id: store.select("id = ?", (id,)) for id in ids}
    report.unknown = [id for id in rows if not rows[id]]
    doomed = [row for versions in rows.values() for row in versions]
    report.removed = sum(store.find(id) is not None for id in rows)
    report.erased = len(doomed)
    # One that was announced and not finished may be asked for again: it is counted once.
    begun = set(unfinished(store))
    fresh = [row for row in doomed if row not in begun]
    if fresh:
        with store.commit("erase") as commit:
            # A repeated search must be able to say how many images it can no longer see.
            commit.connection.executemany(
                "INSERT INTO erasures SELECT added, coalesce(removed, ?), 1 FROM images WHERE row = ?",
                [(commit.generation, row) for row in fresh],
            )
            commit.connection.executemany("INSERT INTO erasing VALUES (?)", [(row,) for row in fresh])
            for id in rows:
                commit.remove(id)
        report.generation = commit.generation
    return report


def unfinished(store: Store) -> list[int]:
    """Return the rows whose erasure was announced and not finished."""
    return [row for (row,) in store.query("SELECT row FROM erasing")]


def finish_erasure(
    store: Store, links: Links, pixels: Pixels, spool: Spool, drop_index: Callable[[], None]
) -> None:
    """Carry out announced erasures. Safe to repeat after any interruption.

    Raises ArchiveLocked where a reader holds the log: then all is done but the last traces in log and index.
    drop_index deletes the derived files; it comes when no reader can still see the rows and derive them anew.
    """
    doomed = unfinished(store)
    images = store.images(doomed)
    ids = sorted({image.id for image in images.values()})
    known = links.find(ids)
    spool.forget([str(link.identifiers.get("sop_uid") or "") for link in known.values()])
    # An image that was added again meanwhile keeps its link.
    links.delete([id for id in ids if not set(store.select("id = ?", (id,))) - images.keys()])
    purge(links)
    pixels.delete(unshared(store, pixels, doomed))
    if images:
        with store.commit("erase") as commit:
            commit.connection.executemany("DELETE FROM images WHERE row = ?", [(row,) for row in doomed])
            # Words of the texts would stay in the merged segments of the word index.
            commit.connection.execute("INSERT INTO words(words) VALUES ('rebuild')")
    purge(store)
    drop_index()
    store.query("DELETE FROM erasing")


def unshared(store: Store, pixels: Pixels, rows: Iterable[int]) -> list[Path]:
    """Pixel and preview files that only the given rows refer to."""
    doomed = set(rows)
    paths = []
    for image in store.images(sorted(doomed)).values():
        if not set(store.select("pixels = ? AND kind = 'copy'", (image.pixels,))) - doomed:
            paths.append(pixels.path(image.pixels))
        if image.preview and not set(store.select("preview = ?", (image.preview,))) - doomed:
            paths.append(pixels.preview_path(image.preview))
    return paths


def purge(database: Database, patience: float = PATIENCE) -> None:
    """Leave no deleted page in a database or its log: rebuild the file, then empty the log.

    secure_delete zeroes freed cells, but not the copies of them that page splits leave behind.

    Args:
        database: The database.
        patience: Seconds to wait for readers that hold its log.

    Raises:
        ArchiveLocked: A reader holds it for longer.
    """
    with storage_errors(database.path):
        database.connection.execute("VACUUM")
        if not log_emptied(database.connection, patience):
            raise ArchiveLocked(
                f"{database.path} is held by a reader: the images are removed, but pages of them stay in its log; "
                "end the reader, and the next write finishes the erasure"
            )
