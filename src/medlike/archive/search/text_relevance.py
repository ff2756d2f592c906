"""Whether any text of an archive is about a query, judged by the archive's own texts.

The nearest text has some distance to every query, and cross-modal codes lie near each other for sentences that they
were never trained on. So sentence vectors are compared: the query's with those of texts of the archive. What two
texts have in common that are about different things is seen from pairs of the archive's texts that share no word.
A query is unrelated if both hold:

- its similarity to the archive's texts is usually (median) lower than that of 95 in 100 pairs of unrelated texts;
- no text is more similar to it than 95 in 100 pairs of unrelated texts are to each other. Compared are the sample
  and the texts nearest by code.

The first alone would refuse a query that few texts are about, the second alone one whose texts are long.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medlike.archive.index.candidates import Field
from medlike.archive.index.text_sample import TextSample
from medlike.archive.search.ranking import rank

if TYPE_CHECKING:
    from medlike.archive.index.index import View
    from medlike.archive.session import Session
    from medlike.archive.text_encoder import TextEncoder

SAMPLE = 64  # texts whose pairs are compared; 0.7 s once a process
LEAST_TEXTS = 100  # texts of an archive; below, too few to judge
COVERED = 0.5  # texts for each image: where most images have none, texts say little about what is there
NEAREST = 32  # texts nearest by code that are compared too
GROWTH = 2  # factor of texts from which the sample is drawn anew


def is_unrelated(session: "Session", text: str, words: Sequence[str]) -> bool | None:
    """Return whether no text of the archive is about a text; None if there are too few texts to judge.

    Args:
        session: The archive, with a text bundle and a sentence encoder.
        text: What is searched for.
        words: Its words; a text that has all of them is about it.
    """
    encoder = session.loaded.text_encoder
    if encoder is None or not session.indexes.has_texts():
        return None
    if words and session.indexes.words.holds_all(words):
        return False
    view = session.indexes.texts.view()
    if len(view) < max(LEAST_TEXTS, COVERED * len(session.index.view())):
        return None
    sample = _sample(session, encoder, view)
    if sample.low is None or sample.high is None:
        return None
    vector = encoder.sentences.encode([text])[0]
    similarity = sample.vectors @ vector
    if np.median(similarity) >= sample.low or similarity.max() >= sample.high:
        return False
    nearest = _nearest(session, encoder, view, text)
    return not nearest or bool((encoder.sentences.encode(nearest) @ vector).max() < sample.high)


def _sample(session: "Session", encoder: "TextEncoder", view: "View") -> TextSample:
    """Return the archive's sample; it is drawn anew when the archive has grown or shrunk much."""
    sample = encoder.sample
    if sample is None or not sample.texts / GROWTH < len(view) < sample.texts * GROWTH:
        numbers = np.concatenate([
            np.delete(part.segment.array("rows")[: part.rows], part.dead) for part in view.parts
        ])  # fmt: skip
        # Evenly spread over the archive, and more than needed: captions repeat.
        some = numbers[np.linspace(0, len(numbers) - 1, min(len(numbers), 8 * SAMPLE)).astype(np.int64)]
        texts = [row[2] for number in some.tolist() if (row := session.store.text(number)) is not None]
        different = [text for text in dict.fromkeys(texts) if encoder.sentences.readable(text)]
        chosen = [different[at] for at in np.linspace(0, len(different) - 1, min(len(different), SAMPLE)).astype(int)]
        vectors = encoder.sentences.encode(chosen) if chosen else np.empty((0, 0), np.float32)
        sample = encoder.sample = TextSample.of(len(view), chosen, vectors)
    return sample


def _nearest(session: "Session", encoder: "TextEncoder", view: "View", text: str) -> list[str]:
    """Return the different texts that are nearest to a text by code."""
    codes = encoder.query(text, None)
    fields = [Field.of(part).coded() for part in view.parts]
    ranked = rank(fields, codes.code[0], codes.embedding[0], NEAREST)
    numbers = [
        int(fields[part].part.segment.array("rows")[position])
        for part, position in zip(ranked.part.tolist(), ranked.position.tolist(), strict=True)
    ]
    return list(dict.fromkeys(row[2] for number in numbers if (row := session.store.text(number)) is not None))
