"""Encoding what an archive holds under its text bundle: images from their stored content vectors, and texts.

No pixel is read. Interrupted, it goes on where it stopped; searches go on without, or under the old text bundle,
until the last is done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medlike.archive.index.field_sentences import COLUMNS, field_sentence
from medlike.archive.storage.rows import EncodingRow
from medlike.archive.storage.store import TEXTS, Commit, Store
from medlike.archive.text_encoder import TextEncoder, as_bytes
from medlike.types import Progress

if TYPE_CHECKING:
    from medlike.archive.storage.record import Record
    from medlike.inference.encoding import Encoding

_GROUP = 1024  # rows a commit


@dataclass
class TextReport:
    """images, texts: encoded now. unread: texts in which nothing can be read: they are found by no meaning.

    sentences: images whose fields were encoded now, as one written sentence each.

    waiting: texts that cannot be encoded here, because the sentence encoder is not installed.
    """

    images: int = 0
    texts: int = 0
    unread: int = 0
    waiting: int = 0
    name: str | None = None
    generation: int = 0
    sentences: int = 0

    @property
    def done(self) -> int:
        """Images, texts and sentences that were gone through."""
        return self.images + self.texts + self.unread + self.sentences


def encode_all(
    store: Store,
    text_encoder: TextEncoder,
    bundle: str,
    progress: Progress[TextReport] | None = None,
) -> TextReport:
    """Store codes under the text bundle of each image with a content vector under `bundle` (digest), and of each text.

    The fields of each image are encoded too, as one sentence.

    Raises:
        BundleError: This host computes other codes than the host that made the text bundle.
    """
    text_encoder.require_golden()
    report = TextReport(name=text_encoder.facts.name, generation=store.generation())
    digest = text_encoder.facts.digest
    images = (
        "SELECT mine.row, mine.content FROM encodings mine WHERE mine.bundle = :bundle AND mine.row > :last "
        "AND NOT EXISTS (SELECT 1 FROM encodings crossed WHERE crossed.row = mine.row AND crossed.bundle = :text) "
        "ORDER BY mine.row LIMIT :size"
    )
    for page in store.pages(images, {"bundle": bundle, "text": digest}, size=_GROUP):
        content = np.stack([np.frombuffer(vector, np.int8) for _, vector in page])
        codes = text_encoder.images(content)
        with store.commit("encode") as commit:
            for at, (row, _) in enumerate(page):
                commit.encode(row, digest, EncodingRow(*as_bytes(codes, at)))
            commit.rows = len(page)
        report.images, report.generation = report.images + len(page), commit.generation
        if progress:
            progress(report)
    texts = (
        "SELECT number, text FROM texts WHERE number > :last AND NOT EXISTS "
        "(SELECT 1 FROM text_encodings crossed WHERE crossed.number = texts.number AND crossed.bundle = :text) "
        "ORDER BY number LIMIT :size"
    )
    for page in store.pages(texts, {"text": digest}, size=_GROUP):
        if not text_encoder.reads:
            report.waiting += len(page)
            continue
        pairs = zip(page, text_encoder.texts([text for _, text in page]), strict=True)
        known = [(number, codes) for (number, _), codes in pairs if codes is not None]
        with store.commit("encode") as commit:
            _put(commit, digest, known)
            commit.rows = len(known)
        report.texts, report.unread = report.texts + len(known), report.unread + len(page) - len(known)
        report.generation = commit.generation
        if progress:
            progress(report)
    if text_encoder.reads:
        _encode_sentences(store, text_encoder, report, progress)
    return report


def _encode_sentences(
    store: Store, text_encoder: TextEncoder, report: TextReport, progress: Progress[TextReport] | None
) -> None:
    """Store the codes of the sentence that each image's fields make, for images that have none."""
    digest = text_encoder.facts.digest
    sql = (
        f"SELECT row, {', '.join(COLUMNS)} FROM images WHERE row > :last AND NOT EXISTS "
        "(SELECT 1 FROM field_encodings coded WHERE coded.row = images.row AND coded.bundle = :text) "
        "ORDER BY row LIMIT :size"
    )
    for page in store.pages(sql, {"text": digest}, size=_GROUP):
        sentences = [field_sentence(dict(zip(COLUMNS, values, strict=True))) for _, *values in page]
        codes = text_encoder.texts(sentences)
        with store.commit("encode") as commit:
            _put_sentences(commit, digest, [row for row, *_ in page], codes)
            commit.rows = len(page)
        report.sentences, report.generation = report.sentences + len(page), commit.generation
        if progress:
            progress(report)


@dataclass(frozen=True)
class GroupCodes:
    """The codes of a group of new images and of their texts, made before the group is committed."""

    digest: str
    images: list[tuple[bytes, bytes]]
    texts: list[list[tuple[bytes, bytes] | None]]
    sentences: list[tuple[bytes, bytes] | None] | None = None

    def write(self, commit: Commit, rows: Sequence[int]) -> None:
        """Store them under the rows that the images have become."""
        for row, image, texts in zip(rows, self.images, self.texts, strict=True):
            commit.encode(row, self.digest, EncodingRow(*image))
            numbered = enumerate(texts[:TEXTS], TEXTS * row)
            _put(commit, self.digest, [(number, codes) for number, codes in numbered if codes is not None])
        if self.sentences is not None:
            _put_sentences(commit, self.digest, rows, self.sentences)


def coded(
    text_encoder: TextEncoder, group: "Sequence[tuple[Record, Encoding]]", sentences: bool
) -> GroupCodes:
    """Return the cross-modal codes of images that were just encoded, and of their texts in order of storage.

    Args:
        text_encoder: Encodes under the text bundle.
        group: The images.
        sentences: If true, their fields are encoded too, unless sentences cannot be encoded here.
    """
    codes = text_encoder.images(np.stack([encoding.content for _, encoding in group]))
    text_codes = iter(text_encoder.texts([text for record, _ in group for text in record.texts.values()]))
    texts = [[next(text_codes) for _ in record.texts] for record, _ in group]
    written = None
    if sentences and text_encoder.reads:
        written = text_encoder.texts([field_sentence(record.columns) for record, _ in group])
    return GroupCodes(text_encoder.facts.digest, [as_bytes(codes, at) for at in range(len(group))], texts, written)


def _put_sentences(
    commit: Commit, digest: str, rows: Sequence[int], sentences: Sequence[tuple[bytes, bytes] | None]
) -> None:
    coded = [(row, digest, *(codes or (b"", b""))) for row, codes in zip(rows, sentences, strict=True)]
    commit.connection.executemany("INSERT OR REPLACE INTO field_encodings VALUES (?, ?, ?, ?)", coded)


def _put(commit: Commit, digest: str, numbered: Sequence[tuple[int, tuple[bytes, bytes]]]) -> None:
    rows = [(number, digest, *codes) for number, codes in numbered]
    commit.connection.executemany("INSERT OR REPLACE INTO text_encodings VALUES (?, ?, ?, ?)", rows)
