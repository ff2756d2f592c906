"""Whether any text of an archive is about a query, judged by the archive's own texts.

The nearest text has some distance to every query, and cross-modal codes lie near each other for sentences that they
were never trained on. So sentence vectors are compared: the query's with those of texts of the archive. What two
texts have in common that are about different things is seen from pairs of the archive's texts that share no word.
A query is unrelated if both hold:

- its similarity to the archive's texts is usually (median) lower than that of 95 in 100 pairs of unrelated texts;
- no text is more similar to it than 95 in 100 pairs of unrelated texts are to each other. Compared are the sample
  and the texts nearest by code.

The first alone would refuse a query that few texts are about, the second alone one whose texts are long.

The sentences that the fields of images make count as texts. Where few of all these differ so much that they share no
word, names of findings and places, which are about different things too, stand in for their pairs.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medlike.archive.index.candidates import Field
from medlike.archive.index.field_sentences import COLUMNS, field_sentence
from medlike.archive.index.text_sample import TextSample
from medlike.archive.search.ranking import rank

if TYPE_CHECKING:
    from medlike.archive.index.index import Part, View
    from medlike.archive.session import Session
    from medlike.archive.text_encoder import TextEncoder

SAMPLE = 64  # texts whose pairs are compared; 0.7 s once a process
LEAST_TEXTS = 100  # texts of an archive; below, too few to judge
COVERED = 0.5  # texts for each image: where most images have none, texts say little about what is there
NEAREST = 32  # texts nearest by code that are compared too
GROWTH = 2  # factor of texts from which the sample is drawn anew


def is_unrelated(
    session: "Session", text: str, words: Sequence[str], alternatives: Mapping[str, Sequence[str]]
) -> bool | None:
    """Return whether no text of the archive is about a text; None if there are too few texts to judge.

    Args:
        session: The archive, with a text bundle and a sentence encoder.
        text: What is searched for.
        words: Its words; a text that has all of them is about it.
        alternatives: What means the same, by expression of the text; it may stand in place of the expression.
    """
    encoder = session.loaded.text_encoder
    if encoder is None:
        return None
    indexes = session.indexes
    holders = ([indexes.words] if indexes.has_texts() else []) + ([indexes.field_words] if indexes.sentences else [])
    if words and any(holder.holds_all(every) for every in _wordings(words, alternatives) for holder in holders):
        return False
    views = _views(session)
    if sum(map(len, views)) < max(LEAST_TEXTS, COVERED * len(session.index.view())):
        return None
    sample = _sample(session, encoder, views)
    if sample.low is None or sample.high is None:
        return None
    vector = encoder.sentences.encode([text])[0]
    similarity = sample.vectors @ vector
    if np.median(similarity) >= sample.low or similarity.max() >= sample.high:
        return False
    nearest = _nearest(session, encoder, views, text)
    return not nearest or bool((encoder.sentences.encode(nearest) @ vector).max() < sample.high)


def _wordings(words: Sequence[str], alternatives: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Yield the words of a text; and those with one expression replaced by another that means the same."""
    yield list(words)
    for expression, others in alternatives.items():
        rest = [word for word in words if word not in expression.split(" ")]
        for other in others:
            yield [*rest, *other.split(" ")]


def _views(session: "Session") -> "list[View]":
    """Return what counts as texts: the texts of the archive, and the images by their fields' sentences."""
    indexes = session.indexes
    texts = [indexes.texts.view()] if indexes.has_texts() else []
    return texts if indexes.sentences is None else [*texts, indexes.sentences.view()]


def _sample(session: "Session", encoder: "TextEncoder", views: "Sequence[View]") -> TextSample:
    """Return the archive's sample; it is drawn anew when the archive has grown or shrunk much."""
    sample, count = encoder.sample, sum(map(len, views))
    if sample is None or not sample.texts / GROWTH < count < sample.texts * GROWTH:
        texts = []
        for view in views:
            for part in view.parts:
                positions = np.delete(np.arange(part.rows), part.dead)
                # Evenly spread over the archive, and more than needed: captions repeat.
                some = np.linspace(0, len(positions) - 1, min(len(positions), -(-8 * SAMPLE * len(positions) // count)))
                texts += [_text(session, part, int(positions[at])) for at in some.astype(np.int64)]
        different = [text for text in dict.fromkeys(texts) if encoder.sentences.readable(text)]
        chosen = [different[at] for at in np.linspace(0, len(different) - 1, min(len(different), SAMPLE)).astype(int)]
        vectors = encoder.sentences.encode(chosen) if chosen else np.empty((0, 0), np.float32)
        sample = TextSample.of(count, chosen, vectors)
        if sample.low is None and chosen:
            from medlike.imaging.paraphrases import meanings

            names = [meaning.says[0] for meaning in meanings()]
            apart = TextSample.of(count, names, encoder.sentences.encode(names))
            # Sentences of fields are short: what is about one is like it.
            sample = TextSample(count, vectors, apart.high, apart.high)
        encoder.sample = sample
    return sample


def _nearest(session: "Session", encoder: "TextEncoder", views: "Sequence[View]", text: str) -> list[str]:
    """Return the different texts that are nearest to a text by code."""
    codes = encoder.query(text, None)
    fields = [Field.of(part) for view in views for part in view.parts]
    fields = [field.coded() if field.part.segment.layout.of == "texts" else field for field in fields]
    ranked = rank(fields, codes.code[0], codes.embedding[0], NEAREST)
    places = zip(ranked.part.tolist(), ranked.position.tolist(), strict=True)
    texts = [_text(session, fields[part].part, position) for part, position in places]
    return [text for text in dict.fromkeys(texts) if text]


def _text(session: "Session", part: "Part", position: int) -> str:
    """Return the text at a position, or the sentence of the image there; "" if it was erased a moment ago."""
    number = int(part.segment.array("rows")[position])
    if part.segment.layout.of == "texts":
        row = session.store.text(number)
        return "" if row is None else row[2]
    image = session.store.images([number]).get(number)
    return "" if image is None else field_sentence({name: getattr(image, name) for name in COLUMNS})
