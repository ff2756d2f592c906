"""Searching texts by their words: FTS5 knows which texts hold a word, BM25 says how much that counts.

FTS5's own bm25() counts every text that the store holds, those of removed images and those added later too, so
that a search of the past would be answered in another order. Here the same formula is applied to the texts that
live in the generation asked for. Words are what FTS5's tokenizer makes of a text; operators are not known here.
"""

import math
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.candidates import Candidates, Field, candidates, ordered, reduced
from medlike.archive.index.segment import Segment
from medlike.archive.storage.store import Store
from medlike.archive.storage.word_index import WordCheck
from medlike.types import Array

K1, B = 1.2, 0.75  # as in FTS5's bm25()
LEAST = 1e-6  # weight of a word that more than half of the texts have, as there
MOST = 256  # words of a query that are searched for
HELD = 1 << 23  # postings that are kept in memory
# Words that say nothing of why a text was found: they are neither searched for nor shown. A list, not how many texts
# hold a word: of short captions few hold "the", and in an archive of chest images nearly all hold "chest", which is
# worth showing. Negations and places (no, without, above) are worth it too. Other languages keep all their words.
FUNCTION_WORDS = frozenset((
    "a", "an", "and", "are", "as", "at", "be", "been", "by", "do", "does", "for", "from", "has", "have", "how", "in",
    "into", "is", "it", "its", "my", "of", "on", "or", "that", "the", "their", "there", "these", "this", "to", "was",
    "were", "what", "which", "with",
))  # fmt: skip
_PLACES = 1 << 24  # more than a text has words
HIT, END = "\x02", "\x03"  # marks around matched words; control characters are not stored


def terms(text: str) -> tuple[str, ...]:
    """The distinct words of a text in the order they come, as FTS5's tokenizer writes them."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE asked USING fts5(text)")
        connection.execute("CREATE VIRTUAL TABLE found USING fts5vocab(asked, 'instance')")
        connection.execute("INSERT INTO asked(text) VALUES (?)", (text,))
        return tuple(dict.fromkeys(term for (term,) in connection.execute("SELECT term FROM found ORDER BY offset")))
    finally:
        connection.close()


def telling(terms: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a query without function words, unless it has no other."""
    return tuple(term for term in terms if term not in FUNCTION_WORDS) or tuple(terms)


@dataclass(frozen=True)
class Postings:
    """The texts that hold a word. numbers: int64 [M], ascending; counts: float64 [M], how often each does."""

    numbers: NDArray[np.int64]
    counts: NDArray[np.float64]


@dataclass(frozen=True)
class Marked:
    """Hold the words of a query that a text has.

    Attributes:
        words: The words as the text has them.
        snippet: The text around them, each between square brackets.
    """

    words: tuple[str, ...]
    snippet: str | None

    @classmethod
    def of(cls, highlighted: str, snippet: str) -> "Marked":
        """Return the words that stand between HIT and END in a text, each once as it first stands there."""
        parts = [part.split(END, 1)[0] for part in highlighted.split(HIT)[1:]]
        return cls(tuple({part.lower(): part for part in reversed(parts)}.values())[::-1], snippet)

    def beside(self, other: "Marked | None") -> "Marked":
        """Return the same with the words that only the other has; with its snippet where there is none."""
        if other is None:
            return self
        known = {word.lower() for word in self.words}
        more = tuple(word for word in other.words if word.lower() not in known)
        return Marked(self.words + more, other.snippet if self.snippet is None else self.snippet)


@dataclass(frozen=True)
class _Places:
    """Where a word is in a segment, and what it is worth there in texts of a mean length.

    Attributes:
        purge: The last purge that the postings knew of.
        at: Positions, int64 [M], ascending.
        counts: How often each text has the word, float64 [M].
        mean: Words of a text on average, as `worth` takes it.
        worth: What the word adds to a score before its own weight, float64 [M].
    """

    purge: int
    at: NDArray[np.int64]
    counts: NDArray[np.float64]
    mean: float
    worth: NDArray[np.float64]


class Words:
    """The word index of a store. Keeps the postings of words that were asked for. Safe to use from many threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._check = WordCheck(store)
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[int, int, Postings]] = OrderedDict()  # word -> purge, last number, postings
        self._placed: WeakKeyDictionary[Segment, dict[str, _Places]] = WeakKeyDictionary()

    def best(self, fields: Sequence[Field], terms: Sequence[str], k: int) -> Candidates:
        """Return the k best texts by (-BM25, id of the image); `similarity` is BM25, higher is better.

        Texts with none of the words are left out.

        fields: of an index of texts. BM25's statistics are of all texts that live in them, whatever a filter lets
        pass. Source: Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond, 2009.
        """
        scores, _ = self.scores(fields, terms)
        return ordered(Candidates.joined(best_of(fields, scores, k)), "radius").take(slice(0, max(k, 0)))

    def scores(self, fields: Sequence[Field], terms: Sequence[str]) -> tuple[list[NDArray[np.float64]], set[str]]:
        """Return BM25 of the texts, float64 [rows] for each field whatever it lets pass, and the words that any has.

        Args:
            fields: As for `best`.
            terms: Words as `terms` cuts them, or phrases of several; the first MOST are looked for.
        """
        with self._lock, self.store.snapshot():
            self._check.require_sound()
            return self._scores(fields, terms)

    def _scores(self, fields: Sequence[Field], terms: Sequence[str]) -> tuple[list[NDArray[np.float64]], set[str]]:
        texts = sum(field.part.rows - len(field.part.dead) for field in fields)
        lengths = 0
        for field in fields:
            sizes = field.part.segment.array("lengths")[: field.part.rows]
            lengths += int(sizes.sum(dtype=np.int64)) - int(sizes[field.part.dead].sum(dtype=np.int64))
        scores: list[NDArray[np.float64]] = [np.zeros(field.part.rows) for field in fields]
        present = set[str]()
        if not lengths:
            return scores, present
        mean, purge = lengths / texts, self.store.last_purge()
        for term in terms[:MOST]:
            places = [self._within(field, term, mean, purge) for field in fields]
            having = sum(len(at) - _shared(at, field.part.dead) for field, (at, _) in zip(fields, places, strict=True))
            if not having:
                continue
            present.add(term)
            weight = rarity(texts, having)
            for score, (at, worth) in zip(scores, places, strict=True):
                score[at] += weight * worth
        return scores, present

    def holds_all(self, terms: Sequence[str]) -> bool:
        """Return True if one text, of a live image or not, has all of some words."""
        all_of = " AND ".join(quoted(term) for term in terms[:MOST])
        return self.store.first("SELECT 1 FROM words WHERE words MATCH ? LIMIT 1", (all_of,)) is not None

    def marked(self, number: int, terms: Sequence[str]) -> Marked | None:
        """The words of a query in the text of a number; None where it has none of them."""
        if not terms:
            return None
        any_of = " OR ".join(quoted(term) for term in terms[:MOST])
        sql = (
            "SELECT highlight(words, 0, ?, ?), snippet(words, 0, '[', ']', '…', 16) FROM words "
            "WHERE words MATCH ? AND rowid = ?"
        )
        row = self.store.first(sql, (HIT, END, any_of, number))
        return None if row is None else Marked.of(row[0], row[1])

    def _within(
        self, field: Field, term: str, mean: float, purge: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Where a word is in a field (positions, ascending), and what it is worth there before its own weight."""
        segment, rows = field.part.segment, field.part.rows
        placed = self._placed.setdefault(segment, {})
        places = placed.get(term)
        if places is None or places.purge != purge:
            numbers = segment.array("rows")
            postings = self._postings(term, purge, int(numbers[-1]) if len(numbers) else 0)
            at = np.minimum(np.searchsorted(numbers, postings.numbers), max(len(numbers) - 1, 0))
            there = numbers[at] == postings.numbers if len(numbers) else np.zeros(len(at), bool)
            places = _Places(purge, at[there], postings.counts[there], math.nan, np.empty(0))
        if places.mean != mean:
            worn = K1 * (1 - B + B * segment.array("lengths")[places.at] / mean)
            places = replace(places, mean=mean, worth=places.counts * (K1 + 1) / (places.counts + worn))
        if sum(len(one.at) for one in placed.values()) + len(places.at) > HELD:
            placed.clear()
        placed[term] = places
        upto = len(places.at) if rows == len(segment) else int(np.searchsorted(places.at, rows))
        return places.at[:upto], places.worth[:upto]

    def _postings(self, term: str, purge: int, upto: int) -> Postings:
        """The texts up to a number that hold a word; those known before are not asked for again."""
        known = self._known.pop(term, None)
        if known is None or known[0] != purge:
            # A word's texts in one go; and what came since text by text, each counted by its marks.
            table = "CREATE VIRTUAL TABLE IF NOT EXISTS temp.instances USING fts5vocab(main, words, 'instance')"
            self.store.query(table)
            postings = self._phrase(term.split(" ")) if " " in term else self._word(term)
            last = self._last()
        else:
            _, last, postings = known
            if upto > last:
                sql = (
                    "SELECT rowid, length(highlight(words, 0, ?, '')) - length(text) FROM words "
                    "WHERE words MATCH ? AND rowid > ? ORDER BY rowid"
                )
                fresh = _postings(self.store.query(sql, (HIT, quoted(term), last)))
                last = self._last()
                joined = (np.concatenate(pair) for pair in zip(_pair(postings), _pair(fresh), strict=True))
                postings = Postings(*joined)
        self._known[term] = (purge, last, postings)
        while len(self._known) > 1 and sum(len(one.numbers) for _, _, one in self._known.values()) > HELD:
            self._known.popitem(last=False)
        return postings

    def _word(self, term: str) -> Postings:
        sql = "SELECT doc, count(*) FROM temp.instances WHERE term = ? GROUP BY doc"
        return _postings(self.store.query(sql, (term,)))

    def _phrase(self, words: Sequence[str]) -> Postings:
        """Return the texts in which some words follow each other."""
        starts: NDArray[np.int64] | None = None
        for at, word in enumerate(words):
            rows = self.store.query("SELECT doc, offset FROM temp.instances WHERE term = ?", (word,))
            places = np.asarray(rows, np.int64).reshape(-1, 2)
            # A phrase begins at one place of a text: the number of the text and the place as one number.
            begins = places[:, 0] * _PLACES + places[:, 1] - at
            starts = begins if starts is None else np.intersect1d(starts, begins)
        assert starts is not None
        numbers, counts = np.unique(starts // _PLACES, return_counts=True)
        return Postings(numbers, counts.astype(np.float64))

    def _last(self) -> int:
        return self.store.number("SELECT max(number) FROM texts")


def rarity(documents: int, having: int) -> float:
    """Return the weight of a word that some of the documents have."""
    return max(math.log((documents - having + 0.5) / (having + 0.5)), LEAST)


def best_of(fields: Sequence[Field], scores: Sequence[NDArray[np.float64]], k: int) -> list[Candidates]:
    """Return what of each field can be among the k best, in no order; `similarity` is the score.

    Args:
        fields: What may be answered.
        scores: Of all rows of each field, float64 [rows]; those of rows that may not be answered are set to 0.
        k: How many are needed; none for 0 or less.
    """
    best = []
    for number, (field, score) in enumerate(zip(fields, scores, strict=True)):
        if field.mask is not None:
            score *= field.mask
        score[field.skip] = 0
        if k > 0:
            best.append(_first(field, number, score, k))
    return best


def _first(field: Field, number: int, score: NDArray[np.float64], k: int) -> Candidates:
    """The texts of a field that can be among the first k: those above 0, without sorting everything."""
    some = int(np.count_nonzero(score))
    worth = score
    if 4 * some < len(score):
        # Partition is slow where most values are equal: without the zeros.
        worth = score[score > 0]
    limit = float(np.partition(worth, len(worth) - k)[len(worth) - k]) if some > 4 * k else 0.0
    at = np.flatnonzero(score >= limit) if limit > 0 else np.flatnonzero(score)
    texts = candidates(field, number, np.zeros(len(at), np.int32), at, score[at].astype(np.float32))
    return reduced(texts, k, "radius")


def _shared(at: NDArray[np.int64], dead: NDArray[np.int64]) -> int:
    return int(np.isin(dead, at, assume_unique=True).sum()) if len(dead) and len(at) else 0


def _postings(rows: Sequence[Sequence[int]]) -> Postings:
    table = np.asarray(rows, np.int64).reshape(-1, 2)
    return Postings(table[:, 0].copy(), table[:, 1].astype(np.float64))


def _pair(postings: Postings) -> tuple[Array, Array]:
    return postings.numbers, postings.counts


def quoted(term: str) -> str:
    """Return a word as FTS5 takes it literally: nothing in it is an operator."""
    return '"' + term.replace('"', '""') + '"'


def all_of(term: str) -> str:
    """Return an expression of several words as FTS5 takes it where all of them must be there."""
    return " AND ".join(quoted(word) for word in term.split(" "))
