"""The index: flat arrays derived from the store, brought up to date with it, and rebuilt from it at any time.

    index/<bundle digest, 16 digits>/       with "-" and the 16 first digits of a fit's digest for codes under it
        index.json      format, bundle, generation, segments
        <segment>/      see segment.py

Small commits are held in memory by whoever searches; from 4,096 rows on they become a segment on disk, and
segments of similar size are merged, so that adding never rewrites everything. Any process may bring the
files up to date: a manifest names complete segments only, and replacing it is atomic.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medlike import files as durable
from medlike.archive.index.checks import IndexDamaged, sealed, unsealed
from medlike.archive.index.columns import usable
from medlike.archive.index.segment import CHUNK, Layout, Segment, SegmentWriter
from medlike.archive.index.sources import Rows, StoredImages
from medlike.archive.storage.rows import FILTER_COLUMNS, NUMBER_COLUMNS
from medlike.archive.storage.store import Store
from medlike.errors import ArchiveError, ArchiveLocked, QueryError

FORMAT = 2  # 1 had no checksums
FILE = "index.json"
LARGEST = 1 << 20  # bytes of it
_SEGMENT = re.compile(r"[0-9a-f]{16}")
WORTH_A_FILE = 4096  # rows held in memory at most before they become a segment on disk
FAN = 8  # so many neighbouring segments of similar size are merged into one


@dataclass(frozen=True)
class Part:
    """The rows of one segment that a search sees: the first `rows`, without `dead` (positions, ascending)."""

    segment: Segment
    rows: int
    dead: NDArray[np.int64]

    def positions(self, image: int) -> NDArray[np.int64]:
        """Where the rows of an image of the store (its row) are that live: int64 [m], m = 0 or 1 but for texts."""
        images = self.segment.images[: self.rows]
        positions = np.arange(images.searchsorted(image), images.searchsorted(image, side="right"))
        return np.setdiff1d(positions, self.dead) if len(self.dead) else positions


@dataclass(frozen=True)
class View:
    """The images of one generation. Never changes, whatever is committed meanwhile."""

    generation: int
    parts: tuple[Part, ...]

    def __len__(self) -> int:
        return sum(part.rows - len(part.dead) for part in self.parts)


@dataclass(frozen=True)
class _State:
    generation: int
    segments: tuple[Segment, ...]
    removed: NDArray[np.int64]  # [M, 2]: row, generation from which it is gone; ascending by row
    known: int  # removals up to this generation are in `removed`
    purged: int  # deletions from the store up to this one too, as gone from generation -1


_NOTHING = _State(-1, (), np.empty((0, 2), np.int64), -1, -1)


class Index:
    """The index of one archive under one bundle. Safe to use from many threads."""

    def __init__(self, folder: Path, store: Store, layout: Layout, source: Rows | None = None) -> None:
        """folder: the archive's index/ folder, made when something is written to it. Opens what is there.

        source: what the rows are; the store's images unless given.
        """
        self.folder = folder / layout.folder
        self.store = store
        self.source = StoredImages(store, layout.bundle) if source is None else source
        self.layout = layout
        self._lock = threading.RLock()
        self._state = self._load()
        self._seen: tuple[_State, View] | None = None

    @property
    def generation(self) -> int:
        """The generation the index has reached."""
        return self._state.generation

    def view(self, generation: int | None = None) -> View:
        """What lives as of a generation (default: the newest published one; within a snapshot, the snapshot's).

        Raises QueryError where that generation is not kept or not yet reached.
        """
        state = self.refresh()
        # Another thread may have come further than this one's snapshot sees.
        newest = min(state.known, self.store.generation())
        generation = newest if generation is None else generation
        oldest = self.store.oldest_generation()
        if not oldest <= generation <= newest:
            raise QueryError(f"generation {generation} cannot be searched: the archive keeps {oldest} to {newest}")
        seen = self._seen
        if seen is None or seen[0] is not state or seen[1].generation != generation:
            # Where many rows are removed, finding them costs more than a search.
            seen = self._seen = (state, _view(state, generation))
        return seen[1]

    def refresh(self, publish: bool = True) -> _State:
        """Catch up with the store. `publish`: where there are many new rows, put them on disk if possible."""
        if self._state.known == self.store.generation():
            return self._state
        try:
            return self._refreshed(publish)
        except IndexDamaged:
            self.discard()
            return self._refreshed(publish)

    def discard(self) -> None:
        """Forget what the files say, here and for others: the index is derived anew when it is next needed."""
        with self._lock:
            # A reader that may not write goes on in memory.
            with contextlib.suppress(OSError):
                (self.folder / FILE).unlink(missing_ok=True)
            self._state, self._seen = _NOTHING, None

    def _refreshed(self, publish: bool) -> _State:
        with self._lock, self.store.snapshot():
            newest = self.store.generation()
            state = self._still_true(self._state, newest)
            if newest <= state.known:
                return state
            state = self._without_purged(state, newest)
            fresh = self.source.count(state.generation)
            waiting = sum(len(segment) for segment in state.segments if segment.folder is None)
            if publish and waiting + fresh >= WORTH_A_FILE:
                # A reader that may not write goes on in memory.
                with contextlib.suppress(ArchiveError):
                    return self._published(newest)
            segments = state.segments
            if fresh:
                segments = (*segments, self._build(state.generation, newest, None))
                loose = [segment for segment in segments if segment.folder is None]
                if len(loose) >= FAN:
                    segments = (*segments[: -len(loose)], self._merged(loose, None))
            self._state = self._reached(state, segments, newest)
            return self._state

    def rebuild(self) -> None:
        """Make the index anew from the store alone: after encodings were added to rows known before."""
        with self._lock, self.store.snapshot():
            newest = self.store.generation()
            with self._published_alone():
                segment = self._build(-1, newest, self._fresh_folder())
                removed = self._removed(_NOTHING, newest)
                self._publish(_State(newest, (segment,), removed, newest, self.store.last_purge(-1)))

    def verify(self) -> list[str]:
        """Differences between the index and the store, as sentences; empty where there are none."""
        problems = []
        with self.store.snapshot():
            try:
                # The snapshot begins with the first read: under the lock no other thread can come further than it.
                with self._lock:
                    state = self.refresh(publish=False)
            except ArchiveError as error:
                return [str(error)]
            damaged = [path for segment in state.segments for path in segment.damaged()]
            if damaged:
                return [f"{path} is damaged: run `medlike reindex`" for path in damaged]
            expected = self.source.rows(-1, self.store.generation())
            unseen = set(state.removed[state.removed[:, 1] < 0, 0].tolist())
            for segment in state.segments:
                columns = {name: segment.column(name) for name in FILTER_COLUMNS}
                arrays = {name: segment.array(name) for name in self.layout.arrays()}
                for position in range(len(segment)):
                    row = int(arrays["rows"][position])
                    if row in unseen:
                        continue
                    stored = next(expected, None)
                    if stored is None or stored[0].row != row:
                        problems.append(f"index row {row} is not the store's {stored and stored[0].row}")
                        return problems
                    image, encoding, text = stored
                    same = (
                        arrays["ids"][position].tobytes().hex() == image.id
                        and int(arrays["added"][position]) == image.added
                        and arrays["codes"][position].tobytes() == encoding.code
                        and arrays["content"][position].tobytes() == encoding.content
                        and ("cells" not in arrays or arrays["cells"][position].tobytes() == encoding.cells)
                        and (
                            text is None
                            or all(int(arrays[name][position]) == value for name, value in asdict(text).items())
                        )
                        and all(
                            column.value(position) == usable(getattr(image, name), name in NUMBER_COLUMNS)
                            for name, column in columns.items()
                        )
                    )
                    if not same:
                        problems.append(f"index row {row} differs from the store")
            if next(expected, None) is not None:
                problems.append("the index lacks rows of the store")
        return problems

    def _load(self) -> _State:
        durable.require_plain(self.folder, folder=True)
        for _ in range(3):
            try:
                facts = unsealed(durable.read(self.folder / FILE, LARGEST))
                if facts["format"] != FORMAT or facts["bundle"] != self.layout.key:
                    return _NOTHING
                if not all(isinstance(name, str) and _SEGMENT.fullmatch(name) for name in facts["segments"]):
                    raise ValueError("a segment has a name that is none")
                segments = tuple(Segment.open(self.folder / name, self.layout) for name in facts["segments"])
                return _State(int(facts["generation"]), segments, _NOTHING.removed, -1, int(facts["purged"]))
            except FileNotFoundError:
                return _NOTHING
            except (OSError, ValueError, KeyError, TypeError, ArchiveError):
                # Another process may have replaced the manifest meanwhile; a damaged index is built anew.
                continue
        return _NOTHING

    def _still_true(self, state: _State, newest: int) -> _State:
        """A state, or none where the store was put back to an earlier one: what is derived from the future is wrong.

        newest: the generation of this thread's snapshot, which may only be an old one.
        """
        return state if newest >= state.generation or self.store.published() >= state.generation else _NOTHING

    def _reached(self, state: _State, segments: tuple[Segment, ...], newest: int) -> _State:
        """A state that knows of the additions (`segments`) and removals up to the newest generation."""
        generation = max(newest, state.generation)
        return _State(generation, segments, self._removed(state, newest), newest, state.purged)

    def _without_purged(self, state: _State, newest: int) -> _State:
        """Rows that the store has deleted for good and the segments still hold are marked, not to be seen.

        newest: the generation that the store is seen at; of later rows it knows nothing.
        """
        purged = self.store.last_purge(state.purged)
        if purged == state.purged or not state.segments:
            return replace(state, purged=purged)
        indexed = np.concatenate([segment.array("rows")[: _rows(segment, newest)] for segment in state.segments])
        missing = np.setdiff1d(indexed, self.source.present())
        known = state.removed[~np.isin(state.removed[:, 0], missing)]
        marked = np.stack([missing, np.full_like(missing, -1)], axis=1)
        return replace(state, removed=_ascending(np.concatenate([known, marked])), purged=purged)

    def _removed(self, state: _State, until: int) -> NDArray[np.int64]:
        fresh = np.asarray(self.source.removals(state.known, until), np.int64).reshape(-1, 2)
        return _ascending(np.concatenate([state.removed, fresh]))

    def _build(self, since: int, until: int, folder: Path | None) -> Segment:
        rows = self.source.rows(since, until)
        with self._writer(folder) as writer:
            while page := list(islice(rows, CHUNK)):
                writer.add(page)
            return writer.finish(since, until)

    def _merged(self, segments: Sequence[Segment], folder: Path | None) -> Segment:
        with self._writer(folder) as writer:
            for segment in segments:
                writer.copy(segment)
            return writer.finish(segments[0].since, segments[-1].until)

    @contextlib.contextmanager
    def _writer(self, folder: Path | None) -> Iterator[SegmentWriter]:
        """Yield a writer of a segment, in memory without a folder; what it wrote is deleted on an error."""
        writer = SegmentWriter(self.layout, folder)
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise

    def _published(self, newest: int) -> _State:
        """Write what the files lack as one more segment, then merge. Starts from the files: others write too."""
        with self._published_alone():
            state = self._without_purged(self._still_true(self._load(), newest), newest)
            segments = list(state.segments)
            if self.source.count(state.generation):
                segments.append(self._build(state.generation, newest, self._fresh_folder()))
            while segments and len(run := _alike(segments)) >= FAN:
                segments[-len(run) :] = [self._merged(run, self._fresh_folder())]
            self._publish(self._reached(state, tuple(segments), newest))
        return self._state

    @contextlib.contextmanager
    def _published_alone(self) -> Iterator[None]:
        """One process changes the files at a time. Raises ArchiveLocked where another is at it."""
        durable.require_plain(self.folder, folder=True)
        durable.make_folder(self.folder)
        with durable.disk_errors(self.folder):
            descriptor = durable.create(self.folder / "lock", flags=0)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ArchiveLocked(f"{self.folder} is being written by another process: try again") from None
            yield
        finally:
            os.close(descriptor)

    def _publish(self, state: _State) -> None:
        # Rows deleted from the store but still in a segment must be looked for by whoever opens the files.
        unseen = bool((state.removed[:, 1] < 0).any())
        names = [segment.folder.name for segment in state.segments if segment.folder is not None]
        facts = {
            "format": FORMAT,
            "bundle": self.layout.key,
            "generation": state.generation,
            "purged": -1 if unseen else state.purged,
            "segments": names,
        }
        durable.write(self.folder / FILE, sealed(facts))
        self._state = state
        for path in self.folder.iterdir():
            # Nobody else is building here. Readers that have mapped the files keep them until they let go.
            if path.is_dir() and path.name not in names:
                shutil.rmtree(path, ignore_errors=True)

    def _fresh_folder(self) -> Path:
        return self.folder / secrets.token_hex(8)


def _view(state: _State, generation: int) -> View:
    gone = state.removed[state.removed[:, 1] <= generation, 0]
    parts = []
    for segment in state.segments:
        rows = _rows(segment, generation)
        if rows:
            # Nothing is read of a large index where nothing was removed.
            dead = positions_of(segment.array("rows")[:rows], gone) if len(gone) else np.empty(0, np.int64)
            parts.append(Part(segment, rows, dead))
    return View(generation, tuple(parts))


def _rows(segment: Segment, generation: int) -> int:
    """How many of a segment's rows were added by a generation: the first ones."""
    if generation >= segment.until:
        return len(segment)
    return int(np.searchsorted(segment.array("added"), generation, side="right"))


def _ascending(removed: NDArray[np.int64]) -> NDArray[np.int64]:
    return removed[np.argsort(removed[:, 0], kind="stable")]


def positions_of(rows: NDArray[np.int64], sought: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions in `rows` (ascending) of those of `sought` (ascending) that are there: int64 [M]."""
    if not len(rows) or not len(sought):
        return np.empty(0, np.int64)
    at = np.searchsorted(rows, sought)
    inside = at < len(rows)
    at = at[inside]
    matching: NDArray[np.int64] = at[rows[at] == sought[inside]]
    return matching


def _alike(segments: Sequence[Segment]) -> Sequence[Segment]:
    """The newest segments that are of the last one's size class."""
    size = max(WORTH_A_FILE, len(segments[-1])) * FAN
    run = 0
    while run < len(segments) and len(segments[-1 - run]) < size:
        run += 1
    return segments[len(segments) - run :]


__all__ = ["Index", "Layout", "Part", "View"]
