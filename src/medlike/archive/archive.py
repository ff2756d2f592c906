"""Archive, the user's object: it opens a folder, and passes each task to the file that does it."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, ParamSpec, TypeVar, Unpack

from medlike.archive.index.checks import IndexDamaged
from medlike.archive.intake import fitting, switching
from medlike.archive.intake.conflicts import OnConflict
from medlike.archive.intake.drain import ticket_status
from medlike.archive.intake.report import AddReport
from medlike.archive.intake.settings import Fitting, IntakeSettings
from medlike.archive.intake.writer import ArchiveWriter
from medlike.archive.session import Bundles, Session
from medlike.archive.storage import backup as backups
from medlike.archive.storage import creation, upkeep, verify
from medlike.archive.storage import room as rooms
from medlike.archive.storage.digests import unchecked
from medlike.archive.storage.folder import BundleFacts, Folder, TextBundleFacts, loaded_bundle
from medlike.archive.storage.identity import Links, as_source
from medlike.archive.storage.lock import WriterLock
from medlike.archive.storage.pictures import StoredPictures
from medlike.archive.storage.pixels import Pixels
from medlike.archive.storage.removal import owned
from medlike.archive.storage.room import Room
from medlike.archive.storage.spool import Spool, sidecars
from medlike.archive.storage.store import Store
from medlike.archive.storage.verify import Problem
from medlike.archive.viewer import OWNER, Viewer
from medlike.errors import ArchiveError, InputError, QueryError, UnknownImage
from medlike.types import F32, U8, Json, JsonObject, Picture, Progress

if TYPE_CHECKING:
    from pandas import DataFrame

    from medlike.archive.index.indexes import Indexes
    from medlike.archive.intake.drain import Ticket
    from medlike.archive.intake.reindex import ReindexReport
    from medlike.archive.intake.text_codes import TextReport
    from medlike.archive.search.encoded_query import EncodedQuery
    from medlike.archive.search.facets import Facets
    from medlike.archive.search.image_facts import ImageFacts
    from medlike.archive.search.listing import Listing
    from medlike.archive.search.query import Query
    from medlike.archive.search.result import Hit, Result
    from medlike.archive.search.settings import Codes, SearchKeywords, TextKeywords
    from medlike.archive.search.text_result import TextResult
    from medlike.archive.storage.fits import FitReport
    from medlike.archive.storage.removal import RemovalReport
    from medlike.archive.storage.rows import ImageRow
    from medlike.archive.storage.upgrade import UpgradeReport
    from medlike.archive.storage.upkeep import CompactReport
    from medlike.bundle import Bundle
    from medlike.imaging import Decoding, Frames, Image
    from medlike.inference.encoding import Encodes

P = ParamSpec("P")
T = TypeVar("T")


def _repairing(search: Callable[P, T]) -> Callable[P, T]:
    """Do a search once more where the index proves damaged; by then its session has had it derived anew."""

    @wraps(search)
    def repeated(*arguments: P.args, **settings: P.kwargs) -> T:
        try:
            return search(*arguments, **settings)
        except IndexDamaged:
            return search(*arguments, **settings)

    return repeated


class Archive:
    """Store images in a folder, and find the ones most like a query.

    Make one with `Archive.create`, `Archive.open` or `Archive.restore`, and close it with `close` or as a context
    manager. One process writes at a time; any number read beside it. An archive can be used from several threads.

    A method with `wait` writes. It raises ArchiveLocked if another process still writes after that many seconds,
    ArchiveFull if the disk is full, and BundleError if a bundle is missing or damaged, or this host computes other
    codes than the one that made it; what was committed or received is then safe. `add` lets `remove` and `drain` go
    first between two groups of images.
    """

    def __init__(self, folder: Folder, encoder: "Encodes | None" = None) -> None:
        self._path = folder.path
        self._store = Store(folder.store)
        self._links = Links(folder.private)
        self._pixels = Pixels(folder.pixels)
        self._spool = Spool(lambda: self._folder.spool)
        pictures = StoredPictures(self._store, self._pixels, self._links)
        self._bundles = Bundles(folder, self._store, self._links, pictures)
        self._bundles.reopen(folder, encoder)
        self._lock = WriterLock(folder.path)
        self._writer = ArchiveWriter(self._bundles, self._spool, self._lock)

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
        """Create an empty archive in a new or empty folder, and return it open.

        Args:
            path: The folder.
            bundle: Image bundle: the name of a shipped one, a folder, or a loaded one; the default one unless given.
            keep_identifiers: If true, the private folder also keeps names and patient ids.
            encoder: A loaded encoder of `bundle`, used instead of a new one.
            text_bundle: Text bundle, given like `bundle`; None for none. "default" takes the shipped one if it fits
                `bundle` and the extra `text` is installed.
            shared: If true, others may read all but private folder and spool, within the umask; else only the owner.

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
        """Open an archive to search it or write to it, and return it.

        Args:
            path: The folder.
            bundle: The archive's bundle if it has moved, or a copy of it that is calibrated to a site. The next write
                stores its place in the archive.
            encoder: A loaded encoder of the archive's bundle, used instead of a new one.

        Raises:
            ArchiveError: There is no archive, it is damaged or of a newer format, or `bundle` gives other codes.
        """
        folder = Folder.open(Path(path).expanduser())
        moved = None if bundle is None else folder.with_bundle_at(BundleFacts.of(loaded_bundle(bundle)))
        archive = cls(folder, encoder)
        if moved is not None:
            archive._bundles.reopen(moved, encoder)
        return archive

    @classmethod
    def restore(
        cls,
        source: str | Path,
        path: str | Path,
        passphrase: str | None = None,
        encoder: "Encodes | None" = None,
        key: str | Path | None = None,
    ) -> "Archive":
        """Restore a backup into a new folder, and return the open archive.

        Args:
            source: The backup's folder.
            path: The new folder.
            passphrase: Passphrase of an encrypted backup.
            encoder: A loaded encoder of the archive's bundle, used instead of a new one.
            key: File `private/key` of the original archive. Without one in the backup or here, nothing can be added.

        Raises:
            ArchiveError: The backup is missing or damaged, the passphrase is wrong, or the new folder is not empty.
        """
        key_file = None if key is None else Path(key).expanduser()
        target = Path(path).expanduser()
        made = backups.new_folders(target)
        folder = backups.restore(Path(source).expanduser(), target, passphrase, key_file)
        archive = cls(folder, encoder)
        try:
            archive._writer.finish_restore()
        except BaseException:
            archive.close()
            backups.discard(target, made)
            raise
        return archive

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

    @property
    def path(self) -> Path:
        """Return the folder."""
        return self._path

    @property
    def id(self) -> str:
        """Return 32 hex digits that name the archive; a restored backup keeps them."""
        return self._folder.archive_id

    @property
    def generation(self) -> int:
        """Return the newest generation, which each commit raises."""
        return self._store.generation()

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

    @property
    def _folder(self) -> Folder:
        return self._bundles.current().folder

    @property
    def _indexes(self) -> "Indexes":
        return self._bundles.current().indexes

    def add(
        self,
        sources: Iterable[str | Path] | str | Path,
        pixels: str = "reference",
        frames: "Frames" = "middle",
        progress: Progress[AddReport] | None = None,
        threads: int = 0,
        segmentations: bool = False,
        wait: float = 0.0,
        decoding: "Decoding" = "process",
        on_conflict: OnConflict | None = None,
        fit: Fitting = "auto",
    ) -> AddReport:
        """Add images from folders, globs, files and CSV manifests, and return a report.

        Unchanged images are skipped, so an interrupted call can be repeated. The report lists unreadable files.

        Args:
            sources: What to add: one source or several.
            pixels: "copy" stores the pixels, lossless; "reference" the path and a preview of at most 512 pixels a side.
            frames: Frames of a multi-frame file: "middle", "all", or n for every n-th.
            progress: Called with the report so far.
            threads: Threads that read files; 0 for one per core, at most 8.
            segmentations: If true, also add DICOM segmentation objects, whose pixels are not pictures.
            wait: Seconds to wait for another writer.
            decoding: "process" decodes files in worker processes: one that crashes its decoder, or takes too much time
                or memory, is refused like any other. "inline" decodes them in this process.
            on_conflict: What to do with a file that has the SOP instance UID of a stored image of another patient,
                study or series, or other pixels: "keep" the stored image, "replace" it, or "refuse" the file. None
                replaces if only the pixels differ, and keeps otherwise. `report.conflicts` lists them all.
            fit: "auto" fits codes to the archive at the end if it is time, as for `fit`; "never" does not.

        Raises:
            NothingAdded: Files were refused, and no image of any other is stored.
        """
        settings = IntakeSettings(pixels, frames, self.keep_identifiers, threads, decoding, on_conflict, fit)
        report = self._writer.add(sources, settings, segmentations, progress, wait)
        report.require_some()
        return report

    def receive(
        self,
        data: bytes | BinaryIO,
        name: str = "",
        metadata: Mapping[str, Json] | None = None,
        texts: Mapping[str, str] | None = None,
        identifiers: Mapping[str, str] | None = None,
    ) -> str:
        """Store a received file durably, and return the ticket for `status`.

        Then a power cut does not lose it. It needs no lock. The next `add`, `drain` or `reindex` commits the file.

        Args:
            data: Content of the file, in any format that `add` reads, or the file open for reading: it is copied from
                its start, piece by piece.
            name: Name of the file, for reports.
            metadata: Searchable fields, by name.
            texts: Report, caption and the like, by kind.
            identifiers: Names, patient ids and UIDs; they go to the private folder.

        Raises:
            InputError: A field is too long, or has a type or a value that cannot be stored.
        """
        return self._spool.put(data, name, metadata, texts, identifiers)

    def waiting(self) -> int:
        """Return how many received files wait to be committed."""
        return len(sidecars(self._spool.folder))

    def fit_due(self) -> str | None:
        """Return why the next write with `fit="auto"` fits codes: "first", "growth" or "erasure"; None if it does not.

        A program that must not keep others waiting drains with `fit="never"`, and later with `limit=0` to fit alone.
        """
        return fitting.due(self._store, self._folder)

    def status(self, ticket: str) -> "Ticket":
        """Return the state of a received file: received, indexed (with its image ids), or refused (with a reason).

        Args:
            ticket: What `receive` returned.

        Raises:
            InputError: No file was received under this ticket, or its images have been erased.
        """
        return ticket_status(self._spool, self._links, ticket)

    def drain(
        self,
        frames: "Frames" = "all",
        progress: Progress[AddReport] | None = None,
        wait: float = 0.0,
        decoding: "Decoding" = "process",
        on_conflict: OnConflict | None = None,
        fit: Fitting = "auto",
        limit: int | None = None,
    ) -> AddReport:
        """Commit the received files, with their pixels, and return a report that also lists the refused ones.

        Args:
            frames: Frames of a multi-frame file: "middle", "all", or n for every n-th.
            progress: Called with the report so far.
            wait: Seconds to wait for another writer.
            decoding: As for `add`.
            on_conflict: As for `add`; a received file that would not replace the stored image is set aside.
            fit: As for `add`.
            limit: Commit at most so many files, the oldest first; all of them unless given.
        """
        return self._writer.drain(frames, progress, wait, decoding, on_conflict, fit, limit)

    def remove(self, ids: Iterable[str] | str, erase: bool = False, wait: float = 0.0) -> "RemovalReport":
        """Remove images by id, and return how many there were and which ids are unknown.

        Searches as of an earlier generation still see them until `compact`. What was received and waits is not
        committed first; it does not bring back an image that is removed now.

        Args:
            ids: One public id or several.
            erase: If true, leave no trace in the folder, of earlier versions neither. Backups and original files stay.
            wait: Seconds to wait for another writer.
        """
        return self._writer.remove(ids, erase, wait)

    def compact(self, wait: float = 0.0) -> "CompactReport":
        """Delete removed images and the encodings of earlier bundles, shrink the files, and return a report.

        Searches as of an earlier generation are refused from then on.

        Args:
            wait: Seconds to wait for another writer.
        """
        return self._writer.compact(wait)

    def reindex(
        self,
        bundle: "str | Path | Bundle | None" = None,
        progress: "Progress[ReindexReport | TextReport] | None" = None,
        drop_lost: bool = False,
        encoder: "Encodes | None" = None,
        text_bundle: "str | Path | Bundle | None" = None,
        wait: float = 0.0,
    ) -> "ReindexReport":
        """Encode every image under another bundle and switch to it, or rebuild the indexes, and return a report.

        Searches use the old bundle until the switch. An interrupted call continues where it stopped.

        Args:
            bundle: Image bundle to switch to. Without `bundle` and `text_bundle` the indexes are rebuilt.
            progress: Called with the report so far.
            drop_lost: If true, remove images whose pixels and preview are gone; else one such prevents the switch.
            encoder: A loaded encoder of `bundle`, used instead of a new one.
            text_bundle: Text bundle to switch to, made for the image bundle; "none" for search without one.
            wait: Seconds to wait for another writer.
        """
        return self._writer.reindex(bundle, text_bundle, encoder, progress, drop_lost, wait)

    def fit(
        self,
        bits: int | None = None,
        progress: "Progress[FitReport] | None" = None,
        wait: float = 0.0,
        labels: str | None = None,
    ) -> "FitReport":
        """Fit codes to the archive's own images, search by them from now on, and return a report.

        No pixel is read. `add` and `drain` do it by themselves, first at 500 images of 200 patients, then at four times
        as many images as the fit knew. Receipts from before repeat until `compact`.

        Args:
            bits: Length of a code, a multiple of 8 from 8 to 512; that of the fit in use unless given, else 64.
            progress: Called with the report so far.
            wait: Seconds to wait for another writer.
            labels: A field, such as "label", "modality" or "region", by whose values codes are to tell images apart;
                "none" for a fit without. That of the fit in use unless given, also for later fits by themselves. They
                are used only if queries of patients held out find more of the same label with them, of which
                `FitReport.labels` has the figures. A coarse field brings its own images together, at the price of
                finer differences.

        Raises:
            QueryError: The images are too few or all alike, the bits make no sense, or the labels cannot be used:
                fewer than two labels have 20 patients, or they give away the source.
            UnknownField: No image has text in the field.
        """
        return self._writer.fit(bits, progress, wait, labels)

    def upgrade(
        self,
        progress: "Progress[UpgradeReport] | None" = None,
        wait: float = 0.0,
        encode_again: bool = False,
    ) -> "UpgradeReport":
        """Bring an archive that an earlier medlike made to the newest format, and return what was done.

        Receipts stay as they are. Codes are fitted to the archive (`fit`), and texts and fields of images are encoded
        under a text bundle; no pixels are needed. Rows get the digests by which later damage is noticed; damage from
        before cannot be told any more. An earlier medlike then refuses the archive. An interrupted call can be
        repeated.

        Args:
            progress: Called with the report so far.
            wait: Seconds to wait for another writer.
            encode_again: Also encode every image under the default bundle and switch to it, as `reindex` does. It does
                not switch if the pixels and the preview of an image are gone; the report lists these images as `lost`.
        """
        return self._writer.upgrade(progress, wait, encode_again)

    def session(self, viewer: Viewer = OWNER) -> AbstractContextManager[Session]:
        """Open a session, a frozen view of one generation under one pair of bundles, and return it.

        Args:
            viewer: Decides which private facts are shown.
        """
        return self._bundles.session(viewer)

    def search(
        self,
        query: "Query | EncodedQuery",
        k: int = 10,
        *,
        viewer: Viewer = OWNER,
        **settings: Unpack["SearchKeywords"],
    ) -> "Result":
        """Return the k stored images most like the query, best first in the order `rank`.

        Args:
            query: A Query, an image as `Query` takes it, or what `encode` returned.
            k: How many hits to return.
            viewer: Decides whether hits have their `source`, and whether filters can name a true patient or study.
            **settings: where, rank, radius, group_by and others; `medlike.archive.search.settings` explains each.

        Raises:
            QueryError: The query or a setting makes no sense.
            ImageError: The query's image cannot be read.
        """
        return self.search_many([query], k, viewer=viewer, **settings)[0]

    @_repairing
    def search_many(
        self,
        queries: "Sequence[Query | EncodedQuery]",
        k: int = 10,
        *,
        viewer: Viewer = OWNER,
        **settings: Unpack["SearchKeywords"],
    ) -> "list[Result]":
        """Return one result for each query, in their order, all as of one generation.

        Args:
            queries: Queries, or images as `Query` takes them.
            k: How many hits to return for each.
            viewer: As for `search`.
            **settings: As for `search`, which raises the same errors.
        """
        from medlike.archive.search.search import search_many

        with self.session(viewer) as session:
            return search_many(session, queries, k=k, **settings)

    @_repairing
    def encode(self, query: "Query", *, viewer: Viewer = OWNER) -> "EncodedQuery":
        """Return a query as the archive's bundle encodes it, to be searched for again without its image.

        Give it to `search`, alone or as `Query(encoded=...)` with text, like or unlike, under any settings. Its
        `to_dict` holds no pixel. An archive that uses another bundle by then refuses it.

        Args:
            query: A Query, or an image as `Query` takes it; marks are left out.
            viewer: As for `search`.

        Raises:
            QueryError: The query makes no sense.
            ImageError: The query's image cannot be read.
        """
        from medlike.archive.search.search import encode

        with self.session(viewer) as session:
            return encode(session, query)

    @_repairing
    def repeat(self, receipt: Mapping[str, Json], viewer: Viewer = OWNER) -> "Result | TextResult":
        """Repeat the search of a receipt as of its generation, and return the same answer, less what was erased.

        Args:
            receipt: The `receipt` of a Result or TextResult.
            viewer: As for `search`.

        Raises:
            QueryError: The receipt cannot be repeated: its query is not stored, or its generation was compacted.
        """
        from medlike.archive.search import nearest_texts, search
        from medlike.archive.search.receipts import TEXTS

        with self.session(viewer) as session:
            of_texts = receipt.get("of") == TEXTS
            return nearest_texts.repeat(session, receipt) if of_texts else search.repeat(session, receipt)

    @_repairing
    def nearest_texts(
        self, query: "Query", k: int = 10, *, viewer: Viewer = OWNER, **settings: Unpack["TextKeywords"]
    ) -> "TextResult":
        """Return the k stored texts nearest in meaning, ordered by (distance, -similarity, id of the image).

        Args:
            query: A Query of an image, a text or both, or an image as `Query` takes it.
            k: How many texts to return.
            viewer: As for `search`.
            **settings: where, generation and include_self, as for `search`, which raises the same errors.
        """
        from medlike.archive.search.nearest_texts import nearest_texts

        with self.session(viewer) as session:
            return nearest_texts(session, query, k, **settings)

    @_repairing
    def agreement(
        self, query: "Query", id: str, *, viewer: Viewer = OWNER, **settings: Unpack["SearchKeywords"]
    ) -> "Hit":
        """Return how a stored image agrees with a query: the hit that it would be, with `agreement` and box.

        Args:
            query: A Query of an image or of a stored one, with or without a region.
            id: Public id of the stored image.
            viewer: As for `search`.
            **settings: As for `search`; of use are generation, codes, and those of a region.

        Raises:
            UnknownImage: The archive has no image with this id.
            QueryError: The query or a setting makes no sense, or the bundle has no local codes.
            ImageError: The query's image cannot be read.
        """
        from medlike.archive.search.agreement import agreement

        with self.session(viewer) as session:
            return agreement(session, query, id, **settings)

    def facts(self, id: str, *, viewer: Viewer = OWNER) -> "ImageFacts":
        """Return what the archive knows of a stored image: size, metadata, texts, and where it came from.

        Args:
            id: Its public id.
            viewer: Decides whether there is a `source`.

        Raises:
            UnknownImage: The archive has no image with this id.
        """
        from medlike.archive.search.image_facts import image_facts

        with self.session(viewer) as session:
            return image_facts(session, id)

    def image(self, id: str, frame: int | None = None, *, viewer: Viewer = OWNER) -> "Image | None":
        """Return a stored image with its own pixels, as stored, and nothing that names anybody.

        An image that is kept by reference is read from its file, in a worker process.

        Args:
            id: Its public id.
            frame: Another frame of its file, from 0. Without pixels of its own in the archive, it is read from the
                file, for a viewer who may see sources.
            viewer: Who looks.

        Returns:
            The image; None if the pixels are gone: the file has moved or changed, or this frame is not stored.

        Raises:
            UnknownImage: The archive has no image with this id.
            QueryError: The file has no such frame.
        """
        row = self._row(id)
        pictures = self._bundles.pictures
        if frame is None or frame == row.frame:
            return pictures.image(row)
        if not 0 <= frame < row.frames:
            raise QueryError(f"frame is {frame}: the file of {id} has {row.frames}, numbered from 0")
        with suppress(ArchiveError):  # without the id key, or where it may not be read
            stored = pictures.stored_frame(row, frame, self._bundles.current().identity)
            if stored is not None:
                return pictures.image(stored)
        return pictures.other_frame(row, frame) if viewer.may("source") else None

    def preview(self, id: str) -> bytes | None:
        """Return the preview of a stored image: a JPEG of at most 512 pixels a side; None if none is kept.

        Previews are kept of images that are stored by reference.

        Args:
            id: Its public id.

        Raises:
            UnknownImage: The archive has no image with this id.
        """
        name = self._row(id).preview
        return None if name is None else self._pixels.read_preview(name)

    def picture(self, id: str) -> Picture | None:
        """Return a stored image for showing: uint8 [H, W], or [H, W, 3] in RGB; None if pixels and preview are gone.

        Args:
            id: Its public id.

        Raises:
            UnknownImage: The archive has no image with this id.
        """
        self._row(id)
        return self._bundles.pictures.picture(id)

    def stamp(self, id: str) -> str:
        """Return 32 hex digits that change when an image of this id shows something else, for caches.

        Args:
            id: Its public id.

        Raises:
            UnknownImage: The archive has no image with this id.
        """
        stamp = self._store.stamp(id)
        if stamp is None:
            raise UnknownImage(id)
        return stamp

    def _row(self, id: str) -> "ImageRow":
        row = self._store.find(id)
        if row is None:
            raise UnknownImage(id)
        return row

    def ids(self, prefix: str = "") -> list[str]:
        """Return the public ids of the stored images, in the order they were added.

        Args:
            prefix: Hex digits that the ids begin with; all ids unless given.
        """
        return self._store.ids(prefix)

    def ids_of(
        self, patient: str | None = None, study: str | None = None, series: str | None = None, removed: bool = False
    ) -> list[str]:
        """Return the public ids of all images of a patient, study or series; of several, images of all of them.

        Args:
            patient: The true patient id.
            study: The true study instance UID.
            series: The true series instance UID.
            removed: If true, include removed images that `compact` has not deleted.

        Raises:
            InputError: Nothing is given.
            ArchiveError: The key of the ids is missing.
        """
        owners = {"patient": patient, "study": study, "series": series}
        identity = self._bundles.current().identity
        hashes = {name: identity.hashed(name, value) for name, value in owners.items() if value is not None}
        if not hashes:
            raise InputError("no patient, study or series is given: give one of them")
        return owned(self._store, hashes, removed)

    @_repairing
    def browse(
        self,
        where: Mapping[str, Json] | None = None,
        limit: int = 100,
        offset: int = 0,
        *,
        prefix: str = "",
        viewer: Viewer = OWNER,
    ) -> "Listing":
        """Return a page of the stored images that match a filter, in the order they were added, without a query.

        Args:
            where: A filter, as for `search`; all images unless given.
            limit: How many images to return.
            offset: How many matching images to skip.
            prefix: Hex digits that the ids begin with; all ids unless given.
            viewer: As for `search`.

        Raises:
            QueryError: The filter makes no sense, or no image has a field of it.
        """
        from medlike.archive.search.listing import listing

        with self.session(viewer) as session:
            return listing(session, where, limit, offset, prefix)

    @_repairing
    def facets(
        self,
        where: Mapping[str, Json] | None = None,
        generation: int | None = None,
        most: int = 100,
        *,
        viewer: Viewer = OWNER,
    ) -> "Facets":
        """Return how many stored images have which value of each filter column: values, quartiles and histograms.

        Of patients, studies and series it says only how many there are.

        Args:
            where: A filter, as for `search`: only images that match it are counted.
            generation: As of which generation; the newest unless given. One that is not kept raises QueryError.
            most: How many values of a text column are listed; images with others are counted together.
            viewer: As for `search`.

        Raises:
            QueryError: The filter or `most` makes no sense, or no image has a field of the filter.
        """
        from medlike.archive.search.facets import facets

        with self.session(viewer) as session:
            return facets(session, where, generation, most)

    @_repairing
    def codes(self, generation: int | None = None, codes: "Codes | None" = None) -> tuple[list[str], U8]:
        """Return the ids of all images, oldest first, and their codes: uint8 [N, bits / 8], most significant bit first.

        Args:
            generation: As of which generation; the newest unless given. One that is not kept raises QueryError.
            codes: "fitted" or "trained", as for `search`; the fitted ones if there is a fit unless given.
        """
        from medlike.archive.index.arrays import live

        with self.session() as session:
            index = session.images(codes).index
            return live(index.view(generation), index.layout, "codes")

    @_repairing
    def vectors(self, generation: int | None = None, codes: "Codes | None" = None) -> tuple[list[str], F32]:
        """Return the ids of all images, oldest first, and their content vectors: float32 [N, D].

        They have length 1, or 0 without content. The dot product of two is their similarity, -1 to 1.

        Args:
            generation: As for `codes`.
            codes: As for `codes`; the vectors of a fit have as many entries as it has directions.
        """
        from medlike.archive.index.arrays import live
        from medlike.inference.encoding import unit_length

        with self.session() as session:
            index = session.images(codes).index
            ids, content = live(index.view(generation), index.layout, "content")
        return ids, unit_length(content)

    @_repairing
    def to_pandas(self, generation: int | None = None, texts: bool = False) -> "DataFrame":
        """Return the stored images as a pandas DataFrame: a row each, its id as the index, metadata as columns.

        "patient", "study" and "series" are keyed hashes: they group images and name nobody.

        Args:
            generation: As for `codes`.
            texts: If true, add a column "text.KIND" for each kind of text.

        Raises:
            MissingExtra: pandas is not installed.
        """
        from medlike.archive.index.arrays import table

        with self.session() as session:
            return table(session.index.view(generation), session.index.layout, session.store, texts)

    def source(self, id: str) -> JsonObject | None:
        """Return where an image came from: path, frame, UIDs and dates; None if the archive has no link for it.

        A `UserWarning` says so if the link was lost, as by a damaged disk.

        Args:
            id: Its public id.
        """
        source = self.sources([id]).get(id)
        if source is None:
            with self.session() as session:
                for warning in session.unlinked([id]):
                    warnings.warn(warning, stacklevel=2)
        return source

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
        problems += verify.checked("index", lambda: (Problem("index", text) for text in self._indexes.verify()))
        # A store that is no database ends the check of every part in the same words: once is enough.
        first: dict[str, Problem] = {}
        for problem in problems:
            first.setdefault(problem.detail, problem)
        return list(first.values())

    def unchecked(self) -> dict[str, int]:
        """Return how many rows of each table an earlier medlike wrote without a digest; `upgrade` gives them one.

        If a disk changes such a row, neither a search nor `verify` can notice.
        """
        return unchecked(self._store) | (unchecked(self._links) if self._links.present else {})

    def backup(
        self, target: str | Path, links: bool = False, passphrase: str | None = None, with_id_key: bool = False
    ) -> backups.BackupReport:
        """Copy the archive into a new folder while it is in use, and return what was copied.

        Args:
            target: The new folder.
            links: If true, include the link table.
            passphrase: Encrypts the whole backup, which then includes the key of the ids.
            with_id_key: If true, include the key of the ids in a backup that is not encrypted.

        Raises:
            ArchiveError: The folder is not empty, or the archive is damaged.
        """
        return backups.backup(self._folder, Path(target).expanduser(), links, passphrase, with_id_key)

    def room(
        self, write: Literal["compact", "erase", "reindex", "upgrade"], bundle: "str | Path | Bundle | None" = None
    ) -> Room:
        """Return the room on the disk that a write needs at most; as a text it also says what is free.

        The write itself raises ArchiveFull where there is less, before it changes anything.

        Args:
            write: "compact", "erase" (`remove` with erase), "reindex" or "upgrade".
            bundle: Image bundle to switch to, as for `reindex`.
        """
        if write == "reindex":
            facts = None if bundle is None else BundleFacts.of(loaded_bundle(bundle))
            return rooms.to_reindex(self._folder, len(self), facts)
        if write == "upgrade":
            return rooms.to_upgrade(self._folder, len(self))
        return (rooms.to_compact if write == "compact" else rooms.to_erase)(self._folder)

    def info(self) -> JsonObject:
        """Return counts and states: images, texts, bytes by part, bundles, generations, and what is unfinished.

        "erasing" counts rows whose erasure the next write finishes; "refused" lists files set aside, with the reason.
        """
        return upkeep.inventory(self._folder, self._store, self._spool)
