"""Rankings are fused by place, with weights."""

import pytest

from medlike import Query
from medlike.archive.search.fusion import SMOOTHING


def alone(archive, query, name, **settings):
    """The ids of one ranking, in order."""
    weights = dict.fromkeys(("words", "texts", "pictures", "image"), 0.0) | {name: 1.0}
    return [hit.id for hit in archive.search(query, weights=weights, k=100, **settings)]


def naive(archive, query, weights, names, **settings):
    """Fusion written down again: ids by (-score, id)."""
    scores = {}
    for name in names:
        for place, id in enumerate(alone(archive, query, name, **settings), 1):
            scores[id] = scores.get(id, 0.0) + weights.get(name, 1.0) / (SMOOTHING + place)
    return [id for id, _ in sorted(scores.items(), key=lambda item: (-item[1], item[0]))]


def test_rankings_are_fused_by_place(worded, tmp_path):
    picture = tmp_path / "captioned" / "0003.png"
    names = ("words", "texts", "pictures")
    for query, used in ((Query(text="left effusion"), names), (Query(image=picture, text="head"), (*names, "image"))):
        for weights in ({}, {"words": 3.0, "pictures": 0.25}):
            result = worded.search(query, k=100, weights=weights)
            assert [hit.id for hit in result] == naive(worded, query, weights, used)
            assert result.weights == {name: weights.get(name, 1.0) for name in used}
            for hit in result:
                expected = sum(weights.get(name, 1.0) / (SMOOTHING + place) for name, place in hit.ranks.items())
                assert hit.score == pytest.approx(expected, abs=1e-12)
