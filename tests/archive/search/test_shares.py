"""What a similarity means in an archive: how often pairs as alike share a label, or how near neighbours are."""

import json

import numpy as np
import pytest

from medlike import Query, Result
from medlike.archive.index.neighbours import LabelPairs
from medlike.archive.search.hits import BAND, label_shares
from medlike.display import legend, sheet


def patients(population, number, labels, noise=20):
    """Images of one patient each around as many centres as there are labels, None for images without one."""
    centres = [population.content().astype(float) for _ in labels]
    kinds = [at % len(labels) for at in range(number)]
    contents = [
        np.clip(0.8 * centres[kind] + population.random.normal(0, noise, len(centres[0])), -127, 127).astype(np.int8)
        for kind in kinds
    ]
    return population.add(
        number, contents=contents, label=[labels[kind] for kind in kinds],
        patient=[f"{population.number + at:032x}" for at in range(number)],
    )  # fmt: skip


def test_the_share_is_that_of_the_pairs_nearest_in_similarity(population):
    ids = patients(population, 150, ["mass", "nodule", "none"], noise=60)
    result = population.archive.search(Query(id=ids[0]), k=150)
    rows = [population.rows[id] for id in sorted(ids, key=lambda id: population.rows[id]["row"])]
    pairs = sorted(
        (population.similarity(one["content"], other["id"]), one["metadata"]["label"] == other["metadata"]["label"])
        for at, one in enumerate(rows)
        for other in rows[at + 1 :]
    )
    similarities = np.array([near for near, _ in pairs], np.float32)
    for hit in result:
        middle = np.searchsorted(similarities, np.float32(hit.similarity))
        start = max(0, min(middle - BAND // 2, len(pairs) - BAND))
        assert hit.label_share == pytest.approx(np.mean([same for _, same in pairs[start : start + BAND]]), abs=0.02)
        assert hit.neighbour_share is None
    assert result[0].label_share > 0.9 > 0.2 > result[-1].label_share


def test_without_labels_the_similarity_is_told_by_the_nearest_neighbours(population):
    ids = patients(population, 130, [None, None])
    result = population.archive.search(Query(id=ids[0]), k=130)
    usual = np.sort([max(population.similarity(population.rows[one]["content"], other) for other in ids if other != one)
                     for one in ids])  # fmt: skip
    for hit in result:
        assert hit.label_share is None
        assert hit.neighbour_share == pytest.approx(np.mean(usual <= hit.similarity + 1e-7), abs=0.01)


def test_nothing_is_claimed_from_few_images(population):
    few = patients(population, 30, ["mass", None])
    for hit in population.archive.search(Query(id=few[0]), k=30):
        assert hit.label_share is None and hit.neighbour_share is None
    # Many pairs, but the most similar ones are of few patients.
    first, second = np.triu_indices(25, 1)
    pairs = LabelPairs(np.linspace(0, 1, len(first), dtype=np.float32), first, second, np.zeros(25, np.int64))
    assert len(first) > BAND and label_shares(pairs, np.array([0.5], np.float32)) == [None]


def test_images_that_are_removed_no_longer_count(population):
    ids = patients(population, 150, ["mass", "nodule"])
    before = population.archive.search(Query(id=ids[0]), k=1)
    assert before[0].label_share is not None
    population.remove(ids[40:])
    assert population.archive.search(Query(id=ids[0]), k=1)[0].label_share is None
    # A receipt repeats with the archive of its time.
    assert population.archive.repeat(before.receipt)[0].label_share == before[0].label_share


def test_shares_are_shown_and_are_part_of_the_data(population):
    ids = patients(population, 150, ["mass", "nodule"])
    result = population.archive.search(Query(id=ids[0]), k=3)
    assert sheet.measure(result[0]).endswith(f" · {100 * result[0].label_share:.0f} % share a label")
    assert ("share a label", legend.LABEL) in legend.legend([result])
    assert "% share a label" in result.page()
    assert json.loads(result.to_json())["hits"][0]["label_share"] == result[0].label_share
    assert Result.from_dict(result.to_dict())[0].label_share == result[0].label_share
    former = result.to_dict()
    for hit in former["hits"]:
        del hit["label_share"], hit["neighbour_share"]
    assert Result.from_dict(former)[0].label_share is None
    grouped = population.archive.search(Query(id=ids[0]), k=3, group_by="study")
    assert grouped[0].label_share == result[0].label_share


def test_a_hit_without_a_label_share_is_told_by_its_neighbours():
    from medlike import Hit

    hit = Hit(1, "0", 0, 0.9, neighbour_share=0.734)
    assert sheet.measure(hit) == "0 bits · similarity 0.90 · nearer than 73 % here"
    assert legend.legend([Result([hit])])[-1] == ("nearer here", legend.NEARER)


@pytest.mark.parametrize("width", [200, 80])
def test_the_table_says_what_the_similarity_means(population, monkeypatch, capsys, width):
    from rich.console import Console

    from medlike.cli import screen
    from medlike.cli.answers import show

    console = Console(width=width)
    monkeypatch.setattr(screen, "out", lambda: console)
    ids = patients(population, 150, ["mass", "nodule"])
    result = population.archive.search(Query(id=ids[0]), k=3)
    show(result)
    shown = capsys.readouterr().out
    assert ("meaning" in shown) == (width == 200)
    assert f"{100 * result[0].label_share:.0f} % share a label" in shown
