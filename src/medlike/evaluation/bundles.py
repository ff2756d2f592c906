"""`medlike evaluate` for bundles: encode a collection, measure, compare, collect all for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medlike.bundle import Bundle
from medlike.datasets import (
    Dataset,
    Sample,
    Split,
    find_units,
    headline_labels,
    make_split,
)
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
    """What was measured. results: fit for JSON. queries, gallery and ranking feed the contact sheets.

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

    out: folder that keeps encodings and the split, so that a second run is quick. Raises DatasetError and
    BundleError for what cannot be measured.
    """
    loaded = [Bundle.load(name) for name in names]
    cache = out / "cache"
    chosen, units, split = _arena(data, split, out, cache, settings, say)
    left_out = _left_out(data, chosen)
    if left_out:
        named = ", ".join(f"{label} ({count})" for label, count in list(left_out.items())[:8])
        more = ", ..." if len(left_out) > 8 else ""
        say(f"labels with fewer than {settings.minimum} images take no part: {named}{more}")
    train = _train(data, chosen, split)
    others = _other_queries(data, chosen, split)
    cast = _Cast(chosen, train, others)
    pictures = picture_summaries(cast.data, cache) if settings.floors else None

    row_of = {sample.path: row for row, sample in enumerate(data)}
    assessments: list[Assessment] = []
    represented: dict[str, tuple[Representation, Representation]] = {}
    results: JsonObject = {
        **program(),
        "command": _command(names, data.name, settings),
        "data": {"name": data.name, "images": len(data), "digest": collection_digest(list(data))},
        "split": None if split is None else {"name": split.name, "digest": split.digest, **dict(split.settings)},
        "protocol": chosen.name,
        "units": "Units are patients or cases, joined where images are near-duplicates; gallery images of a query's "
        "own unit are left out of its ranking.",
        "settings": vars(settings).copy(),
        "queries": len(chosen.queries),
        "gallery": len(chosen.gallery),
        "labels": sorted(set(chosen.gallery.column("label").tolist())),
        "labels_left_out": left_out,
        "traps": cautions(data),
        "source_oracle": assess_oracle(chosen, settings.k),
        "methods": {},
        "outliers": {},
    }

    def add(name: str, kind: str, whole: Representation, facts: JsonObject | None = None) -> Assessment:
        query, gallery = whole[cast.queries], whole[cast.gallery]
        inside = None
        if len(train) and not settings.everything:
            rows = np.concatenate([cast.gallery, cast.train])
            inside = (_inside(chosen, train, split), whole[rows])
        assessment = assess(name, kind, chosen, query, gallery, inside, settings.k, facts)
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
        label = _unique(bundle.name, results["methods"], bundle.digest)
        main = add(label, "bundle", encoded.codes(), facts)
        if not settings.everything:
            crossed = across_sources(chosen.queries, chosen.gallery, *represented[label], chosen.units, k=settings.k)
            main.figures.update(part_figures("cross_source", {c: (r.ap, r.units) for c, r in crossed.items()}))
            main.figures["map_cross_source"] = mean_over(crossed)
        add(f"{label}, float features", "ceiling", encoded.features())
        _outliers(results, label, cast, encoded, units)
        _alarms(main, encoded, cast, units, results, label, row_of)
        if settings.floors:
            _tuned_floors(add, label, encoded, cast, bundle.bits)
    if settings.floors and pictures is not None:
        _picture_floors(add, pictures)
    if results["outliers"] and settings.floors:
        rows = cast.outlier_rows
        chosen_data = Dataset("queries", tuple(cast.data[int(r)] for r in rows))
        floor = outlier_figures(chosen_data, colour_spread(chosen_data), None, cast.outlier_units(units))
        if floor is not None:
            results["outliers"]["colour spread of the stored image (floor)"] = floor
    results["comparisons"] = compare(assessments, assessments[0])
    results["alarms"] = [{"method": a.name, **alarm} for a in assessments for alarm in a.alarms]
    suspects = {s["name"] for method in results["methods"].values() for s in method.get("suspect_training_images", ())}
    listed = [(image_name(row), sample.path) for row, sample in enumerate(data) if image_name(row) in suspects]
    return Outcome(results, chosen, assessments, represented, listed)


class _Cast:
    """All samples that are encoded, once each, and where queries, gallery and training images are in it."""

    def __init__(self, arena: Arena, train: Dataset, others: Dataset) -> None:
        place: dict[str, int] = {}
        samples: list[Sample] = []
        for part in (arena.queries, arena.gallery, train, others):
            for sample in part:
                if sample.path not in place:
                    place[sample.path] = len(samples)
                    samples.append(sample)
        self.data = Dataset("cast", tuple(samples))
        self.queries = np.array([place[s.path] for s in arena.queries], dtype=np.int64)
        self.gallery = np.array([place[s.path] for s in arena.gallery], dtype=np.int64)
        self.train = np.array([place[s.path] for s in train], dtype=np.int64)
        own = [place[s.path] for s in arena.queries] + [place[s.path] for s in others]
        self.outlier_rows = np.array(sorted(set(own)), dtype=np.int64)
        self.training = train

    def outlier_units(self, units: dict[str, int]) -> np.ndarray:
        return np.array([units[self.data[int(r)].path] for r in self.outlier_rows], dtype=np.int64)


def _arena(
    data: Dataset, split: Split | None, out: Path, cache: Path, settings: EvaluationSettings, say: Say
) -> tuple[Arena, dict[str, int], Split | None]:
    if settings.everything:
        say(f"looking for near-duplicates among {len(data)} images")
        units = find_units(data, picture_summaries(data, cache).hashes)
        labels = headline_labels(data, settings.minimum)
        _require_two(labels, data, settings)
        kept = data.where(lambda s: can_be_headline(s) and s.label in labels)
        of_path = {s.path: int(u) for s, u in zip(data, units, strict=True)}
        own = np.array([of_path[s.path] for s in kept], dtype=np.int64)
        return everything_arena(kept, own), of_path, None
    if split is None and (out / "split.json").is_file():
        split = Split.load(out / "split.json")
    if split is None:
        say(f"making a split of {len(data)} images")
        split = make_split(data, picture_summaries(data, cache).hashes)
        out.mkdir(parents=True, exist_ok=True)
        split.save(out / "split.json")
    labels = headline_labels(data, settings.minimum)
    _require_two(labels, data, settings)
    arena = headline_arena(data, split, labels=labels)
    return arena, {s.path: int(u) for s, u in zip(data, split.units(data), strict=True)}, split


def _require_two(labels: tuple[str, ...], data: Dataset, settings: EvaluationSettings) -> None:
    if len(labels) < 2:
        raise DatasetError(
            f"{data.name} has {len(labels)} labels with at least {settings.minimum} images "
            f"({', '.join(labels) or 'none'}), and of fewer than two every ranking is perfect: lower --minimum, "
            "or give more images"
        )


def _train(data: Dataset, arena: Arena, split: Split | None) -> Dataset:
    if split is None:
        return Dataset("train", ())
    labels = set(arena.gallery.column("label").tolist())
    return split.part(data, "train").where(lambda s: s.label in labels and not s.is_ood and not s.apart)


def _left_out(data: Dataset, arena: Arena) -> dict[str, int]:
    """Labels that could ask but have too few images, with their counts, most first."""
    counts = Counter(s.label for s in data if can_be_headline(s))
    asked = set(arena.gallery.column("label"))
    return {label: n for label, n in counts.most_common() if label not in asked}


def _other_queries(data: Dataset, arena: Arena, split: Split | None) -> Dataset:
    """Query images that no retrieval figure uses: OOD ones and rare labels, for the outlier figures."""
    seen = {s.path for s in arena.queries}
    if split is None:
        return data.where(lambda s: s.is_ood)
    return split.part(data, "query").where(lambda s: s.path not in seen and (s.is_ood or not s.apart))


def _inside(arena: Arena, train: Dataset, split: Split | None) -> Arena:
    assert split is not None
    gallery = Dataset(arena.gallery.name, (*arena.gallery.samples, *train.samples))
    units = np.concatenate([arena.gallery_units, split.units(train)])
    return Arena("train inside the gallery", arena.queries, gallery, arena.units, units)


def _outliers(results: JsonObject, name: str, cast: _Cast, encoded: Encoded, units: dict[str, int]) -> None:
    if encoded.score is None or encoded.p is None:
        return
    rows = cast.outlier_rows
    chosen = Dataset("queries", tuple(cast.data[int(r)] for r in rows))
    figures = outlier_figures(chosen, encoded.score[rows], encoded.p[rows], cast.outlier_units(units))
    if figures is not None:
        results["outliers"][name] = figures


def _alarms(
    assessment: Assessment,
    encoded: Encoded,
    cast: _Cast,
    units: dict[str, int],
    results: JsonObject,
    name: str,
    row_of: dict[str, int],
) -> None:
    rule = results["outliers"].get(name, {}).get("rule")
    own = assessment.pooled.units
    found = [
        alarms.few_units(len(np.unique(own)), len(own)),
        alarms.over_centralisation(assessment.pooled.scores),
        alarms.constant_bits(encoded.code[cast.gallery]),
    ]
    if rule is not None:
        low, high = rule["false_alarms_interval"]
        found.append(
            alarms.false_alarms(alarms.Interval(rule["false_alarms"], low, high, rule["units"]), rule["threshold"])
        )
        found.append(alarms.false_alarms_of_parts(flagged_too_often(rule), rule["threshold"]))
    for alarm in found:
        if alarm is not None:
            assessment.alarms.append({"name": alarm.name, "message": alarm.message})
    if len(cast.train) > 20 and any(a is not None and "false outlier" in a.name for a in found):
        assessment.figures["suspect_training_images"] = _suspects(encoded, cast, units, row_of)


def _suspects(
    encoded: Encoded, cast: _Cast, units: dict[str, int], row_of: dict[str, int], most: int = 20
) -> list[JsonObject]:
    """Training images whose neighbours contradict their label; images of one patient do not vouch for each other."""
    rows = cast.train
    doubt = alarms.suspects(
        encoded.content[rows].astype(np.float32),
        cast.training.column("label"),
        np.array([units[sample.path] for sample in cast.training], dtype=np.int64),
    )
    strange = np.zeros(len(rows)) if encoded.score is None else encoded.score[rows]
    order = np.lexsort((-strange, -doubt))[:most]
    return [
        {
            "name": image_name(row_of[cast.training[int(i)].path]),
            "label": cast.training[int(i)].label,
            "neighbours_that_disagree": float(doubt[i]),
            "outlier_score": float(strange[i]),
        }
        for i in order
    ]


def _tuned_floors(add: Callable[..., Assessment], name: str, encoded: Encoded, cast: _Cast, bits: int) -> None:
    """Floors fitted on the network's own features of the training part."""
    features = encoded.content.astype(np.float32)
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    if len(cast.train) <= bits:
        return
    own = features[cast.train]
    if bits <= min(own.shape):
        itq = floors.fit_itq(own, bits, sources=cast.training.column("source").tolist())
        add(f"ITQ on features of {name}", "floor", Representation(codes=itq(features)))
    projection = floors.fit_random_projection(own, bits)
    add(f"random projection of features of {name}", "floor", Representation(codes=projection(features)))
    labels = cast.training.column("label")
    if len(np.unique(labels)) > 1:
        discriminant = floors.fit_discriminant(own, labels)
        add(f"discriminant on features of {name}", "floor", Representation(features=discriminant(features)))


def _picture_floors(add: Callable[..., Assessment], pictures: PictureSummaries) -> None:
    prints = floors.fingerprint_features(pictures.fingerprints)
    add("fingerprint 16x16", "floor", Representation(features=prints))
    add("perceptual hash", "floor", Representation(codes=floors.hash_codes(pictures.hashes)))


def _command(names: Sequence[str], data: str, settings: EvaluationSettings) -> str:
    """The command that measures the same, without the folders of this machine, but where they tell bundles apart."""
    short = [Path(name).name for name in names]
    told = ["/".join(Path(n).parts[-2:]) if short.count(s) > 1 else s for n, s in zip(names, short, strict=True)]
    given = [*(f"--bundle {name}" for name in told), f"--data {data}", "--out DIR"]
    given += [f"--k {settings.k}", f"--minimum {settings.minimum}"]
    given += ["--everything"] * settings.everything + ["--no-floors"] * (not settings.floors)
    return " ".join(["medlike evaluate", *given])


def _unique(name: str, taken: JsonObject, digest: str) -> str:
    return name if name not in taken else f"{name} {digest[:8]}"
