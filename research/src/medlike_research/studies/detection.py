"""Study `ood`: the outlier verdict under other thresholds, by modality, by kind, and against groups left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from medlike.datasets import Dataset, files_digest, open_sample, prepare_batches
from medlike.errors import BundleError
from medlike.evaluation import plots
from medlike.evaluation.encodings import keep
from medlike.evaluation.outliers import colour_spread, flagged_too_often, outlier_figures
from medlike.evaluation.parts import part_figures, parted
from medlike.evaluation.tables import between
from medlike.inference import Encoder, Encodings, OutlierSettings, fit_outlier
from medlike.inference.encoding import Outliers
from medlike.inference.outlier import OutlierScorer
from medlike.metrics import auroc, bootstrap_interval, detection_at
from medlike_research.studies.bench import Bench
from medlike_research.studies.study import Cell, Result, Study, Summary

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
    """Return the cells: thresholds, known images of all collections, and what is left out or changed.

    Left out are kinds (of the choice of weights) and sources (of reference and calibration).
    """
    found = [
        Cell("thresholds", lambda: _thresholds(bench), 120, "encode"),
        Cell("known", lambda: _known(bench), 120, "encode"),
        Cell("kinds-left-out", lambda: _kinds(bench), 60, "scores"),
        Cell("shifts", lambda: _shifts(bench), 120, "encode"),
    ]
    for source in sorted({s.source for s in _inside(bench, "query")}):
        found.append(Cell(f"without-{source}", _left_out(bench, source), 60, "scores"))
    return found


def summarise(bench: Bench, done: Mapping[str, Result]) -> Summary:
    """Who is flagged by mistake; tables of thresholds and kinds; histogram and ROC; groups left out."""
    tables: list[Any] = []
    made: list[tuple[str, str]] = []
    notes: list[str] = []
    if "known" in done:
        more, drawn, said = _mistaken(done["known"])
        tables += more
        made += drawn
        notes.append(said)
    if "thresholds" in done:
        r = done["thresholds"]
        tables.append(_overall(r["figures"], r.get("colour")))
        head = ("rule", "false alarms", "95 %", "outliers found")
        tables.append(("Thresholds", head, r["rules"]))
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
    notes.append(
        "All pictures are grey; the colour of the stored image is a floor and no detector, since radiology is grey and "
        "photographs are not. Thresholds come from calibration units, never from training images. A source left out is "
        "still radiology: it is the harder test, and a source like the others is rightly not flagged. Features stay as "
        f"trained; bundle {bench.bundle.name}."
    )
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
        rules.append(_rule(f"mean + {sigma} standard deviation{'s' * (sigma > 1)}", flagged, strange, units))
    rules += [_rule(f"p at most {level:g}", scored.p <= level, strange, units) for level in LEVELS]
    return {
        "rules": rules,
        "figures": outlier_figures(queries, scored.score, scored.p, units),
        "colour": outlier_figures(queries, colour_spread(queries), None, units),
    }


def _known(bench: Bench) -> Result:
    """Radiological query images of all collections, flagged by mistake: by modality and by source."""
    found = bench.limited(_radiology(bench.split.part(bench.wide, "query")))
    p = bench.encode(found).p
    if p is None:
        raise BundleError(f"bundle {bench.bundle.name} has no outlier part; name another with --bundle")
    flagged, units = (p <= LEVEL).astype(np.float64), bench.split.units(found)
    modality, source = found.column("modality"), found.column("source")
    trained = bench.bundle.spec.get("training", {}).get("sources")
    return {
        "threshold": LEVEL,
        "all": vars(bootstrap_interval(flagged, units)) | {"images": len(found)},
        **part_figures("false_alarms_by_modality", parted(modality, flagged, units)),
        **part_figures("false_alarms_by_source", parted(source, flagged, units)),
        "modalities_of": {str(s): sorted(set(modality[source == s].tolist())) for s in np.unique(source)},
        "trained": None if trained is None else {s: facts["images"] for s, facts in trained.items()},
    }


def _mistaken(known: Result) -> tuple[list[Any], list[tuple[str, str]], str]:
    """Tables, plots and a sentence on radiological images that are flagged by mistake, the worst first."""
    tables: list[Any] = []
    made = []
    for what in ("modality", "source"):
        key = f"false_alarms_by_{what}"
        rates, intervals = known[key], known[f"{key}_interval"]
        rows: list[list[Any]] = []
        bars: dict[str, plots.Bar] = {}
        for part in sorted(rates, key=lambda part: (-rates[part], part)):
            row = [part or "not stated", known[f"{key}_queries"][part], known[f"{key}_units"][part], rates[part]]
            row.append(between(intervals[part]))
            if what == "source":
                learnt = "" if known["trained"] is None else known["trained"].get(part, 0)
                row[1:1] = [", ".join(known["modalities_of"][part]), learnt]
            rows.append(row)
            low, high = (rates[part] if end is None else end for end in intervals[part])
            bars[row[0]] = (rates[part], low, high)
        more = ("modality", "training images") if what == "source" else ()
        title = f"Radiological images flagged by mistake, by {what}"
        tables.append((title, (what, *more, "images", "units", "flagged at p 0.03", "95 %"), rows))
        promised = (known["threshold"], f"promised: {known['threshold']:.0%}")
        made.append((title, plots.bars({"flagged": bars}, list(bars), "share of images flagged", promised)))
    every = known["all"]
    said = (
        f"Of {every['images']} radiological query images of all collections {every['mean']:.1%} are flagged "
        f"({every['low']:.1%} to {every['high']:.1%}). "
    )
    often = flagged_too_often(known)
    said += (
        f"Beyond their intervals, more than {known['threshold']:.0%} are flagged of {'; '.join(often)}."
        if often
        else f"No modality and no source is flagged more often than {known['threshold']:.0%} beyond its interval."
    )
    said += (
        " An interval of 0 to 0 says that none of these units was flagged; of others it may be up to 3 / units (95 %)."
    )
    if known["trained"] is not None:
        said += " The bundle was not trained on sources with 0 training images: to the detector they are new."
    return tables, made, said


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
    from medlike.imaging import letterbox, render
    from medlike_research.studies.perturbations import CHANGES

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
    file = bench.work / "encodings" / f"outlier-{bench.bundle.digest[:16]}-{files_digest(data)[:16]}.npz"
    if file.is_file():
        with np.load(file) as kept:
            return np.asarray(kept["features"])
    with Encoder(bench.bundle) as encoder:
        features = np.concatenate([encoder.features(b, "outlier_features") for b in prepare_batches(data)])
    keep(file, {"features": features})
    return np.asarray(features)


def _inside(bench: Bench, part: str) -> Dataset:
    return bench.limited(_radiology(bench.split.part(bench.data, part)))


def _radiology(data: Dataset) -> Dataset:
    return data.where(lambda s: not s.is_ood and not s.apart)


def _outside(bench: Bench, part: str) -> Dataset:
    return bench.limited(bench.split.part(bench.data, part).where(lambda s: s.is_ood))


STUDY = Study("ood", QUESTION, cells, summarise, of_bundle=True, trains=False)
