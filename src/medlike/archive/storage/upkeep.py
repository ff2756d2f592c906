"""Keeping an archive small and tidy: compaction, and cleaning up after a writer that died."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from medlike import files as durable
from medlike import strict_json
from medlike.archive.storage.database import log_emptied, storage_errors
from medlike.archive.storage.fits import facts_of
from medlike.archive.storage.folder import FitFacts, Folder
from medlike.archive.storage.identity import Links
from medlike.archive.storage.lock import locked
from medlike.archive.storage.pixels import Pixels
from medlike.archive.storage.removal import unfinished
from medlike.archive.storage.spool import Spool, sidecars
from medlike.archive.storage.store import Store
from medlike.errors import ArchiveError
from medlike.types import JsonObject


@dataclass
class CompactReport:
    """rows: removed images gone for good. files: pixel files deleted. generation: the oldest kept."""

    rows: int = 0
    files: int = 0
    generation: int = 0


def compact(store: Store, links: Links, pixels: Pixels, bundles: Sequence[str]) -> CompactReport:
    """Drop what only searches of the past could see: removed images, encodings of earlier bundles, earlier fits.

    bundles: digests of those in use, and of the fit in use. Searches as of an earlier generation are refused from
    here on.
    """
    with store.commit("compact") as commit:
        gone = commit.connection.execute("DELETE FROM images WHERE removed IS NOT NULL").rowcount
        used = ",".join("?" * len(bundles))
        for table in ("encodings", "text_encodings", "field_encodings"):
            commit.connection.execute(f"DELETE FROM {table} WHERE bundle NOT IN ({used})", tuple(bundles))
        commit.connection.execute(f"DELETE FROM fits WHERE fit NOT IN ({used})", tuple(bundles))
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
    """Delete pixel files and links that no row refers to, and return how many files there were."""
    files, ids = leftovers(store, links, pixels)
    pixels.delete(files)
    links.delete(ids)
    return len(files)


def leftovers(store: Store, links: Links, pixels: Pixels) -> tuple[list[Path], list[str]]:
    """Return the pixel and preview files, and the ids with a link, that no row of the store refers to."""
    known = store.all_ids()
    return pixels.leftovers(*store.pixel_names()), [id for id in links.all_ids() if id not in known]


def drop_index(index: Path) -> None:
    """Delete the derived files of every bundle. A reader that is bringing them up to date is waited for."""
    for folder in _folders(index):
        with locked(folder / "lock"):
            durable.clear(folder, keep=("lock",))


def drop_former_fits(folder: Folder) -> None:
    """Delete the index folders of fits that are not in use, which nothing can make anew."""
    for path in _folders(folder.index):
        if re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]{16}", path.name) and (
            folder.fit is None or not path.name.endswith(folder.fit.digest[:16])
        ):
            shutil.rmtree(path, ignore_errors=True)


def sweep_index(index: Path) -> None:
    """Delete what interrupted builds left: folders that no index.json names."""
    for folder in _folders(index):
        with locked(folder / "lock"):
            try:
                named = strict_json.loads(durable.read(folder / "index.json"))["segments"]
            except (OSError, ValueError, KeyError, TypeError, ArchiveError):
                named = []
            for path in folder.iterdir():
                if path.is_dir() and not path.is_symlink() and path.name not in named:
                    shutil.rmtree(path)


def _folders(index: Path) -> list[Path]:
    """Return the folders in index/, never one behind a link: their content is deleted."""
    return [path for path in index.iterdir() if path.is_dir() and not path.is_symlink()]


def _fit_facts(fit: FitFacts, store: Store) -> JsonObject:
    known = facts_of(store, fit.digest) or {}
    return {**asdict(fit), **{name: known.get(name) for name in ("images", "sample", "generation", "labels")}}


def inventory(folder: Folder, store: Store, spool: Spool) -> JsonObject:
    """Return what an archive holds, as `Archive.info` gives it."""
    with store.snapshot():
        images, generation = store.count(), store.generation()
        sql = "SELECT count(*) FROM texts JOIN images ON images.row = texts.row WHERE images.removed IS NULL"
        texts = store.number(sql)
    return {
        "images": images,
        "bytes": folder.bytes(),
        "bundle": {"name": folder.bundle.name, "digest": folder.bundle.digest},
        "text_bundle": None if folder.text is None else {"name": folder.text.name, "digest": folder.text.digest},
        "fit": None if folder.fit is None else _fit_facts(folder.fit, store),
        "texts": texts,
        "generation": generation,
        "oldest_generation": store.oldest_generation(),
        "erasing": len(unfinished(store)),
        "received": len(sidecars(spool.folder)),
        "refused": [{"name": entry.name, "reason": entry.reason} for entry in spool.refused()],
    }
