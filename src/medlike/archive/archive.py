"""Archive: the user's object. It opens a folder, and hands each task to the file that does it."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from medlike.archive.intake import switching
from medlike.archive.intake.drain import arrivals, take_in, ticket_status
from medlike.archive.intake.ingest import AddReport, Intake, Progress, Settings
from medlike.archive.intake.reindex import ReindexReport
from medlike.archive.session import Bundles, Session
from medlike.archive.storage import backup as backups
from medlike.archive.storage import creation, removal, upkeep, verify
from medlike.archive.storage.database import log_emptied
from medlike.archive.storage.folder import BundleFacts, Folder, loaded_bundle
from medlike.archive.storage.identity import KEY_FILE, Identity, Links, as_source
from medlike.archive.storage.lock import WriterLock
from medlike.archive.storage.pictures import Pictures
from medlike.archive.storage.pixels import Pixels
from medlike.archive.storage.spool import Spool
from medlike.archive.storage.store import Store
from medlike.archive.storage.upkeep import CompactReport
from medlike.archive.storage.verify import Problem
from medlike.archive.viewer import OWNER, Viewer
from medlike.errors import ArchiveLocked, InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from medlike.archive.index.index import Index
    from medlike.archive.index.indexes import Indexes
    from medlike.archive.intake.drain import Ticket
    from medlike.archive.intake.text_codes import TextReport
    from medlike.archive.search.query import Query
    from medlike.archive.search.result import Result
    from medlike.archive.search.settings import SearchSettings, TextSettings
    from medlike.archive.search.text_result import TextResult
    from medlike.bundle import Bundle
    from medlike.inference.encoding import Encodes


class Archive:
    """A folder of images that can be searched. One writer at a time, readers beside it.

    Made by `Archive.create`, `Archive.open` or `Archive.restore`; closes as a context manager.
    """

    def __init__(self, folder: Folder, encoder: "Encodes | None" = None) -> None:
        self.store = Store(folder.store)
        self.links = Links(folder.private)
        self.pixels = Pixels(folder.pixels)
        self.spool = Spool(folder.spool)
        self.bundles = Bundles(folder, self.store, self.links, Pictures(self.store, self.pixels, self.links))
        self.bundles.replace(folder, encoder)
        self._lock = WriterLock(folder.path)

    # Opening and closing

    @classmethod
    def create(
        cls,
        path: str | Path,
        bundle: "str | Path | Bundle | None" = None,
        keep_identifiers: bool = False,
        encoder: "Encodes | None" = None,
        text_bundle: "str | Path | Bundle | None" = "default",
        shared: bool = False,
    ) -> "Archive":
        """Make an empty archive in a new or empty folder.

        bundle: a shipped name, a folder or a loaded bundle; the default one where it is left out. text_bundle: for
        searching by what words mean, likewise; "default": the shipped one, where it goes with `bundle` and the extra
        `text` is installed; None: without.
        keep_identifiers: the private folder also keeps names and patient ids. shared: other users of the machine may
        read all but the private folder and the spool, as the umask says; else its owner alone enters it.
        encoder: one that is loaded already, to be used in place of a new one. Raises ArchiveError where the folder
        is not empty, BundleError where the text bundle goes with other images.
        """
        chosen = loaded_bundle(bundle)
        text = switching.text_facts(text_bundle, chosen)
        facts = BundleFacts.of(chosen)
        return cls(creation.create(Path(path).expanduser(), facts, keep_identifiers, text, shared), encoder)

    @classmethod
    def open(
        cls, path: str | Path, bundle: "str | Path | Bundle | None" = None, encoder: "Encodes | None" = None
    ) -> "Archive":
        """Open an archive to search it or write to it.

        bundle: where the archive's bundle is now, should it have moved, or a copy of it that was fitted to a
        site, whose outlier verdicts are then given; the next write makes the archive remember it. Raises
        ArchiveError where there is no archive, it is damaged, of a newer format, or of a bundle of other codes.
        """
        folder = Folder.open(Path(path).expanduser())
        place = None if bundle is None else folder.with_bundle_at(BundleFacts.of(loaded_bundle(bundle)))
        opened = cls(folder, encoder)
        if place is not None:
            opened.bundles.replace(place, encoder)
        return opened

    @classmethod
    def restore(
        cls,
        source: str | Path,
        path: str | Path,
        passphrase: str | None = None,
        encoder: "Encodes | None" = None,
        key: str | Path | None = None,
    ) -> "Archive":
        """Make an archive of a backup in a new folder, and open it.

        passphrase: of an encrypted backup. key: the original archive's private/key, for a backup without it; without
        any, the archive can be searched and takes no new images until the file is put there.
        """
        place = None if key is None else Path(key).expanduser()
        folder = backups.restore(Path(source).expanduser(), Path(path).expanduser(), passphrase, place)
        opened = cls(folder, encoder)
        with opened._writing():
            # What was copied of images that were committed or compacted away during the backup.
            upkeep.sweep(opened.store, opened.links, opened.pixels)
            opened.indexes.rebuild()
        return opened

    def close(self) -> None:
        """Let go of files and threads."""
        self.store.close()
        self.links.close()
        self.bundles.close()

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self.store.count()

    def __repr__(self) -> str:
        return f"Archive({str(self.path)!r})"

    # Parts that are loaded when they are needed

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    @property
    def identity(self) -> Identity:
        """Return the id key. Raises ArchiveError where it is missing, or another archive's."""
        return self.bundles.current().identity

    @property
    def folder(self) -> Folder:
        """Return where each part is, and what archive.json says."""
        return self.bundles.current().folder

    @property
    def encoder(self) -> "Encodes":
        """Return the encoder of queries and new images. Raises BundleError where its bundle is missing."""
        return self.bundles.current().encoder

    @property
    def indexes(self) -> "Indexes":
        """Return the derived arrays under the bundles in use."""
        return self.bundles.current().indexes

    @property
    def index(self) -> "Index":
        """Return the derived arrays of the images."""
        return self.indexes.images

    # Writing

    def add(
        self,
        sources: Iterable[str | Path] | str | Path,
        pixels: str = "reference",
        frames: Any = "middle",
        progress: Progress | None = None,
        threads: int = 0,
        segmentations: bool = False,
        wait: float = 0.0,
    ) -> AddReport:
        """Take in folders, globs, files and CSV manifests. Run again, it skips what is stored unchanged.

        pixels: "copy" keeps the pixels lossless and without identifiers, "reference" a preview of 512 pixels
        and the path. frames: of a multi-frame file "middle", "all" or each n-th. progress: called with the
        report so far. segmentations: take DICOM segmentation objects in too, which are no pictures. Bad files are
        listed in the report. wait: seconds to wait for another writer; between two groups this gives way to short
        writes (remove, drain) that wait. Raises ArchiveLocked beside another writer, ArchiveFull on a full disk (what
        was committed is safe), BundleError where this host's codes differ.
        """
        from medlike.imaging import discover

        given = [sources] if isinstance(sources, str | Path) else list(sources)
        settings = Settings(pixels, frames, self.folder.keep_identifiers, threads)
        with self._writing(wait):
            self._drain()
            intake = self._intake(settings, progress)
            intake.between_groups = lambda: self._give_way(intake.bundle)
            report = intake.run(discover(given, frames, intake.report.archives.append, segmentations))
            self._refresh(report)
        return report

    def receive(
        self,
        data: bytes,
        name: str = "",
        metadata: Mapping[str, Any] | None = None,
        texts: Mapping[str, str] | None = None,
        identifiers: Mapping[str, str] | None = None,
    ) -> str:
        """Acknowledge a received file: once this returns, a power cut does not lose it. Its ticket.

        Needs no lock. It is committed by the next `drain`, or before any other write.
        """
        return self.spool.put(data, name, metadata, texts, identifiers)

    def status(self, ticket: str) -> "Ticket":
        """Return what became of a received file: received, indexed as which images, or refused and why.

        Raises:
            InputError: No file was received under this ticket, or its images were erased since.
        """
        return ticket_status(self.spool, self.links, ticket)

    def drain(self, frames: Any = "all", progress: Progress | None = None, wait: float = 0.0) -> AddReport:
        """Commit what was received, pixels and all. Unusable files are set aside with the reason.

        wait: seconds to wait for another writer, who gives way between two groups.
        """
        with self._writing(wait, short=True):
            report = self._drain(frames, progress)
            self._refresh(report)
        return report

    def remove(self, ids: Iterable[str] | str, erase: bool = False, wait: float = 0.0) -> removal.RemovalReport:
        """Take images out by id. Searches as of an earlier generation still see them until `compact`.

        erase: leave no trace of them in the folder: rows, earlier versions, pixels, previews, texts, links,
        index, logs. Backups and the original files are out of its reach. wait: seconds to wait for another writer, who
        gives way between two groups.
        """
        wanted = [ids] if isinstance(ids, str) else list(ids)
        with self._writing(wait, short=True):
            self._drain_with_key()
            if not erase:
                return removal.remove(self.store, self.links, wanted)
            report = removal.announce_erasure(self.store, wanted)
            if report.erased:
                self._finish_erasure()
        return report

    def compact(self, wait: float = 0.0) -> CompactReport:
        """Drop removed images and encodings of earlier bundles for good, and shrink the files.

        wait: seconds to wait for another writer.
        """
        with self._writing(wait):
            used = [self.folder.bundle.digest, *([self.folder.text.digest] if self.folder.text else [])]
            report = upkeep.compact(self.store, self.links, self.pixels, used)
            self.bundles.drop_indexes()
            self.indexes.rebuild()
        return report

    def reindex(
        self,
        bundle: "str | Path | Bundle | None" = None,
        progress: "Callable[[ReindexReport | TextReport], None] | None" = None,
        drop_lost: bool = False,
        encoder: "Encodes | None" = None,
        text_bundle: "str | Path | Bundle | None" = None,
        wait: float = 0.0,
    ) -> ReindexReport:
        """Encode every image under another bundle, then switch to it; without one, rebuild the indexes.

        text_bundle: encode what is stored under this text bundle, from content vectors and texts, and use it from
        then on; "none": do without. Searches go on under the old bundle until the switch. Images whose pixels and
        preview are gone are `lost`: then nothing is switched, unless `drop_lost` removes them. Raises BundleError
        where the text bundle goes with other images. wait: seconds to wait for another writer.
        """
        with self._writing(wait):
            self._drain_with_key()
            return switching.reindex(self.bundles, bundle, text_bundle, encoder, progress, drop_lost)

    # Reading

    @contextmanager
    def session(self, viewer: Viewer = OWNER) -> Iterator[Session]:
        """Open one frozen view of the archive: one pair of bundles, one generation, one viewer."""
        with self.bundles.session(viewer) as session:
            yield session

    def search(
        self, query: "Query", k: int = 10, *, viewer: Viewer = OWNER, **settings: Unpack["SearchSettings"]
    ) -> "Result":
        """Return the k stored images most like the query, in the total order (distance, similarity, id).

        Args:
            query: A Query, or what its `image` may be.
            k: Hits wanted.
            viewer: Decides whether hits have their `source`, and filters may name a true patient, study or series.
            **settings: How to search: where, rank, radius, group_by, ...; `archive.search.settings.Settings` says
                what each means and what it is unless given.

        Raises:
            QueryError: The query or a setting makes no sense.
            ImageError: The query's image cannot be read.
        """
        from medlike.archive.search.search import search

        with self.session(viewer) as session:
            return search(session, query, k=k, **settings)

    def search_many(
        self, queries: "Sequence[Query]", k: int = 10, *, viewer: Viewer = OWNER, **settings: Unpack["SearchSettings"]
    ) -> "list[Result]":
        """Return one result a query, each as `search` gives it, all as of one generation."""
        from medlike.archive.search.search import search_many

        with self.session(viewer) as session:
            return search_many(session, queries, k=k, **settings)

    def repeat(self, receipt: Mapping[str, Any], viewer: Viewer = OWNER) -> "Result | TextResult":
        """What a receipt stands for once more, as of its generation; `erased` counts images erased since.

        A TextResult for a receipt of `nearest_texts`.
        """
        from medlike.archive.search import nearest_texts, search
        from medlike.archive.search.receipts import TEXTS

        with self.session(viewer) as session:
            return (nearest_texts if receipt.get("of") == TEXTS else search).repeat(session, receipt)

    def nearest_texts(
        self, query: "Query", k: int = 10, *, viewer: Viewer = OWNER, **settings: Unpack["TextSettings"]
    ) -> "TextResult":
        """Return the k stored texts nearest in meaning to an image, to words, or to both.

        Args:
            query: A Query, or what its `image` may be.
            k: Texts wanted.
            viewer: As for `search`.
            **settings: where, generation and include_self, as for `search`.

        Raises:
            QueryError: The archive has no text bundle or no texts, or the query makes no sense.
        """
        from medlike.archive.search.nearest_texts import nearest_texts

        with self.session(viewer) as session:
            return nearest_texts(session, query, k, **settings)

    def picture(self, id: str) -> "npt.NDArray[np.uint8] | None":
        """What to show of a stored image: uint8 [H, W] or [H, W, 3]; a preview has at most 512 pixels a side.

        None where nothing of its pixels is left. Raises InputError for an unknown id.
        """
        if self.store.find(id) is None:
            raise InputError(f"there is no image {id} in {self.path}: take an id from a search")
        return self.bundles.pictures.picture(id)

    def source(self, id: str) -> dict[str, Any] | None:
        """Where an image came from: path, frame, UIDs, dates; None where the link table has nothing."""
        return self.sources([id]).get(id)

    def sources(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """id -> where it came from, for the ids that have a link."""
        return {id: as_source(link) for id, link in self.links.find(ids).items()}

    def verify(self) -> list[Problem]:
        """Problems found by comparing rows, pixels, previews, links, spool and index. Changes nothing."""
        alone = self._lock.state() == "free"
        problems = list(verify.verify(self.folder, self.store, self.links, self.pixels, self.spool, alone))
        return problems + [Problem("index", text) for text in self.indexes.verify()]

    def backup(
        self,
        target: str | Path,
        links: bool = False,
        passphrase: str | None = None,
        with_id_key: bool = False,
    ) -> backups.BackupReport:
        """Copy the archive into a new folder while it is in use; readers and a writer go on.

        passphrase: encrypts all of it, the key of the ids included. with_id_key: put that key into a backup that is
        not encrypted. links: with the link table. Raises ArchiveError where the target is not empty.
        """
        return backups.backup(self.folder, Path(target).expanduser(), links, passphrase, with_id_key)

    def info(self) -> dict[str, Any]:
        """images, bytes by part, bundle (name, digest), generation, and what is unfinished.

        erasing: rows whose erasure the next write finishes. received: files in the spool; refused: those set
        aside, with the reason.
        """
        return upkeep.inventory(self.folder, self.store, self.spool)

    # Inside

    @contextmanager
    def _writing(self, wait: float = 0.0, short: bool = False) -> Iterator[None]:
        """Hold the writer's lock; first finish what a writer that died left.

        wait: seconds to wait for another writer. short: a long write of another gives way to this one.
        """
        died = self._lock.take(wait, short)
        clean = False
        try:
            self.bundles.write()
            self.store.upgrade()
            if died:
                upkeep.recover(self.store, self.links, self.pixels, self.spool)
                upkeep.sweep_index(self.folder.index)
            # While a reader holds the log it cannot be finished; other writes need not wait for that.
            if removal.unfinished(self.store) and log_emptied(self.store.connection, patience=1.0):
                self._finish_erasure()
            yield
            clean = True
        finally:
            self._lock.release(clean)

    def _give_way(self, bundle: str) -> None:
        """Let short writes go first. bundle: digest of the one that this write encodes under."""
        died = self._lock.give_way()
        if died:
            upkeep.recover(self.store, self.links, self.pixels, self.spool)
        if died is not None and self.folder.bundle.digest != bundle:
            raise ArchiveLocked(
                f"{self.path} was switched to another bundle meanwhile; what was committed is safe: run it again"
            )

    def _intake(self, settings: Settings, progress: Progress | None) -> Intake:
        parts = (self.store, self.links, self.pixels, self.identity, self.encoder)
        return Intake(*parts, self.folder.bundle.digest, settings, progress, self.bundles.current().text_encoder)

    def _drain_with_key(self) -> None:
        """Commit what was received, unless the archive was restored without its key: then it waits."""
        if (self.folder.private / KEY_FILE).exists():
            self._drain()

    def _drain(self, frames: Any = "all", progress: Progress | None = None) -> AddReport:
        aside = self.spool.set_damaged_aside()
        entries = arrivals(self.spool)
        if entries:
            settings = Settings("copy", frames, self.folder.keep_identifiers)
            report = take_in(self.spool, entries, self._intake(settings, progress), frames)
        else:
            report = AddReport(generation=self.store.generation())
        report.skipped += aside
        return report

    def _refresh(self, report: AddReport) -> None:
        began = time.perf_counter()
        self.indexes.refresh()
        report.seconds["index"] = time.perf_counter() - began
        report.seconds["total"] = report.seconds.get("total", 0.0) + report.seconds["index"]

    def _finish_erasure(self) -> None:
        removal.finish_erasure(self.store, self.links, self.pixels, self.spool, self.bundles.drop_indexes)
        self.indexes.rebuild()
