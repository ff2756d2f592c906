"""The bundles that an open archive uses, and what is loaded under them; another process may switch them."""

from typing import TYPE_CHECKING

from medlike.archive.intake.ingest import Encodes
from medlike.archive.storage import upkeep
from medlike.archive.storage.folder import Folder
from medlike.archive.storage.store import Store

if TYPE_CHECKING:
    from medlike.archive.index.indexes import Indexes
    from medlike.archive.text_encoder import Crossing


class BundlesInUse:
    """An archive's folder under the bundles it names; encoders and indexes are loaded on first use."""

    def __init__(self, folder: Folder, store: Store, encoder: Encodes | None = None) -> None:
        self.folder = folder
        self.store = store
        self._stated = folder.bundle, folder.text  # as archive.json had them when it was last read or written
        self._encoder = encoder
        self._made = False  # whether the encoder was made here, not given: then it is closed here
        self._crossing: Crossing | None = None
        self._indexes: Indexes | None = None

    @property
    def encoder(self) -> Encodes:
        """What encodes images. Raises BundleError where its bundle is not there."""
        if self._encoder is None:
            from medlike.inference import Encoder

            self._encoder, self._made = Encoder(self.folder.bundle.load()), True
        return self._encoder

    @property
    def crossing(self) -> "Crossing | None":
        """What encodes under the text bundle; None where there is none."""
        self.follow()
        if self._crossing is None and self.folder.text is not None:
            from medlike.archive.text_encoder import Crossing

            self._crossing = Crossing(self.folder.text)
        return self._crossing

    @property
    def indexes(self) -> "Indexes":
        """The derived arrays."""
        self.follow()
        if self._indexes is None:
            from medlike.archive.index.indexes import Indexes

            self._indexes = Indexes.of(self.folder, self.store)
        return self._indexes

    def let_go(self) -> None:
        """Close what was loaded here; it is loaded again when it is needed."""
        self._indexes = None
        if self._crossing is not None:
            self._crossing.close()
            self._crossing = None
        if self._made and self._encoder is not None:
            self._encoder.close()  # type: ignore[attr-defined]
            self._encoder, self._made = None, False

    def drop_indexes(self) -> None:
        """Delete the derived files of every bundle, also those that interrupted builds left."""
        self._indexes = None
        upkeep.drop_index(self.folder.index)

    def follow(self) -> None:
        """Notice that another process switched a bundle."""
        found = Folder.open(self.folder.path)
        stated = found.bundle, found.text
        if stated != self._stated:
            if found.bundle != self._stated[0]:
                # A search that still uses it may go on: its threads end with the last one.
                self._encoder = None
                self.folder = self.folder.under(found.bundle)
            self.folder = self.folder.with_text(found.text)
            self._indexes, self._crossing, self._stated = None, None, stated

    def use(self, folder: Folder, encoder: Encodes | None = None, made: bool = False) -> None:
        """Use the bundles of a folder from now on, here and for whoever opens the archive.

        encoder: of its image bundle, where that is another. made: it is to be closed with the archive. The caller holds
        the writer's lock.
        """
        self.folder, self._indexes, self._crossing = folder, None, None
        if encoder is not None:
            self._encoder, self._made = encoder, made
        self.state()

    def state(self) -> None:
        """Write archive.json where it says something else."""
        now = self.folder.bundle, self.folder.text
        if now != self._stated:
            self.folder.write()
            self._stated = now
