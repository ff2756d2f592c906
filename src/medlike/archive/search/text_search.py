"""Searching in words: the rankings of a query that holds words, and what its hits are told beside."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.bm25 import MOST, Marked, best_of, telling
from medlike.archive.index.candidates import Candidates, Field, ordered
from medlike.archive.index.index import Part, View, positions_of
from medlike.archive.search.expansion import absent, expanded_scores
from medlike.archive.search.fusion import FusedRanking, image_rows
from medlike.archive.search.ranking import rank
from medlike.archive.search.result import Hit
from medlike.archive.search.text_query import TextQuery

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
    """What a query in words is asked of, as of one generation.

    Attributes:
        texts: The texts.
        pictures: The images by cross-modal code.
        sentences: The images by the code of their fields' sentence.
    """

    texts: View | None
    pictures: View | None
    sentences: View | None

    @classmethod
    def of(cls, session: "Session", generation: int) -> "TextViews":
        """The views of an archive; None for what it has not."""
        indexes = session.indexes
        return cls(
            indexes.texts.view(generation) if indexes.has_texts() else None,
            indexes.pictures.view(generation) if indexes.pictures is not None else None,
            indexes.sentences.view(generation) if indexes.sentences is not None else None,
        )


def rankings(
    session: "Session",
    views: TextViews,
    text: TextQuery,
    image: Ranking | None,
    weights: Mapping[str, float],
    depth: int,
    narrowed: Callable[[Part], Field],
    by_words: "ImagesByWords | None" = None,
) -> dict[str, NDArray[np.int64]]:
    """Name -> rows of the store's images in order, the first `depth`, of each ranking that has a weight.

    image: the order by the query's own image, None where it has none. narrowed: a part's rows that may be answered.
    by_words: the images by the words of their texts and fields; None for a query that is of the texts' words alone.
    """
    orders: dict[str, NDArray[np.int64]] = {}
    if by_words is not None and weights["words"] and text.terms:
        orders["words"] = by_words.order(depth)
    fields = [] if views.texts is None else [narrowed(part) for part in views.texts.parts]
    if views.texts is not None and weights["words"] and text.terms and by_words is None:
        words = session.indexes.words
        orders["words"] = _images(fields, lambda k: words.best(fields, text.terms, k), depth)
    written = views.sentences.parts if views.sentences is not None and text.sentences else ()
    if weights["texts"] and text.code is not None and (views.texts is not None or written):
        coded = [*(field.coded() for field in fields), *(narrowed(part) for part in written)]
        orders["texts"] = _images(coded, lambda k: _near(coded, text, k), depth)
    if views.pictures is not None and weights["pictures"] and text.code is not None:
        shown = [narrowed(part) for part in views.pictures.parts]
        orders["pictures"] = image_rows(shown, _near(shown, text, depth), depth)
    if image is not None and weights["image"]:
        first = image.first(depth)
        orders["image"] = image_rows(image.fields, first, depth)
    return orders


class ImagesByWords:
    """The images of a view by the words of a query: BM25 of their best text and of their fields, added."""

    def __init__(self, session: "Session", views: TextViews, fields: Sequence[Field], text: TextQuery) -> None:
        """fields: of the index of images, as they may be answered."""
        indexes, self._fields = session.indexes, fields
        terms, others = text.terms[:MOST], text.alternatives
        self._scores, present = expanded_scores(indexes.field_words, fields, terms, others)
        if views.texts is not None:
            stored = [Field.of(part) for part in views.texts.parts]
            text_scores, in_texts = expanded_scores(indexes.words, stored, terms, others)
            present |= in_texts
            for field, score in zip(stored, text_scores, strict=True):
                score[field.part.dead] = 0
                self._add(field.part.segment.images[: field.part.rows], score)
        self.missing = absent(terms, others, present)

    def _add(self, images: NDArray[np.int64], score: NDArray[np.float64]) -> None:
        """Add the score of the best text of each image. images: rows of the store, ascending, for each text."""
        at = np.flatnonzero(score)
        if not len(at):
            return
        rows, first = np.unique(images[at], return_index=True)
        best = np.maximum.reduceat(score[at], first)
        for field, total in zip(self._fields, self._scores, strict=True):
            stored = field.part.segment.images[: field.part.rows]
            position = positions_of(stored, rows)
            total[position] += best[rows.searchsorted(stored[position])]

    def order(self, depth: int) -> NDArray[np.int64]:
        """Return the first `depth` rows of the store by (-score, id); images with none of the words are left out."""
        ranked = ordered(Candidates.joined(best_of(self._fields, self._scores, depth)), "radius")
        return image_rows(self._fields, ranked, depth)


def nearest(
    views: TextViews, text: TextQuery, k: int, narrowed: Callable[[Part], Field]
) -> Iterator[tuple[int, int, float]]:
    """The k texts nearest in meaning: (number, distance, similarity), in the order (distance, -similarity, id)."""
    if views.texts is None or text.code is None:
        return
    fields = [narrowed(part).coded() for part in views.texts.parts]
    ranked = _near(fields, text, k)
    for at in range(len(ranked)):
        segment = fields[int(ranked.part[at])].part.segment
        position = int(ranked.position[at])
        number = int(segment.array("rows", position)[position])
        yield number, int(ranked.distance[at]), float(ranked.similarity[at])


def text_warnings(text: TextQuery, missing: Sequence[str] = ()) -> tuple[str, ...]:
    """Return what is to be said of a query's words.

    Args:
        text: The query.
        missing: Its words that no text and no field has.
    """
    warnings = []
    if missing:
        shown = ", ".join(missing[:20]) + (", ..." if len(missing) > 20 else "")
        warnings.append(f"no text and no field of the archive has: {shown}")
    if text.unrelated:
        warnings.append(
            "no text is about this: the texts of the archive are no more like it than like texts on other things, so "
            "nothing was searched for by meaning"
        )
    return tuple(warnings)


def explained(session: "Session", ranking: FusedRanking, text: TextQuery, hits: Sequence[Hit], view: View) -> list[Hit]:
    """Return hits with their score, their place in each ranking, and the words of the query in their texts."""
    store, terms = session.store, telling(text.sought)

    def one(hit: Hit) -> Hit:
        image = store.find(hit.id, view.generation)
        if image is None:
            return hit  # erased a moment ago
        texts = [session.indexes.words.marked(number, terms) for number in store.text_numbers(image.row)]
        marked = [found for found in texts if found is not None]
        best = max(marked, key=lambda found: len(found.words), default=Marked((), None))
        if text.fields:
            best = best.beside(session.indexes.field_words.marked(image.row, terms))
        return replace(
            hit,
            distance=hit.distance if hit.distance is None or hit.box is not None else round(hit.distance),
            score=ranking.scores.get(image.row, 0.0),
            ranks=ranking.ranks(image.row),
            words=best.words,
            snippet=best.snippet,
        )

    return [replace(one(hit), others=tuple(map(one, hit.others))) for hit in hits]


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


def aligned(ranked: Candidates, compared: Candidates) -> Candidates:
    """The ranked images with distance, similarity and window as found; NaN and -1 for those that were not."""
    place = {pair: at for at, pair in enumerate(zip(compared.part.tolist(), compared.position.tolist(), strict=True))}
    pairs = zip(ranked.part.tolist(), ranked.position.tolist(), strict=True)
    at = np.asarray([place.get(pair, -1) for pair in pairs], np.int64)
    there = at >= 0
    distance, similarity = np.full(len(ranked), np.nan), np.full(len(ranked), np.nan, np.float32)
    windows = np.full(len(ranked), -1, np.int64)
    distance[there], similarity[there] = compared.distance[at[there]], compared.similarity[at[there]]
    windows[there] = compared.windows[at[there]]
    return replace(ranked, distance=distance, similarity=similarity, windows=windows)


def _near(fields: Sequence[Field], text: TextQuery, k: int) -> Candidates:
    assert text.code is not None and text.embedding is not None
    return rank(fields, text.code, text.embedding, k)


def _images(fields: Sequence[Field], best: Callable[[int], Candidates], depth: int) -> NDArray[np.int64]:
    """The images of the best texts, each by its best: as many texts are asked for as it takes."""
    count = depth
    while True:
        texts = best(count)
        rows = image_rows(fields, texts, depth)
        if len(rows) >= depth or len(texts) < count:
            return rows
        count *= 2
