"""The words of a query made ready: cleaned, cut into words, encoded; so that a receipt can hold them."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.bm25 import FUNCTION_WORDS, MOST, terms
from medlike.archive.search.expansion import expansions
from medlike.archive.search.text_relevance import is_unrelated
from medlike.errors import INSTALL_TEXT, QueryError
from medlike.types import Json, JsonObject

if TYPE_CHECKING:
    from medlike.archive.session import Session

LONGEST = 100_000  # characters of a query


@dataclass(frozen=True)
class TextQuery:
    """What a query asks in words, and for.

    text: as given, without control characters; "" where an image alone is to find texts. terms: its words as the
    word index writes them, without those that count for nothing. code: uint8 [bits / 8] and embedding: int16 [E]
    under the text bundle (of the text, or of text and image together), None where there is none. bundle: digest of
    the text bundle. fields: whether the words are looked for in the fields of the images too; receipts of earlier
    versions do without. unrelated: whether no text of the archive is about it; it then has no code. None: too few texts
    to judge. alternatives: what means the same, by expression of the text. sentences: how the fields' sentences that
    are compared with it are written (`Folder.sentences`), 0 for none.
    """

    text: str
    terms: tuple[str, ...] = ()
    code: NDArray[np.uint8] | None = None
    embedding: NDArray[np.int16] | None = None
    bundle: str | None = None
    warnings: tuple[str, ...] = ()
    fields: bool = False
    unrelated: bool | None = False
    alternatives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sentences: int = 0

    @property
    def sought(self) -> tuple[str, ...]:
        """Return the words of the text and all that means the same."""
        return (*self.terms, *(other for others in self.alternatives.values() for other in others))

    def facts(self) -> JsonObject:
        """As a receipt holds it."""
        alternatives: JsonObject = {said: list(others) for said, others in self.alternatives.items()}
        return {
            "text": self.text,
            "terms": list(self.terms),
            "code": None if self.code is None else self.code.tobytes().hex(),
            "embedding": None
            if self.embedding is None
            else base64.b64encode(self.embedding.astype("<i2").tobytes()).decode(),
            "bundle": self.bundle,
            **({"fields": True} if self.fields else {}),
            **({"unrelated": True} if self.unrelated else {}),
            **({"alternatives": alternatives} if alternatives else {}),
            **({"sentences": self.sentences} if self.sentences else {}),
        }

    @classmethod
    def of_facts(cls, facts: Mapping[str, Json]) -> "TextQuery":
        """From a receipt. Raises KeyError, TypeError or ValueError where it is none."""
        code, embedding = facts["code"], facts["embedding"]
        return cls(
            str(facts["text"]),
            tuple(str(term) for term in facts["terms"]),
            None if code is None else np.frombuffer(bytes.fromhex(code), np.uint8),
            None if embedding is None else np.frombuffer(base64.b64decode(embedding), "<i2").astype(np.int16),
            facts["bundle"],
            fields=facts.get("fields") is True,
            unrelated=facts.get("unrelated") is True,
            alternatives={
                str(said): tuple(str(other) for other in others)
                for said, others in dict(facts.get("alternatives", {})).items()
            },
            sentences=int(facts.get("sentences", 0)),
        )


def text_query(session: "Session", text: str, content: NDArray[np.int8] | None) -> TextQuery:
    """A query's text for an archive. content: int8 [D] of its image, where it has one.

    Raises QueryError where the archive can answer no text, TextNotInstalled where it could by meaning alone and the
    sentence encoder is not installed.
    """
    from medlike.imaging import plain
    from medlike.inference.encoding import golden_warnings
    from medlike.inference.sentence_weights import text_installed

    clean, warnings = plain(text), []
    if not clean:
        raise QueryError("the text holds nothing but white space and control characters: give at least one word")
    if len(clean) > LONGEST:
        raise QueryError(f"the text has {len(clean):,} characters: give at most {LONGEST:,}")
    has_texts = session.indexes.has_texts()
    has_words = has_texts or session.indexes.field_words.any()
    text_encoder = session.loaded.text_encoder
    if text_encoder is None and not has_words:
        missing = "" if text_installed() else f"; the text part of medlike is not installed: {INSTALL_TEXT}"
        raise QueryError(
            "this archive has no texts and no text bundle, so nothing in it can be found by words: add images with "
            "texts, or run `medlike reindex --text-bundle` with one that goes with its image bundle" + missing
        )
    every = terms(clean) if has_words else ()
    words = tuple(term for term in every if term not in FUNCTION_WORDS)
    if every and not words:
        warnings.append(f"the text holds only words that count for nothing: {', '.join(every[:10])}")
    if len(words) > MOST:
        warnings.append(f"the text has {len(words)} different words: the first {MOST} are looked for")
    alternatives, remarks = expansions(clean) if words else ({}, ())
    warnings += remarks
    code = embedding = bundle = None
    unrelated: bool | None = False
    if text_encoder is None and not text_installed():
        warnings.append(
            f"searched by words alone: the text part of medlike is not installed; {INSTALL_TEXT}, then give this "
            "archive a text bundle with: medlike reindex --text-bundle medlike-text-16"
        )
    elif text_encoder is None:
        warnings.append(
            "searched by words alone: this archive has no text bundle; to search by meaning too, run `medlike reindex "
            "--text-bundle` with one that goes with its image bundle"
        )
    elif not text_encoder.reads and has_words:
        warnings.append(f"searched by words alone: the sentence encoder is not installed; {INSTALL_TEXT}")
    else:
        sentences = text_encoder.sentences  # TextNotInstalled where words cannot help either
        if sentences.readable(clean):
            if sentences.truncated(clean):
                warnings.append(
                    f"the text is long: its meaning is taken from its beginning ({sentences.limit} word pieces)"
                )
            codes = text_encoder.query(clean, content)
            warnings += golden_warnings(text_encoder)
            unrelated = is_unrelated(session, clean, words, alternatives)
            if not unrelated:
                code, embedding, bundle = codes.code[0], codes.embedding[0], text_encoder.facts.digest
        else:
            warnings.append("no word or letter of the text is known to the sentence encoder: its meaning is left out")
    if not every and text_encoder is None:
        warnings.append("the text holds no word that could be looked for")
    return TextQuery(
        clean,
        words,
        code,
        embedding,
        bundle,
        tuple(warnings),
        fields=True,
        unrelated=unrelated,
        alternatives=alternatives,
        sentences=0 if code is None else session.folder.sentences,
    )


def content_query(session: "Session", content: NDArray[np.int8]) -> TextQuery:
    """An image without words, to find texts. Raises QueryError without a text bundle."""
    text_encoder = session.loaded.text_encoder
    if text_encoder is None:
        raise QueryError(
            "this archive has no text bundle, so an image finds no texts: run `medlike reindex --text-bundle` with one "
            "that goes with its image bundle"
        )
    codes = text_encoder.query(None, content)
    return TextQuery("", (), codes.code[0], codes.embedding[0], text_encoder.facts.digest)
