"""Session: one frozen view of an archive for one piece of work.

An archive can be switched to another bundle, here or by another process, while a search runs. A session is of one
pair of bundles and one generation from its beginning to its end, so that an answer is never half of each.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from medlike.archive.index.cell_sample import cell_sample
from medlike.archive.index.checks import IndexDamaged
from medlike.archive.index.columns import numbered
from medlike.archive.index.index import View
from medlike.archive.index.indexes import Indexes
from medlike.archive.index.neighbours import LabelPairs, Vicinity
from medlike.archive.index.segment import HASH_COLUMNS
from medlike.archive.storage import upkeep
from medlike.archive.storage.branches import Branch, branches
from medlike.archive.storage.database import EACH, each
from medlike.archive.storage.folder import FILE, BundleFacts, FitFacts, Folder, TextBundleFacts
from medlike.archive.storage.identity import LINKS_SINCE, Identity, Links, as_source
from medlike.archive.storage.pictures import StoredPictures
from medlike.archive.storage.store import Store
from medlike.archive.viewer import OWNER, Viewer
from medlike.errors import ArchiveError, QueryError
from medlike.types import F32, I64, U64, JsonObject

if TYPE_CHECKING:
    from medlike.archive.index.index import Index
    from medlike.archive.index.indexes import CodedImages
    from medlike.archive.text_encoder import TextEncoder
    from medlike.inference.encoding import Encodes

Made = TypeVar("Made")


class Loaded:
    """What is loaded under one pair of bundles: encoders and indexes, each on first use. Safe for many threads."""

    def __init__(self, folder: Folder, store: Store, encoder: "Encodes | None" = None, owned: bool = False) -> None:
        """Load nothing yet.

        Args:
            folder: The archive's folder under the bundles it names.
            store: The archive's store.
            encoder: One that is loaded already.
            owned: Whether `encoder` is closed with this.
        """
        self.folder = folder
        self.store = store
        self._encoder = encoder
        self._owned = owned
        self._text_encoder: TextEncoder | None = None
        self._lock = threading.RLock()
        self.indexes = Indexes.of(folder, store)
        self.archive_id = folder.archive_id
        self._latest: dict[str, tuple[tuple[str, int, int], object]] = {}

    @property
    def encoder(self) -> "Encodes":
        """Return the encoder of images. Raises BundleError where its bundle is missing."""
        with self._lock:
            if self._encoder is None:
                from medlike.inference import Encoder

                self._encoder, self._owned = Encoder(self.folder.bundle.load()), True
            return self._encoder

    @property
    def text_encoder(self) -> "TextEncoder | None":
        """Return the encoder of texts, None without a text bundle."""
        with self._lock:
            if self._text_encoder is None and self.folder.text is not None:
                from medlike.archive.text_encoder import TextEncoder

                self._text_encoder = TextEncoder(self.folder.text)
            return self._text_encoder

    @cached_property
    def identity(self) -> Identity:
        """Read the id key. Raises ArchiveError where it is missing, or another archive's."""
        return Identity(self.folder.private, self.folder.key)

    def has_identity(self) -> bool:
        """Return True if the id key can be read here."""
        try:
            return bool(self.identity)
        except ArchiveError:
            return False

    @cached_property
    def _branches(self) -> list[Branch]:
        return branches(self.store)

    def branch_of(self, generation: int) -> str | None:
        """Return the id of the branch that a generation was committed in, None for the trunk.

        Args:
            generation: The generation.
        """
        return next((branch.id for branch in reversed(self._branches) if branch.since < generation), None)

    def usual(self, images: "CodedImages", view: View) -> F32:
        """Return how similar the archive's own images are to their nearest neighbours, ascending: float32 [U].

        Args:
            images: The images by the codes in question.
            view: The generation.
        """
        return self._of_view("usual", images, view, lambda: images.neighbours.of(view).usual)

    def vicinity(self, images: "CodedImages", view: View) -> Vicinity:
        """Return a sample of the archive's own images, each with how close its neighbours are.

        Args:
            images: The images by the codes in question.
            view: The generation.
        """
        return self._of_view("vicinity", images, view, lambda: Vicinity.of(view, images.neighbours.of(view)))

    def pairs(self, images: "CodedImages", view: View) -> LabelPairs:
        """Return pairs of the archive's own images that have labels, by how similar they are.

        Args:
            images: The images by the codes in question.
            view: The generation.
        """
        return self._of_view("pairs", images, view, lambda: LabelPairs.of(view, images.neighbours.of(view).rows))

    def cells(self, images: "CodedImages", view: View) -> U64:
        """Return a sample of the cells of the archive's own images, uint64 [M, L / 64]; see `cell_sample`.

        Args:
            images: The images by the codes in question.
            view: The generation.
        """
        return self._of_view("cells", images, view, lambda: cell_sample(view))

    def hash_numbers(self, images: "CodedImages", view: View) -> dict[str, list[I64]]:
        """Return the keyed hashes of each part as numbers, by column; see `numbered`.

        Args:
            images: The images by the codes in question.
            view: The generation.
        """

        def number() -> dict[str, list[I64]]:
            return {name: numbered([part.segment.column(name) for part in view.parts]) for name in HASH_COLUMNS}

        return self._of_view("hashes", images, view, number)

    def _of_view(self, name: str, images: "CodedImages", view: View, make: Callable[[], Made]) -> Made:
        """Return what was made of the latest view, or make it: searches of one generation follow each other."""
        now = images.index.layout.key, view.generation, len(view)
        state, made = self._latest.get(name, (None, None))
        if state == now:
            return cast(Made, made)
        fresh = make()
        self._latest[name] = now, fresh
        return fresh

    def under(self, folder: Folder, encoder: "Encodes | None" = None, owned: bool = False) -> "Loaded":
        """Return the same under the bundles that a folder names, sharing the encoder; indexes are opened anew."""
        if encoder is None and folder.bundle == self.folder.bundle:
            encoder, owned = self._encoder, self._owned
        return Loaded(folder, self.store, encoder, owned)

    def close(self) -> None:
        """Close what was loaded here."""
        with self._lock:
            if self._text_encoder is not None:
                self._text_encoder.close()
                self._text_encoder = None
            if self._owned and self._encoder is not None:
                self._encoder.close()  # type: ignore[attr-defined]
                self._encoder, self._owned = None, False


@dataclass(frozen=True)
class Session:
    """One view of an archive: its bundles and the generation that the store's snapshot sees.

    Attributes:
        loaded: Encoders and indexes of the bundles in use.
        store: The store, within a snapshot as long as the session is open.
        links: The link table.
        pictures: Stored images as pictures; of use after the session too.
        generation: The newest generation that the session sees.
        viewer: Who looks; private things are shown only as far as they may be.
    """

    loaded: Loaded
    store: Store
    links: Links
    pictures: StoredPictures
    generation: int
    viewer: Viewer = OWNER

    @property
    def folder(self) -> Folder:
        """Return where each part is, and which bundles the archive names."""
        return self.loaded.folder

    @property
    def indexes(self) -> Indexes:
        """Return the derived arrays."""
        return self.loaded.indexes

    @property
    def index(self) -> "Index":
        """Return the derived arrays of the images."""
        return self.loaded.indexes.images

    def images(self, codes: str | None = None) -> "CodedImages":
        """Return the images by the codes that a search asks for.

        Args:
            codes: "fitted", "trained", or None for the fitted ones where there is a fit.

        Raises:
            QueryError: Fitted codes are asked for and the archive has no fit.
        """
        fit = self.folder.fit
        if codes == "fitted" and fit is None:
            raise QueryError(
                f"{self.folder.path} has no fit, so it has no fitted codes: run `medlike fit`, or search trained codes"
            )
        return self.indexes.used if fit is None or codes != "trained" else self.indexes.coded(None)

    def sources(self, ids: Sequence[str]) -> dict[str, JsonObject]:
        """Return where images came from, by id, for the ids that have a link; nothing the viewer may not see."""
        if not ids or not self.viewer.may("source"):
            return {}
        named = self.viewer.may("identifiers")
        sources = {id: as_source(link, named) for id, link in self.links.find(ids).items()}
        if sources:
            self.viewer.saw("source", list(sources))
            if named:
                self.viewer.saw("identifiers", list(sources))
        return sources

    def unlinked(self, ids: Sequence[str]) -> tuple[str, ...]:
        """Return a warning if images have lost their link: none is known, and the archive was not restored without it.

        Args:
            ids: Public ids without a source, as far as this viewer sees.
        """
        if not ids or not self.viewer.may("source") or not self.links.present:
            return ()
        sql = f"SELECT count(DISTINCT id) FROM images WHERE id IN {EACH} AND added > ?"
        count = self.store.number(sql, (each(ids), int(self.store.setting(LINKS_SINCE, "-1"))))
        images = "1 image here has" if count == 1 else f"{count} images here have"
        return (f"{images} no link to where it came from: run `medlike verify`",) if count else ()

    def hashed(self, field: str, value: object) -> str | None:
        """Return the keyed hash of a true patient, study or series, for a filter by it.

        Raises:
            QueryError: The viewer may not filter by true values.
        """
        if not self.viewer.may("filters"):
            raise QueryError(f"{field} cannot be filtered by its true value here: filter by another field")
        self.viewer.saw("filters", [field])
        return self.loaded.identity.hashed(field, value)


class Bundles:
    """The bundles that an open archive uses; another process may switch them. Hands out sessions."""

    def __init__(self, folder: Folder, store: Store, links: Links, pictures: StoredPictures) -> None:
        self.store, self.links, self.pictures = store, links, pictures
        self._lock = threading.RLock()
        self._stated = _facts(folder)  # as archive.json had them when it was last read or written
        self._file: tuple[int, ...] = ()  # the state of archive.json when it was last read
        self._loaded = Loaded(folder, store)

    @contextmanager
    def session(self, viewer: Viewer = OWNER) -> Iterator[Session]:
        """Open a session: archive.json and the store are read as of one moment."""
        while True:
            loaded = self.current()
            with self.store.snapshot():
                # A snapshot begins with its first read. A switch before it shows in archive.json after it.
                generation = self.store.generation()
                if self.current() is loaded:
                    try:
                        yield Session(loaded, self.store, self.links, self.pictures, generation, viewer)
                    except IndexDamaged as error:
                        loaded.indexes.discard(error.folder)
                        raise
                    return

    def current(self) -> Loaded:
        """Return what is loaded under the bundles that archive.json names now."""
        file = _state(self._loaded.folder.path / FILE)
        if file and file == self._file:
            return self._loaded
        folder = Folder.open(self._loaded.folder.path)
        stated = _facts(folder)
        with self._lock:
            self._file = file
            if stated != self._stated:
                # A session under the former bundles goes on: what it uses is closed with the last one.
                known = replace(self._loaded.folder, format=folder.format)
                if folder.bundle != self._stated[0]:
                    known = known.under(folder.bundle)
                self._loaded = self._loaded.under(known.with_text(folder.text, folder.sentences).with_fit(folder.fit))
                self._stated = stated
            return self._loaded

    def reopen(self, folder: Folder, encoder: "Encodes | None" = None, owned: bool = False) -> None:
        """Use a folder's bundles in this process; `write` makes others use them too."""
        with self._lock:
            self._loaded = self._loaded.under(folder, encoder, owned)

    def use(self, folder: Folder, encoder: "Encodes | None" = None, owned: bool = False) -> None:
        """Use the bundles of a folder from now on, here and for whoever opens the archive.

        Args:
            folder: Names the bundles.
            encoder: Of the image bundle, where that is another.
            owned: Whether `encoder` is closed with the archive. The caller holds the writer's lock.
        """
        self.reopen(folder, encoder, owned)
        self.write()

    def write(self) -> None:
        """Write archive.json where it names other bundles than those in use."""
        with self._lock:
            # What another writer wrote since it was last read is not written over.
            self.current()
            folder = self._loaded.folder
            now = _facts(folder)
            if now != self._stated:
                folder.write()
                self._stated = now

    def drop_indexes(self) -> None:
        """Delete the derived files of every bundle, also those that interrupted builds left."""
        with self._lock:
            self._loaded = self._loaded.under(self._loaded.folder)
            upkeep.drop_index(self._loaded.folder.index)

    def close(self) -> None:
        """Close what was loaded; it is loaded again when it is needed."""
        with self._lock:
            self._loaded.close()
            self._loaded = self._loaded.under(self._loaded.folder)


def _facts(folder: Folder) -> tuple[BundleFacts, TextBundleFacts | None, FitFacts | None, int, int]:
    """Return what may change in archive.json."""
    return folder.bundle, folder.text, folder.fit, folder.format, folder.sentences


def _state(file: Path) -> tuple[int, ...]:
    """What changes when a file is replaced; empty where it cannot be looked at, so that reading it says why."""
    try:
        state = file.stat()
    except OSError:
        return ()
    return state.st_mtime_ns, state.st_size, state.st_ino
