"""One query in words: its rankings made one, and what there is to say of its hits."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medlike.archive.index.candidates import Candidates, Field
from medlike.archive.index.index import Part, View
from medlike.archive.search.fusion import FusedRanking, weights
from medlike.archive.search.regions import RegionRanking
from medlike.archive.search.result import Hit
from medlike.archive.search.settings import SearchSettings
from medlike.archive.search.text_query import TextQuery
from medlike.archive.search.text_search import (
    ImagesByWords,
    Ranking,
    TextViews,
    aligned,
    described,
    explained,
    rankings,
    text_warnings,
)
from medlike.errors import QueryError

if TYPE_CHECKING:
    from medlike.archive.session import Session


class QueryInWords:
    """One query in words: its rankings made one, and what there is to say of its hits."""

    def __init__(
        self,
        session: "Session",
        view: View,
        text: TextQuery,
        image: Ranking | None,
        fields: Sequence[Field],
        answerable: Callable[[Part], Field],
        settings: SearchSettings,
    ) -> None:
        """Rank the images.

        Args:
            session: The archive.
            view: The generation.
            text: What is asked in words.
            image: The ranking by the query's image, if it has one.
            fields: The images that may be returned.
            answerable: Returns what may be returned of a part of any index.
            settings: Of the search.

        Raises:
            QueryError: The settings have a radius, which says nothing of words.
        """
        if settings.rank == "radius" or settings.radius is not None:
            raise QueryError("radius counts bits of the image's code: leave it out where words are searched for")
        self.session, self.view, self.text, self.image, self.fields = session, view, text, image, fields
        self.views = TextViews.of(session, view.generation)
        all_weights = weights(settings.weights)
        by_words = ImagesByWords(session, self.views, fields, self.text) if self.text.fields else None
        self.warnings = text_warnings(self.text, () if by_words is None else by_words.missing)
        orders = rankings(session, self.views, self.text, image, all_weights, settings.depth, answerable, by_words)
        self.weights = {name: all_weights[name] for name in orders}
        if self.text.unrelated is None and {"texts", "pictures"} & {*self.weights}:
            self.warnings += (
                "too few texts to judge whether any is about this: the nearest in meaning are shown, however far",
            )
        self.ranking = FusedRanking(fields, orders, all_weights)

    def shown(self, ranked: Candidates) -> Candidates:
        """Return the same images with the distance and similarity shown: to the query's image, else to its text."""
        if self.image is None:
            return described(self.fields, ranked, self.views, self.text)
        positions = [np.sort(ranked.position[ranked.part == number]) for number in range(len(self.fields))]
        compared = self.image.members(positions)
        return aligned(ranked, self.image.shown(compared) if isinstance(self.image, RegionRanking) else compared)

    def explained(self, shown: Sequence[Hit]) -> list[Hit]:
        """Return the hits with scores, places and words."""
        return explained(self.session, self.ranking, self.text, shown, self.view)
