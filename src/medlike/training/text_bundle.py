"""A text bundle from a text tower and the vision tower that was trained with it: nothing is trained."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from medlike import bundle as bundles
from medlike.bundle import Bundle
from medlike.codes.rotation import leading_directions, learned_rotation
from medlike.datasets import Dataset, may_train
from medlike.errors import TrainingError
from medlike.inference.cross_encoder import CrossEncoder
from medlike.models.export import round_weights
from medlike.models.pair_space import PairSpace, export_pair_space
from medlike.training.pairs import content_vectors
from medlike.training.pictures import collection_digest
from medlike.training.rotation import centred_basis
from medlike.training.text_tower import TextTower, vocabulary
from medlike.training.tower import Tower
from medlike.types import F64, JsonObject, Progress

LEAST_TEXTS = 100  # of one's own, below which expressions of radiology stand for texts
MOST_IMAGES = 2000  # that codes are fitted to
LEAST_COSINE = 0.99
CHECKED = 32


def build_text_bundle(
    text: TextTower,
    images: Bundle,
    tower: Tower,
    data: Dataset,
    out: str | Path,
    bits: int = 16,
    *,
    replace: bool = False,
    say: Progress[str] = lambda line: None,
) -> Bundle:
    """Write the text bundle of a pair of towers: it carries the text tower, and its embeddings are the pair's own.

    Codes are signs of the leading directions of images and texts, each less their mean, after a learned rotation.

    Args:
        text: The text tower.
        images: The bundle of the vision tower, built with `joint`.
        tower: The vision tower.
        data: One's own images, with texts or without.
        out: Folder of the bundle, whose name becomes the bundle's.
        bits: Length of a code.
        replace: Replace a bundle at `out`.
        say: Takes lines of progress.

    Raises:
        TrainingError: The towers do not share a space, or the bundle does not give what they give.
        BundleError: `out` is taken.
    """
    if tower.widths[-1] != text.width:
        raise TrainingError(f"{text.source}: images have {tower.widths[-1]} numbers and texts {text.width}: no pair")
    known = data.where(lambda sample: not sample.is_ood and may_train(sample))
    rows = np.unique(np.linspace(0, len(known) - 1, min(MOST_IMAGES, len(known))).astype(int))
    fitted = Dataset(known.name, tuple(known[int(row)] for row in rows))
    content = content_vectors(fitted, images, None, say).astype(np.float64)
    basis = centred_basis(text.width + 1, images.spec["training"]["settings"]["seed"])
    vectors = _unit((content - content.mean(axis=1, keepdims=True)) @ basis)
    with text.encoder() as encoder:
        sentences = [one for one in dict.fromkeys(sample.text for sample in known) if one and encoder.readable(one)]
        mine = len(sentences) >= LEAST_TEXTS
        if not mine:
            sentences = [one for one in vocabulary() if encoder.readable(one)]
        say(f"centring on {len(sentences)} texts, {'those of the images' if mine else 'expressions of radiology'}")
        spoken = encoder.encode(sentences[:MOST_IMAGES]).astype(np.float64)
    means = np.stack([vectors.mean(axis=0), spoken.mean(axis=0)])
    turn = _turn(np.concatenate([vectors - means[0], spoken - means[1]]), [len(vectors), len(spoken)], bits)
    space = PairSpace(*(torch.from_numpy(part.astype(np.float32)) for part in (basis, means, turn)))
    round_weights(space)
    spec: JsonObject = {
        "name": Path(out).resolve().name[:100],
        "kind": "text",
        "preset": "encoder",
        "bits": bits,
        "content_dim": images.content_dim,
        "network": {"encoder": images.spec["network"]["encoder"]},
        "text": {
            "image_encoder_digest": images.encoder_digest,
            "image_bundle": images.name,
            "sentence_digest": text.digest,
            "sentence_width": text.width,
            "sentence_limit": text.limit,
            "embedding_dim": text.width,
        },
        "training": {
            "data": collection_digest(fitted.samples), "images": len(fitted), "texts": len(spoken) if mine else 0,
        },
        "terms": images.spec["terms"],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        draft = bundles.write(Path(folder) / "draft", export_pair_space(space), text.arrays(), spec)
        quality = _agreement(draft, images, tower, text, Dataset(fitted.name, fitted.samples[:CHECKED]))
        return bundles.rewrite(draft, out, None, {"quality": quality}, replace=replace)


def _turn(rows: F64, sizes: list[int], bits: int) -> F64:
    """Return directions of most variance, both sides counting alike, after a rotation learned for codes [W, bits]."""
    weights = np.repeat(1 / np.asarray(sizes), sizes)
    weights *= len(rows) / weights.sum()
    directions, _ = leading_directions(rows, weights, min(bits, len(rows) - 1))
    projected = rows @ directions
    # Fewer directions than bits are rotated several times.
    turns = [learned_rotation(projected, weights, seed=seed) for seed in range(-(-bits // directions.shape[1]))]
    return np.asarray(directions @ np.concatenate(turns, axis=1)[:, :bits])


def _unit(rows: F64) -> F64:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _agreement(made: Bundle, images: Bundle, tower: Tower, text: TextTower, few: Dataset) -> JsonObject:
    """Compare the embeddings of images with the vectors of the tower itself, and return how far they agree."""
    from medlike.datasets import prepare_batches

    runner = tower.runner()
    pooled = [
        runner.pooled(prepared.pixels) for batch in prepare_batches(few, side=tower.size) for prepared in batch
    ]
    expected = _unit(np.stack(pooled)[:, -text.width :].astype(np.float64))
    embedding = CrossEncoder(made).encode(content_vectors(few, images, None, lambda line: None)).embedding
    cosine = float((expected * embedding).sum(axis=1).min())
    if not cosine >= LEAST_COSINE:
        raise TrainingError(
            f"the text bundle does not give what {text.source} gives: cosine {cosine:.3f}, {LEAST_COSINE} needed"
        )
    return {
        "how": f"not measured; agrees with the pair of encoders: smallest cosine of images {cosine:.4f}, of texts "
        f"{text.agreement:.4f}",
        "smallest_cosine": round(min(cosine, text.agreement), 6),
    }
