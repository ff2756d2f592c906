"""What the graph of a text bundle takes and gives, and the golden rows by which a host proves itself.

Inputs: `content` float32 [1, D], the int8 values of an image bundle's content vector; `sentence` float32 [1, S];
`present` float32 [1, 2], 1 where the image, the sentence is there, else 0 (the input of an absent side is zeros).
Outputs: `bits` float32 [1, K], a bit is value > 0; `embedding` float32 [1, E], of unit length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medlike.bundle.phantoms import COUNT
from medlike.types import F32, I8

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

IMAGE, TEXT, BOTH = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)
VIEWS = (IMAGE, TEXT, BOTH)


def cross_values(session: InferenceSession, content: I8, sentences: F32, view: tuple[float, float]) -> tuple[F32, F32]:
    """Return the outputs "bits" [N, K] and "embedding" [N, E] of each pair run alone: no row depends on another.

    content: int8 [N, D], sentences: float32 [N, S]; both are given, an absent side as zeros. view: which is there.
    """
    present = np.array([view], np.float32)
    wide = content.astype(np.float32)
    rows = [
        session.run(
            ["bits", "embedding"], {"content": wide[i : i + 1], "sentence": sentences[i : i + 1], "present": present}
        )
        for i in range(len(wide))
    ]
    return np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows])


def golden_rows(content_dim: int, sentence_width: int, count: int = COUNT) -> tuple[I8, F32]:
    """Return made-up pairs: content int8 [count, D] and sentences float32 [count, S] of unit length."""
    random = np.random.Generator(np.random.PCG64(1000))
    content = random.normal(size=(count, content_dim))
    content *= 127 / np.abs(content).max(axis=1, keepdims=True)
    sentences = random.normal(size=(count, sentence_width))
    sentences /= np.linalg.norm(sentences, axis=1, keepdims=True)
    return np.rint(content).astype(np.int8), sentences.astype(np.float32)


def golden_values(session: InferenceSession, content: I8, sentences: F32) -> F32:
    """Return the output "bits" of the golden rows in the three views, float32 [3 N, K]: images, sentences, both."""
    no_content, no_sentence = np.zeros_like(content), np.zeros_like(sentences)
    sides = ((content, no_sentence), (no_content, sentences), (content, sentences))
    return np.concatenate([cross_values(session, *pair, view)[0] for pair, view in zip(sides, VIEWS, strict=True)])
