"""Archive, the user's object: it opens a folder, and passes each task to the file that does it."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from medlike.archive.intake import switching
from medlike.archive.intake.drain import arrivals, take_in, ticket_status
from medlike.archive.intake.ingest import AddReport, Intake
from medlike.archive.intake.reindex import ReindexReport
from medlike.archive.intake.settings import IntakeSettings
from medlike.archive.session import Bundles, Session
from medlike.archive.storage import backup as backups
from medlike.archive.storage import creation, removal, upkeep, verify
from medlike.archive.storage.database import log_emptied
from medlike.archive.storage.folder import BundleFacts, Folder, TextBundleFacts, loaded_bundle
from medlike.archive.storage.identity import KEY_FILE, Identity, Links, as_source
from medlike.archive.storage.lock import WriterLock
from medlike.archive.storage.pictures import StoredPictures
from medlike.archive.storage.pixels import Pixels
from medlike.archive.storage.spool import Spool
from medlike.archive.storage.store import Store
from medlike.archive.storage.upkeep import CompactReport
from medlike.archive.storage.verify import Problem
from medlike.archive.viewer import OWNER, Viewer
from medlike.errors import ArchiveLocked, InputError
from medlike.types import F32, U8, Json, JsonObject, Picture, Progress

if TYPE_CHECKING:
    from pandas import DataFrame

    from medlike.archive.index.indexes import Indexes
    from medlike.archive.intake.drain import Ticket
    from medlike.archive.intake.text_codes import TextReport
    from medlike.archive.search.query import Query
    from medlike.archive.search.result import Result
    from medlike.archive.search.settings import SearchKeywords, TextKeywords
    from medlike.archive.search.text_result import TextResult
    from medlike.bundle import Bundle
    from medlike.imaging import Frames
    from medlike.inference.encoding import Encodes


class Archive:
    """Store images in a folder, and find the ones most like a query.

    Make one with `Archive.create`, `Archive.open` or `Archive.restore`, and close it with `close` or as a context
    manager. One process writes at a time; any number read beside it. An archive can be used from several threads.
    """

    def __init__(self, folder: Folder, encoder: "Encodes | None" = None) -> None:
        """Open the parts of a folder; use `Archive.create`, `Archive.open` or `Archive.restore` instead."""
        self._path = folder.path
        self._store = Store(folder.store)
        self._links = Links(folder.private)
        self._pixels = Pixels(folder.pixels)
        self._spool = Spool(folder.spool)
        pictures = StoredPictures(self._store, self._pixels, self._links)
        self._bundles = Bundles(folder, self._store, self._links, pictures)
        self._bundles.replace(folder, encoder)
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
        """Create an empty archive in a new or empty folder, and open it.

        Args:
            path: The folder.
            bundle: Image bundle: the name of a shipped one, a folder, or a loaded one. The default bundle unless
                given.
            keep_identifiers: If true, the private folder also keeps names and patient ids.
            encoder: A loaded encoder of `bundle`, used instead of a new one.
            text_bundle: Text bundle for search by meaning, given like `bundle`. "default" takes the shipped one if
                it fits `bundle` and the extra `text` is installed; None takes none.
            shared: If true, other users of the machine can read everything but the private folder and the spool,
                as far as the umask allows. If false, only the owner can enter the folder.

        Returns:
            The open archive, without images.

        Raises:
            ArchiveError: The folder is not empty.
            BundleError: A bundle is missing or damaged, or the text bundle belongs to another image bundle.
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

        Args:
            path: The folder.
            bundle: The archive's bundle if it has moved, or a copy of it that is calibrated to a site, which then
                gives the outlier verdicts. The next write stores its place in the archive.
            encoder: A loaded encoder of the archive's bundle, used instead of a new one.

        Returns:
            The open archive.

        Raises:
            ArchiveError: There is no archive, it is damaged or of a newer format, or `bundle` gives other codes.
        """
        folder = Folder.open(Path(path).expanduser())
        place = None if bundle is None else folder.with_bundle_at(BundleFacts.of(loaded_bundle(bundle)))
        opened = cls(folder, encoder)
        if place is not None:
            opened._bundles.replace(place, encoder)
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
        """Restore a backup into a new folder, and open the archive.

        Args:
            source: The backup's folder.
            path: The new folder.
            passphrase: Passphrase of an encrypted backup.
            encoder: A loaded encoder of the archive's bundle, used instead of a new one.
            key: File `private/key` of the original archive, for a backup without it. Without a key the archive can
                be searched, but takes no new images until the file is put there.

        Returns:
            The open archive.

        Raises:
            ArchiveError: The backup is missing or damaged, the passphrase is wrong, or the new folder is not empty.
        """
        place = None if key is None else Path(key).expanduser()
        folder = backups.restore(Path(source).expanduser(), Path(path).expanduser(), passphrase, place)
        opened = cls(folder, encoder)
        with opened._writing():
            # What was copied of images that were committed or compacted away during the backup.
            upkeep.sweep(opened._store, opened._links, opened._pixels)
            opened._indexes.rebuild()
        return opened

    def close(self) -> None:
        """Close all files and stop all threads of the archive."""
        self._store.close()
        self._links.close()
        self._bundles.close()

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._store.count()

    def __repr__(self) -> str:
        return f"Archive({str(self.path)!r})"

    # What archive.json states

    @property
    def path(self) -> Path:
        """Return the folder."""
        return self._path

    @property
    def bundle(self) -> BundleFacts:
        """Return the facts of the image bundle in use: name, digest, widths, and where it is."""
        return self._folder.bundle

    @property
    def text_bundle(self) -> TextBundleFacts | None:
        """Return the facts of the text bundle in use, None without one."""
        return self._folder.text

    @property
    def keep_identifiers(self) -> bool:
        """Return True if the private folder keeps names and patient ids."""
        return self._folder.keep_identifiers

    @property
    def shared(self) -> bool:
        """Return True if the archive was created for other users of the machine too."""
        return bool(self._folder.shared)

    # Writing

    def add(
        self,
        sources: Iterable[str | Path] | str | Path,
        pixels: str = "reference",
        frames: "Frames" = "middle",
        progress: Progress[AddReport] | None = None,
        threads: int = 0,
        segmentations: bool = False,
        wait: float = 0.0,
    ) -> AddReport:
        """Add images from folders, globs, files and CSV manifests.

        Images that are stored already and have not changed are skipped, so an interrupted call can be repeated. A
        file that cannot be read does not stop the call; the report lists it. Between two groups of images this call
        lets short writes (`remove`, `drain`) of other processes go first.

        Args:
            sources: What to add: one source or several.
            pixels: "copy" stores the pixels lossless and without identifiers. "reference" stores the path and a
                preview of at most 512 pixels a side.
            frames: Frames of a multi-frame file: "middle", "all", or n for every n-th.
            progress: Called with the report so far.
            threads: Threads that read files; 0 for one per core, at most 8.
            segmentations: If true, also add DICOM segmentation objects, whose pixels are not pictures.
            wait: Seconds to wait for another writer.

        Returns:
            What was added, replaced, unchanged and refused, and why.

        Raises:
            ArchiveLocked: Another process still writes after `wait` seconds.
            ArchiveFull: The disk is full; what was committed is safe.
            BundleError: This host computes other codes than the host that made the bundle.
        """
        from medlike.imaging import discover

        given = [sources] if isinstance(sources, str | Path) else list(sources)
        settings = IntakeSettings(pixels, frames, self._folder.keep_identifiers, threads)
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
        metadata: Mapping[str, Json] | None = None,
        texts: Mapping[str, str] | None = None,
        identifiers: Mapping[str, str] | None = None,
    ) -> str:
        """Store a received file durably and return its ticket.

        Once this returns, a power cut does not lose the file. It needs no lock. The next `drain` commits the file,
        and so does any other write before it begins.

        Args:
            data: Content of the file, in any format that `add` reads.
            name: Name of the file, for reports.
            metadata: Searchable fields, by name.
            texts: Report, caption and the like, by kind.
            identifiers: Names, patient ids and UIDs; they go to the private folder.

        Returns:
            The ticket, for `status`.

        Raises:
            InputError: A field is too long, or has a type or a value that cannot be stored.
            ArchiveFull: The disk is full; the file is not acknowledged.
        """
        return self._spool.put(data, name, metadata, texts, identifiers)

    def status(self, ticket: str) -> "Ticket":
        """Return the state of a received file: received, indexed (with its image ids), or refused (with a reason).

        Args:
            ticket: What `receive` returned.

        Raises:
            InputError: No file was received under this ticket, or its images have been erased.
        """
        return ticket_status(self._spool, self._links, ticket)

    def drain(
        self, frames: "Frames" = "all", progress: Progress[AddReport] | None = None, wait: float = 0.0
    ) -> AddReport:
        """Commit all received files, with their pixels. Files that cannot be read are set aside with the reason.

        Args:
            frames: Frames of a multi-frame file: "middle", "all", or n for every n-th.
            progress: Called with the report so far.
            wait: Seconds to wait for another writer; `add` lets this call go first between two groups.

        Returns:
            What was added, replaced, unchanged and refused, and why.

        Raises:
            ArchiveLocked: Another process still writes after `wait` seconds.
            ArchiveFull: The disk is full; what was received is safe.
            BundleError: This host computes other codes than the host that made the bundle.
        """
        with self._writing(wait, short=True):
            report = self._drain(frames, progress)
            self._refresh(report)
        return report

    def remove(self, ids: Iterable[str] | str, erase: bool = False, wait: float = 0.0) -> removal.RemovalReport:
        """Remove images by id. Searches as of an earlier generation still see them until `compact`.

        Args:
            ids: One public id or several.
            erase: If true, leave no trace of them in the folder: rows, earlier versions, pixels, previews, texts,
                links, index and logs. Backups and the original files are not touched.
            wait: Seconds to wait for another writer; `add` lets this call go first between two groups.

        Returns:
            How many images were removed or erased, and which ids are unknown.

        Raises:
            ArchiveLocked: Another process still writes after `wait` seconds.
        """
        wanted = [ids] if isinstance(ids, str) else list(ids)
        with self._writing(wait, short=True):
            self._drain_with_key()
            if not erase:
                return removal.remove(self._store, self._links, wanted)
            report = removal.announce_erasure(self._store, wanted)
            if report.erased:
                self._finish_erasure()
        return report

    def compact(self, wait: float = 0.0) -> CompactReport:
        """Delete removed images and the encodings of earlier bundles, and shrink the files.

        Searches as of an earlier generation are refused from then on.

        Args:
            wait: Seconds to wait for another writer.

        Returns:
            How many rows and files were deleted, and the oldest generation that can be searched.

        Raises:
            ArchiveLocked: Another process still writes after `wait` seconds.
        """
        with self._writing(wait):
            used = [self._folder.bundle.digest, *([self._folder.text.digest] if self._folder.text else [])]
            report = upkeep.compact(self._store, self._links, self._pixels, used)
            self._bundles.drop_indexes()
            self._indexes.rebuild()
        return report

    def reindex(
        self,
        bundle: "str | Path | Bundle | None" = None,
        progress: "Progress[ReindexReport | TextReport] | None" = None,
        drop_lost: bool = False,
        encoder: "Encodes | None" = None,
        text_bundle: "str | Path | Bundle | None" = None,
        wait: float = 0.0,
    ) -> ReindexReport:
        """Encode every image under another bundle and switch to it, or rebuild the indexes.

        Searches use the old bundle until the switch. An interrupted call continues where it stopped.

        Args:
            bundle: Image bundle to switch to. Without `bundle` and `text_bundle` the indexes are rebuilt.
            progress: Called with the report so far.
            drop_lost: If true, remove images that cannot be encoded because pixels and preview are gone. If false,
                one such image prevents the switch.
            encoder: A loaded encoder of `bundle`, used instead of a new one.
            text_bundle: Text bundle to switch to; "none" for search without one.
            wait: Seconds to wait for another writer.

        Returns:
            How many images were encoded, which are lost, and whether the archive switched.

        Raises:
            BundleError: A bundle is missing or damaged, or the text bundle belongs to another image bundle.
            ArchiveLocked: Another process still writes after `wait` seconds.
        """
        with self._writing(wait):
            self._drain_with_key()
            return switching.reindex(self._bundles, bundle, text_bundle, encoder, progress, drop_lost)

    # Reading

    @contextmanager
    def session(self, viewer: Viewer = OWNER) -> Iterator[Session]:
        """Open one frozen view of the archive: one pair of bundles, one generation, one viewer.

        Args:
            viewer: Decides which private facts are shown.

        Yields:
            The session, for the functions of `medlike.archive.search`.
        """
        with self._bundles.session(viewer) as session:
            yield session

    def search(
        self, query: "Query", k: int = 10, *, viewer: Viewer = OWNER, **settings: Unpack["SearchKeywords"]
    ) -> "Result":
        """Return the k stored images most like the query, ordered by (distance, -similarity, id).

        Args:
            query: A Query, or an image as `Query` takes it.
            k: How many hits to return.
            viewer: Decides whether hits have their `source`, and whether filters can name a true patient, study or
                series.
            **settings: How to search: where, rank, radius, group_by and others.
                `medlike.archive.search.settings.SearchSettings` explains each.

        Returns:
            The hits, the outlier verdict on the query, and a receipt.

        Raises:
            QueryError: The query or a setting makes no sense.
            ImageError: The query's image cannot be read.
        """
        from medlike.archive.search.search import search

        with self.session(viewer) as session:
            return search(session, query, k=k, **settings)

    def search_many(
        self, queries: "Sequence[Query]", k: int = 10, *, viewer: Viewer = OWNER, **settings: Unpack["SearchKeywords"]
    ) -> "list[Result]":
        """Return one result for each query, as `search` does, all as of one generation.

        Args:
            queries: Queries, or images as `Query` takes them.
            k: How many hits to return for each.
            viewer: As for `search`.
            **settings: As for `search`.

        Returns:
            One result for each query, in their order.

        Raises:
            QueryError: A query or a setting makes no sense.
            ImageError: The image of a query cannot be read.
        """
        from medlike.archive.search.search import search_many

        with self.session(viewer) as session:
            return search_many(session, queries, k=k, **settings)

    def repeat(self, receipt: Mapping[str, Json], viewer: Viewer = OWNER) -> "Result | TextResult":
        """Repeat the search of a receipt, as of its generation.

        Args:
            receipt: The `receipt` of an earlier result.
            viewer: As for `search`.

        Returns:
            The same answer: a TextResult for a receipt of `nearest_texts`, else a Result. Its `erased` counts the
            images that the earlier answer could have and that were erased later.

        Raises:
            QueryError: The receipt cannot be repeated: its query is not stored, or its generation was compacted.
        """
        from medlike.archive.search import nearest_texts, search
        from medlike.archive.search.receipts import TEXTS

        with self.session(viewer) as session:
            if receipt.get("of") == TEXTS:
                return nearest_texts.repeat(session, receipt)
            return search.repeat(session, receipt)

    def nearest_texts(
        self, query: "Query", k: int = 10, *, viewer: Viewer = OWNER, **settings: Unpack["TextKeywords"]
    ) -> "TextResult":
        """Return the k stored texts nearest in meaning to an image, to a text, or to both.

        Args:
            query: A Query, or an image as `Query` takes it.
            k: How many texts to return.
            viewer: As for `search`.
            **settings: where, generation and include_self, as for `search`.

        Returns:
            The texts, ordered by (distance, -similarity, id of the image).

        Raises:
            QueryError: The archive has no text bundle or no texts, or the query makes no sense.
            ImageError: The query's image cannot be read.
        """
        from medlike.archive.search.nearest_texts import nearest_texts

        with self.session(viewer) as session:
            return nearest_texts(session, query, k, **settings)

    def picture(self, id: str) -> Picture | None:
        """Return a stored image for showing.

        Args:
            id: Its public id.

        Returns:
            uint8 [H, W], or [H, W, 3] in RGB. A preview has at most 512 pixels a side. None if pixels and preview
            are gone.

        Raises:
            InputError: The archive has no image with this id.
        """
        if self._store.find(id) is None:
            raise InputError(f"there is no image {id} in {self.path}: take an id from a search")
        return self._bundles.pictures.picture(id)

    def ids(self, prefix: str = "") -> list[str]:
        """Return the public ids of the stored images, in the order they were added.

        Args:
            prefix: Hex digits that the ids begin with; all ids unless given.
        """
        rows = self._store.select("removed IS NULL AND substr(id, 1, ?) = ?", (len(prefix), prefix.lower()))
        images = self._store.images(rows)
        return [images[row].id for row in rows]

    def codes(self, generation: int | None = None) -> tuple[list[str], U8]:
        """Return the hash codes of all stored images.

        Args:
            generation: As of which generation; the newest unless given.

        Returns:
            The public ids in the order the images were added, and their codes: uint8 [N, bits / 8], most significant
            bit first.

        Raises:
            QueryError: The generation cannot be searched.
        """
        from medlike.archive.index.arrays import live

        with self.session() as session:
            return live(session.index.view(generation), session.index.layout, "codes")

    def vectors(self, generation: int | None = None) -> tuple[list[str], F32]:
        """Return the content vectors of all stored images.

        Args:
            generation: As of which generation; the newest unless given.

        Returns:
            The public ids in the order the images were added, and their vectors: float32 [N, D] of length 1. The dot
            product of two is their similarity, -1 to 1. The vector of an image without content is zero.

        Raises:
            QueryError: The generation cannot be searched.
        """
        from medlike.archive.index.arrays import live
        from medlike.inference.encoding import unit_length

        with self.session() as session:
            ids, content = live(session.index.view(generation), session.index.layout, "content")
        return ids, unit_length(content)

    def to_pandas(self, generation: int | None = None, texts: bool = False) -> "DataFrame":
        """Return the stored images as a pandas table, one row each.

        Args:
            generation: As of which generation; the newest unless given.
            texts: If true, add a column "text.KIND" for each kind of text.

        Returns:
            A DataFrame with the public id as its index. Its columns are the metadata fields that some image has.
            "patient", "study" and "series" are keyed hashes: they group images and name nobody.

        Raises:
            MissingExtra: pandas is not installed.
            QueryError: The generation cannot be searched.
        """
        from medlike.archive.index.arrays import table

        with self.session() as session:
            return table(session.index.view(generation), session.index.layout, session.store, texts)

    def source(self, id: str) -> JsonObject | None:
        """Return where an image came from: path, frame, UIDs and dates; None if the archive has no link for it.

        Args:
            id: Its public id.
        """
        return self.sources([id]).get(id)

    def sources(self, ids: Sequence[str]) -> dict[str, JsonObject]:
        """Return where images came from, by id, for the ids that have a link.

        Args:
            ids: Public ids.
        """
        return {id: as_source(link) for id, link in self._links.find(ids).items()}

    def verify(self) -> list[Problem]:
        """Compare rows, pixels, previews, links, spool and index, and return the problems. Changes nothing."""
        alone = self._lock.state() == "free"
        problems = list(verify.verify(self._folder, self._store, self._links, self._pixels, self._spool, alone))
        return problems + [Problem("index", text) for text in self._indexes.verify()]

    def backup(
        self,
        target: str | Path,
        links: bool = False,
        passphrase: str | None = None,
        with_id_key: bool = False,
    ) -> backups.BackupReport:
        """Copy the archive into a new folder while it is in use.

        Args:
            target: The new folder.
            links: If true, include the link table.
            passphrase: Encrypts the whole backup, which then includes the key of the ids.
            with_id_key: If true, include the key of the ids in a backup that is not encrypted.

        Returns:
            How many images and files were copied, and as of which generation.

        Raises:
            ArchiveError: The folder is not empty, or the archive is damaged.
        """
        return backups.backup(self._folder, Path(target).expanduser(), links, passphrase, with_id_key)

    def info(self) -> JsonObject:
        """Return counts and states: images, texts, bytes by part, bundles, generations, and what is unfinished.

        Returns:
            A dictionary. "erasing" counts rows whose erasure the next write finishes, "received" files in the
            spool; "refused" lists files that were set aside, with the reason.
        """
        return upkeep.inventory(self._folder, self._store, self._spool)

    # Inside: parts that are loaded on first use, under the bundles in use

    @property
    def _folder(self) -> Folder:
        return self._bundles.current().folder

    @property
    def _identity(self) -> Identity:
        """Return the id key. Raises ArchiveError if it is missing, or another archive's."""
        return self._bundles.current().identity

    @property
    def _encoder(self) -> "Encodes":
        """Return the encoder of queries and new images. Raises BundleError if its bundle is missing."""
        return self._bundles.current().encoder

    @property
    def _indexes(self) -> "Indexes":
        return self._bundles.current().indexes

    @contextmanager
    def _writing(self, wait: float = 0.0, short: bool = False) -> Iterator[None]:
        """Hold the writer's lock; first finish what an interrupted writer left.

        Args:
            wait: Seconds to wait for another writer.
            short: If true, a long write of another process lets this one go first.
        """
        died = self._lock.take(wait, short)
        clean = False
        try:
            self._bundles.write()
            self._store.upgrade()
            if died:
                upkeep.recover(self._store, self._links, self._pixels, self._spool)
                upkeep.sweep_index(self._folder.index)
            # While a reader holds the log it cannot be finished; other writes need not wait for that.
            if removal.unfinished(self._store) and log_emptied(self._store.connection, patience=1.0):
                self._finish_erasure()
            yield
            clean = True
        finally:
            self._lock.release(clean)

    def _give_way(self, bundle: str) -> None:
        """Let short writes go first.

        Args:
            bundle: Digest of the bundle that this write encodes under.
        """
        died = self._lock.give_way()
        if died:
            upkeep.recover(self._store, self._links, self._pixels, self._spool)
        if died is not None and self._folder.bundle.digest != bundle:
            raise ArchiveLocked(
                f"{self.path} was switched to another bundle meanwhile; what was committed is safe: run it again"
            )

    def _intake(self, settings: IntakeSettings, progress: Progress[AddReport] | None) -> Intake:
        parts = (self._store, self._links, self._pixels, self._identity, self._encoder)
        return Intake(*parts, self._folder.bundle.digest, settings, progress, self._bundles.current().text_encoder)

    def _drain_with_key(self) -> None:
        """Commit what was received, unless the archive was restored without its key."""
        if (self._folder.private / KEY_FILE).exists():
            self._drain()

    def _drain(self, frames: "Frames" = "all", progress: Progress[AddReport] | None = None) -> AddReport:
        aside = self._spool.set_damaged_aside()
        entries = arrivals(self._spool)
        if entries:
            settings = IntakeSettings("copy", frames, self._folder.keep_identifiers)
            report = take_in(self._spool, entries, self._intake(settings, progress), frames)
        else:
            report = AddReport(generation=self._store.generation())
        report.skipped += aside
        return report

    def _refresh(self, report: AddReport) -> None:
        began = time.perf_counter()
        self._indexes.refresh()
        report.seconds["index"] = time.perf_counter() - began
        report.seconds["total"] = report.seconds.get("total", 0.0) + report.seconds["index"]

    def _finish_erasure(self) -> None:
        removal.finish_erasure(self._store, self._links, self._pixels, self._spool, self._bundles.drop_indexes)
        self._indexes.rebuild()
