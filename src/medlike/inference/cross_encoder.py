"""Running a text bundle: images and sentences in one space, as codes and as small float vectors. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from medlike.bundle import Bundle, default_text, shipped
from medlike.bundle.text_bundle import BOTH, IMAGE, TEXT, cross_values, golden_values
from medlike.errors import BundleError, InputError
from medlike.inference.encoder import GOLDEN_SHARE, Encoder, golden_message
from medlike.inference.golden_cache import cached_share
from medlike.types import F32, I8, U8, Array, Type

if TYPE_CHECKING:
    from medlike.inference.sentences import SentenceEncoder


@dataclass(frozen=True)
class Crossed:
    """Hold images, sentences or pairs in the common space.

    Attributes:
        code: uint8 [N, K/8], most significant bit first.
        embedding: float32 [N, E], of unit length: the dot product of two rows is their similarity, higher is better.
    """

    code: U8
    embedding: F32

    def __len__(self) -> int:
        return len(self.code)


class CrossEncoder:
    """Run a text bundle. Every row runs alone, so it depends on nothing but itself and the bundle.

    The object may be used from several threads. BundleError for an image bundle.
    """

    def __init__(self, bundle: Bundle) -> None:
        if bundle.kind != "text":
            raise BundleError(f"{bundle.name} is an image bundle; give a text bundle such as {default_text()}")
        self.bundle = bundle
        self._session = bundle.session()

    @property
    def bits(self) -> int:
        """Return the bits of a code."""
        return self.bundle.bits

    @property
    def width(self) -> int:
        """Return the length of an embedding."""
        return int(self.bundle.spec["text"]["embedding_dim"])

    @property
    def sentence_width(self) -> int:
        """Return the length of the sentence vectors it takes."""
        return int(self.bundle.spec["text"]["sentence_width"])

    def encode(self, content: I8 | None = None, sentences: F32 | None = None) -> Crossed:
        """Bring images, sentences, or pairs of both into the common space.

        Args:
            content: Content vectors of the image bundle, int8 [N, D]; None where there are no images: the model's
                mask token stands in for them.
            sentences: float32 [N, S] of unit length; None where there are no sentences.

        Raises:
            InputError: Both are None, have other shapes or types, or numbers that are not finite.
        """
        if content is None and sentences is None:
            raise InputError("neither images nor sentences were given; give at least one of them")
        if content is not None:
            _shaped("content vectors", content, self.bundle.content_dim, np.dtype(np.int8))
        if sentences is not None:
            _shaped("sentence vectors", sentences, self.sentence_width, np.dtype(np.float32))
            if not np.isfinite(sentences).all():
                raise InputError("a sentence vector holds values that are not finite; encode the sentences again")
        if content is not None and sentences is not None and len(content) != len(sentences):
            raise InputError(f"{len(content)} content vectors and {len(sentences)} sentences; pairs need one each")
        count = len(content) if content is not None else len(sentences)  # type: ignore[arg-type]
        if not count:
            return Crossed(np.zeros((0, self.bits // 8), np.uint8), np.zeros((0, self.width), np.float32))
        view = BOTH if content is not None and sentences is not None else IMAGE if sentences is None else TEXT
        if content is None:
            content = np.zeros((count, self.bundle.content_dim), np.int8)
        if sentences is None:
            sentences = np.zeros((count, self.sentence_width), np.float32)
        bits, embedding = cross_values(self._session, content, sentences, view)
        return Crossed(np.packbits(bits > 0, axis=1), embedding)

    def require_images(self, bundle: Bundle) -> None:
        """Raise BundleError if `bundle` gives other content vectors than those this one was trained on."""
        trained = self.bundle.spec["text"]
        if not same_content(bundle, str(trained["image_encoder_digest"])):
            raise BundleError(
                f"text bundle {self.bundle.name} was trained on images encoded by {trained['image_bundle']} (encoder "
                f"{str(trained['image_encoder_digest'])[:16]}), not by {bundle.name} (encoder "
                f"{bundle.encoder_digest[:16]}); make one that fits: medlike train mcmfh --image-bundle "
                f"{bundle.name} --data MANIFEST --out BUNDLE"
            )

    def require_sentences(self, encoder: SentenceEncoder) -> None:
        """Raise BundleError if sentences are encoded by other weights than this bundle was trained with."""
        digest = str(self.bundle.spec["text"]["sentence_digest"])
        if digest and encoder.digest != digest:
            raise BundleError(
                f"text bundle {self.bundle.name} was trained with another sentence encoder ({digest[:16]}, here "
                f"{encoder.digest[:16]}); use the version of medlike it was made with, or train the text bundle again"
            )

    @cached_property
    def golden_share(self) -> float:
        """Return the share of golden bits that this host computes as the bundle's maker did, 0 to 1."""
        return cached_share(self.bundle.digest, self._measured_share, GOLDEN_SHARE)

    def _measured_share(self) -> float:
        bundle = self.bundle
        values = golden_values(self._session, bundle.array("golden.content"), bundle.array("golden.sentences"))
        return float(((values > 0) == bundle.golden_bits()).mean())

    def require_golden(self) -> None:
        """Raise BundleError if this host's bits differ too much to be mixed with other hosts'."""
        if self.golden_share < GOLDEN_SHARE:
            raise BundleError(golden_message(self.bundle, self.golden_share))


def same_content(images: Bundle, encoder_digest: str) -> bool:
    """Return whether an image bundle gives the content vectors of the encoder with a digest.

    It does if it has that encoder, and if its content of the golden pictures equals that of the shipped bundle
    with that encoder: both run here, in float32, to the last bit, so that any weight that is another one shows.
    """
    if images.encoder_digest == encoder_digest:
        return True
    known = next((each for each in map(Bundle.load, shipped()) if each.encoder_digest == encoder_digest), None)
    if known is None or any(known.spec[key] != images.spec[key] for key in ("content_dim", "preprocessing")):
        return False
    pictures = list(known.golden_inputs())
    with Encoder(known) as one, Encoder(images) as other:
        return bool(np.array_equal(one.features(pictures, "content"), other.features(pictures, "content")))


def _shaped(what: str, value: Array, width: int, kind: Type) -> None:
    if value.ndim != 2 or value.shape[1] != width or value.dtype != kind:
        raise InputError(
            f"{what} of shape {list(value.shape)} and type {value.dtype} do not fit; "
            f"the text bundle takes {kind} [N, {width}]"
        )
