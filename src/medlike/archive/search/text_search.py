"""Searching in words: the rankings of a query that holds words, and what its hits are told beside."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.bm25 import Marked, Words, telling
from medlike.archive.index.candidates import Candidates, Field
from medlike.archive.index.index import Part, View
from medlike.archive.search.fusion import FusedRanking, image_rows
from medlike.archive.search.ranking import rank
from medlike.archive.search.result import Hit
from medlike.archive.search.text_query import TextQuery
from medlike.archive.storage.store import Store

if TYPE_CHECKING:
    from medlike.archive.session import Session


class Ranking(Protocol):
    """An order of images: by whole code, by region, or fused."""

    fields: Sequence[Field]

    def first(self, k: int) -> Candidates:
        """Return the first k images."""
        ...

    def members(self, positions: Sequence[NDArray[np.int64]]) -> Candidates:
        """Return the images at given positions of each field, in the order."""
        ...


@dataclass(frozen=True)
class TextViews:
    """What a query in words is asked of, as of one generation: the texts, and the pictures by cross-modal code."""

    texts: View | None
    pictures: View | None

    @classmethod
    def of(cls, session: "Session", generation: int) -> "TextViews":
        """The views of an archive; None for what it has not."""
        indexes = session.indexes
        return cls(
            indexes.texts.view(generation) if indexes.has_texts() else None,
            indexes.pictures.view(generation) if indexes.pictures is not None else None,
        )


def rankings(
    session: "Session",
    views: TextViews,
    text: TextQuery,
    image: Ranking | None,
    weights: Mapping[str, float],
    depth: int,
    narrowed: Callable[[Part], Field],
) -> dict[str, NDArray[np.int64]]:
    """Name -> rows of the store's images in order, the first `depth`, of each ranking that has a weight.

    image: the order by the query's own image, None where it has none. narrowed: a part's rows that may be answered.
    """
    found: dict[str, NDArray[np.int64]] = {}
    if views.texts is not None and (weights["words"] or weights["texts"]):
        fields = [narrowed(part) for part in views.texts.parts]
        if weights["words"] and text.terms:
            words = session.indexes.words
            found["words"] = _images(fields, lambda k: words.best(fields, text.terms, k), depth)
        if weights["texts"] and text.code is not None:
            coded = [_coded(field) for field in fields]
            found["texts"] = _images(coded, lambda k: _near(coded, text, k), depth)
    if views.pictures is not None and weights["pictures"] and text.code is not None:
        shown = [narrowed(part) for part in views.pictures.parts]
        found["pictures"] = image_rows(shown, _near(shown, text, depth), depth)
    if image is not None and weights["image"]:
        first = image.first(depth)
        found["image"] = image_rows(image.fields, first, depth)
    return found


def nearest(views: TextViews, text: TextQuery, k: int, narrowed: Callable[[Part], Field]) -> Iterator[Any]:
    """The k texts nearest in meaning: (number, distance, similarity), in the order (distance, -similarity, id)."""
    if views.texts is None:
        return
    fields = [_coded(narrowed(part)) for part in views.texts.parts]
    found = _near(fields, text, k)
    for at in range(len(found)):
        segment = fields[int(found.part[at])].part.segment
        number = int(segment.array("rows")[found.position[at]])
        yield number, int(found.distance[at]), float(found.similarity[at])


def told(session: "Session", ranking: FusedRanking, text: TextQuery, hits: Sequence[Hit], view: View) -> list[Hit]:
    """Hits with their score, their place in each ranking, and the words of the query found in their texts."""
    store, words, wanted = session.store, session.indexes.words, telling(text.terms)

    def tell(hit: Hit) -> Hit:
        return _told(store, words, ranking, wanted, hit, view)

    return [replace(tell(hit), others=tuple(map(tell, hit.others))) for hit in hits]


def _told(store: Store, words: Words, ranking: FusedRanking, wanted: Sequence[str], hit: Hit, view: View) -> Hit:
    stored = store.find(hit.id, view.generation)
    if stored is None:
        return hit  # erased a moment ago
    best: Marked | None = None
    for number in store.text_numbers(stored.row):
        marked = words.marked(number, wanted)
        if marked is not None and (best is None or len(marked.words) > len(best.words)):
            best = marked
    whole = hit.distance is not None and hit.box is None
    return replace(
        hit,
        distance=round(hit.distance) if whole and hit.distance is not None else hit.distance,
        score=ranking.scores.get(stored.row, 0.0),
        ranks=ranking.ranks(stored.row),
        words=() if best is None else best.words,
        snippet=None if best is None else best.snippet,
    )


def described(fields: Sequence[Field], ranked: Candidates, views: TextViews, text: TextQuery) -> Candidates:
    """The same images with the distance and similarity of their cross-modal codes; NaN where they have none.

    fields: of the index of images.
    """
    distance = np.full(len(ranked), np.nan)
    similarity = np.full(len(ranked), np.nan, np.float32)
    if views.pictures is not None and text.code is not None and text.embedding is not None:
        from medlike.archive.search.ranking import members

        shown = [Field.of(part, None) for part in views.pictures.parts]
        for at in range(len(ranked)):
            row = int(fields[int(ranked.part[at])].part.segment.images[ranked.position[at]])
            positions = [field.part.positions(row) for field in shown]
            one = members(shown, text.code, text.embedding, positions)
            if len(one):
                distance[at], similarity[at] = one.distance[0], one.similarity[0]
    return replace(ranked, distance=distance, similarity=similarity)


def aligned(ranked: Candidates, found: Candidates) -> Candidates:
    """The ranked images with distance, similarity and window as found; NaN and -1 for those that were not."""
    place = {pair: at for at, pair in enumerate(zip(found.part.tolist(), found.position.tolist(), strict=True))}
    pairs = zip(ranked.part.tolist(), ranked.position.tolist(), strict=True)
    at = np.asarray([place.get(pair, -1) for pair in pairs], np.int64)
    there = at >= 0
    distance, similarity = np.full(len(ranked), np.nan), np.full(len(ranked), np.nan, np.float32)
    windows = np.full(len(ranked), -1, np.int64)
    distance[there], similarity[there] = found.distance[at[there]], found.similarity[at[there]]
    windows[there] = found.windows[at[there]]
    return replace(ranked, distance=distance, similarity=similarity, windows=windows)


def _near(fields: Sequence[Field], text: TextQuery, k: int) -> Candidates:
    assert text.code is not None and text.embedding is not None
    return rank(fields, text.code, text.embedding, k)


def _images(fields: Sequence[Field], best: Callable[[int], Candidates], depth: int) -> NDArray[np.int64]:
    """The images of the best texts, each by its best: as many texts are asked for as it takes."""
    wanted = depth
    while True:
        found = best(wanted)
        rows = image_rows(fields, found, depth)
        if len(rows) >= depth or len(found) < wanted:
            return rows
        wanted *= 2


def _coded(field: Field) -> Field:
    """Without the texts that have no cross-modal code."""
    without = np.flatnonzero(field.part.segment.array("coded")[: field.part.rows] == 0)
    return field.without(without) if len(without) else field
