"""Study `robustness`: what small changes and attacks do to codes, to the first ten hits, and to the outlier verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from medlike.codes.hamming import distances
from medlike.datasets import Dataset, open_sample
from medlike.evaluation import plots
from medlike.inference import Encoder, Encodings
from medlike.metrics import bootstrap_interval
from medlike_research.studies.bench import Bench
from medlike_research.studies.perturbations import CHANGES
from medlike_research.studies.study import Cell, Result, Study, Summary

QUESTION = (
    "How much of a code, of the first ten hits and of the outlier verdict survives what happens to images on "
    "their way, and what an attacker who knows network and detector can do?"
)
SAMPLES = 96
EPSILONS = (1, 2, 4, 8)
STEPS = {"FGSM": 1, "PGD": 10}
GOALS = ("code", "code-and-detector")


def cells(bench: Bench) -> list[Cell]:
    """One cell a change, one an attack and strength; attacks against the code, with the detector, and local codes."""
    found = [Cell(f"change-{_slug(name)}", _changed(bench, name), 25) for name in CHANGES]
    for attack in STEPS:
        for goal in (*GOALS, "cells") if bench.bundle.spec.get("local_bits") else GOALS:
            for epsilon in EPSILONS:
                run = _attacked(bench, attack, goal, epsilon)
                found.append(Cell(f"{attack.lower()}-{goal}-{epsilon}", run, 40 * STEPS[attack] / 4 + 20, attack))
    return found


def summarise(bench: Bench, done: Mapping[str, Result]) -> Summary:
    """A row a level; curves of the attacks."""
    head: tuple[str, ...] = (
        "change", "level", "bits flipped", "95 %", "of the first ten hits kept", "95 %", "flagged as outliers",
    )  # fmt: skip
    local = any("cells_flipped" in level for result in done.values() for level in result["levels"])
    head += ("local bits flipped", "95 %") if local else ()
    rows: list[Any] = []
    attacks: list[Any] = []
    modalities: set[str] = set()
    for result in done.values():
        for level in result["levels"]:
            flipped, kept = (_span(level.get("intervals", {}).get(key)) for key in ("flipped", "kept"))
            row = [result["name"], level["level"], level["flipped"], flipped, level["kept"], kept, level["flagged"]]
            if local:
                row += [level.get("cells_flipped"), _span(level.get("intervals", {}).get("cells_flipped"))]
            (attacks if result.get("attack") else rows).append(row)
            modalities |= set(level["by_modality"])
    tables: list[Any] = []
    if rows:
        tables.append(("Changes on the way", head, rows))
    if attacks:
        tables.append(("Attacks, epsilon in grey values of 255", head, attacks))
    for key, what in (("kept", "Of the first ten hits kept"), ("flipped", "Bits flipped"), ("flagged", "Flagged")):
        per = [
            [
                f"{result['name']} {level['level']}",
                *(level["by_modality"].get(m, {}).get(key) for m in sorted(modalities)),
            ]
            for result in done.values()
            for level in result["levels"]
        ]
        tables.append((f"{what}, by modality", ("change", *sorted(modalities)), per))
    images = next((r["images"] for r in done.values() if "images" in r), min(SAMPLES, len(bench.arena.queries)))
    notes = [
        f"{images} query images of the headline labels, spread over modalities; bundle {bench.bundle.name}. "
        f"Unchanged, {_baseline(done):.1%} of them are flagged. A shared hit counts in expectation over random order "
        "of ties. The pixels that are attacked are the letterboxed grey picture."
    ]
    return Summary(tables, _curves(done), notes)


def _curves(done: Mapping[str, Result]) -> list[tuple[str, str]]:
    """What is left of the first ten hits by level of a change, and what attacks do by strength."""
    changes: dict[str, list[tuple[float, float, float, float]]] = {}
    attacks: dict[str, dict[str, list[tuple[float, float, float, float]]]] = {"flipped": {}, "kept": {}}
    for result in done.values():
        for place, level in enumerate(result["levels"]):
            for key in ("flipped", "kept") if result.get("attack") else ("kept",):
                low, high = level.get("intervals", {}).get(key) or [level[key]] * 2
                if result.get("attack"):
                    line = attacks[key].setdefault(result["name"], [])
                    line.append((float(level["level"]), level[key], low, high))
                elif len(result["levels"]) > 1:
                    changes.setdefault(result["name"], []).append((place + 1.0, level[key], low, high))
    made = []
    if changes:
        words, names = "level (what it is stands in the table)", ("mild", "medium", "strong")
        plot = plots.lines(changes, words, "share of the first ten hits", ticks=(1, 2, 3), names=names)
        made.append(("Hits kept under changes on the way", plot))
    for key, title, words in (
        ("kept", "Hits kept under attack", "share of the first ten hits"),
        ("flipped", "Bits flipped by attacks", "share of bits"),
    ):
        if attacks[key]:
            made.append((title, plots.lines(attacks[key], "epsilon, grey values of 255", words, ticks=EPSILONS)))
    return made


def _span(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _changed(bench: Bench, name: str) -> Callable[[], Result]:
    def run() -> Result:
        from medlike.imaging import letterbox, render

        chosen = _chosen(bench)
        greys = [render(open_sample(s)) for s in chosen]
        with Encoder(bench.bundle) as encoder:
            clean = encoder.encode([letterbox(g)[0] for g in greys])
            levels = []
            for level, change in CHANGES[name].items():
                changed = encoder.encode([letterbox(change(g))[0] for g in greys])
                levels.append({"level": level, **_compare(bench, chosen, clean, changed)})
        return {"name": name, "levels": levels, "clean_flagged": _flagged(clean), "images": len(chosen)}

    return run


def _attacked(bench: Bench, attack: str, goal: str, epsilon: int) -> Callable[[], Result]:
    def run() -> Result:
        from medlike.datasets import prepare_samples
        from medlike_research.studies.attacks import attacked

        chosen = _chosen(bench)
        pixels = np.stack([p.pixels for p in prepare_samples(chosen)])
        changed = attacked(bench.bundle, pixels, epsilon, STEPS[attack], goal)
        with Encoder(bench.bundle) as encoder:
            clean, after = encoder.encode(list(pixels)), encoder.encode(list(changed))
        name = f"{attack} against {goal.replace('-', ' ')}"
        level = {"level": str(epsilon), **_compare(bench, chosen, clean, after)}
        flagged = _flagged(clean)
        return {"name": name, "attack": True, "levels": [level], "clean_flagged": flagged, "images": len(chosen)}

    return run


def _compare(bench: Bench, chosen: Dataset, clean: Encodings, changed: Encodings) -> dict[str, Any]:
    """Shares over all images and by modality: bits flipped, first ten hits kept, images flagged."""
    flips = np.unpackbits(clean.code ^ changed.code, axis=1).mean(axis=1)
    gallery = bench.encode(bench.arena.gallery).code
    kept = np.array([_overlap(gallery, a, b) for a, b in zip(clean.code, changed.code, strict=True)])
    flagged = np.full(len(flips), np.nan) if changed.outlier is None else changed.outlier.is_outlier.astype(float)
    figures: dict[str, Any] = {
        "flipped": float(flips.mean()), "kept": float(kept.mean()), "flagged": float(flagged.mean()),
    }  # fmt: skip
    units = bench.split.units(chosen)
    by_image = {"flipped": flips, "kept": kept}
    if clean.cells is not None and changed.cells is not None:
        turned = np.unpackbits((clean.cells ^ changed.cells).view(np.uint8).reshape(len(flips), -1), axis=1)
        by_image["cells_flipped"] = turned.mean(axis=1)
        figures["cells_flipped"] = float(by_image["cells_flipped"].mean())
    spans = {key: bootstrap_interval(values, units) for key, values in by_image.items()}
    figures["intervals"] = {key: [span.low, span.high] for key, span in spans.items()}
    modality = chosen.column("modality")
    return {
        **figures,
        "by_modality": {
            str(m): {
                "images": int((modality == m).sum()),
                "flipped": float(flips[modality == m].mean()),
                "kept": float(kept[modality == m].mean()),
                "flagged": float(flagged[modality == m].mean()),
            }
            for m in np.unique(modality)
        },
    }


def _overlap(gallery: np.ndarray, a: np.ndarray, b: np.ndarray, count: int = 10) -> float:
    """Share of the first ten hits that two codes have in common, in expectation over random order of ties."""
    if np.array_equal(a, b):
        return 1.0
    first, second = _chances(gallery, a, count), _chances(gallery, b, count)
    return float((first * second).sum() / first.sum())


def _chances(gallery: np.ndarray, code: np.ndarray, count: int) -> np.ndarray:
    _, group, size = np.unique(distances(gallery, code), return_inverse=True, return_counts=True)
    before = np.cumsum(size) - size
    chances: np.ndarray = (np.clip(count - before, 0, size) / size)[group]
    return chances


def _chosen(bench: Bench) -> Dataset:
    """Query images, modalities in turn, so that rare ones count."""
    queries = bench.arena.queries
    modality = queries.column("modality")
    place = np.zeros(len(queries), np.int64)
    for name in np.unique(modality):
        place[modality == name] = np.arange((modality == name).sum())
    rows = np.argsort(place, kind="stable")[:SAMPLES]
    return Dataset("robustness", tuple(queries[int(r)] for r in np.sort(rows)))


def _flagged(encodings: Encodings) -> float:
    return float("nan") if encodings.outlier is None else float(encodings.outlier.is_outlier.mean())


def _baseline(done: Mapping[str, Result]) -> float:
    values: Sequence[float] = [r["clean_flagged"] for r in done.values() if r["clean_flagged"] is not None]
    return float(values[0]) if values else float("nan")


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-")


STUDY = Study("robustness", QUESTION, cells, summarise, of_bundle=True, trains=False)
