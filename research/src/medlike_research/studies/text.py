"""Study `text`: do short codes bring images and texts together, against rivals, and what is each part worth?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medlike.evaluation import plots
from medlike.metrics import bootstrap_interval, holm, paired_permutation
from medlike.training.pair_quality import DIRECTIONS
from medlike_research.studies import text_methods as methods
from medlike_research.studies.bench import Bench
from medlike_research.studies.study import Cell, Result, Study, Summary
from medlike_research.studies.text_methods import (
    ABLATIONS,
    FLOAT,
    ITQ,
    OURS,
    PERMUTED,
    PLAIN,
    REPEATS,
    Material,
)

QUESTION = (
    "Do short codes bring images and texts together: better than other codes of the same length, and how close to the "
    "model's own float vector? Figures are a re-implementation of MCMFH, not the authors' system."
)
MAIN_BITS = 16
SHUFFLED = "mcmfh on shuffled pairs"
SINGLE = tuple(f"single, {direction}" for direction in DIRECTIONS)
PAIRED = tuple(f"paired, {direction}" for direction in DIRECTIONS)
HEAD = (
    "method", "bits", "seeds", "text to image", "95 %", "image to text", "95 %", "mean", "full list", "within source",
)  # fmt: skip


def cells(bench: Bench) -> list[Cell]:
    """Ours and rivals at each length with each seed, 16 bits first; ablations at 16 bits; words; chance."""
    material = Material(bench)
    lengths = sorted(bench.settings.bits, key=lambda bits: (bits != MAIN_BITS, bits))
    found = [Cell("chance", lambda: methods.chance(material), 60, "floor")]
    for bits in lengths:
        for seed in bench.settings.seeds:
            found.append(Cell(f"{OURS}-{bits}-{seed}", _trained(material, OURS, bits, seed), 30, "trained"))
            plain = _trained(material, PLAIN, bits, seed, recipe=methods.PLAIN_CHANGES, plain=True)
            found.append(Cell(f"plain-{bits}-{seed}", plain, 30, "trained"))
            found.append(Cell(f"itq-{bits}-{seed}", _rotated(material, bits, seed), 15, "linear"))
    for seed in bench.settings.seeds:
        for name, (network, recipe) in ABLATIONS.items():
            cell = f"without-{_slug(name)}-{seed}"
            run = _trained(material, name, MAIN_BITS, seed, network=network, recipe=recipe)
            found.append(Cell(cell, run, 30, "trained"))
        shuffled = _trained(material, SHUFFLED, MAIN_BITS, seed, shuffled=True)
        found.append(Cell(f"shuffled-{seed}", shuffled, 30, "trained"))
        found.append(Cell(f"words-{seed}", _words(material, seed), 30, "trained"))
    return found


def summarise(bench: Bench, done: Mapping[str, Result]) -> Summary:
    """Tables at each length, share of the own float vector, comparison, ablation, paired, text to text."""
    by_method = _grouped(done)
    tables: list[Any] = []
    lengths = sorted({length for _, length in by_method if length}, key=lambda bits: (bits != MAIN_BITS, bits))
    nulls = (SHUFFLED, f"{SHUFFLED}, {PERMUTED}", f"{OURS}, {PERMUTED}")
    names = (OURS, PLAIN, ITQ, f"{OURS}, {FLOAT}", "canonical correlation, float", *nulls)
    for bits in lengths:
        rows = [_row(name, by_method[name, bits], SINGLE) for name in names if (name, bits) in by_method]
        if ("chance", None) in by_method:
            rows.append(_row("chance", by_method["chance", None], SINGLE))
        tables.append((f"mAP@50, one side seen, {bits} bits", HEAD, rows))
    if lengths:
        tables.append(_shares(by_method, lengths))
    if (OURS, MAIN_BITS) in by_method:
        tables.append(_comparison(by_method))
        named = [name for name in (OURS, *ABLATIONS) if (name, MAIN_BITS) in by_method]
        ablation = [_row(name, by_method[name, MAIN_BITS], SINGLE) for name in named]
        tables.append((f"What each part is worth, {MAIN_BITS} bits", HEAD, ablation))
    paired = [
        _row(name, by_method[name, bits], PAIRED)
        for bits in lengths
        for name in (OURS, PLAIN, ITQ, f"{OURS}, {FLOAT}")
        if (name, bits) in by_method
    ]
    tables.append(("mAP@50, the query's other half seen too (paired)", HEAD, paired))
    texts = [result for name, result in done.items() if name.startswith("words-")]
    if texts:
        tables.append(_texts(texts))
    lines = _lines(by_method, lengths)
    ticks = [float(bits) for bits in sorted(lengths)]
    drawn = [("mAP@50 against bits", plots.lines(lines, "bits", "mAP@50", log=True, ticks=ticks))] if lines else []
    return Summary(tables, drawn, [*_verdicts(by_method), *NOTES])


NOTES = (
    "Relevant is what carries the same label; queries and gallery are the parts of those names, headline labels only, "
    "and nothing was chosen on them. `full list` is the mean of both directions over the full list, ties in "
    "expectation.",
    "Traps. The captions of one source are case histories of chest radiographs and those of the other describe what a "
    "scan shows, so their wording gives the source away, and the label with it: `within source` is the mean of both "
    "directions among queries and gallery of the one source with several labels. Captions often name modality and "
    "region (CT, MRI, chest), which is what most labels here are made of. Placeholders were dropped before anything "
    "else.",
    f"Nulls. `chance` is random order. `{PERMUTED}` answers each query with the ranking of another, {REPEATS} random "
    "assignments each: a network that learned nothing of pairs still ranks the gallery, some kinds first whatever is "
    "asked, and comes to that and not to random order.",
    "All methods see the same embeddings and the same training pairs, whose terms allow training; epochs and penalties "
    "are chosen on the validation part. The canonical correlation under ITQ is the strongest of four penalties; the "
    "plain MLP hash has our loss.",
)


def _trained(material: Material, name: str, bits: int, seed: int, **changes: Any) -> methods.Run:
    return lambda: methods.trained(material, name, bits, seed, **changes)


def _rotated(material: Material, bits: int, seed: int) -> methods.Run:
    return lambda: methods.rotated(material, bits, seed)


def _words(material: Material, seed: int) -> methods.Run:
    return lambda: methods.words(material, MAIN_BITS, seed)


def _grouped(done: Mapping[str, Result]) -> dict[tuple[str, int | None], list[Result]]:
    """Parts of finished cells by method and length, seeds in order."""
    found: dict[tuple[str, int | None], list[Result]] = {}
    for result in done.values():
        for part in result.get("parts", []):
            found.setdefault((part["method"], part["length"]), []).append(part)
    return found


def _mean(parts: Sequence[Result], what: str, key: str = "at") -> np.ndarray:
    """Per-query values averaged over seeds: float64 [Q]."""
    return np.mean([np.array(part[what][key], np.float64) for part in parts], axis=0)


def _row(name: str, parts: Sequence[Result], views: Sequence[str]) -> list[Any]:
    row: list[Any] = [name, parts[0]["bits"] or "", len(parts)]
    means = []
    for view in views:
        found = bootstrap_interval(_mean(parts, view), np.array(parts[0][view]["units"]))
        row += [found.mean, f"{found.low:.3f} to {found.high:.3f}"]
        means.append(found.mean)
    row.append(float(np.mean(means)))
    row.append(float(np.mean([np.nanmean(_mean(parts, view, "full")) for view in views])))
    within = [part["within"][view] for part in parts for view in views if view in part["within"]]
    row.append(float(np.mean(within)) if within else None)
    return row


def _share(by_method: Mapping[Any, list[Result]], bits: int, view: str) -> float | None:
    codes, floats = by_method.get((OURS, bits)), by_method.get((f"{OURS}, {FLOAT}", bits))
    if not codes or not floats:
        return None
    return float(np.nanmean(_mean(codes, view)) / np.nanmean(_mean(floats, view)))


def _shares(
    by_method: Mapping[Any, list[Result]], lengths: Sequence[int]
) -> tuple[str, Sequence[str], list[list[Any]]]:
    rows: list[list[Any]] = []
    for bits in sorted(lengths):
        shares = [_share(by_method, bits, view) for view in (*SINGLE, *PAIRED)]
        rows.append([str(bits), *(None if share is None else f"{share:.1%}" for share in shares)])
    return "Codes against the model's own float vector, share of its mAP@50", ("bits", *SINGLE, *PAIRED), rows


def _comparison(by_method: Mapping[Any, list[Result]]) -> tuple[str, Sequence[str], list[list[Any]]]:
    """Ours against each rival code and each ablation: paired by query, tested by unit, Holm over all rows."""
    rows: list[list[Any]] = []
    ours = by_method[OURS, MAIN_BITS]
    for name in (PLAIN, ITQ, f"{OURS}, {FLOAT}", *ABLATIONS):
        if (name, MAIN_BITS) not in by_method:
            continue
        theirs = by_method[name, MAIN_BITS]
        for view in SINGLE:
            units = np.array(ours[0][view]["units"])
            mine, other = _mean(ours, view), _mean(theirs, view)
            gap = bootstrap_interval(mine - other, units)
            p = paired_permutation(mine, other, units)
            rows.append([name, view, gap.mean, f"{gap.low:+.3f} to {gap.high:+.3f}", p])
    for row, adjusted in zip(rows, holm([row[-1] for row in rows]), strict=True):
        row.append(adjusted)
    head = ("ours against", "protocol", "difference in mAP@50", "95 %", "p", "p (Holm)")
    return f"Ours compared, {MAIN_BITS} bits", head, rows


def _texts(cells: Sequence[Result]) -> tuple[str, Sequence[str], list[list[Any]]]:
    rows: list[list[Any]] = []
    for name in cells[0]["texts"]:
        own = [cell["texts"][name] for cell in cells]
        at, full = (np.mean([np.array(v[key], np.float64) for v in own], axis=0) for key in ("at", "full"))
        found = bootstrap_interval(at, np.array(cells[0]["units"]))
        rows.append([name, found.mean, f"{found.low:.3f} to {found.high:.3f}", float(np.nanmean(full))])
    return "Text to text", ("method", "mAP@50", "95 %", "full list"), rows


def _lines(
    by_method: Mapping[Any, list[Result]], lengths: Sequence[int]
) -> dict[str, list[tuple[float, float, float, float]]]:
    lines: dict[str, list[tuple[float, float, float, float]]] = {}
    for name in (OURS, PLAIN, ITQ, f"{OURS}, {FLOAT}"):
        for bits in sorted(lengths):
            if (name, bits) in by_method:
                parts = by_method[name, bits]
                values = np.concatenate([_mean(parts, view) for view in SINGLE])
                units = np.concatenate([np.array(parts[0][view]["units"]) for view in SINGLE])
                found = bootstrap_interval(values, units)
                lines.setdefault(name, []).append((float(bits), found.mean, found.low, found.high))
    return {name: points for name, points in lines.items() if len(points) > 1}


def _verdicts(by_method: Mapping[Any, list[Result]]) -> list[str]:
    """What the target asks, in sentences: above every hashing rival, and close to the own float vector."""
    said = []
    ours = by_method.get((OURS, MAIN_BITS))
    if ours:
        for view in SINGLE:
            mine = float(np.nanmean(_mean(ours, view)))
            rivals = {
                name: float(np.nanmean(_mean(by_method[name, MAIN_BITS], view)))
                for name in (PLAIN, ITQ)
                if (name, MAIN_BITS) in by_method
            }
            share = _share(by_method, MAIN_BITS, view)
            if rivals and share is not None:
                best = max(rivals, key=lambda name: rivals[name])
                word = "above" if mine > rivals[best] else "not above"
                said.append(
                    f"{view}, {MAIN_BITS} bits: mAP@50 {mine:.3f}, {word} the best other code ({best}, "
                    f"{rivals[best]:.3f}), {share:.1%} of the model's own float vector."
                )
    shuffled, null = by_method.get((SHUFFLED, MAIN_BITS)), by_method.get((f"{SHUFFLED}, {PERMUTED}", MAIN_BITS))
    none = by_method.get(("chance", None))
    if shuffled and null and none:
        for view in SINGLE:
            own, other, order = (_mean(parts, view) for parts in (shuffled, null, none))
            gap = bootstrap_interval(own - other, np.array(shuffled[0][view]["units"]))
            said.append(
                f"{view}: trained on shuffled pairs the same network reaches {np.nanmean(own):.3f}, with its queries "
                f"permuted {np.nanmean(other):.3f} (difference {gap.mean:+.3f}, {gap.low:+.3f} to {gap.high:+.3f}); "
                f"chance is {np.nanmean(order):.3f}."
            )
    return said


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower().removeprefix("without ")).split())


STUDY = Study("text", QUESTION, cells, summarise, of_bundle=True)
