"""The first k of many ties are those of a full sort."""

import numpy as np
import pytest

from medlike.archive.index.candidates import Field
from medlike.archive.index.index import Part
from medlike.archive.index.segment import Layout, Segment
from medlike.archive.search.ranking import rank
from medlike.inference.encoding import similarity

NUMBER = 3000


@pytest.mark.parametrize("mode", ["content", "hamming"])
@pytest.mark.parametrize("k", [1, 7, 100, 2900, 4000])
@pytest.mark.parametrize("removed", [0, 50, 600])
def test_ties_are_ordered_as_by_a_full_sort(mode, k, removed):
    random = np.random.default_rng(k)
    codes = random.choice(np.array([0, 1, 3], np.uint8), (NUMBER, 8), p=[0.9, 0.08, 0.02])
    # Few contents and ids that differ late, so that every key of the order decides somewhere.
    content = random.integers(-127, 128, (5, 16), dtype=np.int8)[random.integers(0, 5, NUMBER)]
    ids = np.zeros((NUMBER, 16), np.uint8)
    ids[:, 7] = random.integers(0, 3, NUMBER)
    ids[:, 14:] = random.permutation(NUMBER).astype(">u2").view(np.uint8).reshape(-1, 2)
    arrays = {"rows": np.arange(NUMBER), "ids": ids, "codes": codes, "content": content}
    # Few rows are left out of the answer, many by a mask; the best are among them.
    dead = np.sort(random.permutation(NUMBER)[:removed])
    part = Part(Segment(Layout("", 64, 16), -1, 0, arrays, {}), NUMBER, dead)
    query = np.zeros(8, np.uint8)
    found = rank([Field.of(part, None)], query, content[0], k, mode)
    distances = np.bitwise_count(codes).sum(axis=1)
    alike = similarity(content[0], content)
    live = np.setdiff1d(np.arange(NUMBER), dead)
    keys = [(distances[i], -alike[i] if mode == "content" else 0, ids[i].tobytes(), i) for i in live]
    assert found.position.tolist() == [key[-1] for key in sorted(keys)][:k]
