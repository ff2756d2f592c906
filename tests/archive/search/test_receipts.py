"""Receipts: the same answer again, and a refusal or a warning where that cannot be."""

import json

import numpy as np
import pytest

from medlike import Query
from medlike.errors import QueryError


def test_a_receipt_gives_the_same_answer_after_the_archive_has_changed(population):
    asked = population.add(60, modality=["CT", "MR"] * 30, study=[f"{at % 7:032x}" for at in range(60)])[0]
    search = population.archive.search
    for chosen in (
        {}, {"where": {"modality": "CT"}}, {"rank": "radius", "radius": 30}, {"group_by": "study", "k": 4},
        {"include_self": True}, {"exclude_own_patient": True},
    ):  # fmt: skip
        before = search(Query(id=asked), **chosen)
        receipt = json.loads(json.dumps(before.receipt))
        population.add(30, modality="CT")
        population.remove(list(population.alive())[5:8])
        after = population.archive.repeat(receipt)
        assert [hit.as_dict() for hit in after.hits] == [hit.as_dict() for hit in before.hits]
        assert after.erased == 0
        assert not any("differs" in warning for warning in after.warnings)
        assert after.receipt["answer"] == receipt["answer"]


def test_a_receipt_says_how_many_images_were_erased_since(population):
    population.add(20)
    asked = population.add(1)[0]
    receipt = population.archive.search(Query(id=asked)).receipt
    doomed = [id for id in population.alive() if id != asked][:3]
    population.archive.remove(doomed, erase=True)
    result = population.archive.repeat(receipt)
    assert result.erased == 3
    assert not {hit.id for hit in result.hits} & set(doomed)
    assert result.as_dict()["erased"] == 3


def test_a_receipt_of_another_archive_is_refused_and_one_without_a_name_taken_with_a_word(population):
    asked = population.add(3)[0]
    receipt = population.archive.search(Query(id=asked)).receipt
    assert len(receipt["archive"]) == 32 and receipt["archive"] != population.archive._folder.key
    with pytest.raises(QueryError, match="the receipt is of archive 0000000000000000, this is"):
        population.archive.repeat(receipt | {"archive": "0" * 32})
    former = {name: value for name, value in receipt.items() if name != "archive"}
    assert population.archive.repeat(former).warnings == (
        "the receipt names no archive: it is of an earlier medlike, and taken for one of this archive",
    )


def test_a_receipt_of_another_bundle_or_a_foreign_paper_is_refused(population):
    asked = population.add(3)[0]
    receipt = population.archive.search(Query(id=asked)).receipt
    with pytest.raises(QueryError, match="bundle"):
        population.archive.repeat(receipt | {"bundle": "0" * 64})
    with pytest.raises(QueryError, match="no receipt"):
        population.archive.repeat({"hits": []})


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ({"k": np.int64(5)}, {"k": 5}),
        ({"radius": np.uint8(9)}, {"radius": 9}),
        ({"region_weight": np.float32(0.5)}, {"region_weight": 0.5}),
        ({"include_self": np.True_}, {"include_self": True}),
        ({"where": {"age": {"gte": np.int64(4)}}}, {"where": {"age": {"gte": 4}}}),
        ({"where": {"age": {"in": np.array([4, 5])}}}, {"where": {"age": {"in": [4, 5]}}}),
        ({"where": {"label": {"in": iter("ab")}}}, {"where": {"label": {"in": ["a", "b"]}}}),
    ],
)
def test_a_receipt_says_in_plain_values_what_was_asked(population, given, plain):
    ids = population.add(6, age=[3, 4, 5, 6, 7, 8], label=list("aabbcc"))
    receipt = population.archive.search(Query(id=ids[3]), **given).receipt
    assert json.loads(json.dumps(receipt)) == receipt
    assert {name: receipt["settings"][name] for name in plain} == plain
    assert population.archive.repeat(receipt).receipt == receipt
