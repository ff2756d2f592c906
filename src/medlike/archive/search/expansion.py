"""Words of a query and what means the same: an expression counts as much as the best of its paraphrases."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.candidates import Field

MOST = 32  # expressions of a query that are expanded


class Scorer(Protocol):
    """An index of words."""

    def scores(self, fields: Sequence[Field], terms: Sequence[str]) -> tuple[list[NDArray[np.float64]], set[str]]:
        """Return BM25 of the rows of each field, and the words that any has."""
        ...


def expansions(text: str) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Return what means the same as expressions of a query, and what is to be said of ambiguous ones.

    Args:
        text: The query.

    Returns:
        The paraphrases by expression, all as words in lower case with single spaces; and remarks.
    """
    from medlike.imaging import paraphrases

    alternatives: dict[str, tuple[str, ...]] = {}
    remarks: dict[str, None] = {}
    for one in paraphrases.found(text):
        if one.others and len(alternatives) < MOST:
            alternatives[one.expression] = one.others
        elif one.meaning is None:
            meant = ", ".join(one.possible)
            written = text[one.start : one.end]
            remarks[f"{written} has several meanings ({meant}, ...): it is searched for as it stands"] = None
    return alternatives, tuple(remarks)


def expanded_scores(
    index: Scorer, fields: Sequence[Field], terms: Sequence[str], alternatives: Mapping[str, Sequence[str]]
) -> tuple[list[NDArray[np.float64]], set[str]]:
    """Return BM25 of the rows of each field, and the words and paraphrases that any has.

    Where a paraphrase is worth more in a row than the words of the query's own expression, it counts in their place.

    Args:
        index: Knows the words.
        fields: Of the index of images or of texts.
        terms: The words of the query.
        alternatives: What means the same, by expression of the query.
    """
    scores, present = index.scores(fields, terms)
    for expression, others in alternatives.items():
        own, _ = index.scores(fields, [word for word in dict.fromkeys(expression.split(" ")) if word in terms])
        best = [score.copy() for score in own]
        for other in others:
            found, there = index.scores(fields, [other])
            present |= there
            best = [np.maximum(a, b) for a, b in zip(best, found, strict=True)]
        scores = [score + (b - a) for score, a, b in zip(scores, own, best, strict=True)]
    return scores, present


def absent(
    terms: Sequence[str], alternatives: Mapping[str, Sequence[str]], present: set[str]
) -> tuple[str, ...]:
    """Return the words of a query that neither stand anywhere nor have a paraphrase that does."""
    covered = {
        word
        for expression, others in alternatives.items()
        if not present.isdisjoint(others)
        for word in expression.split(" ")
    }
    return tuple(term for term in terms if term not in present and term not in covered)
