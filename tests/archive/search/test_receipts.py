"""Receipts: the same answer again, and a refusal or a warning where that cannot be."""

import json

import numpy as np
import pytest

from medlike import Archive, Query
from medlike.errors import ArchiveError, QueryError


def test_a_receipt_gives_the_same_answer_after_the_archive_has_changed(population):
    asked = population.add(60, modality=["CT", "MR"] * 30, study=[f"{at % 7:032x}" for at in range(60)])[0]
    search = population.archive.search
    for chosen in (
        {}, {"where": {"modality": "CT"}}, {"rank": "radius", "radius": 30}, {"group_by": "study", "k": 4},
        {"include_self": True}, {"exclude_own_patient": True}, {"collapse": "patient", "k": 4},
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
        # Receipts from before there was a choice say nothing of it.
        assert ("collapse" in receipt["settings"]) == ("collapse" in chosen)


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


@pytest.fixture
def copied(population, tmp_path):
    """An archive, a restored backup of it, and a restored backup of that one; each goes on by itself."""
    ids = population.add(4)
    first = population.archive
    first.backup(tmp_path / "backup", with_id_key=True, links=True)
    with Archive.restore(tmp_path / "backup", tmp_path / "second", encoder=first._bundles.current()._encoder) as second:
        first.remove(ids[0])
        second.remove(ids[1])
        second.backup(tmp_path / "again", passphrase="a secret", links=True)
        with Archive.restore(tmp_path / "again", tmp_path / "third", passphrase="a secret") as third:
            second.remove(ids[2])
            third.remove(ids[2])
            yield first, second, third, ids[3]


def test_copies_share_the_receipts_of_the_generations_they_share_and_no_others(copied):
    *archives, id = copied
    assert len({archive._folder.archive_id for archive in archives}) == 1
    receipts = [
        [archive.search(Query(id=id), generation=generation).receipt for generation in range(1, newest + 1)]
        for archive, newest in zip(archives, (2, 3, 3), strict=True)
    ]
    receipts = json.loads(json.dumps(receipts))
    # Generation 1 is of all; 2 is of the first alone, or of the two that follow the other; 3 is of each alone.
    shared = {(1, 0, 1), (1, 0, 2), (1, 1, 2), (2, 1, 2)}
    for at, own in enumerate(receipts):
        for receipt in own:
            for other, archive in enumerate(archives):
                pair = (receipt["generation"], *sorted((at, other)))
                if at == other or pair in shared:
                    result = archive.repeat(receipt)
                    assert result.receipt["answer"] == receipt["answer"] and not result.warnings, pair
                else:
                    with pytest.raises(QueryError, match="of another copy of this archive"):
                        archive.repeat(receipt)


def test_an_archive_that_was_never_restored_has_no_branch_and_takes_receipts_without_one(copied):
    first, second, _, id = copied
    receipt = first.search(Query(id=id)).receipt
    assert receipt["branch"] is None
    del receipt["branch"]
    assert not first.repeat(receipt).warnings
    nameless = {name: value for name, value in second.search(Query(id=id)).receipt.items() if name != "archive"}
    assert "names no archive" in first.repeat(nameless | {"generation": 1}).warnings[0]


def test_damaged_branches_are_said(copied):
    _, second, _, id = copied
    with second._store.commit("damage") as commit:
        commit.set("branches", '[{"id": 1}]')
    with pytest.raises(ArchiveError, match="branches of the archive are damaged"):
        second.search(Query(id=id))
