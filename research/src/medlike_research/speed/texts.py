"""`medlike bench text`: searching in words over a large archive, and the look-up of 16-bit codes."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlike import Archive
from medlike.archive.index.bm25 import terms
from medlike.archive.index.segment import UNIT
from medlike.archive.search.encoded_query import EncodedQuery
from medlike.archive.search.text_query import TextQuery
from medlike.archive.storage.folder import TextBundleFacts
from medlike.codes.buckets import BucketTable
from medlike_research.speed.gallery import codes
from medlike_research.speed.population import populated
from medlike_research.speed.timing import Figures, rounds

K = 10
WIDTH = 64  # numbers of an embedding
WORDS, LENGTH = 20_000, 12  # of the vocabulary, and of a text
# Ranks of the words asked for, by frequency: the commonest of these is in a third of the texts, as `effusion` may be
# in an archive of chest radiographs.
ASKED = (2, 5, 40)
DIGEST = "7e" * 32
PAGE = 20_000


def bench(quick: bool = False, images: int | None = None, tell: Callable[[str], None] = print) -> Figures:
    """Run all parts. images: each with a text (1 M; quick 100,000); ten times as many codes are looked up.

    Lines in seconds: text-query: a query in words, without the encoder, from its words to the metadata of its hits,
    all three rankings fused, words asked for before; text-query-first: words that nobody asked for since the archive
    was opened; text-filter: with a filter that a tenth of the images pass; text-words, text-meaning: one kind of
    ranking alone; text-lookup-16: the nearest of clustered 16-bit codes by bucket table.
    """
    number = images or (100_000 if quick else 1_000_000)
    times = 7 if quick else 15
    found = Figures("text", {"images": number, "k": K, "rounds": times, "quick": quick})
    _lookup(found, 10 * number, tell)
    tell(f"an archive of {number:,} images with texts")
    with TemporaryDirectory() as folder, described(folder, number) as archive:
        ask = partial(_search, archive, ASKED)
        began = time.perf_counter()
        ask()
        found.seconds("text-open", time.perf_counter() - began)
        rivals: dict[str, Callable[[], Any]] = {
            "query": ask,
            "filter": partial(ask, where={"label": "tenth"}),
            "words": partial(ask, weights={"texts": 0, "pictures": 0}),
            "meaning": partial(ask, weights={"words": 0}),
        }
        for name, value in rounds(rivals, times).items():
            found.seconds(f"text-{name}", value.median)
            found.facts[f"text-{name}"] = asdict(value)
        first = []
        for turn in range(3):
            began = time.perf_counter()
            _search(archive, [rank + 1 + turn for rank in ASKED])
            first.append(time.perf_counter() - began)
        found.seconds("text-query-first", statistics.median(first))
    return found


def _lookup(found: Figures, number: int, tell: Callable[[str], None]) -> None:
    tell(f"{number:,} clustered codes of 16 bits")
    held = codes("clustered", number, 16)
    table = BucketTable.of(held)
    random = np.random.default_rng(2)
    # As queries come: near what is stored.
    queries = held[random.integers(0, number, 400)] ^ np.packbits(random.random((400, 16)) < 0.02, axis=1)
    for query in queries[:20]:
        table.nearest(query, K)
    spent = []
    for query in queries:
        began = time.perf_counter()
        table.nearest(query, K)
        spent.append(time.perf_counter() - began)
    found.seconds("text-lookup-16", statistics.median(spent))
    found.facts["text-lookup-16"] = {"codes": number, "p95": float(np.percentile(spent, 95))}


def _search(archive: Archive, ranks: Any, **settings: Any) -> Any:
    """A search as `Archive.search` does it once the text is encoded."""
    text = " ".join(f"w{rank}" for rank in ranks)
    random = np.random.default_rng(int(ranks[0]))
    code = codes("clustered", 1000, 16)[int(random.integers(1000))]
    embedding = _embeddings(random, 1)[0]
    wording = TextQuery(text, terms(text), code, embedding, DIGEST)
    asked = EncodedQuery(np.empty(0, np.uint8), np.empty(0, np.int8), None, {}, text=wording)
    return archive.repeat(
        {
            "bundle": archive._folder.bundle.digest,
            "generation": archive._store.generation(),
            "settings": {"k": K, **settings},
            "query": asked.facts(),
        }
    )


@contextmanager
def described(folder: str | Path, number: int) -> Iterator[Archive]:
    """An archive of images that were never there, each with a text and with cross-modal codes; and its indexes."""
    facts = TextBundleFacts("bench", DIGEST, 16, WIDTH, "")
    labels = ["tenth" if at % 10 == 0 else "rest" for at in range(number)]
    with populated(folder, codes("clustered", number, 64), labels, facts) as made:
        archive, random = made.archive, np.random.default_rng(4)
        share = 1 / np.arange(1, WORDS + 1)
        crossed = codes("clustered", number, 16)
        for start in range(0, number, PAGE):
            count = min(PAGE, number - start)
            drawn = random.choice(WORDS, (count, LENGTH), p=share / share.sum())
            of_pictures, of_texts = _embeddings(random, count), _embeddings(random, count)
            rows = range(start + 1, start + count + 1)
            own = crossed[start : start + count]
            with archive._store.commit("encode") as commit:
                execute = commit.connection.executemany
                execute(
                    "INSERT INTO texts(number, row, kind, text) VALUES (?, ?, 'report', ?)",
                    [
                        (64 * row, row, " ".join(f"w{word}" for word in words))
                        for row, words in zip(rows, drawn.tolist(), strict=True)
                    ],
                )
                execute("INSERT INTO field_encodings VALUES (?, ?, x'', x'')", [(row, DIGEST) for row in rows])
                execute(
                    "INSERT INTO encodings(row, bundle, code, content) VALUES (?, ?, ?, ?)",
                    [
                        (row, DIGEST, code.tobytes(), vector.tobytes())
                        for row, code, vector in zip(rows, own, of_pictures, strict=True)
                    ],
                )
                execute(
                    "INSERT INTO text_encodings(number, bundle, code, embedding) VALUES (?, ?, ?, ?)",
                    [
                        (64 * row, DIGEST, code.tobytes(), vector.tobytes())
                        for row, code, vector in zip(rows, own[::-1], of_texts, strict=True)
                    ],
                )
        archive._indexes.rebuild()
        yield archive


def _embeddings(random: np.random.Generator, number: int) -> NDArray[np.int16]:
    vectors = random.normal(size=(number, WIDTH))
    return np.rint(vectors / np.linalg.norm(vectors, axis=1, keepdims=True) * UNIT).astype("<i2")
