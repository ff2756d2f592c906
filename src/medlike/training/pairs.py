"""Pairs of image and text as embeddings: read once, kept by the digest of what was embedded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from medlike.bundle import Bundle
from medlike.datasets import Dataset, Split, prepare_batches
from medlike.files import drafted
from medlike.inference.encoder import Encoder
from medlike.inference.sentences import SentenceEncoder
from medlike.metrics import Relevance
from medlike.types import F32, I8, I64, Progress

V = TypeVar("V", np.int8, np.float32)


@dataclass(frozen=True)
class Pairs:
    """Images and the sentences that belong to them.

    content: int8 [N, D] of the image bundle; sentences: float32 [N, S] of unit length; cases: int64 [N], pairs of
    one case (or of one and the same text) describe the same; units: int64 [N], of the split. samples: where they
    come from, in the same order.
    """

    content: I8
    sentences: F32
    cases: I64
    units: I64
    samples: Dataset

    def __len__(self) -> int:
        return len(self.content)

    def __getitem__(self, rows: npt.NDArray[np.bool_ | np.int64]) -> Pairs:
        """Return some of the pairs: rows is bool [N] or int [M]."""
        places = np.flatnonzero(rows) if rows.dtype == bool else rows
        samples = Dataset(self.samples.name, tuple(self.samples[int(row)] for row in places))
        return Pairs(self.content[places], self.sentences[places], self.cases[places], self.units[places], samples)

    def shuffled(self, seed: int = 0) -> Pairs:
        """Return every image with the sentence of another pair, drawn at random, from which nothing can be learned."""
        order = np.random.default_rng(seed).permutation(len(self))
        return replace(self, sentences=self.sentences[order], cases=np.arange(len(self), dtype=np.int64))

    def texts(self) -> Pairs:
        """Return the first pair of every distinct text and label."""
        seen: dict[tuple[str, str], int] = {}
        for row, sample in enumerate(self.samples):
            seen.setdefault((sample.text, sample.label), row)
        return self[np.array(sorted(seen.values()), np.int64)]

    def relevance(self) -> Relevance:
        """Return the relevance of all pairs to each pair as a query: the same label, in another unit.

        With fewer than two labels, the pairs of the same case are relevant.
        """
        labels = self.samples.column("label")
        if len(set(labels) - {""}) < 2:
            return Relevance.of(self.cases, self.cases)
        return Relevance.of(labels, labels, self.units, self.units)


def read_pairs(
    dataset: Dataset,
    split: Split,
    bundle: Bundle,
    encoder: SentenceEncoder,
    cache: Path | None = None,
    say: Progress[str] = lambda line: None,
) -> Pairs:
    """Embed every sample whose text has a known token. cache: folder of embeddings that are kept."""
    samples = dataset.where(lambda s: bool(s.text) and encoder.readable(s.text))
    return Pairs(
        content_vectors(samples, bundle, cache, say),
        sentence_vectors([s.text for s in samples], encoder, cache, say),
        cases_of(samples),
        split.units(samples) if len(samples) else np.zeros(0, np.int64),
        samples,
    )


def cases_of(samples: Dataset) -> I64:
    """Return the case of each sample, int64 [N]: its source and group, joined with all of the same text."""
    from medlike.datasets.near_duplicates import components

    first: dict[tuple[str, ...], int] = {}
    links = []
    for row, sample in enumerate(samples):
        keys: list[tuple[str, ...]] = [("text", sample.text)] if sample.text else []
        if sample.group:
            keys.append(("group", sample.collection, sample.source, sample.group))
        links += [(first.setdefault(key, row), row) for key in keys]
    return components(len(samples), np.array(links, np.int64).reshape(-1, 2))


def content_vectors(samples: Dataset, bundle: Bundle, cache: Path | None, say: Progress[str]) -> I8:
    """Return the content vectors of samples, int8 [N, D], in order."""
    keys = [hashlib.sha256(s.file.read_bytes() + str(s.item or "").encode()).digest() for s in samples]

    def compute(rows: Sequence[int]) -> I8:
        say(f"encoding {len(rows)} images with {bundle.name}")
        chosen = Dataset(samples.name, tuple(samples[row] for row in rows))
        with Encoder(bundle) as encoder:
            batches = prepare_batches(chosen, side=encoder.image_size)
            return np.concatenate([encoder.encode(batch).content for batch in batches])

    empty = np.zeros((0, bundle.content_dim), np.int8)
    return _kept(keys, compute, cache, f"images-{bundle.encoder_digest[:16]}", empty)


def sentence_vectors(texts: Sequence[str], encoder: SentenceEncoder, cache: Path | None, say: Progress[str]) -> F32:
    """Return the vectors of texts, float32 [N, S], in order."""
    keys = [hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in texts]

    def compute(rows: Sequence[int]) -> F32:
        say(f"encoding {len(rows)} texts")
        return encoder.encode([texts[row] for row in rows])

    empty = np.zeros((0, encoder.width), np.float32)
    return _kept(keys, compute, cache, f"texts-{encoder.digest[:16]}", empty)


def _kept(
    keys: Sequence[bytes],
    compute: Callable[[Sequence[int]], npt.NDArray[V]],
    cache: Path | None,
    name: str,
    empty: npt.NDArray[V],
) -> npt.NDArray[V]:
    """Return rows by key: from the file, else computed once for equal keys and kept there."""
    file = None if cache is None else cache / f"{name}.npz"
    known: dict[bytes, int] = {}
    rows = empty
    if file is not None and file.is_file():
        with np.load(file) as archive:
            rows = archive["rows"]
            known = {bytes(key): place for place, key in enumerate(archive["keys"])}
    first: dict[bytes, int] = {}
    for place, key in enumerate(keys):
        if key not in known:
            first.setdefault(key, place)
    if first:
        rows = np.concatenate([rows, compute(list(first.values()))])
        known |= {key: len(known) + place for place, key in enumerate(first)}
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            table = np.frombuffer(b"".join(known), np.uint8).reshape(-1, 32)
            with drafted(file) as draft, draft.open("wb") as stream:
                np.savez(stream, rows=rows, keys=table)
    return rows[[known[key] for key in keys]] if keys else empty
