"""Keeping an archive small and tidy: compaction, and cleaning up after a writer that died."""

from dataclasses import dataclass

from medlike.archive.database import log_emptied, storage_errors
from medlike.archive.identity import Links
from medlike.archive.pixels import Pixels
from medlike.archive.spool import Spool
from medlike.archive.store import Store


@dataclass
class CompactReport:
    """rows: removed images gone for good. files: pixel files deleted. generation: the oldest kept."""

    rows: int = 0
    files: int = 0
    generation: int = 0


def compact(store: Store, links: Links, pixels: Pixels, bundle: str) -> CompactReport:
    """Drop what only searches of the past could see: removed images, encodings of earlier bundles.

    Searches as of an earlier generation are refused from here on.
    """
    with store.commit("compact") as commit:
        gone = commit.connection.execute("DELETE FROM images WHERE removed IS NOT NULL").rowcount
        commit.connection.execute("DELETE FROM encodings WHERE bundle <> ?", (bundle,))
        commit.connection.execute("INSERT INTO words(words) VALUES ('optimize')")
        commit.set("oldest_generation", str(commit.generation))
        commit.rows = gone
    report = CompactReport(rows=gone, generation=commit.generation)
    report.files = sweep(store, links, pixels)
    with storage_errors(store.path):
        store.connection.execute("VACUUM")
        # A reader that holds the log only delays the shrinking.
        log_emptied(store.connection, patience=1.0)
    return report


def sweep(store: Store, links: Links, pixels: Pixels) -> int:
    """Delete pixel files and links that no row refers to; how many files."""
    with storage_errors(store.path):
        query = store.connection.execute
        digests = {digest for (digest,) in query("SELECT DISTINCT pixels FROM images WHERE kind = 'copy'")}
        previews = {
            name for (name,) in query("SELECT DISTINCT preview FROM images WHERE preview IS NOT NULL")
        }
        ids = {id for (id,) in query("SELECT DISTINCT id FROM images")}
    leftovers = pixels.leftovers(digests, previews)
    pixels.delete(leftovers)
    links.delete([id for id in links.all_ids() if id not in ids])
    return len(leftovers)


def recover(store: Store, links: Links, pixels: Pixels, spool: Spool) -> None:
    """Clean up after a writer that died: files and links that it wrote and did not commit."""
    sweep(store, links, pixels)
    spool.sweep()
