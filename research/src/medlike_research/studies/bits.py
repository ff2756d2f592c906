"""Study `bits`: what a longer code buys, in accuracy, memory and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from medlike.codes.hamming import nearest
from medlike.evaluation import floors, plots
from medlike.evaluation.representation import Representation
from medlike.metrics import bootstrap_interval
from medlike_research.studies.bench import Bench
from medlike_research.studies.frozen import Frozen, facts_of, train_cell
from medlike_research.studies.measured import average, comparison_table, grouped, measure, method_table
from medlike_research.studies.study import Cell, Result, Study, Summary

QUESTION = "How many bits are needed, and is hashing still needed at all beside the float vectors it is made from?"
LENGTHS = (8, 16, 32, 64, 128, 256, 512)
ARCHIVE = 200_000
TRAINED = "trained codes"


def cells(bench: Bench) -> list[Cell]:
    """Rotations of the bundle's features at each length, three widths of floats; trained codes with --stem."""
    found = [Cell(f"float-{kind}", _floats(bench, kind), 30) for kind in ("float32", "float16", "int8")]
    for bits in LENGTHS:
        if bits <= min(bench.bundle.content_dim, len(bench.part("train"))):
            found.append(Cell(f"itq-{bits}", _rotated(bench, "ITQ", bits), 30))
        found.append(Cell(f"projection-{bits}", _rotated(bench, "random projection", bits), 30))
    if bench.settings.stem:
        for bits in LENGTHS:
            for seed in bench.settings.seeds:
                run = _trained(bench, bits, seed)
                found.append(Cell(f"trained-{bits}-{seed}", run, 240, "trained", of_bundle=False))
    return found


def summarise(bench: Bench, done: Mapping[str, Result]) -> Summary:
    """A row a length with memory and search time, and mAP against bytes."""
    found = grouped(done)
    families = list(dict.fromkeys(results[0]["family"] for results in found.values()))
    methods = dict(sorted(found.items(), key=lambda m: (families.index(m[1][0]["family"]), m[1][0]["bytes_per_image"])))
    title, head, rows = method_table(bench, methods)
    compared = []
    # Of two networks, so each is compared with its own.
    for baseline, trained in (("the bundle's features as float32", False), ("trained, 64 bits", True)):
        alike = {n: r for n, r in methods.items() if (r[0]["family"] == TRAINED) == trained}
        if baseline in alike and len(alike) > 1:
            compared.append(comparison_table(bench, alike, baseline))
    speed = [
        [name, r[0]["bytes_per_image"], r[0]["bytes_per_image"] * ARCHIVE / 1e6, r[0]["search_ms"]]
        for name, r in methods.items()
        if r[0].get("search_ms") is not None
    ]
    tables = [
        (title, head, rows),
        *compared,
        (f"Memory and search time at {ARCHIVE:,} images", ("method", "bytes an image", "MB", "ms a query"), speed),
    ]
    lines: dict[str, list[tuple[float, float, float, float]]] = {}
    for results in methods.values():
        first = results[0]
        interval = bootstrap_interval(average(results, "ap"), bench.arena.units)
        point = (float(first["bytes_per_image"]), interval.mean, interval.low, interval.high)
        lines.setdefault(first["family"], []).append(point)
    ticks = plots.apart(sorted({x for points in lines.values() for x, *_ in points}))
    plot = plots.lines(lines, "bytes an image", "mAP", log=True, ticks=ticks)
    note = (
        "Rows of the bundle's features and trained rows are of two networks: trained codes start from the stem that "
        "`methods` tunes on these collections alone, the bundle was trained on more. Compare lengths within a family; "
        "what a rotation makes of the features under the trained codes stands in `methods`."
    )
    return Summary(tables, [("mAP against memory", plot)], [note])


def _features(bench: Bench) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found = []
    for data in (bench.part("train"), bench.arena.queries, bench.arena.gallery):
        content = bench.encode(data).content.astype(np.float32)
        found.append(content / np.maximum(np.linalg.norm(content, axis=1, keepdims=True), 1e-12))
    return found[0], found[1], found[2]


def _rotated(bench: Bench, family: str, bits: int) -> Callable[[], Result]:
    def run() -> Result:
        train, *both = _features(bench)
        if family == "ITQ":
            transform = floors.fit_itq(train, bits, sources=bench.part("train").column("source").tolist())
        else:
            transform = floors.fit_random_projection(train, bits)
        pair = [Representation(codes=transform(f)) for f in both]
        facts: dict[str, Any] = {
            "method": f"{family} of the bundle's features, {bits} bits",
            "family": f"{family} of the bundle's features",
            "seed": 0,
        }
        return measure(bench, *pair, **facts, search_ms=_code_search(bits))

    return run


def _floats(bench: Bench, kind: str) -> Callable[[], Result]:
    def run() -> Result:
        _, *both = _features(bench)
        if kind == "int8":
            both = [np.round(127 * f / np.abs(f).max(axis=1, keepdims=True)).astype(np.int8) for f in both]
        stored = [f.astype(kind) for f in both]
        pair = [Representation(features=f) for f in stored]
        family = "float and integer features"
        facts: dict[str, Any] = {"method": f"the bundle's features as {kind}", "family": family, "seed": 0}
        return measure(bench, *pair, **facts, stored=kind, search_ms=_vector_search(stored[0].shape[1], kind))

    return run


def _trained(bench: Bench, bits: int, seed: int) -> Callable[[], Result]:
    def run() -> Result:
        outputs = train_cell(Frozen(bench), "sch", bits, seed)
        facts = facts_of(outputs, f"trained, {bits} bits", seed)
        return measure(bench, *outputs.codes(), **facts, family=TRAINED, search_ms=_code_search(bits))

    return run


def _code_search(bits: int, count: int = ARCHIVE) -> float:
    """Median milliseconds of a search for the 100 nearest among random codes."""
    codes = np.random.default_rng(0).integers(0, 256, (count, bits // 8), dtype=np.uint8)
    return _median(lambda n: nearest(codes, codes[n], 100))


def _vector_search(width: int, kind: str, count: int = ARCHIVE) -> float:
    """Median milliseconds of a scan of vectors, in float32 as numpy does it fastest."""
    vectors = np.random.default_rng(0).standard_normal((count, width), dtype=np.float32)
    if kind == "float16":
        vectors = vectors.astype(np.float16)
    elif kind == "int8":
        vectors = np.clip(vectors * 40, -127, 127).astype(np.int8)

    def scan(n: int) -> None:
        scores = np.empty(count, np.float32)
        query = vectors[n].astype(np.float32)
        for start in range(0, count, 20_000):
            scores[start : start + 20_000] = vectors[start : start + 20_000].astype(np.float32, copy=False) @ query
        np.argpartition(-scores, 100)[:100]

    return _median(scan)


def _median(search: Callable[[int], object], repeats: int = 9) -> float:
    search(0)
    taken = []
    for n in range(repeats):
        begun = time.perf_counter()
        search(n)
        taken.append(1000 * (time.perf_counter() - begun))
    return float(np.median(taken))


STUDY = Study("bits", QUESTION, cells, summarise, of_bundle=True)
