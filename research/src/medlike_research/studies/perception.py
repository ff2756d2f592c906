"""Study `perception`: do scores follow how alike two images are, beyond the label?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medlike.codes.hamming import distances
from medlike.datasets import Dataset, Sample, node_path, prepare_samples
from medlike.evaluation import plots
from medlike.evaluation.encodings import picture_summaries
from medlike.evaluation.floors import fingerprint_features, hash_codes
from medlike.metrics import bootstrap_interval, graded_ndcg
from medlike_research.studies.alignment import aligned_similarity
from medlike_research.studies.bench import Bench
from medlike_research.studies.study import Cell, Result, Study, Summary

QUESTION = (
    "Does a score rise with how alike two images are? The graded gain of a pair is its share of the label "
    "tree times its structural similarity after alignment; scores are compared with it by rank."
)
QUERIES = 60
CANDIDATES = 60


def cells(bench: Bench) -> list[Cell]:
    """One cell: gains are computed once for all scores."""
    return [Cell("graded", lambda: _graded(bench), 240)]


def summarise(bench: Bench, done: Mapping[str, Result]) -> Summary:
    """Rank correlation and graded nDCG of each score."""
    head = ("score", "rank correlation", "95 %", "graded nDCG", "95 %")
    rows = [row for result in done.values() for row in result["rows"]]
    first = next(iter(done.values()), {})
    queries, each = first.get("queries", QUERIES), first.get("candidates", CANDIDATES)
    notes = [
        f"{queries} query images, {each} gallery images each, drawn evenly over the ranking of the float "
        "features. Gain = (levels shared from the root of the tree) / (levels of the query) x structural "
        "similarity (Wang et al. 2004) after the best of eight orientations and a shift. Rank correlation "
        "(Spearman) is 1 where a score puts the candidates of a query in the order of their gains, 0 where it is "
        "chance; graded nDCG is 1 where those of highest gain come first, and weighs the first places most."
    ]
    series: dict[str, dict[str, tuple[float, float, float]]] = {"rank correlation": {}, "graded nDCG": {}}
    for name, *values in rows:
        for place, key in enumerate(series):
            low, high = (float(text) for text in values[2 * place + 1].split(" to "))
            series[key][name] = (values[2 * place], low, high)
    names = [row[0] for row in rows]
    drawn = [("Agreement with the graded gain", plots.bars(series, names, "agreement (1 is perfect)"))] if rows else []
    return Summary([("Scores against the graded gain", head, rows)], drawn, notes)


def _graded(bench: Bench) -> Result:
    queries = _some(bench.arena.queries, QUERIES)
    gallery = bench.arena.gallery
    asked, found = bench.encode(queries), bench.encode(gallery)
    a, b = (_unit(e.content.astype(np.float32)) for e in (asked, found))
    shown = [picture_summaries(d, bench.work / "encodings") for d in (queries, gallery)]
    prints = [_unit(fingerprint_features(p.fingerprints)) for p in shown]
    hashes = [hash_codes(p.hashes) for p in shown]
    pixels = [np.stack([p.pixels[::2, ::2] for p in prepare_samples(d)]) for d in (queries, gallery)]
    units = bench.split.units(queries)
    scores: dict[str, list[tuple[float, float]]] = {}
    for q in range(len(queries)):
        similarity = a[q] @ b.T
        order = np.argsort(-similarity)
        rows = order[np.unique(np.linspace(0, len(order) - 1, CANDIDATES).astype(int))]
        levels = len(node_path(queries[q]))
        depth = np.array([shared_depth(queries[q], gallery[int(g)]) for g in rows]) / max(levels, 1)
        alike = np.array(
            [
                aligned_similarity(pixels[0][q], pixels[1][int(g)]) if d else 0.0
                for g, d in zip(rows, depth, strict=True)
            ]
        )
        gain = depth * np.clip(alike, 0, 1)
        for name, score in (
            (
                f"Hamming distance, {8 * asked.code.shape[1]} bits",
                -distances(found.code[rows], asked.code[q]).astype(float),
            ),
            ("content similarity", similarity[rows]),
            ("fingerprint correlation", prints[0][q] @ prints[1][rows].T),
            ("perceptual hash", -distances(hashes[1][rows], hashes[0][q]).astype(float)),
        ):
            scores.setdefault(name, []).append((_rank_correlation(score, gain), _ndcg(score, gain)))
    table = []
    for name, values in scores.items():
        correlation, ndcg = (bootstrap_interval(np.array([v[n] for v in values]), units) for n in (0, 1))
        table.append([
            name, correlation.mean, f"{correlation.low:.3f} to {correlation.high:.3f}",
            ndcg.mean, f"{ndcg.low:.3f} to {ndcg.high:.3f}",
        ])  # fmt: skip
    return {"rows": table, "queries": len(queries), "candidates": min(CANDIDATES, len(gallery))}


def _rank_correlation(score: np.ndarray, gain: np.ndarray) -> float:
    """Spearman's, ties averaged; NaN where one of the two does not vary."""
    from scipy.stats import rankdata

    x, y = rankdata(score), rankdata(gain)
    if x.std() == 0 or y.std() == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _ndcg(score: np.ndarray, gain: np.ndarray) -> float:
    """Graded nDCG of one ranking, ties in expectation."""
    _, group = np.unique(-score, return_inverse=True)
    items = np.bincount(group)[None]
    gains = np.bincount(group, weights=gain)[None]
    return float(graded_ndcg(items, gains, gain[None])[0])


def _some(data: Dataset, count: int) -> Dataset:
    rows = np.unique(np.linspace(0, len(data) - 1, min(count, len(data))).astype(int))
    return Dataset("perception", tuple(data[int(r)] for r in rows))


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def shared_depth(a: Sample, b: Sample) -> int:
    """Return how many levels of the label tree two samples share from the root; 0 without a common modality."""
    depth = 0
    for x, y in zip(node_path(a), node_path(b), strict=False):
        if x != y:
            break
        depth += 1
    return depth


STUDY = Study("perception", QUESTION, cells, summarise, of_bundle=True, trains=False)
