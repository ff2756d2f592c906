"""A fit: codes and fitted vectors that belong to one archive, as a pure function of content vector and fit.

    x = the blocks of the content vector, each of its own length       y = P'(x - m) / s^p       code = R'y > 0

m, P and s are mean, principal directions and deviations of the archive's own content vectors, R is the rotation that
iterative quantisation finds, p evens the directions out. With labels, P are principal directions after the scatter
within labels was evened out, as far as SHRINKAGE leaves it: what varies within a label counts for less. All of it is
kept and computed in whole numbers, so that a code is the same on every processor: products of int16 are summed in
float64, which holds them exactly in any order, and what is left is single IEEE operations.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from medlike.codes.packing import pack
from medlike.codes.rotation import directions_of, learned_rotation
from medlike.codes.threads import share
from medlike.errors import QueryError
from medlike.types import F64, I8, I16, I64, U8, Array

LENGTH = 1 << 14  # of a content vector whose blocks were brought to their lengths
BLOCK = 1 << 11  # rows computed at a time
MOST_ROTATED = 20_000  # rows that the rotation is fitted on
#: How much of the scatter within labels is taken as equal in all directions; 1 is a fit without labels. Decided on
#: labels of some sources and queries of others: less helps those labelled, and harms the others.
SHRINKAGE = 0.8


class Labelled(NamedTuple):
    """Labels of the rows that a fit is made from.

    Attributes:
        labels: int64 [N], a number for each label from 0, -1 for a row whose label is not used.
        sources: int64 [N], a number for each source. The sources of a label count alike, and so do the labels.
    """

    labels: I64
    sources: I64


@dataclass(frozen=True, eq=False)
class Fit:
    """What makes codes of content vectors.

    Attributes:
        widths: Widths of the content vector's blocks; their sum is D.
        weights: Length of each block, the squares summing to 1.
        directions: Evened-out principal directions, int16 [D, M].
        offset: Products of the mean with them, int64 [M].
        shift: Bits that products are shifted down by to become fitted vectors.
        rotation: int16 [min(M, K), K], columns of unit length times 32767.
        invariant: int16 [M, M], what of fitted vectors altered copies of an image share; None if it is not known.
    """

    widths: tuple[int, ...]
    weights: tuple[float, ...]
    directions: I16
    offset: I64
    shift: int
    rotation: I16
    invariant: I16 | None = None

    @property
    def bits(self) -> int:
        """Return K, the length of a code."""
        return int(self.rotation.shape[1])

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of all that decides codes and their order, 64 hex digits."""
        facts = repr(("medlike fit 1", self.widths, self.weights, self.shift, self.directions.shape, self.bits))
        state = hashlib.sha256(facts.encode())
        for array, kind in ((self.directions, "<i2"), (self.offset, "<i8"), (self.rotation, "<i2")):
            state.update(np.ascontiguousarray(array, kind).tobytes())
        if self.invariant is not None:
            state.update(np.ascontiguousarray(self.invariant, "<i2").tobytes())
        return state.hexdigest()

    def encode(self, content: I8) -> tuple[U8, I8]:
        """Return codes and fitted vectors of content vectors.

        Args:
            content: int8 [N, D].

        Returns:
            Codes uint8 [N, K / 8], most significant bit first; fitted vectors int8 [N, M], each scaled so that its
            largest magnitude is 127, since only their cosines are of use.

        Raises:
            QueryError: The content vectors have another width.
        """
        codes = np.empty((len(content), self.bits // 8), np.uint8)
        vectors = np.empty((len(content), self.directions.shape[1]), np.int8)
        blocks = range(0, len(content), BLOCK)

        def worker(counter: itertools.count[int]) -> None:
            while (turn := next(counter)) < len(blocks):
                part = slice(blocks[turn], blocks[turn] + BLOCK)
                products = _products(weighed(content[part], self.widths, self.weights), self._wide_directions)
                whole = np.clip(np.rint((products - self.offset) * 2.0**-self.shift), -32767, 32767)
                codes[part] = pack(whole[:, : len(self.rotation)] @ self._wide_rotation > 0)
                peak = np.maximum(np.abs(whole).max(axis=1, keepdims=True), 1.0)
                vectors[part] = np.rint(whole * (127.0 / peak))

        share(len(blocks), worker)
        return codes, vectors

    def codes(self, vectors: I8) -> U8:
        """Return codes of fitted vectors that are of no content vector: uint8 [N, K / 8] for int8 [N, M].

        They differ by few bits from codes that `encode` makes before it rounds the vectors.
        """
        return pack(vectors[:, : len(self.rotation)].astype(np.float64) @ self._wide_rotation > 0)

    @cached_property
    def _wide_directions(self) -> F64:
        return self.directions.astype(np.float64)

    @cached_property
    def _wide_rotation(self) -> F64:
        return self.rotation.astype(np.float64)


def learned(
    content: I8,
    images: F64,
    widths: Sequence[int],
    bits: int,
    weights: Sequence[float],
    directions: int = 128,
    power: float = 0.5,
    seed: int = 0,
    nuisance: Array | None = None,
    damping: float = 1.0,
    labelled: Labelled | None = None,
) -> Fit:
    """Fit codes to content vectors.

    Where nuisance is known, the fit also has an invariant map, by which `codes.reranking.original_first` tells the
    original of an altered copy. Codes and fitted vectors do without: they would lose some of the images of the same
    label.

    Args:
        content: int8 [N, D].
        images: How much each row counts, float64 [N], positive.
        widths: Widths of the blocks of a content vector.
        bits: Length of a code, a multiple of 8.
        weights: Relative lengths of the blocks.
        directions: Directions of a fitted vector at most.
        power: How far directions are evened out: 0 not at all, 1 to equal deviations.
        seed: Seed of the rotation's start and of the rows it is fitted on.
        nuisance: Factor float [D, R] of the scatter N N' between an image and its altered copies, of content vectors
            whose blocks have unit length; None if it is not known.
        damping: Variance that the invariant map adds to the scatter in every direction, as a multiple of its mean.
        labelled: Labels of the rows, None for a fit without.

    Raises:
        QueryError: The vectors carry no direction, or the widths are not theirs.
    """
    length = float(np.linalg.norm(weights))
    shares = tuple(float(weight) / length for weight in weights)
    mean, covariance = _moments(content, images, widths, shares)
    turned = np.eye(len(mean))
    if labelled is not None:
        turned = _narrowing(_within(content, images, labelled, widths, shares))
    columns, variances = directions_of(turned.T @ covariance @ turned, directions)
    if not len(variances):
        raise QueryError(f"{len(content)} images have one content vector: a fit needs images that differ")
    columns = turned @ columns / variances ** (power / 2)
    whole = np.rint(columns * (32767 / np.abs(columns).max())).astype(np.int16)
    wide = whole.astype(np.float64)
    offset = np.rint(mean * LENGTH @ wide).astype(np.int64)
    chosen = _thinned(len(content), seed)
    products = _products(weighed(content[chosen], widths, shares), wide) - offset
    # Twice the largest of the sample fits; what lies beyond is cut off.
    shift = max(0, int(np.ceil(np.log2(max(float(np.abs(products).max()), 1.0)))) - 14)
    count = min(whole.shape[1], bits)
    turns = [
        learned_rotation(products[:, :count], images[chosen], seed=seed + turn) for turn in range(-(-bits // count))
    ]
    rotation = np.rint(np.concatenate(turns, axis=1)[:, :bits] * 32767).astype(np.int16)
    invariant = None if nuisance is None else _invariant(nuisance, widths, shares, wide, damping)
    return Fit(tuple(widths), shares, whole, offset, shift, rotation, invariant)


def weighed(content: I8, widths: Sequence[int], weights: Sequence[float]) -> I16:
    """Return content vectors with each block at its own length times `LENGTH`: int16 [N, D]; zeros stay zeros."""
    if content.shape[1] != sum(widths):
        raise QueryError(f"content vectors have {content.shape[1]} entries, the fit is for {sum(widths)}")
    out = np.empty(content.shape, np.int16)
    start = 0
    for width, weight in zip(widths, weights, strict=True):
        block = content[:, start : start + width].astype(np.float64)
        squares = np.einsum("nd,nd->n", block, block)
        out[:, start : start + width] = np.rint(block * (weight * LENGTH / np.sqrt(np.maximum(squares, 1.0)))[:, None])
        start += width
    return out


def _moments(content: I8, images: F64, widths: Sequence[int], weights: Sequence[float]) -> tuple[F64, F64]:
    """Return mean [D] and covariance [D, D] of weighed content vectors, block by block: a sample can be large."""
    total = images.sum()
    mean = np.zeros(content.shape[1])
    covariance = np.zeros((content.shape[1], content.shape[1]))
    parts = [slice(start, start + BLOCK) for start in range(0, len(content), BLOCK)]
    for part in parts:
        mean += images[part] @ weighed(content[part], widths, weights).astype(np.float64) / (LENGTH * total)
    for part in parts:
        rows = weighed(content[part], widths, weights).astype(np.float64) / LENGTH - mean
        covariance += (rows * images[part, None]).T @ rows / total
    return mean, covariance


def _invariant(
    nuisance: Array, widths: Sequence[int], weights: Sequence[float], directions: F64, damping: float
) -> I16:
    """Return (S + damping mean(S))^(-1/2) times 32767 over its largest value, for the scatter S of fitted vectors."""
    if len(nuisance) != sum(widths):
        raise QueryError(f"nuisance is of {len(nuisance)} entries, the content vectors have {sum(widths)}")
    factor = directions.T @ (nuisance.astype(np.float64) * np.repeat(weights, widths)[:, None])
    values, vectors = np.linalg.eigh(factor @ factor.T)
    values = np.maximum(values, 0.0)
    scales = np.sqrt(1.0 / (1.0 + values / max(damping * values.mean(), 1e-300)))
    whitening = vectors * scales @ vectors.T
    invariant: I16 = np.rint(whitening * (32767 / np.abs(whitening).max())).astype(np.int16)
    return invariant


def _within(
    content: I8, images: F64, labelled: Labelled, widths: Sequence[int], weights: Sequence[float]
) -> F64:
    """Return the covariance of weighed content vectors within labels: float64 [D, D]."""
    labels, sources = labelled
    used = labels >= 0
    _, cell = np.unique(np.stack([labels, sources]), axis=1, return_inverse=True)
    cell = cell.reshape(-1)
    share = np.where(used, images / np.bincount(cell, images)[cell], 0.0)
    # Each cell of a label and a source has weight 1 so far; then each label has the same.
    total = np.bincount(labels[used], share[used])
    share[used] /= total[labels[used]] * np.count_nonzero(total)
    means = np.zeros((len(total), content.shape[1]))
    squares = np.zeros((content.shape[1], content.shape[1]))
    for start in range(0, len(content), BLOCK):
        part = slice(start, start + BLOCK)
        rows = weighed(content[part], widths, weights).astype(np.float64) / LENGTH
        members = np.where(used[part], labels[part], 0) == np.arange(len(total))[:, None]
        means += (members * share[part]) @ rows
        squares += (rows * share[part, None]).T @ rows
    within: F64 = squares - means.T @ means * np.count_nonzero(total)
    return within


def _narrowing(within: F64) -> F64:
    """Return the symmetric map [D, D] that evens out scatter within labels, shrunk to equal scatter everywhere."""
    size = len(within)
    mean = max(float(np.trace(within)) / size, 1e-12)
    values, vectors = np.linalg.eigh((1 - SHRINKAGE) * within / mean + SHRINKAGE * np.eye(size))
    narrowing: F64 = (vectors / np.sqrt(np.maximum(values, SHRINKAGE / 2))) @ vectors.T
    return narrowing


def _products(rows: I16, columns: F64) -> F64:
    """Return exact products: every partial sum is a whole number below 2**53."""
    product: F64 = rows.astype(np.float64) @ columns
    return product


def _thinned(rows: int, seed: int) -> I64:
    """Return the rows that the rotation is fitted on, ascending."""
    if rows <= MOST_ROTATED:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, MOST_ROTATED, replace=False))
