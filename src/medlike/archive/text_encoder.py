"""Codes under a text bundle: of queries, of stored texts, and of stored images from their content vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.segment import UNIT
from medlike.archive.index.text_sample import TextSample
from medlike.archive.storage.folder import TextBundleFacts
from medlike.errors import BundleError

if TYPE_CHECKING:
    from medlike.inference import CrossEncoder, SentenceEncoder


@dataclass(frozen=True)
class Codes:
    """Cross-modal codes uint8 [N, K / 8] and embeddings in fixed point, int16 [N, E] (see segment.UNIT)."""

    code: NDArray[np.uint8]
    embedding: NDArray[np.int16]


class TextEncoder:
    """What encodes under an archive's text bundle, loaded on first use."""

    def __init__(self, facts: TextBundleFacts) -> None:
        self.facts = facts
        self.sample: TextSample | None = None  # of the archive's texts, drawn when it is first needed

    @cached_property
    def crosses(self) -> "CrossEncoder":
        """Raises BundleError where the text bundle is missing or another."""
        from medlike.inference import CrossEncoder

        return CrossEncoder(self.facts.load())

    @cached_property
    def sentences(self) -> "SentenceEncoder":
        """Raises TextNotInstalled, or BundleError where it is another than the bundle's."""
        from medlike.inference import SentenceEncoder

        encoder = SentenceEncoder.of(self.crosses.bundle)
        self.crosses.require_sentences(encoder)
        return encoder

    def close(self) -> None:
        """Stop the threads."""
        if "sentences" in vars(self):
            self.sentences.close()

    def require_golden(self) -> None:
        """Refuse to write where this host's codes differ from those of the bundle's makers (BundleError)."""
        self.crosses.require_golden()

    def images(self, content: NDArray[np.int8]) -> Codes:
        """Encode images without text, from their content vectors int8 [N, D]."""
        return self._codes(content, None)

    @property
    def reads(self) -> bool:
        """Return True if sentences can be encoded here."""
        from medlike.inference.sentence_weights import text_installed

        if text_installed():
            return True
        try:
            return self.crosses.bundle.carries_sentences
        except BundleError:
            return False

    def texts(self, texts: Sequence[str]) -> list[tuple[bytes, bytes] | None]:
        """Return code and embedding of each text as bytes.

        Args:
            texts: N texts.

        Returns:
            N pairs; None for a text with no known token, and for all if sentences cannot be encoded here.
        """
        # Captions repeat; each is read once.
        codes_of: dict[str, tuple[bytes, bytes]] = {}
        readable = [text for text in dict.fromkeys(texts) if self.sentences.readable(text)] if self.reads else []
        if readable:
            codes = self._codes(None, self.sentences.encode(readable))
            codes_of = {text: as_bytes(codes, row) for row, text in enumerate(readable)}
        return [codes_of.get(text) for text in texts]

    def query(self, text: str | None, content: NDArray[np.int8] | None) -> Codes:
        """Encode a query: its text, its image's content vector int8 [D], or both."""
        sentence = None if text is None else self.sentences.encode([text])
        return self._codes(None if content is None else content[None], sentence)

    def _codes(self, content: NDArray[np.int8] | None, sentences: NDArray[np.float32] | None) -> Codes:
        encoding = self.crosses.encode(content, sentences)
        fixed = np.rint(encoding.embedding.astype(np.float64) * UNIT).astype(np.int16)
        return Codes(encoding.code, fixed)


def as_bytes(codes: Codes, row: int) -> tuple[bytes, bytes]:
    """One row as the store keeps it."""
    return codes.code[row].tobytes(), codes.embedding[row].astype("<i2").tobytes()
