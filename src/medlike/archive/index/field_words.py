"""Searching the stored fields of images by their words: modality, region, label and every other metadata field.

The fields of an image are one sentence, such as "XR (X-ray, radiograph), chest, pneumonia". Few sentences differ, so
each is kept once, and an image is the number of its sentence. All of it is derived from the store when words are
first searched for, so that archives of every age have it, and as of every generation that is kept.
"""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from medlike import strict_json
from medlike.archive.index.bm25 import END, HIT, K1, MOST, B, Marked, all_of, rarity
from medlike.archive.index.candidates import Field
from medlike.archive.index.segment import Segment
from medlike.archive.index.sources import varint
from medlike.archive.storage.store import Store
from medlike.types import Json

# What people say for a modality's code.
MODALITY_WORDS = {
    "CT": "computed tomography",
    "ES": "endoscopy",
    "MG": "mammography, mammogram",
    "MR": "MRI, magnetic resonance",
    "NM": "nuclear medicine, scintigraphy, SPECT",
    "OCT": "optical coherence tomography",
    "PT": "PET, positron emission tomography",
    "RF": "fluoroscopy",
    "US": "ultrasound, sonography",
    "XA": "angiography",
    "XR": "X-ray, xray, radiograph",
}
FIRST = ("modality", "region", "label")  # fields that a sentence begins with
SIZES = ("rows", "columns", "width", "height", "frame", "frames")  # of the picture: numbers that nobody means as words
LONGEST = 10_000  # characters of a sentence


class FieldWords:
    """The words in the fields of a store's images, kept in memory. Safe to use from many threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._generation = -1
        self._rows: NDArray[np.int64] = np.empty(0, np.int64)  # images, ascending
        self._numbers: NDArray[np.int64] = np.empty(0, np.int64)  # of their sentences, from 0
        self._lengths: NDArray[np.int64] = np.empty(0, np.int64)  # words of each sentence
        self._sentences: dict[str, int] = {}
        self._placed: WeakKeyDictionary[Segment, NDArray[np.int64]] = WeakKeyDictionary()
        self._index = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._index.execute("CREATE VIRTUAL TABLE fields USING fts5(sentence)")
        self._index.execute("CREATE VIRTUAL TABLE instances USING fts5vocab(fields, 'instance')")

    def any(self) -> bool:
        """Return True if an image, live or not, has a field with a word."""
        with self._lock:
            self._refresh()
            return bool(self._lengths.any())

    def scores(self, fields: Sequence[Field], terms: Sequence[str]) -> tuple[list[NDArray[np.float64]], set[str]]:
        """Return BM25 of the images' sentences and the words that any has, as `bm25.Words.scores` does of texts.

        Args:
            fields: Of an index of images. BM25's statistics are of all images that live in them.
            terms: Words as `bm25.terms` cuts them; or expressions of several, which a sentence has if it has each.
        """
        with self._lock:
            self._refresh()
            return self._scores(fields, terms)

    def _scores(self, fields: Sequence[Field], terms: Sequence[str]) -> tuple[list[NDArray[np.float64]], set[str]]:
        present = set[str]()
        if not len(self._rows):
            return [np.zeros(field.part.rows) for field in fields], present
        numbers = [self._numbers_of(field.part.segment)[: field.part.rows] for field in fields]
        live = np.zeros(len(self._lengths), np.int64)
        for field, sentences in zip(fields, numbers, strict=True):
            live += np.bincount(sentences, minlength=len(live))
            live -= np.bincount(sentences[field.part.dead], minlength=len(live))
        score = np.zeros(len(live))
        images, words = int(live.sum()), int(live @ self._lengths)
        for term in terms[:MOST] if words else ():
            if " " in term:  # a sentence of fields is no prose: its words need not stand together
                found = self._index.execute("SELECT rowid, 1 FROM fields WHERE fields MATCH ?", (all_of(term),))
            else:
                found = self._index.execute("SELECT doc, count(*) FROM instances WHERE term = ? GROUP BY doc", (term,))
            table = np.asarray(found.fetchall(), np.int64).reshape(-1, 2)
            at, counts = table[:, 0] - 1, table[:, 1].astype(np.float64)
            having = int(live[at].sum())
            if having:
                present.add(term)
                worn = K1 * (1 - B + B * self._lengths[at] * images / words)
                score[at] += rarity(images, having) * counts * (K1 + 1) / (counts + worn)
        return [score[sentences] for sentences in numbers], present

    def holds_all(self, terms: Sequence[str]) -> bool:
        """Return True if the fields of one image, live or not, have all of some words."""
        with self._lock:
            self._refresh()
            sql = "SELECT 1 FROM fields WHERE fields MATCH ? LIMIT 1"
            return self._index.execute(sql, (all_of(" ".join(terms[:MOST])),)).fetchone() is not None

    def marked(self, row: int, terms: Sequence[str]) -> Marked | None:
        """Return the words of a query in the fields of an image of the store (its row); None if it has none."""
        if not terms:
            return None
        any_of = " OR ".join(f"({all_of(term)})" for term in terms[:MOST])
        sql = (
            "SELECT highlight(fields, 0, ?, ?), snippet(fields, 0, '[', ']', '…', 16) FROM fields "
            "WHERE fields MATCH ? AND rowid = ?"
        )
        with self._lock:
            self._refresh()
            at = int(self._rows.searchsorted(row))
            if at == len(self._rows) or self._rows[at] != row:
                return None
            marked = self._index.execute(sql, (HIT, END, any_of, int(self._numbers[at]) + 1)).fetchone()
        return None if marked is None else Marked.of(*marked)

    def _numbers_of(self, segment: Segment) -> NDArray[np.int64]:
        """Return the sentence of each row of a segment of images: int64 [N]."""
        numbers = self._placed.get(segment)
        if numbers is None:
            # Rows that were deleted for good are dead in every view: any sentence will do for them.
            at = np.minimum(self._rows.searchsorted(segment.images), len(self._rows) - 1)
            numbers = self._numbers[at]
            if not len(segment) or segment.images[-1] <= self._rows[-1]:  # else it is ahead of this snapshot
                self._placed[segment] = numbers
        return numbers

    def _refresh(self) -> None:
        """Catch up with the store. Rows never change; their numbers come again where an earlier state was put back."""
        with self.store.snapshot():
            newest = self.store.generation()
            if newest < self._generation and self.store.published() < self._generation:
                self._clear()
            if newest <= self._generation:
                return
            last = int(self._rows[-1]) if len(self._rows) else 0
            sql = "SELECT row, metadata FROM images WHERE row > :last ORDER BY row LIMIT :size"
            seen: dict[str, int] = {}  # metadata repeat: each is read once
            rows, numbers = [], []
            for page in self.store.pages(sql, {}, last):
                for row, metadata in page:
                    if metadata not in seen:
                        seen[metadata] = self._number(sentence(strict_json.loads(metadata)))
                    rows.append(row)
                    numbers.append(seen[metadata])
            self._rows = np.concatenate([self._rows, np.asarray(rows, np.int64)])
            self._numbers = np.concatenate([self._numbers, np.asarray(numbers, np.int64)])
            sizes = self._index.execute("SELECT sz FROM fields_docsize WHERE id > ? ORDER BY id", (len(self._lengths),))
            fresh = np.asarray([varint(size) for (size,) in sizes], np.int64)
            self._lengths = np.concatenate([self._lengths, fresh])
            self._generation = newest

    def _number(self, words: str) -> int:
        """Return the number of a sentence, which is added to the index unless it is there."""
        number = self._sentences.get(words)
        if number is None:
            number = self._sentences[words] = len(self._sentences)
            self._index.execute("INSERT INTO fields(rowid, sentence) VALUES (?, ?)", (number + 1, words))
        return number


def sentence(metadata: Mapping[str, Json]) -> str:
    """Return the fields of an image as one sentence, "" where it has none.

    Args:
        metadata: Its searchable fields, by name. Texts and whole numbers are words; other numbers nobody types.
    """
    names = [*FIRST, *(name for name in sorted(metadata) if name not in (*FIRST, *SIZES))]
    values = dict.fromkeys(word for name in names for word in _words(metadata.get(name)))
    code = metadata.get("modality")
    spoken = MODALITY_WORDS.get(code) if isinstance(code, str) else None
    return ", ".join(f"{value} ({spoken})" if spoken and value == code else value for value in values)[:LONGEST]


def _words(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        if value.strip():
            yield value.strip()
    elif isinstance(value, dict):
        for each in value.values():
            yield from _words(each)
    elif isinstance(value, list):
        for each in value:
            yield from _words(each)
    elif isinstance(value, int | float) and not isinstance(value, bool) and value == int(value):
        yield str(int(value))
