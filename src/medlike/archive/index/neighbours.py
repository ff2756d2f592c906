"""How similar each image of a sample is to its nearest neighbours: what is usual in an archive.

The sample holds one image of each unit (patient, else study, else image), those with the smallest ids. Ids are keyed
hashes, so it is drawn at random, and equal for every reader. Neighbours are of another patient and another study, and
no near-duplicates. All of it follows from the images that live as of a generation alone.

    index/<bundle>/neighbours.json    a SHA-256, then the facts it is of: bundle, generation, rows and so on
"""

import contextlib
import hashlib
import json
import threading
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medlike import files as durable
from medlike import strict_json
from medlike.archive.index.columns import Column
from medlike.archive.index.index import Index, Part, View, positions_of
from medlike.errors import ArchiveError
from medlike.types import F32, F64, I64, Array, Mask

FILE = "neighbours.json"
SIZE = 2000  # images in the sample at most
LEAST = 500  # images in the sample of the largest archives
PAIRS = 100_000_000  # pairs of images compared at most, unless that leaves fewer than LEAST in the sample
NEAREST = 5  # neighbours of each image
NEAR_DUPLICATE = 0.99  # similarity from which two images count as one
NONE = -2.0  # in place of the similarity of an image that has no neighbour
_LARGEST = 1 << 20  # bytes of the file
_WORTH_A_FILE = 200  # images from which there is a file; it is replaced when they are a tenth more or fewer
_BLOCK = 1024  # stored images compared at a time
_KEPT = 4  # generations kept in memory
BAND = 200  # pairs of patients, neighbours in similarity, that a share is of at least
PATIENTS = 50  # of whom the images of such pairs must be, or nothing is claimed
PAIRED = 700  # images with a label whose pairs are compared at most
_ROUGHLY = 1e-4  # more than similarities in float32 may be off
_EXACT = 1040  # widths up to which float32 holds every sum of products of int8


@dataclass(frozen=True)
class Neighbours:
    """The sample as of one generation.

    Attributes:
        generation: The generation.
        images: How many images lived then.
        rows: int64 [S], the store's rows of the sampled images, ascending.
        neighbours: int64 [S, NEAREST], the store's rows of the nearest neighbours, most similar first, -1 for none.
        similarities: float32 [S, NEAREST], the similarity of each, NONE without one.
    """

    generation: int
    images: int
    rows: I64
    neighbours: I64
    similarities: F32

    @property
    def usual(self) -> F32:
        """Return the similarity of each sampled image to its nearest neighbour, ascending: float32 [U]."""
        ascending: F32 = np.sort(self.similarities[self.neighbours[:, 0] >= 0, 0])
        return ascending


def closeness(similarities: F32) -> F32:
    """Return the mean of each row's similarities up to the first NONE: float32 [N], of [N, K] in descending order."""
    known = similarities > NONE
    total = np.where(known, similarities.astype(np.float64), 0.0).sum(axis=1)
    mean: F32 = (total / np.maximum(known.sum(axis=1), 1)).astype(np.float32)
    return mean


@dataclass(frozen=True)
class Vicinity:
    """The sample as what a query is compared with: how close its images are to their neighbours, and where they are.

    Attributes:
        vectors: float32 or float64 [U, D], content vectors of the sampled images that have a neighbour.
        lengths: float64 [U], their lengths.
        closeness: float32 [U], the mean similarity of each to its NEAREST neighbours.
    """

    vectors: F32 | F64
    lengths: F64
    closeness: F32

    @classmethod
    def of(cls, view: View, sample: Neighbours) -> "Vicinity":
        """Return the sample of a view, with its content vectors.

        Args:
            view: The generation.
            sample: As of that generation.
        """
        known = sample.neighbours[:, 0] >= 0
        rows = sample.rows[known]
        contents: list[Array] = [np.empty((0, 0), np.int8)]
        places: list[NDArray[np.signedinteger]] = [np.empty(0, np.int64)]
        for part in view.parts:
            at = positions_of(part.segment.array("rows")[: part.rows], rows)
            if len(at):
                places.append(np.searchsorted(rows, part.segment.array("rows")[at]))
                contents.append(part.segment.array("content", at)[at])
        vectors, squares = _vectors(np.concatenate(contents[1:] or contents))
        order = np.argsort(np.concatenate(places))
        lengths = np.maximum(np.sqrt(squares[order]), 1.0)
        return cls(vectors[order], lengths, closeness(sample.similarities[known]))


@dataclass(frozen=True)
class LabelPairs:
    """Pairs of sampled images that have labels, each of another unit, by ascending similarity.

    Attributes:
        similarities: float32 [P].
        first: int [P], one image of each pair.
        second: int [P], the other one.
        labels: int [images], the label of each image as a number.
    """

    similarities: F32
    first: NDArray[np.signedinteger]
    second: NDArray[np.signedinteger]
    labels: I64

    @cached_property
    def steps(self) -> tuple[F32, F64]:
        """Return from which similarity on pairs share a label how often: float32 [S], float64 [S], both ascending.

        The shares are those of bands of BAND pairs, made monotone by joining bands (pool adjacent violators). A share
        of pairs of fewer than PATIENTS images is NaN. Without a band there is no step.
        """
        count = len(self.similarities) // BAND
        if not count:
            return np.empty(0, np.float32), np.empty(0)
        equal = self.labels[self.first] == self.labels[self.second]
        # From the most similar pairs down; what is left over joins the least similar band.
        starts = len(equal) - BAND * np.arange(count, 0, -1)
        starts[0] = 0
        sizes = np.diff(starts, append=len(equal))
        starts = np.asarray(starts[pooled(np.add.reduceat(equal, starts, dtype=np.int64) / sizes, sizes)])
        sizes = np.diff(starts, append=len(equal))
        shares = np.add.reduceat(equal, starts, dtype=np.int64) / sizes
        for step, (start, size) in enumerate(zip(starts.tolist(), sizes.tolist(), strict=True)):
            # So many pairs are of many images whoever they are.
            if size < PATIENTS * PATIENTS and len(np.unique(self._images(start, start + size))) < PATIENTS:
                shares[step] = np.nan
        return self.similarities[starts], shares

    def _images(self, start: int, stop: int) -> NDArray[np.signedinteger]:
        return np.concatenate([self.first[start:stop], self.second[start:stop]])

    @classmethod
    def of(cls, view: View, rows: I64) -> "LabelPairs":
        """Return the pairs of the first PAIRED images that have a label.

        Args:
            view: The generation.
            rows: int64 [S], ascending, the store's rows of the sample.
        """
        labels: list[object] = []
        contents = []
        for part in view.parts:
            at = positions_of(part.segment.array("rows")[: part.rows], rows)
            column = part.segment.column("label")
            at = at[column.codes[at] > 0][: PAIRED - len(labels)]
            labels += [column.value(position) for position in at.tolist()]
            contents.append(part.segment.array("content", at)[at])
        first, second = np.triu_indices(len(labels), 1)
        if not len(first):
            return cls(np.empty(0, np.float32), first, second, np.empty(0, np.int64))
        vectors, lengths = _vectors(np.concatenate(contents))
        products = (vectors @ vectors.T)[first, second]
        near = (products / np.sqrt(np.maximum(lengths[first] * lengths[second], 1.0))).astype(np.float32)
        kinds = np.unique([str(label) for label in labels], return_inverse=True)[1]
        order = ascending(near)
        return cls(near[order], first.astype(np.int16)[order], second.astype(np.int16)[order], kinds)


def pooled(shares: F64, sizes: I64) -> I64:
    """Return where the blocks begin into which pool adjacent violators joins shares, so that their means ascend.

    Source: Ayer, Brunk, Ewing, Reid and Silverman, An Empirical Distribution Function for Sampling with Incomplete
    Information, 1955.

    Args:
        shares: float64 [N].
        sizes: int64 [N], how much each counts, positive.

    Returns:
        int64 [B], ascending, the first of them 0.
    """
    blocks: list[tuple[int, float, int]] = []
    for at, (share, size) in enumerate(zip(shares.tolist(), sizes.tolist(), strict=True)):
        start, total, count = at, share * size, size
        while blocks and blocks[-1][1] * count >= total * blocks[-1][2]:
            earlier = blocks.pop()
            start, total, count = earlier[0], earlier[1] + total, earlier[2] + count
        blocks.append((start, total, count))
    return np.array([start for start, _, _ in blocks], np.int64)


def ascending(values: F32) -> I64:
    """Return the order that sorts finite numbers, equal ones as they stand: `argsort`, in a quarter of its time."""
    bits = (values + np.float32(0)).view(np.uint32)  # no negative zero
    keys = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    # numpy sorts whole numbers of 16 bits by counting.
    order: I64 = np.argsort((keys & 0xFFFF).astype(np.uint16), kind="stable")
    return order[np.argsort((keys >> 16).astype(np.uint16)[order], kind="stable")]


class NeighbourSample:
    """The samples of an index by generation, one of them in a file. Safe to use from many threads."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._file = index.folder / FILE
        self._lock = threading.Lock()
        self._known: list[Neighbours] = []
        self._filed: Neighbours | None = None
        self._opened = False

    def of(self, view: View) -> Neighbours:
        """Return the sample as of a view's generation, brought up to date from an earlier one if there is one."""
        with self._lock:
            made = self._known_as_of(view)
            if made is None:
                made = self._made(view)
                if self._changed(made.images):
                    self._put(made)
            return made

    def keep(self, view: View, anyhow: bool = True) -> None:
        """Keep the sample as of a view in the file, so that no first search of a process has to make it.

        Args:
            view: The generation.
            anyhow: If false, only if the images are a tenth more or fewer than those of the file.
        """
        with self._lock:
            made = self._known_as_of(view)
            if len(view) >= _WORTH_A_FILE and (anyhow or self._changed(len(view))):
                made = made or self._made(view)
                if made is not self._filed:
                    self._put(made)

    def _known_as_of(self, view: View) -> Neighbours | None:
        if not self._opened:
            self._filed, self._opened = self._read(), True
        state = view.generation, len(view)
        known = (sample for sample in (self._filed, *self._known) if sample is not None)
        return next((sample for sample in known if (sample.generation, sample.images) == state), None)

    def _made(self, view: View) -> Neighbours:
        known = [sample for sample in (*self._known, self._filed) if sample is not None]
        earlier = [sample for sample in known if sample.generation <= view.generation]
        made = _sampled(view, max(earlier, key=lambda sample: sample.generation, default=None))
        self._known = [*self._known[1 - _KEPT :], made]
        return made

    def _changed(self, images: int) -> bool:
        return self._filed is None or 10 * abs(images - self._filed.images) >= images

    def _put(self, made: Neighbours) -> None:
        # What an erasure has dropped meanwhile must not be written again.
        if made.images >= _WORTH_A_FILE and made.generation == self._index.store.published():
            # A reader that may not write goes on in memory.
            with contextlib.suppress(ArchiveError, OSError):
                self._write(made)

    def _read(self) -> Neighbours | None:
        """Return what the file holds; None if it is missing or damaged: then all is compared anew."""
        try:
            digest, _, text = durable.read(self._file, _LARGEST).partition(b"\n")
            if hashlib.sha256(text).hexdigest().encode() != digest:
                return None
            facts = strict_json.loads(text)
            if facts["bundle"] != self._index.layout.key:
                return None
            rows, neighbours = (np.asarray(facts[name], np.int64) for name in ("rows", "neighbours"))
            similarities = np.asarray(facts["similarities"], np.float32)
            if not similarities.shape == neighbours.shape == (len(rows), NEAREST):
                return None  # of an earlier medlike
            return Neighbours(int(facts["generation"]), int(facts["images"]), rows, neighbours, similarities)
        except (OSError, ValueError, KeyError, TypeError, ArchiveError):
            return None

    def _write(self, made: Neighbours) -> None:
        facts = {
            "bundle": self._index.layout.key,
            "generation": made.generation,
            "images": made.images,
            "rows": made.rows.tolist(),
            "neighbours": made.neighbours.tolist(),
            "similarities": made.similarities.tolist(),
        }
        text = json.dumps(facts).encode()
        durable.require_plain(self._file.parent, folder=True)
        durable.make_folder(self._file.parent)
        durable.write(self._file, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
        self._filed = made


@dataclass(frozen=True)
class _Sampled:
    """One image of the sample: its row in the store, its place in the index, and whose it is."""

    row: int
    part: Part
    position: int
    patient: str
    study: str


def _sampled(view: View, base: Neighbours | None) -> Neighbours:
    """Return the sample of a view; `base` is one of the same archive as of an earlier generation."""
    chosen = sorted(_chosen(view), key=lambda image: image.row)
    rows = np.array([image.row for image in chosen], np.int64)
    similarities, neighbours = _no_neighbours(len(rows))
    since = np.full(len(rows), -1, np.int64)
    if base is not None and len(base.rows):
        at = np.minimum(np.searchsorted(base.rows, rows), len(base.rows) - 1)
        # An image whose neighbours all still live can only have got nearer ones since.
        alive = _alive(view, base.neighbours.ravel()).reshape(base.neighbours.shape)
        usable: Mask = np.all((base.neighbours < 0) | alive, axis=1)
        known = (base.rows[at] == rows) & usable[at]
        neighbours[known], similarities[known] = base.neighbours[at[known]], base.similarities[at[known]]
        since[known] = base.generation
    for generation in np.unique(since).tolist():
        those = np.flatnonzero(since == generation)
        near, others = _nearest(view, [chosen[at] for at in those], generation)
        near = np.concatenate([similarities[those], near], axis=1)
        others = np.concatenate([neighbours[those], others], axis=1)
        similarities[those], neighbours[those] = _most_similar(near, others)
    return Neighbours(view.generation, len(view), rows, neighbours, similarities)


def _chosen(view: View) -> list[_Sampled]:
    """Return one image of each unit, those with the smallest ids."""
    live = len(view)
    if not live:
        return []
    size = min(SIZE, max(LEAST, PAIRS // live))
    alive = np.concatenate([_live(part) for part in view.parts])
    numbers = np.repeat(np.arange(len(view.parts)), [part.rows for part in view.parts])[alive]
    positions = np.concatenate([np.arange(part.rows) for part in view.parts])[alive]
    ids = np.concatenate([np.asarray(part.segment.array("ids")[: part.rows]) for part in view.parts])[alive]
    words = ids.view(">u8").astype(np.uint64)
    count = 2 * size
    while True:
        count = min(count, live)
        limit = np.partition(words[:, 0], count - 1)[count - 1]
        candidates = np.flatnonzero(words[:, 0] <= limit)
        candidates = candidates[np.lexsort((words[candidates, 1], words[candidates, 0]))]
        units: dict[tuple[str, str, int], _Sampled] = {}
        for at in candidates.tolist():
            image = _image(view.parts[numbers[at]], int(positions[at]))
            # An image of unknown patient and study is a unit of its own.
            unit = (image.patient, "" if image.patient else image.study, 0 if image.patient or image.study else at + 1)
            units.setdefault(unit, image)
            if len(units) == size:
                return list(units.values())
        if count == live:
            return list(units.values())
        count *= 4


def _image(part: Part, position: int) -> _Sampled:
    segment = part.segment
    patient, study = (str(segment.column(name).value(position) or "") for name in ("patient", "study"))
    return _Sampled(int(segment.array("rows")[position]), part, position, patient, study)


def _no_neighbours(images: int) -> tuple[F32, I64]:
    return np.full((images, NEAREST), NONE, np.float32), np.full((images, NEAREST), -1, np.int64)


def _most_similar(similarities: F32, rows: I64) -> tuple[F32, I64]:
    """Return the NEAREST largest of each row's similarities and their store rows; of equals the first."""
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :NEAREST]
    return np.take_along_axis(similarities, order, 1), np.take_along_axis(rows, order, 1)


def _nearest(view: View, images: list[_Sampled], since: int) -> tuple[F32, I64]:
    """Return, of the images added after a generation, the nearest of each: similarities and store rows [M, NEAREST]."""
    similarities, neighbours = _no_neighbours(len(images))
    content = np.stack([image.part.segment.array("content")[image.position] for image in images])
    queries, lengths = _vectors(content)
    own_rows = np.array([image.row for image in images])
    hashes = {name: np.array([getattr(image, name) for image in images], "S32") for name in ("patient", "study")}
    for part in view.parts:
        segment = part.segment
        start = int(np.searchsorted(segment.array("added")[: part.rows], since, side="right"))
        if start == part.rows:
            continue
        live = _live(part)
        owners = {name: _codes(segment.column(name), values) for name, values in hashes.items()}
        for first in range(start, part.rows, _BLOCK):
            block = slice(first, min(first + _BLOCK, part.rows))
            rows = segment.array("rows")[block]
            table, norms = _vectors(segment.array("content")[block])
            products = queries @ table.T
            # Few are nearer than those known: only these are looked at further, and exactly.
            limits = (similarities[:, -1] - _ROUGHLY) * np.sqrt(np.maximum(lengths, 1.0))
            scales = (1.0 / np.sqrt(np.maximum(norms, 1.0))).astype(products.dtype)
            image, at = np.nonzero(products * scales > limits[:, None].astype(products.dtype))
            squares = lengths[image] * norms[at]
            near = np.where(squares > 0, products[image, at] / np.sqrt(np.maximum(squares, 1.0)), 0).astype(np.float32)
            counts = (near < NEAR_DUPLICATE) & live[block][at] & (own_rows[image] != rows[at])
            for name, owner in owners.items():
                codes = segment.column(name).codes[block]
                counts &= (codes[at] != owner[image]) | (owner[image] == 0)
            image, at, near = image[counts], at[counts], near[counts]
            changed, place = np.unique(image, return_inverse=True)
            nearer = np.full((len(changed), len(rows)), NONE, np.float32)
            nearer[place, at] = near
            all_near = np.concatenate([similarities[changed], nearer], axis=1)
            others = np.concatenate([neighbours[changed], np.broadcast_to(rows, (len(changed), len(rows)))], axis=1)
            similarities[changed], neighbours[changed] = _most_similar(all_near, others)
    neighbours[similarities == NONE] = -1
    return similarities, neighbours


def _codes(column: Column, values: NDArray[np.bytes_]) -> I64:
    """Return the codes of some keyed hashes in a column, 0 for one that no row has: int64 [M]."""
    stored = np.asarray(column.values, "S32")
    if not len(stored):
        return np.zeros(len(values), np.int64)
    at = np.minimum(np.searchsorted(stored, values), len(stored) - 1)
    return np.where(stored[at] == values, at + 1, 0)


def _vectors(content: Array) -> tuple[F32 | F64, F64]:
    """Return content vectors in a type in which their dot products are exact integers, and their squared lengths."""
    vectors: F32 | F64 = content.astype(np.float64) if content.shape[1] > _EXACT else content.astype(np.float32)
    return vectors, (vectors * vectors).sum(axis=1, dtype=np.float64)


def _live(part: Part) -> Mask:
    """Return which rows of a part live: bool [rows]."""
    live = np.ones(part.rows, bool)
    live[part.dead] = False
    return live


def _alive(view: View, rows: I64) -> Mask:
    """Return which of some of the store's rows live in a view: bool [M]."""
    alive = np.zeros(len(rows), bool)
    for part in view.parts:
        stored = part.segment.array("rows")[: part.rows]
        at = np.minimum(np.searchsorted(stored, rows), part.rows - 1)
        alive |= (stored[at] == rows) & _live(part)[at]
    return alive
