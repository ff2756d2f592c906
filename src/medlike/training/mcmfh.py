"""Making a text bundle: pairs of image and text, the network MCMFH, and what it reaches."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from medlike import __version__
from medlike import bundle as bundles
from medlike.bundle import Bundle
from medlike.datasets import Dataset, Split, headline_labels, join, may_train
from medlike.errors import TrainingError
from medlike.inference.cross_encoder import CrossEncoder
from medlike.inference.sentences import SentenceEncoder
from medlike.training.finish import data_terms
from medlike.training.pair_quality import Cross, measure_pairs, pair_figures
from medlike.training.pairs import Pairs, read_pairs
from medlike.training.recipe import changes_by_kind
from medlike.types import F32, U8, Json, JsonObject, Mask, Progress


def train_mcmfh(
    datasets: Sequence[Dataset],
    out: str | Path,
    *,
    image_bundle: str | Path | None = None,
    bits: int = 16,
    changes: Mapping[str, Json] | None = None,
    seed: int = 0,
    split: Split | None = None,
    work: str | Path | None = None,
    cache: str | Path | None = None,
    name: str | None = None,
    resume: bool = False,
    replace: bool = False,
    say: Progress[str] = lambda line: None,
) -> Bundle:
    """Train MCMFH on the pairs of collections and write a text bundle at `out`.

    Texts of images whose terms do not allow training take no part.

    Args:
        datasets: Collections with texts; the quality is measured on headline labels of the first.
        out: Where the bundle goes.
        image_bundle: Name or folder of the bundle whose content vectors are the image side; None is the default one.
        bits: Length of the code.
        changes: Settings of recipe or network by name.
        seed: Fixes the weights on one machine.
        split: None makes one and keeps it in `work`.
        work: Folder of the run. None is OUT.run.
        cache: Folder of embeddings, kept by digest. None is a folder in `work`.
        name: Name of the bundle; None derives one from the bits.
        resume: Go on from the checkpoint in `work`.
        replace: Replace a bundle that is at `out`.
        say: Takes lines of progress.

    Returns:
        The bundle, with its measured quality.

    Raises:
        TrainingError: There are too few pairs, or a setting is unknown.
        TextNotInstalled: The sentence encoder is not installed.
    """
    from medlike.models.export import round_weights
    from medlike.models.mcmfh import CrossModalSettings, export_crossmodal, preset
    from medlike.training.material import find_split
    from medlike.training.mcmfh_loop import CrossModalRecipe, fit_crossmodal
    from medlike.training.requirements import require_free

    out = Path(out)
    work = Path(work) if work else out.with_name(out.name + ".run")
    mine, rest = changes_by_kind(changes or {}, CrossModalRecipe, CrossModalSettings)
    images = Bundle.load(image_bundle or bundles.default())
    settings = preset(bits, image_width=images.content_dim, seed=seed, **rest)
    recipe = CrossModalRecipe().with_changes(**mine)
    require_free(out, replace)
    everything = join(*datasets) if len(datasets) > 1 else datasets[0]
    texts = everything.where(lambda sample: bool(sample.text) and not sample.is_ood)
    if not len(texts):
        raise TrainingError(f"no image of {everything.name} has a text; give a manifest with a column `text`")
    work.mkdir(parents=True, exist_ok=True)
    split = split or find_split(everything, work, say)
    with SentenceEncoder.load() as encoder:
        pairs = read_pairs(texts, split, images, encoder, Path(cache) if cache else work / "cache", say)
        digest = encoder.digest
    parts = {part: pairs[in_part(pairs, split, part)] for part in ("train", "validation", "gallery", "query")}
    train = parts["train"][np.array([may_train(sample) for sample in parts["train"].samples], bool)]
    cases = len(set(train.cases.tolist()))
    say(f"training on {len(train)} pairs of {cases} cases, {len(parts['validation'])} to validate")
    fit = fit_crossmodal(train, parts["validation"], settings, recipe, seed, say=say, folder=work, resume=resume)
    spec = {
        "name": name or f"medlike-text-{bits}",
        "kind": "text",
        "preset": "mcmfh",
        "bits": bits,
        "content_dim": images.content_dim,
        "network": {"settings": asdict(settings)},
        "text": {
            "image_encoder_digest": images.encoder_digest,
            "image_bundle": images.name,
            "sentence_digest": digest,
            "sentence_width": settings.sentence_width,
            "embedding_dim": settings.width,
        },
        "training": {
            "data": _digest(train),
            "images": len(train),
            "texts": len(train.texts()),
            "cases": cases,
            "parts": ["train"],
            "split": split.digest,
            "seed": seed,
            "recipe": asdict(recipe),
            "epochs": len(fit.history) - 1,
            "best_epoch": fit.best_epoch,
            "validation_map": round(fit.validation, 4),
            "validation_images": len(parts["validation"]),
            "sources": data_terms(train.samples),
            "medlike": __version__,
        },
        "terms": _terms(train),
    }
    say("exporting")
    round_weights(fit.network)
    graph = export_crossmodal(fit.network)
    # Measured first: others may read the bundle as soon as it is in its place.
    with tempfile.TemporaryDirectory() as folder:
        draft = bundles.write(Path(folder) / "draft", graph, {}, spec)
        say("measuring")
        quality = _quality(draft, datasets[0], parts["query"], parts["gallery"], split)
        return bundles.rewrite(draft, out, None, {"quality": quality}, replace=replace)


def in_part(pairs: Pairs, split: Split, part: str) -> Mask:
    """Return which pairs belong to a part of the split, bool [N]."""
    chosen = {sample.path for sample in split.part(pairs.samples, part)}
    return np.array([sample.path in chosen for sample in pairs.samples], bool)


def served(cross_encoder: CrossEncoder) -> Cross:
    """Return a text bundle as the function that `measure_pairs` calls."""

    def cross(pairs: Pairs, image: bool, text: bool) -> tuple[F32, U8]:
        encoded = cross_encoder.encode(pairs.content if image else None, pairs.sentences if text else None)
        return encoded.embedding, encoded.code

    return cross


def _quality(bundle: Bundle, first: Dataset, query: Pairs, gallery: Pairs, split: Split) -> JsonObject:
    """Measure retrieval on gallery and query, headline labels of the first collection."""
    labels = set(headline_labels(first))
    whose = "headline labels"
    queries, items = (pairs[np.isin(pairs.samples.column("label"), sorted(labels))] for pairs in (query, gallery))
    if not len(queries) or not len(items):
        queries, items, whose = query, gallery, "all labels"
    if not len(queries) or not len(items):
        return {"how": "not measured: the part gallery or query holds no pair"}
    measured = measure_pairs(served(CrossEncoder(bundle)), queries, items)
    how = f"mAP@50 and over the full list, ties in expectation; {whose}; query against gallery; relevant: same label"
    return {"split": split.digest, **pair_figures(measured, queries, items, how)}


def _terms(train: Pairs) -> str:
    sources = len({sample.source for sample in train.samples})
    return (
        f"Trained on content vectors and sentence vectors of {len(train)} images with texts, of {sources} "
        f"source{'s' * (sources != 1)}, listed with their terms under training.sources; images whose terms forbid "
        "commercial use or derivatives took no part. The bundle holds neither pixels nor texts, and no weights of the "
        "sentence encoder (all-MiniLM-L6-v2, Apache-2.0, from its own package). The weights are given under Apache-2.0 "
        "as far as the makers' rights go. Not a medical device."
    )


def _digest(pairs: Pairs) -> str:
    """Return a sha256 over the sorted paths and texts: which pairs took part."""
    lines = sorted(f"{sample.path}\t{sample.text}\n" for sample in pairs.samples)
    return hashlib.sha256("".join(lines).encode("utf-8", "replace")).hexdigest()
