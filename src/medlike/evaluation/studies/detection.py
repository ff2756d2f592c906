"""Study `ood`: the outlier verdict under other thresholds, by modality, by kind, and against groups left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from medlike.datasets import Dataset, open_sample, prepare_samples
from medlike.errors import BundleError
from medlike.evaluation import plots
from medlike.evaluation.encodings import fingerprint_of, keep
from medlike.evaluation.outliers import colour_spread, outlier_figures
from medlike.evaluation.studies.bench import Bench
from medlike.evaluation.studies.study import Cell, Result, Study, Summary
from medlike.inference import Encoder, Encodings, OutlierSettings, fit_outlier
from medlike.inference.encoding import Outliers
from medlike.inference.outlier import OutlierScorer
from medlike.metrics import auroc, bootstrap_interval, detection_at

QUESTION = (
    "Does the outlier verdict hold what it promises: false alarms at the level asked for, on every modality, and "
    "outliers found, of kinds it was not tuned on and of groups inside radiology that it never saw?"
)
LEVEL = 0.03
SHIFTED = 120
SIGMAS = (1, 2, 3, 4)
LEVELS = (0.01, 0.02, 0.03, 0.05, 0.1)
WEIGHTS = ((1.0, 0.0), (0.75, 0.25), (0.5, 0.5), (0.25, 0.75), (0.0, 1.0))


def cells(bench: Bench) -> list[Cell]:
    """Thresholds, kinds left out of the choice of weights, and each source left out of reference and calibration."""
    found = [
        Cell("thresholds", lambda: _thresholds(bench), 120, "encode"),
        Cell("kinds-left-out", lambda: _kinds(bench), 60, "scores"),
        Cell("shifts", lambda: _shifts(bench), 120, "encode"),
    ]
    for source in sorted({s.source for s in _inside(bench, "query")}):
        found.append(Cell(f"without-{source}", _left_out(bench, source), 60, "scores"))
    return found


def summarise(bench: Bench, done: Mapping[str, Result]) -> Summary:
    """Tables of thresholds, modalities and kinds; histogram and ROC; groups left out."""
    tables: list[Any] = []
    made: list[tuple[str, str]] = []
    if "thresholds" in done:
        r = done["thresholds"]
        tables.append(_overall(r["figures"], r.get("colour")))
        head = ("rule", "false alarms", "95 %", "outliers found")
        tables.append(("Thresholds", head, r["rules"]))
        by = ("modality", "images", "false alarms at p 0.03", "95 %")
        tables.append(("Known images flagged, by modality", by, r["modalities"]))
        if r.get("sources"):
            tables.append(("Known images flagged, by source", ("source", *by[1:]), r["sources"]))
        figures = r["figures"]
        head = ("kind", "images", "AUROC", "found at 3 % false alarms")
        kinds = [[k, v["images"], v["auroc"], v["detection_at_3_false_alarms"]] for k, v in figures["kinds"].items()]
        tables.append(("Kinds of outliers, grey pictures", head, kinds))
        made.append(("Scores", plots.outliers(figures)))
    if done.get("kinds-left-out", {}).get("rows"):
        head = ("kind left out", "weights chosen on the others", "AUROC on it", "found at 3 % false alarms")
        tables.append(("Weights of the components chosen without a kind", head, done["kinds-left-out"]["rows"]))
    if "shifts" in done:
        shift = ("shift of known images", "level", "AUROC against unchanged", "flagged at p 0.03", "95 %", "unchanged")
        tables.append(("Known images, changed", shift, done["shifts"]["rows"]))
    groups = [r["row"] for name, r in done.items() if name.startswith("without-")]
    if groups:
        columns = (
            "source left out", "images", "AUROC", "found at 3 % false alarms", "flagged at p 0.03", "95 %",
            "known flagged", "95 %",
        )  # fmt: skip
        groups = [row if len(row) == len(columns) else [*row[:5], "", row[5], ""] for row in groups]
        tables.append(("Sources left out of reference and calibration, treated as outliers", columns, sorted(groups)))
    notes = [
        "All pictures are grey; the colour of the stored image is a floor and no detector, since radiology is grey and "
        "photographs are not. Thresholds come from calibration units, never from training images. A source left out is "
        "still radiology: it is the harder test, and a source like the others is rightly not flagged. Features stay as "
        f"trained; bundle {bench.bundle.name}."
    ]
    return Summary(tables, made, notes)


def _thresholds(bench: Bench) -> Result:
    inside, outside = _inside(bench, "query"), _outside(bench, "query")
    calibration = _inside(bench, "calibration")
    queries = Dataset("queries", (*inside.samples, *outside.samples))
    scored = bench.encode(queries)
    if scored.score is None or scored.p is None:
        raise BundleError(f"bundle {bench.bundle.name} has no outlier part; name another with --bundle")
    units = bench.split.units(queries)
    strange = np.array([s.is_ood for s in queries])
    known = bench.encode(calibration).score
    assert known is not None
    rules = []
    for sigma in SIGMAS:
        flagged = scored.score > known.mean() + sigma * known.std()
        rules.append(_rule(f"mean + {sigma} standard deviations", flagged, strange, units))
    rules += [_rule(f"p at most {level:g}", scored.p <= level, strange, units) for level in LEVELS]
    flagged = scored.p <= LEVEL
    by = {}
    for column in ("modality", "source"):
        values = queries.column(column)
        by[column] = [
            [str(name), int(own.sum()), *_rate(flagged[own], units[own])]
            for name in np.unique(values[~strange])
            for own in [~strange & (values == name)]
        ]
    return {
        "rules": rules,
        "modalities": by["modality"],
        "sources": by["source"],
        "figures": outlier_figures(queries, scored.score, scored.p, units),
        "colour": outlier_figures(queries, colour_spread(queries), None, units),
    }


def _overall(figures: Mapping[str, Any], colour: Mapping[str, Any] | None) -> tuple[str, Any, Any]:
    """The score and the colour floor: areas, and both ends of the trade."""
    head = ("score", "known", "outliers", "AUROC", "AUPR", "found at 3 % false alarms", "false alarms at 95 % found")
    names = ("inside", "outside", "auroc", "aupr", "detection_at_3_false_alarms", "false_alarms_at_95_detection")
    rows = [["outlier score, grey pictures", *(figures[name] for name in names)]]
    if colour is not None:
        rows.append(["colour of the stored image (floor)", *(colour[name] for name in names)])
    return "Known images against outliers", head, rows


def _shifts(bench: Bench) -> Result:
    """Known query images under the changes of `robustness`: how strange each level makes them."""
    from medlike.evaluation.studies.perturbations import CHANGES
    from medlike.imaging import letterbox, render

    inside = _inside(bench, "query")
    some = np.unique(np.linspace(0, len(inside) - 1, min(SHIFTED, len(inside))).astype(int))
    chosen = Dataset("shifted", tuple(inside[int(row)] for row in some))
    units = bench.split.units(chosen)
    greys = [render(open_sample(sample)) for sample in chosen]
    rows: list[list[Any]] = []
    with Encoder(bench.bundle) as encoder:
        usual = _verdicts(encoder.encode([letterbox(grey)[0] for grey in greys]), bench)
        for name, levels in CHANGES.items():
            for level, change in levels.items():
                found = _verdicts(encoder.encode([letterbox(change(grey))[0] for grey in greys]), bench)
                rate = _rate(found.p <= LEVEL, units)
                rows.append([name, level, auroc(usual.score, found.score), *rate, float((usual.p <= LEVEL).mean())])
    return {"rows": rows, "images": len(chosen)}


def _verdicts(encodings: Encodings, bench: Bench) -> Outliers:
    if encodings.outlier is None:
        raise BundleError(f"bundle {bench.bundle.name} has no outlier part; name another with --bundle")
    return encodings.outlier


def _rate(flagged: np.ndarray, units: np.ndarray) -> tuple[float, str]:
    """A share and its interval by unit, as it is written."""
    rate = bootstrap_interval(flagged.astype(float), units)
    return rate.mean, f"{rate.low:.3f} to {rate.high:.3f}"


def _rule(name: str, flagged: np.ndarray, strange: np.ndarray, units: np.ndarray) -> list[Any]:
    return [name, *_rate(flagged[~strange], units[~strange]), float(flagged[strange].mean())]


def _kinds(bench: Bench) -> Result:
    """Component weights chosen by AUROC on calibration images and the other kinds, judged on queries of the kind."""
    scorer = _scorer(bench)
    parts = {
        (where, kind): _components(bench, scorer, (_outside if kind else _inside)(bench, where))
        for where in ("calibration", "query")
        for kind in (False, True)
    }
    kind_of = {where: _outside(bench, where).column("label") for where in ("calibration", "query")}
    rows = []
    for kind in np.unique(kind_of["query"]):
        rest = parts["calibration", True][kind_of["calibration"] != kind]
        own = parts["query", True][kind_of["query"] == kind]
        if not len(rest):
            continue
        choices = [w for w in WEIGHTS if len(w) == rest.shape[1]] or [tuple(np.ones(rest.shape[1]))]
        best = max(choices, key=lambda w: auroc(parts["calibration", False] @ w, rest @ w))
        inside = parts["query", False] @ best
        rows.append(
            [str(kind), " / ".join(f"{w:g}" for w in best), auroc(inside, own @ best), detection_at(inside, own @ best)]
        )
    return {"rows": rows, "components": list(scorer.components)}


def _left_out(bench: Bench, source: str) -> Callable[[], Result]:
    def run() -> Result:
        train, calibration = (_inside(bench, part) for part in ("train", "calibration"))
        kept = {
            "train": train.where(lambda s: s.source != source),
            "calibration": calibration.where(lambda s: s.source != source),
        }
        first = np.unique(bench.split.units(kept["calibration"]), return_index=True)[1]
        one_a_unit = Dataset("calibration", tuple(kept["calibration"][int(n)] for n in first))
        settings = OutlierSettings()
        arrays, facts = fit_outlier(
            _features(bench, kept["train"]),
            _features(bench, one_a_unit),
            [s.modality for s in one_a_unit],
            reference_unit=bench.split.units(kept["train"]).tolist(),
            reference_cluster=kept["train"].column("label").tolist(),
            settings=settings,
        )
        scorer = OutlierScorer(arrays, facts)
        queries = _inside(bench, "query")
        own = queries.column("source") == source
        verdicts = scorer.verdicts(_features(bench, queries), [s.modality for s in queries])
        score, flagged, units = verdicts.score, verdicts.is_outlier, bench.split.units(queries)
        row = [
            source, int(own.sum()), auroc(score[~own], score[own]), detection_at(score[~own], score[own]),
            *_rate(flagged[own], units[own]), *_rate(flagged[~own], units[~own]),
        ]  # fmt: skip
        return {"row": row}

    return run


def _scorer(bench: Bench) -> OutlierScorer:
    scorer = OutlierScorer.of(bench.bundle)
    if scorer is None:
        raise BundleError(f"bundle {bench.bundle.name} has no outlier part; name another with --bundle")
    return scorer


def _components(bench: Bench, scorer: OutlierScorer, data: Dataset) -> np.ndarray:
    """Standardised components of the score: float [N, C]."""
    rows = [scorer.score(scorer.parts(f))[1] for f in _features(bench, data)]
    return np.stack(rows) if rows else np.zeros((0, len(scorer.components)))


def _features(bench: Bench, data: Dataset) -> np.ndarray:
    """The outlier features of some samples: float32 [N, F]; kept between runs."""
    file = bench.work / "encodings" / f"outlier-{bench.bundle.digest[:16]}-{fingerprint_of(data)[:16]}.npz"
    if file.is_file():
        with np.load(file) as kept:
            return np.asarray(kept["features"])
    parts, batch = [], []
    with Encoder(bench.bundle) as encoder:
        for picture in prepare_samples(data):
            batch.append(picture)
            if len(batch) == 64:
                parts.append(encoder.features(batch, "outlier_features"))
                batch = []
        if batch:
            parts.append(encoder.features(batch, "outlier_features"))
    features = np.concatenate(parts)
    keep(file, {"features": features})
    return np.asarray(features)


def _inside(bench: Bench, part: str) -> Dataset:
    found = bench.split.part(bench.data, part).where(lambda s: not s.is_ood and s.source != "medical_mnist")
    return bench.limited(found)


def _outside(bench: Bench, part: str) -> Dataset:
    return bench.limited(bench.split.part(bench.data, part).where(lambda s: s.is_ood))


STUDY = Study("ood", QUESTION, cells, summarise, of_bundle=True, trains=False)
