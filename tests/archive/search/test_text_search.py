"""Questions in words: several rankings fused by place, filtered, repeated, refused with a reason."""

import json

import numpy as np
import pytest

from medlike import Archive, Query
from medlike.errors import QueryError

ALL = {"k": 100, "include_self": True}


def test_pictures_and_texts_are_ranked_by_code_then_embedding_then_id(worded, tiny_text_bundle):
    from medlike.inference import CrossEncoder, SentenceEncoder

    with SentenceEncoder.load() as sentences:
        asked = CrossEncoder(tiny_text_bundle).encode(None, sentences.encode(["pleural effusion"]))
    fixed = np.rint(asked.embedding[0].astype(np.float64) * 2**14)
    keys = []
    for image, _ in worded._store.rows(worded._folder.bundle.digest):
        stored = worded._store.encoding(image.row, tiny_text_bundle.digest)
        near = int(np.bitwise_count(np.frombuffer(stored.code, np.uint8) ^ asked.code[0]).sum())
        alike = np.float32(np.frombuffer(stored.content, "<i2").astype(np.float64) @ fixed / 2**28)
        keys.append((near, -float(alike), image.id))
    found = worded.search(Query(text="pleural effusion"), k=100, weights={"words": 0, "texts": 0})
    assert [(hit.distance, -hit.similarity, hit.id) for hit in found] == sorted(keys)


def test_a_receipt_gives_the_same_answer_after_the_archive_has_changed(worded, captioned, tmp_path):
    picture = tmp_path / "captioned" / "0004.png"
    stored = worded.search(Query(image=picture), k=1)[0].id
    results = [
        worded.search(query, **chosen)
        for query in (Query(text="effusion"), Query(image=picture, text="head"), Query(id=stored, text="chest"))
        for chosen in ({}, {"where": {"modality": "US"}}, {"weights": {"words": 2}, "depth": 3}, {"group_by": "study"})
    ]
    told = [json.loads(json.dumps(result.receipt)) for result in results]
    worded.add(captioned(20, name="later", seed=9).parent / "manifest.csv")
    worded.remove([results[0][0].id, results[0][1].id])
    for result, receipt in zip(results, told, strict=True):
        again = worded.repeat(receipt)
        assert [hit.as_dict() for hit in again] == [hit.as_dict() for hit in result]
        assert again.warnings == result.warnings and again.weights == result.weights


def test_filters_hold_for_every_ranking(worded):
    for where in ({"modality": "US"}, {"grade": 1}, {"modality": "XR", "grade": {"ne": "0"}}):
        result = worded.search(Query(text="effusion head"), k=100, where=where)
        expected = {hit.id for hit in worded.search(Query(text="effusion head"), k=100)
                    if all(str(hit.metadata[name]) == str(value) if not isinstance(value, dict)
                           else hit.metadata[name] != "0" for name, value in where.items())}  # fmt: skip
        assert {hit.id for hit in result} == expected and expected


def test_the_stored_image_itself_and_its_patient_can_be_left_out(worded):
    asked = worded.search(Query(text="effusion"), k=1)[0].id
    query = Query(id=asked, text="effusion")
    assert asked not in [hit.id for hit in worded.search(query, k=100)]
    assert asked in [hit.id for hit in worded.search(query, **ALL)]
    own = worded._store.find(asked).patient
    for hit in worded.search(query, k=100, exclude_own_patient=True):
        assert worded._store.find(hit.id).patient != own


def test_many_queries_of_all_kinds_at_once(worded, tmp_path):
    picture = tmp_path / "captioned" / "0002.png"
    queries = [Query(text="effusion"), Query(image=picture, text="head"), Query(image=picture), picture]
    together = worded.search_many(queries, k=2)
    assert [[hit.as_dict() for hit in result] for result in together] == [
        [hit.as_dict() for hit in worded.search(query, k=2)] for query in queries
    ]


def test_matched_words_are_shown_as_they_are_written(worded):
    hit = worded.search(Query(text="LEFT effusion"), k=1)[0]
    assert hit.words == ("Left", "effusion")
    assert hit.snippet.startswith("[Left] pleural [effusion] in an upright")
    assert hit.as_dict()["words"] == ["Left", "effusion"]
    assert hit.texts == {"text": "Left pleural effusion in an upright chest radiograph."}


def test_function_words_are_ranked_by_and_not_shown(worded):
    result = worded.search(Query(text="an effusion of the chest"), weights={"texts": 0, "pictures": 0})
    assert result[0].words == ("effusion", "chest")
    assert result[0].snippet == "Left pleural [effusion] in an upright [chest] radiograph."
    # Found by "the" alone, it has no word to be shown; of a query of nothing else that is all there is.
    other = next(hit for hit in result if "pneumothorax" in hit.texts["text"])
    assert other.words == () and other.snippet is None and other.ranks["words"] > 1
    assert worded.search(Query(text="of the"), weights={"texts": 0, "pictures": 0})[0].words == ("the",)
    assert worded.search(Query(text="no effusion"), weights={"texts": 0, "pictures": 0})[0].words == ("No", "effusion")


def test_sheets_and_pages_show_words(worded, tmp_path):
    result = worded.search(Query(text="left <effusion>"), k=4)
    assert result.sheet(tmp_path / "sheet.png").size[0] > 400
    page = result.page()
    assert "Left, effusion" in page and "&lt;effusion&gt;" in page and "words 1" in page
    assert "<effusion>" not in page


def test_a_region_can_be_asked_for_with_words(
    tmp_path, tiny_regional_bundle, make_tiny_text_bundle, captioned
):
    text = make_tiny_text_bundle(tmp_path / "text", tiny_regional_bundle)
    with Archive.create(tmp_path / "a", tiny_regional_bundle, text_bundle=text) as archive:
        archive.add(captioned())
        query = Query(image=tmp_path / "captioned" / "0000.png", region=(8, 8, 40, 40), text="effusion")
        result = archive.search(query, k=10)
        assert result.weights.keys() == {"words", "texts", "pictures", "image"}
        assert all(hit.box is not None and 0 <= hit.distance <= 1 for hit in result)


def test_codes_of_other_widths(tmp_path, tiny_bundle, make_tiny_text_bundle, encoder, captioned):
    wide = make_tiny_text_bundle(tmp_path / "wide", tiny_bundle, bits=64)
    with Archive.create(tmp_path / "a", tiny_bundle, encoder=encoder, text_bundle=wide) as archive:
        archive.add(captioned())
        found = archive.search(Query(text="effusion"), k=100, weights={"words": 0, "texts": 0})
        keys = [(hit.distance, -hit.similarity, hit.id) for hit in found]
        assert keys == sorted(keys) and max(hit.distance for hit in found) > 16


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"weights": {"reports": 1}}, "'reports' is no ranking: use words, texts, pictures, image"),
        ({"weights": {"words": -1}}, "the weight of words is -1"),
        ({"weights": {"words": float("nan")}}, "the weight of words is nan"),
        ({"weights": dict.fromkeys(("words", "texts", "pictures", "image"), 0)}, "every weight is 0"),
        ({"weights": [1]}, "give a mapping"),
        ({"depth": 0}, "depth is 0"),
        ({"radius": 3}, "radius counts bits of the image's code"),
    ],
)
def test_settings_that_make_no_sense(worded, settings, said):
    with pytest.raises(QueryError, match=said):
        worded.search(Query(text="effusion"), **settings)


def test_without_texts_the_pictures_are_found_by_meaning(tmp_path, tiny_bundle, tiny_text_bundle, encoder, pictures):
    with Archive.create(tmp_path / "a", tiny_bundle, encoder=encoder, text_bundle=tiny_text_bundle) as archive:
        archive.add(pictures(4))
        assert archive.search(Query(text="effusion")).weights == {"pictures": 1.0}
        with pytest.raises(QueryError, match="no texts"):
            archive.nearest_texts(Query(text="effusion"))
