"""`medlike evaluate` for bundles: encode a collection, measure, compare, collect all for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medlike.bundle import Bundle
from medlike.datasets import Dataset, Sample, Split, find_units, headline_labels, make_split
from medlike.datasets.image_names import image_name
from medlike.datasets.labels import can_be_headline, cautions
from medlike.errors import DatasetError
from medlike.evaluation import alarms, floors
from medlike.evaluation.assessment import Assessment, assess, assess_oracle, compare
from medlike.evaluation.encodings import Encoded, PictureSummaries, encode_dataset, picture_summaries
from medlike.evaluation.outliers import colour_spread, flagged_too_often, outlier_figures
from medlike.evaluation.parts import part_figures
from medlike.evaluation.protocols import Arena, across_sources, everything_arena, headline_arena, mean_over
from medlike.evaluation.provenance import program
from medlike.evaluation.representation import Representation
from medlike.evaluation.settings import EvaluationSettings
from medlike.training.pictures import collection_digest
from medlike.types import JsonObject

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """Hold what was measured.

    Attributes:
        results: Everything, fit for JSON.
        arena: Queries and gallery.
        assessments: One a method, the baseline first.
        representations: Of each method, those of the queries and of the gallery.
        names: (name, path) of the images that the results name, "image 17" for the 17th of the collection.
    """

    results: JsonObject
    arena: Arena
    assessments: list[Assessment]
    representations: dict[str, tuple[Representation, Representation]]
    names: list[tuple[str, str]]


def evaluate_bundles(
    names: Sequence[str],
    data: Dataset,
    out: Path,
    split: Split | None = None,
    settings: EvaluationSettings = EvaluationSettings(),
    say: Say = lambda text: None,
) -> Outcome:
    """Measure bundles on a labelled collection; the first one is the baseline of the comparisons.

    Args:
        names: Shipped bundles or folders.
        data: The collection.
        out: Folder that keeps encodings and the split, so that a second run is quick.
        split: Parts of the collection; by default those in `out`, which are made if they do not exist.
        settings: What is measured.
        say: Called with a line of progress.

    Raises:
        DatasetError: The collection cannot be measured.
        BundleError: A bundle is missing or damaged.
    """
    loaded = [Bundle.load(name) for name in names]
    cache = out / "cache"
    arena, units, split = _arena(data, split, out, cache, settings, say)
    left_out = _left_out(data, arena)
    if left_out:
        named = ", ".join(f"{label} ({count})" for label, count in list(left_out.items())[:8])
        more = ", ..." if len(left_out) > 8 else ""
        say(f"labels with fewer than {settings.minimum} images take no part: {named}{more}")
    cast = _Cast(arena, _train(data, arena, split), _other_queries(data, arena, split), units)
    pictures = picture_summaries(cast.data, cache) if settings.floors else None
    inside = None
    if split is not None and len(cast.train):
        gallery = Dataset(arena.gallery.name, (*arena.gallery, *cast.training))
        gallery_units = np.concatenate([arena.gallery_units, cast.train_units])
        inside = Arena("train inside the gallery", arena.queries, gallery, arena.units, gallery_units)

    row_of = {sample.path: row for row, sample in enumerate(data)}
    assessments: list[Assessment] = []
    represented: dict[str, tuple[Representation, Representation]] = {}
    results: JsonObject = {
        **program(),
        "command": _command(names, data.name, settings),
        "data": {"name": data.name, "images": len(data), "digest": collection_digest(list(data))},
        "split": None if split is None else {"name": split.name, "digest": split.digest, **dict(split.settings)},
        "protocol": arena.name,
        "units": "Units are patients or cases, joined where images are near-duplicates; gallery images of a query's "
        "own unit are left out of its ranking.",
        "settings": vars(settings).copy(),
        "queries": len(arena.queries),
        "gallery": len(arena.gallery),
        "labels": sorted(set(arena.gallery.column("label").tolist())),
        "labels_left_out": left_out,
        "traps": cautions(data),
        "source_oracle": assess_oracle(arena, settings.k),
        "methods": {},
        "outliers": {},
    }

    def add(name: str, kind: str, whole: Representation, facts: JsonObject | None = None) -> Assessment:
        query, gallery = whole[cast.queries], whole[cast.gallery]
        trained = (inside, whole[np.concatenate([cast.gallery, cast.train])]) if inside is not None else None
        assessment = assess(name, kind, arena, query, gallery, trained, settings.k, facts)
        assessments.append(assessment)
        represented[name] = (query, gallery)
        results["methods"][name] = assessment.figures
        return assessment

    for bundle in loaded:
        say(f"encoding {len(cast.data)} images with {bundle.name}")
        encoded = encode_dataset(bundle, cast.data, cache)
        facts = {
            "bundle": bundle.name,
            "digest": bundle.digest,
            "encode_ms_per_image": 1000 * encoded.seconds,
            "bundle_bytes": bundle.bytes,
        }
        name = bundle.name if bundle.name not in results["methods"] else f"{bundle.name} {bundle.digest[:8]}"
        main = add(name, "bundle", encoded.codes(), facts)
        if not settings.everything:
            crossed = across_sources(arena.queries, arena.gallery, *represented[name], arena.units, k=settings.k)
            main.figures.update(part_figures("cross_source", {c: (r.ap, r.units) for c, r in crossed.items()}))
            main.figures["map_cross_source"] = mean_over(crossed)
        add(f"{name}, float features", "ceiling", encoded.features())
        rule = None
        if encoded.score is not None and encoded.p is not None:
            rows = cast.outlier_rows
            figures = outlier_figures(cast.outlier_data, encoded.score[rows], encoded.p[rows], cast.outlier_units)
            if figures is not None:
                results["outliers"][name] = figures
                rule = figures["rule"]
        _alarms(main, encoded, cast, rule, row_of)
        if settings.floors:
            _tuned_floors(add, name, encoded, cast, bundle.bits)
    if pictures is not None:
        _picture_floors(add, pictures)
        if results["outliers"]:
            floor = outlier_figures(cast.outlier_data, colour_spread(cast.outlier_data), None, cast.outlier_units)
            results["outliers"]["colour spread of the stored image (floor)"] = floor
    results["comparisons"] = compare(assessments, assessments[0])
    results["alarms"] = [{"method": a.name, **alarm} for a in assessments for alarm in a.alarms]
    suspects = {s["name"] for method in results["methods"].values() for s in method.get("suspect_training_images", ())}
    listed = [(image_name(row), sample.path) for row, sample in enumerate(data) if image_name(row) in suspects]
    return Outcome(results, arena, assessments, represented, listed)


class _Cast:
    """Hold all samples that are encoded, once each, and which rows are queries, gallery and training images."""

    def __init__(self, arena: Arena, train: Dataset, others: Dataset, units: dict[str, int]) -> None:
        samples: dict[str, Sample] = {}
        for part in (arena.queries, arena.gallery, train, others):
            for sample in part:
                samples.setdefault(sample.path, sample)
        place = {path: row for row, path in enumerate(samples)}
        self.data = Dataset("cast", tuple(samples.values()))
        self.queries, self.gallery, self.train, other_rows = (
            np.array([place[s.path] for s in part], dtype=np.int64)
            for part in (arena.queries, arena.gallery, train, others)
        )
        self.training = train
        self.train_units = np.array([units[s.path] for s in train], dtype=np.int64)
        self.outlier_rows = np.union1d(self.queries, other_rows)
        self.outlier_data = Dataset("queries", tuple(self.data[int(row)] for row in self.outlier_rows))
        self.outlier_units = np.array([units[s.path] for s in self.outlier_data], dtype=np.int64)


def _arena(
    data: Dataset, split: Split | None, out: Path, cache: Path, settings: EvaluationSettings, say: Say
) -> tuple[Arena, dict[str, int], Split | None]:
    """Return queries and gallery, the unit of every image by its path, and the split if there is one."""
    labels = headline_labels(data, settings.minimum)
    if len(labels) < 2:
        raise DatasetError(
            f"{data.name} has {len(labels)} labels with at least {settings.minimum} images "
            f"({', '.join(labels) or 'none'}), and of fewer than two every ranking is perfect: lower --minimum, "
            "or give more images"
        )
    if settings.everything:
        say(f"looking for near-duplicates among {len(data)} images")
        units = find_units(data, picture_summaries(data, cache).hashes)
        of_path = {s.path: int(u) for s, u in zip(data, units, strict=True)}
        chosen = data.where(lambda s: can_be_headline(s) and s.label in labels)
        return everything_arena(chosen, np.array([of_path[s.path] for s in chosen], dtype=np.int64)), of_path, None
    if split is None and (out / "split.json").is_file():
        split = Split.load(out / "split.json")
    if split is None:
        say(f"making a split of {len(data)} images")
        split = make_split(data, picture_summaries(data, cache).hashes)
        out.mkdir(parents=True, exist_ok=True)
        split.save(out / "split.json")
    arena = headline_arena(data, split, labels=labels)
    return arena, {s.path: int(u) for s, u in zip(data, split.units(data), strict=True)}, split


def _train(data: Dataset, arena: Arena, split: Split | None) -> Dataset:
    if split is None:
        return Dataset("train", ())
    labels = set(arena.gallery.column("label").tolist())
    return split.part(data, "train").where(lambda s: s.label in labels and not s.is_ood and not s.apart)


def _left_out(data: Dataset, arena: Arena) -> dict[str, int]:
    """Return the labels that could be queries but are not in the gallery, with their counts, most first."""
    counts = Counter(s.label for s in data if can_be_headline(s))
    present = set(arena.gallery.column("label"))
    return {label: n for label, n in counts.most_common() if label not in present}


def _other_queries(data: Dataset, arena: Arena, split: Split | None) -> Dataset:
    """Return query images that no retrieval figure uses, for the outlier figures: OOD ones and rare labels."""
    if split is None:
        return data.where(lambda s: s.is_ood)
    used = {s.path for s in arena.queries}
    return split.part(data, "query").where(lambda s: s.path not in used and (s.is_ood or not s.apart))


def _alarms(
    assessment: Assessment, encoded: Encoded, cast: _Cast, rule: JsonObject | None, row_of: dict[str, int]
) -> None:
    units = assessment.pooled.units
    raised = [
        alarms.few_units(len(np.unique(units)), len(units)),
        alarms.over_centralisation(assessment.pooled.scores),
        alarms.constant_bits(encoded.code[cast.gallery]),
    ]
    if rule is not None:
        low, high = rule["false_alarms_interval"]
        rate = alarms.Interval(rule["false_alarms"], low, high, rule["units"])
        outlier_alarms = (
            alarms.false_alarms(rate, rule["threshold"]),
            alarms.false_alarms_of_parts(flagged_too_often(rule), rule["threshold"]),
        )
        raised += outlier_alarms
        if len(cast.train) > 20 and any(outlier_alarms):
            assessment.figures["suspect_training_images"] = _suspects(encoded, cast, row_of)
    assessment.alarms.extend({"name": alarm.name, "message": alarm.message} for alarm in raised if alarm is not None)


def _suspects(encoded: Encoded, cast: _Cast, row_of: dict[str, int], most: int = 20) -> list[JsonObject]:
    """Return training images whose neighbours contradict their label; images of one patient do not count."""
    rows = cast.train
    doubt = alarms.suspects(
        encoded.content[rows].astype(np.float32), cast.training.column("label"), cast.train_units
    )
    score = np.zeros(len(rows)) if encoded.score is None else encoded.score[rows]
    order = np.lexsort((-score, -doubt))[:most]
    return [
        {
            "name": image_name(row_of[cast.training[i].path]),
            "label": cast.training[i].label,
            "neighbours_that_disagree": float(doubt[i]),
            "outlier_score": float(score[i]),
        }
        for i in order.tolist()
    ]


def _tuned_floors(add: Callable[..., Assessment], name: str, encoded: Encoded, cast: _Cast, bits: int) -> None:
    """Add the floors that are fitted on the network's own features of the training part."""
    features = encoded.content.astype(np.float32)
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    if len(cast.train) <= bits:
        return
    known = features[cast.train]
    if bits <= min(known.shape):
        itq = floors.fit_itq(known, bits, sources=cast.training.column("source").tolist())
        add(f"ITQ on features of {name}", "floor", Representation(codes=itq(features)))
    projection = floors.fit_random_projection(known, bits)
    add(f"random projection of features of {name}", "floor", Representation(codes=projection(features)))
    labels = cast.training.column("label")
    if len(np.unique(labels)) > 1:
        discriminant = floors.fit_discriminant(known, labels)
        add(f"discriminant on features of {name}", "floor", Representation(features=discriminant(features)))


def _picture_floors(add: Callable[..., Assessment], pictures: PictureSummaries) -> None:
    prints = floors.fingerprint_features(pictures.fingerprints)
    add("fingerprint 16x16", "floor", Representation(features=prints))
    add("perceptual hash", "floor", Representation(codes=floors.hash_codes(pictures.hashes)))


def _command(names: Sequence[str], data: str, settings: EvaluationSettings) -> str:
    """Return the command that measures the same, without folders except where they distinguish bundles."""
    short = [Path(name).name for name in names]
    shown = ["/".join(Path(n).parts[-2:]) if short.count(s) > 1 else s for n, s in zip(names, short, strict=True)]
    options = [*(f"--bundle {name}" for name in shown), f"--data {data}", "--out DIR"]
    options += [f"--k {settings.k}", f"--minimum {settings.minimum}"]
    options += ["--everything"] * settings.everything + ["--no-floors"] * (not settings.floors)
    return " ".join(["medlike evaluate", *options])
