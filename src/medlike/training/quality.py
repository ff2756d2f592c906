"""What a bundle retrieves and refuses, measured on parts of a split that took no part in making it."""

from __future__ import annotations

import numpy as np

from medlike.bundle import Bundle
from medlike.datasets import Dataset, Split, headline, may_train, prepare_batches
from medlike.errors import TrainingError
from medlike.inference.encoder import Encoder
from medlike.inference.encoding import Encodings
from medlike.metrics.outliers import auroc, detection_at
from medlike.metrics.retrieval import score_codes, score_features
from medlike.metrics.ties import Relevance
from medlike.types import F64, I64, U8, JsonObject, Mask


def encode_dataset(encoder: Encoder, dataset: Dataset) -> Encodings:
    """Encode every sample of a dataset, in its order."""
    parts = [encoder.encode(batch) for batch in prepare_batches(dataset, side=encoder.image_size)]
    if not parts:
        raise TrainingError(f"{dataset.name} has no images: nothing to encode")
    return Encodings.concatenate(parts)


def measure_bundle(bundle: Bundle, dataset: Dataset, split: Split, headline_of: Dataset | None = None) -> JsonObject:
    """Measure a bundle on the parts gallery and query of a split, for its specification.

    headline_of: the collection whose headline labels count (default: `dataset`); where no label has enough images
    for a headline, every in-domain label counts, and "how" says so. Retrieval: mAP over the full
    list, ties in expectation, of codes; and of the content vectors by cosine. Outliers: the query part, but
    for images whose terms kept them out of the fit (their false alarms stand by source).
    """
    chosen = headline(headline_of or dataset)
    whose = "headline labels"
    if not len(chosen):
        chosen = (headline_of or dataset).where(lambda sample: bool(sample.label) and not sample.is_ood)
        whose = "all labels"
    gallery, query = split.part(chosen, "gallery"), split.part(chosen, "query")
    everyone = split.part(dataset, "query")
    # By file, not by path: joining prefixes the paths with the name of the collection.
    place = {(sample.file, sample.item): row for row, sample in enumerate(everyone)}
    if not len(gallery) or not len(query):
        raise TrainingError("gallery or query is empty: quality cannot be measured on this split")
    with Encoder(bundle) as encoder:
        items = encode_dataset(encoder, gallery)
        judged = encode_dataset(encoder, everyone)
    rows = [place[sample.file, sample.item] for sample in query]
    query_codes, query_content = judged.code[rows], judged.content[rows].astype(np.float32)
    relevance = Relevance.of(query.column("label"), gallery.column("label"))
    codes = score_codes(query_codes, items.code, relevance)
    content = score_features(query_content, items.content.astype(np.float32), relevance)
    quality: JsonObject = {
        "split": split.digest,
        "gallery": len(gallery),
        "query": len(query),
        "labels": len(set(query.column("label"))),
        "map_expected": _short(codes.mean("map_expected")),
        "map_expected_content": _short(content.mean("map_expected")),
        "map_expected_within_source": _within(query_codes, items.code, query, gallery),
        "how": f"mAP over the full list, ties in expectation; {whose}; query against gallery",
    }
    if judged.outlier is not None:
        quality["outliers"] = _outliers(judged, everyone, split.units(everyone))
    return quality


def measure_left_out(bundle: Bundle, known: Dataset, left_out: Dataset) -> dict[str, JsonObject]:
    """Measure by source how images of sources that a bundle never saw are told from known ones."""
    with Encoder(bundle) as encoder:
        usual = encode_dataset(encoder, known).outlier
        outside = encode_dataset(encoder, left_out).outlier
    if usual is None or outside is None:
        raise TrainingError(f"bundle {bundle.name} gives no outlier verdicts")
    by_source = {}
    for source in sorted(set(left_out.column("source"))):
        of_source = left_out.column("source") == source
        by_source[source] = {
            "images": int(of_source.sum()),
            "auroc": _short(auroc(usual.score, outside.score[of_source])),
            "detected": _short(float(outside.is_outlier[of_source].mean())),
            "detected_at_3_percent": _short(detection_at(usual.score, outside.score[of_source])),
        }
    return by_source


def _within(query_codes: U8, gallery_codes: U8, query: Dataset, gallery: Dataset) -> dict[str, float]:
    """Return the mAP within each source that has at least two labels in its part of the gallery."""
    by_source = {}
    for source in sorted(set(query.column("source"))):
        of_query, of_gallery = query.column("source") == source, gallery.column("source") == source
        labels = gallery.column("label")[of_gallery]
        if len(set(labels)) > 1:
            inside = Relevance.of(query.column("label")[of_query], labels)
            by_source[source] = _short(
                score_codes(query_codes[of_query], gallery_codes[of_gallery], inside).mean("map_expected")
            )
    return by_source


def _outliers(judged: Encodings, samples: Dataset, units: I64) -> JsonObject:
    verdicts = judged.outlier
    assert verdicts is not None
    is_ood = np.array([sample.is_ood for sample in samples])
    usual = ~is_ood & np.array([may_train(sample) for sample in samples])
    if not usual.any() or not is_ood.any():
        return {}
    alarms = verdicts.is_outlier & ~is_ood
    return {
        "auroc": _short(auroc(verdicts.score[usual], verdicts.score[is_ood])),
        "detected_at_3_percent": _short(detection_at(verdicts.score[usual], verdicts.score[is_ood])),
        "detected": _short(float(verdicts.is_outlier[is_ood].mean())),
        "false_alarms": _short(float(alarms[usual].mean())),
        # The p-value holds for units, because it was calibrated on units.
        "false_alarms_by_unit": _short(_by_group(alarms[usual], units[usual]).mean()),
        "false_alarms_by_source": {
            source: _short(float(alarms[~is_ood & (samples.column("source") == source)].mean()))
            for source in sorted(set(samples.column("source")[~is_ood]))
        },
        "inside": int(usual.sum()),
        "outside": int(is_ood.sum()),
    }


def _by_group(values: Mask, groups: I64) -> F64:
    """Return the mean of each group, float64 [G]."""
    _, place = np.unique(groups, return_inverse=True)
    return np.bincount(place, weights=values) / np.bincount(place)


def _short(value: float) -> float:
    return round(float(value), 4)
