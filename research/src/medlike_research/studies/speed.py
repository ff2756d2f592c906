"""Study `speed`: how long encoding and searching take, and what they grow with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from medlike.codes.hamming import nearest, nearest_many
from medlike.datasets import prepare_samples
from medlike.evaluation import plots
from medlike.inference import Encoder
from medlike_research.studies.bench import Bench
from medlike_research.studies.study import Cell, Result, Study, Summary

QUESTION = "How long does an image take to encode, and a query to answer, as archives grow?"
SIZES = (10_000, 100_000, 1_000_000)
WIDTHS = (64, 128)


def cells(bench: Bench) -> list[Cell]:
    """Encoding by number of threads, searching by size and width."""
    found = [Cell(f"encode-{threads}", _encode(bench, threads), 15) for threads in (1, 2)]
    return found + [Cell(f"search-{bits}-{size}", _search(bits, size), 10) for bits in WIDTHS for size in SIZES]


def summarise(bench: Bench, done: Mapping[str, Result]) -> Summary:
    """Two tables of times."""
    encoded = [r["row"] for n, r in done.items() if n.startswith("encode")]
    searched = [r["row"] for n, r in done.items() if n.startswith("search")]
    tables: list[Any] = []
    if encoded:
        tables.append(("Encoding", ("threads", "ms an image", "images a second"), encoded))
    if searched:
        head = ("bits", "images", "ms a query, median", "ms, slowest of ten", "queries a second, 32 at once")
        tables.append(("Search for the 100 nearest, exact", head, searched))
    lines: dict[str, list[tuple[float, float, float, float]]] = {}
    for bits, size, median, slowest, _ in searched:
        lines.setdefault(f"{bits} bits", []).append((float(size), median, median, slowest))
    words = "ms a query, median; band up to the slowest of ten"
    names = [f"{size:,}" for size in SIZES]
    plot = plots.lines(lines, "images", words, log=True, ticks=SIZES, names=names) if lines else None
    note = f"Bundle {bench.bundle.name}. Preparing a picture (decode, window, scale) is not counted. Codes are random."
    return Summary(tables, [("Search by size", plot)] if plot else [], [note])


def _encode(bench: Bench, threads: int) -> Callable[[], Result]:
    def run() -> Result:
        pictures = [p for p, _ in zip(prepare_samples(bench.arena.queries), range(48), strict=False)]
        with Encoder(bench.bundle, threads=threads) as encoder:
            encoder.encode(pictures[:4])
            begun = time.perf_counter()
            encoder.encode(pictures)
            spent = time.perf_counter() - begun
        return {"row": [threads, 1000 * spent / len(pictures), len(pictures) / spent]}

    return run


def _search(bits: int, size: int) -> Callable[[], Result]:
    def run() -> Result:
        rng = np.random.default_rng(0)
        codes = rng.integers(0, 256, (size, bits // 8), dtype=np.uint8)
        queries = rng.integers(0, 256, (32, bits // 8), dtype=np.uint8)
        nearest(codes, queries[0], 100)
        taken = []
        for query in queries[:10]:
            begun = time.perf_counter()
            nearest(codes, query, 100)
            taken.append(1000 * (time.perf_counter() - begun))
        nearest_many(codes, queries, 100)
        begun = time.perf_counter()
        nearest_many(codes, queries, 100)
        together = time.perf_counter() - begun
        return {"row": [bits, size, float(np.median(taken)), max(taken), len(queries) / together]}

    return run


STUDY = Study("speed", QUESTION, cells, summarise, of_bundle=True, trains=False)
