"""What a similarity means in an archive: how often pairs as alike share a label, or how near neighbours are."""

import itertools
import json

import numpy as np
import pytest

from medlike import Query, Result
from medlike.archive.index.neighbours import BAND, PATIENTS, LabelPairs, pooled
from medlike.archive.search.hits import label_shares
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


def naive_steps(pairs):
    """Bands of pairs (similarity, same) from the most similar down, joined until their shares ascend."""
    pairs = sorted(pairs, key=lambda pair: pair[0])
    bands = []
    while len(pairs) >= 2 * BAND:
        bands.insert(0, pairs[-BAND:])
        pairs = pairs[:-BAND]
    bands.insert(0, pairs)
    while True:
        shares = [np.mean([same for _, same in band]) for band in bands]
        falls = [at for at in range(len(bands) - 1) if shares[at] >= shares[at + 1]]
        if not falls:
            return [(band[0][0], share) for band, share in zip(bands, shares, strict=True)]
        bands[falls[0] : falls[0] + 2] = [bands[falls[0]] + bands[falls[0] + 1]]


def looked_up(steps, similarity):
    return next((share for start, share in reversed(steps) if similarity >= start), steps[0][1])


@pytest.mark.parametrize("number", [5, 29, 60, 121])
def test_shares_are_those_of_a_naive_twin_and_never_fall(number):
    random = np.random.default_rng(number)
    for _ in range(5):
        first, second = np.triu_indices(number, 1)
        labels = random.integers(0, 3, number)
        same = labels[first] == labels[second]
        # Somewhat more similar with the same label, in coarse steps, so that there are ties.
        near = np.sort(np.round(random.normal(0, 0.2, len(first)), 2)).astype(np.float32)
        order = np.argsort(random.normal(0, 1, len(first)) + same)
        pairs = LabelPairs(near, first[order], second[order], labels)
        queries = np.concatenate([random.uniform(-1, 1, 50), near[::7], [np.nan]]).astype(np.float32)
        shares = label_shares(pairs, queries)
        assert shares[-1] is None
        if len(near) < BAND:
            assert set(shares) == {None}
            continue
        steps = naive_steps(list(zip(near.tolist(), same[order].tolist(), strict=True)))
        expected = [looked_up(steps, float(query)) for query in queries[:-1]]
        if number >= PATIENTS + 10:
            assert shares[:-1] == pytest.approx(expected)
            rising = [share for _, share in sorted(zip(queries[:-1].tolist(), shares[:-1], strict=True))]
            assert all(one <= other for one, other in itertools.pairwise(rising)) and len(set(rising)) > 3
        else:
            assert set(shares) == {None}  # no band is of 50 images


def test_blocks_are_pooled_until_their_means_ascend():
    ones = np.ones(4, np.int64)
    assert pooled(np.array([0.1, 0.2, 0.3, 0.4]), ones).tolist() == [0, 1, 2, 3]
    assert pooled(np.array([0.4, 0.3, 0.2, 0.1]), ones).tolist() == [0]
    assert pooled(np.array([0.1, 0.9, 0.5, 0.8]), ones).tolist() == [0, 1, 3]
    # The mean of a block is by size: 0.9 counts once, 0.2 nine times.
    assert pooled(np.array([0.1, 0.9, 0.2, 0.25]), np.array([1, 1, 9, 1])).tolist() == [0, 1]
    assert pooled(np.array([0.1, 0.9, 0.2, 0.28]), np.array([1, 1, 9, 1])).tolist() == [0, 1, 3]
    assert pooled(np.empty(0), ones[:0]).tolist() == []


def test_the_share_is_that_of_the_pairs_of_the_archive_as_similar(population):
    ids = patients(population, 150, ["mass", "nodule", "none"], noise=60)
    result = population.archive.search(Query(id=ids[0]), k=150)
    rows = [population.rows[id] for id in sorted(ids, key=lambda id: population.rows[id]["row"])]
    pairs = sorted(
        (population.similarity(one["content"], other["id"]), one["metadata"]["label"] == other["metadata"]["label"])
        for at, one in enumerate(rows)
        for other in rows[at + 1 :]
    )
    steps = naive_steps(pairs)
    for hit in result:
        assert hit.label_share == pytest.approx(looked_up(steps, hit.similarity + 1e-6), abs=0.02)
        assert hit.neighbour_share is None
    assert all(one.label_share >= other.label_share for one, other in itertools.pairwise(by_similarity(result)))
    assert result[0].label_share > 0.9 > 0.2 > result[-1].label_share


def by_similarity(result):
    return sorted(result, key=lambda hit: -hit.similarity)


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


def test_of_an_outlier_nothing_is_said_that_was_measured_on_known_images(population):
    ids = patients(population, 150, ["mass", "nodule"])
    known = population.archive.search(Query(id=ids[0]), k=3)
    assert known[0].label_share is not None and "summary" in known.as_dict()
    population.store.connection.execute("UPDATE encodings SET outlier_score = 9.0, outlier_p = 0.001")
    judged = population.archive.search(Query(id=ids[0]), k=3)
    assert judged.is_outlier and not known.is_outlier
    assert [hit.id for hit in judged] == [hit.id for hit in known]
    assert all(hit.label_share is None and hit.neighbour_share is None for hit in judged)
    assert "summary" not in judged.as_dict()
    assert ("interval", legend.INTERVAL) not in legend.legend([judged])
    assert not any("patients nearest" in sentence for sentence, _ in sheet.judgements(judged))
    assert any("patients nearest" in sentence for sentence, _ in sheet.judgements(known))
    assert judged.summary().values  # whoever asks for it gets it
