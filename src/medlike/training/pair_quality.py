"""How well images and texts find each other: both directions, one side seen or both, codes and float vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from medlike.metrics import Relevance, RetrievalScores, score_codes, score_features
from medlike.training.pairs import Pairs
from medlike.types import F32, U8, JsonObject

CUT = 50
DIRECTIONS = ("text to image", "image to text")
PROTOCOLS = ("single", "paired")

# Pairs and which sides are seen (image, text) -> float vectors [N, W] and packed codes [N, K/8].
Cross = Callable[[Pairs, bool, bool], tuple[F32, U8]]


@dataclass(frozen=True)
class Found:
    """One retrieval: scores of codes and of float vectors per query, and the queries."""

    codes: RetrievalScores
    floats: RetrievalScores
    queries: Pairs


def measure_pairs(cross: Cross, query: Pairs, gallery: Pairs, cut: int = CUT) -> dict[tuple[str, str], Found]:
    """Measure retrieval by protocol and direction. Relevant: the same label.

    `single`: a query is an image or a text alone. `paired`: the other half of its own pair is seen too, which only
    earlier papers' figures should be compared with. What is retrieved is always seen alone. Texts count once for
    each label that they stand beside.
    """
    measured = {}
    for protocol in PROTOCOLS:
        for direction in DIRECTIONS:
            asks_text = direction == DIRECTIONS[0]
            queries = query.texts() if asks_text else query
            items = gallery if asks_text else gallery.texts()
            both = protocol == "paired"
            a = cross(queries, both or not asks_text, both or asks_text)
            b = cross(items, asks_text, not asks_text)
            relevance = Relevance.of(queries.samples.column("label"), items.samples.column("label"))
            measured[protocol, direction] = Found(
                score_codes(a[1], b[1], relevance, cut), score_features(a[0], b[0], relevance, cut), queries
            )
    return measured


def pair_figures(measured: Mapping[tuple[str, str], Found], query: Pairs, gallery: Pairs, how: str) -> JsonObject:
    """Return the measured quality of a text bundle as it goes into its specification."""
    figures: JsonObject = {
        "query": len(query),
        "gallery": len(gallery),
        "query_texts": len(query.texts()),
        "gallery_texts": len(gallery.texts()),
        "labels": len(set(query.samples.column("label"))),
        "cut": CUT,
        "how": how,
    }
    for (protocol, direction), scores in measured.items():
        figures.setdefault(protocol, {})[direction] = {
            f"{name}_{what}": round(part.mean(name), 4)
            for what, part in (("codes", scores.codes), ("float", scores.floats))
            for name in ("map_at_k", "map_expected")
        }
    return figures
