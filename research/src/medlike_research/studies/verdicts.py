"""Study `verdicts`: outlier verdicts calibrated over whole sources left out in turn, judged on sources left out.

Nested: verdicts on a source come from a discriminant and a calibration that never saw it or a related source. Features
are the untouched ones of the bundle, whose map was fitted without labels on pictures of all its sources; so a source
left out here is known to the map, and a truly new hospital is a little newer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medlike.datasets import Dataset, files_digest, prepare_batches
from medlike.datasets.labels import origin_of
from medlike.errors import BundleError
from medlike.evaluation.encodings import keep
from medlike.evaluation.tables import between
from medlike.imaging import letterbox
from medlike.inference import Encoder
from medlike.inference.encoder import Square
from medlike.inference.encoding import DEFAULT_THRESHOLD
from medlike.inference.outlier import OutlierScorer
from medlike.metrics import auroc, bootstrap_interval
from medlike.training.drawn_outliers import draw_outliers
from medlike.training.outlier_fit import fit_contrast
from medlike.training.verdict import predicted, untouched_columns
from medlike.types import F32, I64
from medlike_research.studies.bench import Bench
from medlike_research.studies.study import Cell, Result, Study, Summary

QUESTION = (
    "Does the outlier verdict keep its promise in hospitals that neither its fit nor its calibration saw, and does it "
    "still find pictures that are no medical images, of kinds that it knows and of kinds that it does not?"
)
SYNTHETIC = 100
NOW, LEFT_OUT = "as the bundle is", "sources left out in turn"


@dataclass(frozen=True)
class Material:
    """What verdicts are fitted to and judged on; N images and M outliers, half of each kind for fitting.

    features, outliers: float32 [N, F] and [M, F]. columns: leading features that training never touched. origins,
    sources, modalities, predicted: of each image; predicted has "" where the bundle is unsure. units: int64 [N].
    kinds, fitting: kind of each outlier, and whether it may be fitted to.
    """

    features: F32
    columns: int
    origins: list[str]
    sources: list[str]
    modalities: list[str]
    predicted: list[str | None]
    units: I64
    outliers: F32
    kinds: list[str]
    fitting: np.ndarray
    outlier_predicted: list[str | None]


def material(bench: Bench) -> Material:
    """Return features of all images that are not apart, of outliers of the collections and of synthetic ones."""
    bundle = bench.bundle
    inside = bench.limited(bench.wide.where(lambda s: not s.is_ood and not s.apart))
    outside = bench.limited(bench.wide.where(lambda s: s.is_ood))
    drawn, drawn_predicted, drawn_kinds = _synthetic(bench)
    features, predicted = _encoded(bench, inside)
    strange, strange_predicted = _encoded(bench, outside)
    calibration = {s.path for s in bench.split.part(bench.wide, "calibration")}
    return Material(
        features=features,
        columns=untouched_columns(bundle) or features.shape[1],
        origins=[origin_of(s) for s in inside],
        sources=[s.source for s in inside],
        modalities=[s.modality for s in inside],
        predicted=predicted,
        units=bench.split.units(inside),
        outliers=np.concatenate([strange, drawn]),
        kinds=[s.coarse for s in outside] + drawn_kinds,
        fitting=np.array([s.path in calibration for s in outside] + [n % 2 == 0 for n in range(len(drawn))]),
        outlier_predicted=strange_predicted + drawn_predicted,
    )


def fit(found: Material, rows: np.ndarray, outliers: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the outlier part fitted to some of the images and some of the outliers, as masks."""
    i, j = np.flatnonzero(rows), np.flatnonzero(outliers)
    return fit_contrast(
        found.features[i],
        found.columns,
        [found.origins[n] for n in i],
        found.units[i],
        [found.predicted[n] for n in i],
        found.outliers[j],
        [found.kinds[n] for n in j],
        np.random.default_rng(0),
    )


def cells(bench: Bench) -> list[Cell]:
    """Return the cells: the bundle's verdicts as they are, sources left out, kinds of outliers left out."""
    return [
        Cell("now", lambda: _now(bench), 300, "encode"),
        Cell("sources", lambda: _sources(bench), 300, "fit"),
        Cell("kinds", lambda: _kinds(bench), 120, "fit"),
    ]


def summarise(bench: Bench, done: Mapping[str, Result]) -> Summary:
    """False alarms by modality and source beside what is promised; outliers found by kind."""
    tables: list[Any] = []
    shown = [(NOW, done["now"])] if "now" in done else []
    if "sources" in done:
        shown.append((LEFT_OUT, done["sources"]))
    head: tuple[str, ...]
    head = ("verdict", "modality", "images", "sources", "promised", "flagged", "95 % by source", "AUROC")
    rows = [[label, *row] for label, result in shown for row in result["modalities"]]
    tables.append(("Medical images flagged by mistake, by modality", head, rows))
    head = ("verdict", "source", "images", "promised", "flagged")
    rows = [[label, *row] for label, result in shown for row in result["sources"]]
    tables.append(("Medical images flagged by mistake, by source", head, rows))
    head = ("verdict", "kind", "images", "found")
    rows = [[label, *row] for label, result in shown for row in result["kinds"]]
    if "kinds" in done:
        rows += [["sources left out in turn, kind never seen", *row] for row in done["kinds"]["kinds"]]
    tables.append(("Pictures that are no medical images, found", head, rows))
    notes = [
        "All pictures are grey. Photographs, blood smears and fundus pictures are those of the collection; the other "
        "kinds are drawn by code from a fixed seed. Half of each kind may be fitted to, the other half is judged.",
        "Branching lines, round bodies and things were drawn with fundus pictures, blood smears and photographs in "
        "mind. So of these three `kind never seen` means that no such picture was fitted to, but drawings of it were.",
        "`as the bundle is`: its verdicts on images of sources that it was fitted to. `sources left out in turn`: "
        "discriminant and calibration never saw the source judged or a related one; the map to the features, fitted "
        "without labels, did. `kind never seen`: all sources, and the kind judged took no part in the fit. Ridge and "
        "weights were chosen on these sources, so a new hospital may differ. Modalities of two sources say little.",
    ]
    return Summary(tables, [], notes)


def _now(bench: Bench) -> Result:
    scorer = OutlierScorer.of(bench.bundle)
    if scorer is None:
        raise BundleError(f"bundle {bench.bundle.name} has no outlier part; name another with --bundle")
    found = material(bench)
    inside = scorer.verdicts(found.features, found.predicted)
    test = ~found.fitting
    outside = scorer.verdicts(found.outliers[test], [found.outlier_predicted[n] for n in np.flatnonzero(test)])
    return _figures(found, inside.score, inside.p, outside.score, outside.p)


def _sources(bench: Bench) -> Result:
    found = material(bench)
    origins = np.array(found.origins)
    score, p = np.zeros(len(origins)), np.zeros(len(origins))
    for origin in np.unique(origins):
        bench.say(f"without {origin}")
        away = origins == origin
        verdicts = OutlierScorer(*fit(found, ~away, found.fitting)).verdicts(found.features[away])
        score[away], p[away] = verdicts.score, verdicts.p
    outside = OutlierScorer(*fit(found, np.ones(len(origins), bool), found.fitting)).verdicts(
        found.outliers[~found.fitting]
    )
    return _figures(found, score, p, outside.score, outside.p)


def _kinds(bench: Bench) -> Result:
    found = material(bench)
    kinds = np.array(found.kinds)
    rows = []
    for kind in np.unique(kinds):
        bench.say(f"without {kind}")
        scorer = OutlierScorer(*fit(found, np.ones(len(found.origins), bool), found.fitting & (kinds != kind)))
        flagged = scorer.verdicts(found.outliers[kinds == kind]).is_outlier
        rows.append([str(kind), len(flagged), float(flagged.mean())])
    rows.append(["mean over kinds", len(kinds), float(np.mean([row[2] for row in rows]))])
    return {"kinds": rows}


def _figures(found: Material, score: np.ndarray, p: np.ndarray, outside: np.ndarray, outside_p: np.ndarray) -> Result:
    flagged = (p <= DEFAULT_THRESHOLD).astype(float)
    sources, modalities = np.array(found.sources), np.array(found.modalities)
    kinds = np.array(found.kinds)[~found.fitting]
    by_modality = []
    for name in np.unique(modalities):
        mask = modalities == name
        rate = bootstrap_interval(flagged[mask], np.unique(sources[mask], return_inverse=True)[1])
        count = len(np.unique(sources[mask]))
        area = float(auroc(score[mask], outside))
        interval = between([rate.low, rate.high]) if count > 1 else ""
        by_modality.append([str(name), int(mask.sum()), count, DEFAULT_THRESHOLD, rate.mean, interval, area])
    by_source = [
        [str(name), int((sources == name).sum()), DEFAULT_THRESHOLD, float(flagged[sources == name].mean())]
        for name in np.unique(sources)
    ]
    detected = outside_p <= DEFAULT_THRESHOLD
    rows = [[str(kind), int((kinds == kind).sum()), float(detected[kinds == kind].mean())] for kind in np.unique(kinds)]
    rows.append(["mean over kinds", len(kinds), float(np.mean([row[2] for row in rows]))])
    return {"modalities": by_modality, "sources": sorted(by_source, key=lambda row: -row[3]), "kinds": rows}


def _encoded(bench: Bench, data: Dataset) -> tuple[F32, list[str | None]]:
    """Return outlier features and predicted modality of some samples; kept between runs."""
    file = bench.work / "encodings" / f"verdicts-{bench.bundle.encoder_digest[:16]}-{files_digest(data)[:16]}.npz"
    return _kept(bench, file, prepare_batches(data))


def _synthetic(bench: Bench) -> tuple[F32, list[str | None], list[str]]:
    """Return outlier features, predicted modality and kind of drawn pictures; kept between runs."""
    count = SYNTHETIC if bench.settings.limit is None else min(SYNTHETIC, bench.settings.limit)
    drawn = draw_outliers(range(count))
    file = bench.work / "encodings" / f"synthetic-{bench.bundle.encoder_digest[:16]}-{len(drawn)}-{count}.npz"
    squares = ([letterbox(picture)[0] for picture in pictures] for pictures in drawn.values())
    return *_kept(bench, file, squares), [kind for kind, pictures in drawn.items() for _ in pictures]


def _kept(bench: Bench, file: Path, batches: Iterable[Sequence[Square]]) -> tuple[F32, list[str | None]]:
    if not file.is_file():
        with Encoder(bench.bundle) as encoder:
            outputs = [encoder.outputs(batch) for batch in batches]
        names = ("outlier_features", "modality")
        keep(file, {name: np.concatenate([rows[name] for rows in outputs]) for name in names})
    with np.load(file) as arrays:
        return arrays["outlier_features"], predicted(bench.bundle, arrays)


STUDY = Study("verdicts", QUESTION, cells, summarise, of_bundle=True, trains=False)
