"""Study `methods`: losses and floors on the same network, data and time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from medlike.evaluation import floors, plots
from medlike.evaluation.encodings import picture_summaries
from medlike.evaluation.representation import Representation
from medlike.metrics import bootstrap_interval
from medlike_research.studies.bench import Bench
from medlike_research.studies.frozen import AFTER_FEATURES, RIVAL, Frozen, facts_of, pooled_features, train_cell
from medlike_research.studies.measured import (
    comparison_table,
    grouped,
    measure,
    method_bars,
    method_table,
    source_table,
)
from medlike_research.studies.study import Cell, Result, Study, Summary

QUESTION = (
    "Which loss makes the best codes on the same network, the same data and the same time, and do they beat what "
    "needs no training of codes? Figures are a re-implementation, not the authors' systems."
)
# name -> loss, changes of the recipe. `ours` adds to SCH what the shipped bundles are trained with.
TRAINED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "ours (SCH corrected, full recipe)": ("sch", {}),
    "acir (SCH corrected)": ("sch", RIVAL),
    "acir (SCH released)": ("sch-released", RIVAL),
    "dsh": ("dsh", RIVAL),
    "dpsh": ("dpsh", RIVAL),
    "hashnet": ("hashnet", RIVAL),
    "dch": ("dch", RIVAL),
    "csq": ("csq", RIVAL),
    "csq after our feature phase": ("csq", AFTER_FEATURES),
    "dch after our feature phase": ("dch", AFTER_FEATURES),
}
DISCRIMINANT = "discriminant on"
HMAR = "hmar (global expert, hierarchy and modality)"
MAIN_BITS = 64


def cells(bench: Bench) -> list[Cell]:
    """Floors, then every loss at every length with every seed; 64 bits come first."""
    frozen = Frozen(bench)
    found = [Cell("floor-pictures", lambda: _pictures(bench), 40, "floor")]
    lengths = sorted(bench.settings.bits, key=lambda b: (b != MAIN_BITS, b))
    for bits in lengths:
        found.append(Cell(f"floor-imagenet-{bits}", _floor(bench, "ImageNet", "untouched", bits), 90, "floor"))
        found.append(Cell(f"floor-tuned-{bits}", _floor(bench, "tuned stem", "ce", bits), 600, "stem"))
    for bits in lengths:
        for seed in bench.settings.seeds:
            for name, (loss, recipe) in TRAINED.items():
                cell = f"{_slug(name)}-{bits}-{seed}"
                found.append(Cell(cell, _trained(frozen, name, loss, bits, seed, recipe, {}), 240, "trained"))
            changes = {"tap_heads": True, "modality_aware": True}
            run = _trained(frozen, HMAR, "sch", bits, seed, {}, changes)
            found.append(Cell(f"hmar-{bits}-{seed}", run, 260, "trained"))
    return found


def summarise(bench: Bench, done: Mapping[str, Result]) -> Summary:
    """Figures, comparison and verdict at each length, 64 bits first; mAP against bits."""
    flat = {f"{cell}/{n}": part for cell, result in done.items() for n, part in _parts(result)}
    by_method = grouped(flat)
    lengths = sorted({int(r["length"]) for rs in by_method.values() for r in rs if r.get("length")})
    tables = []
    plots_made = []
    verdicts = []
    if lengths:
        main = min(lengths, key=lambda b: (b != MAIN_BITS, b))
        for bits in [main, *(b for b in lengths if b != main)]:
            chosen = _of_length(by_method, bits)
            title, head, rows = method_table(bench, chosen)
            tables.append((f"{title}, {bits} bits", head, rows))
            if bits == main:
                title, drawn = method_bars(bench, chosen)
                plots_made.append((f"{title}, {bits} bits", drawn))
            best = next((n for n in TRAINED if n in chosen), next(iter(chosen)))
            title, head, rows = comparison_table(bench, chosen, best)
            tables.append((f"{title}, {bits} bits", head, rows))
            if bits == main:
                title, head, rows_by_source = source_table(chosen)
                tables.append((f"{title}, {bits} bits", head, rows_by_source))
            verdicts.append(f"{bits} bits: {_verdict(best, rows)}")
    else:
        tables.append(method_table(bench, by_method))
    lines = _lines(bench, by_method)
    if any(len(points) > 1 for points in lines.values()):
        ticks = sorted({x for points in lines.values() for x, *_ in points})
        plots_made.append(("mAP against bits", plots.lines(lines, "bits", "mAP", log=True, ticks=ticks)))
    return Summary(tables, plots_made, verdicts)


def _trained(
    frozen: Frozen, method: str, loss: str, bits: int, seed: int, recipe: Mapping[str, Any], network: Mapping[str, Any]
) -> Callable[[], Result]:
    def run() -> Result:
        outputs = train_cell(frozen, loss, bits, seed, network, recipe)
        facts = facts_of(outputs, method, seed, loss=loss, length=bits)
        result: Result = {"parts": [measure(frozen.bench, *outputs.codes(), **facts)]}
        if method.startswith("ours"):
            ceiling = {**facts, "method": "float features of ours (ceiling)", "histogram": None}
            result["parts"].append(measure(frozen.bench, *outputs.features(), **ceiling))
            if bits <= min(outputs.train_feature.shape):
                sources = frozen.train.column("source").tolist()
                itq = floors.fit_itq(outputs.train_feature, bits, seed=seed, sources=sources)
                pair = [Representation(codes=itq(f)) for f in (outputs.query_feature, outputs.gallery_feature)]
                own = {**facts, "method": "ITQ on the features of ours", "histogram": None}
                result["parts"].append(measure(frozen.bench, *pair, **own))
        return result

    return run


def _floor(bench: Bench, name: str, tuned: str, bits: int) -> Callable[[], Result]:
    def run() -> Result:
        known = Frozen(bench, tuned).train
        facts: dict[str, Any] = {"seed": 0, "length": bits}
        parts = []
        for depths, (train, *both) in pooled_features(Frozen(bench, tuned)).items():
            features = f"{name} features, {depths}"
            transforms = {f"random projection of {features}": floors.fit_random_projection(train, bits)}
            if bits <= min(train.shape):
                sources = known.column("source").tolist()
                transforms[f"ITQ on {features}"] = floors.fit_itq(train, bits, sources=sources)
            for method, transform in transforms.items():
                pair = [Representation(codes=transform(f)) for f in both]
                parts.append(measure(bench, *pair, method=method, **facts))
            discriminant = floors.fit_discriminant(train, known.column("label"))
            centre = train.mean(axis=0)
            for method, pair in (
                (f"float {features}", [Representation(features=f - centre) for f in both]),
                (f"{DISCRIMINANT} {features}", [Representation(features=discriminant(f)) for f in both]),
            ):
                parts.append(measure(bench, *pair, method=method, **facts))
        return {"parts": parts}

    return run


def _pictures(bench: Bench) -> Result:
    parts = []
    both = [picture_summaries(d, bench.work / "encodings") for d in (bench.arena.queries, bench.arena.gallery)]
    prints = [Representation(features=floors.fingerprint_features(p.fingerprints)) for p in both]
    hashes = [Representation(codes=floors.hash_codes(p.hashes)) for p in both]
    parts.append(measure(bench, *prints, method="fingerprint 16x16", seed=0))
    parts.append(measure(bench, *hashes, method="perceptual hash", seed=0))
    return {"parts": parts}


def _parts(result: Result) -> list[tuple[int, Result]]:
    return list(enumerate(result.get("parts", [])))


def _of_length(by_method: Mapping[str, list[Result]], bits: int) -> dict[str, list[Result]]:
    """Methods at one length: ours, then trained ones by mAP, then floors; those without a length always."""
    chosen = {n: [r for r in rs if r.get("length") in (None, bits)] for n, rs in by_method.items()}
    found = {n: rs for n, rs in chosen.items() if rs}
    score = {n: sum(r["map_expected"] for r in rs) / len(rs) for n, rs in found.items()}
    return {n: found[n] for n in sorted(found, key=lambda n: (not n.startswith("ours"), -score[n]))}


def _lines(bench: Bench, by_method: Mapping[str, list[Result]]) -> dict[str, list[tuple[float, float, float, float]]]:
    from medlike_research.studies.measured import average

    lines = {}
    for name in (*TRAINED, HMAR, "ITQ on the features of ours", "ITQ on tuned stem features, last block"):
        points = []
        for bits in sorted({r["length"] for r in by_method.get(name, [])}):
            found = [r for r in by_method[name] if r["length"] == bits]
            interval = bootstrap_interval(average(found, "ap"), bench.arena.units)
            points.append((float(bits), interval.mean, interval.low, interval.high))
        if points:
            lines[name] = points
    return lines


def _verdict(best: str, rows: list[Any]) -> str:
    """By how much ours beats the best rival of each kind, in one sentence. rows: of `comparison_table`."""
    pooled = [r for r in rows if r[1] == "pooled"]
    codes = [r for r in pooled if r[0] in TRAINED or r[0].startswith("ITQ")]
    from_ours = [r for r in codes if r[0].endswith((" after our feature phase", " of ours"))]
    told = [
        f"{_gain(rival):+.1f} % (relative) against the best {kind}, {rival[0]} (p = {rival[6]:.4f} after Holm)"
        for kind, group in (
            ("code that owes nothing to ours", [r for r in codes if r not in from_ours]),
            ("floor in floats", [r for r in pooled if r[0].startswith(DISCRIMINANT)]),
            ("code made from the features that ours trained first", from_ours),
        )
        for rival in sorted(group, key=lambda r: -r[2])[:1]
    ]
    if not best.startswith("ours") or not told:
        return "the comparison needs cells of ours and of a rival."
    return f"ours is {', and '.join(told)}."


def _gain(row: Any) -> float:
    """By how many percent ours is above a rival, from the row that says what the rival is above ours."""
    lost = -float(row[4].rstrip(" %"))
    return 100 * lost / (100 - lost)


def _slug(name: str) -> str:
    """A file name: `ours`, `acir-sch-corrected`, `csq-after-our-feature-phase`."""
    short = name.split(" (")[0] if name.startswith("ours") else name
    return "-".join("".join(c if c.isalnum() else " " for c in short.lower()).split())


STUDY = Study("methods", QUESTION, cells, summarise)
