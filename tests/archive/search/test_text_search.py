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


def test_function_words_count_for_nothing(worded):
    only = {"weights": {"texts": 0, "pictures": 0}, "k": 100}
    result = worded.search(Query(text="an effusion of the chest"), **only)
    assert [hit.id for hit in result] == [hit.id for hit in worded.search(Query(text="effusion chest"), **only)]
    assert result[0].words == ("effusion", "chest") and result[0].snippet.startswith("No [effusion]. Normal [chest]")
    # "Small pneumothorax on the right" has "the" alone.
    assert len(result) == 4 and not any("pneumothorax" in hit.texts["text"] for hit in result)
    nothing = worded.search(Query(text="of the"), **only)
    assert not len(nothing) and "the text holds only words that count for nothing: of, the" in nothing.warnings
    assert worded.search(Query(text="no effusion"), **only)[0].words == ("No", "effusion")


def test_the_fields_of_images_are_searched_too(worded, pictures, tmp_path):
    only = {"weights": {"texts": 0, "pictures": 0}, "k": 100}
    found = worded.search(Query(text="ultrasound"), **only)
    assert len(found) == 5 and all(hit.metadata["modality"] == "US" for hit in found)
    assert found[0].words == ("ultrasound", "sonography")
    assert found[0].snippet.startswith("US ([ultrasound], [sonography]), ")
    folder = pictures(4, seed=5, name="labelled")
    rows = ["0000.png,XR,knee,arthrosis,tibia", "0001.png,CT,head,bleeding,", "0002.png,MR,knee,,", "0003.png,,,,"]
    (folder / "manifest.csv").write_text("\n".join(["path,modality,region,label,note", *rows]))
    before = worded.search(Query(text="knee arthrosis"), **only)
    assert len(before) == 0 and before.warnings == ("no text and no field of the archive has: knee, arthrosis",)
    worded.add(folder / "manifest.csv")
    knees = worded.search(Query(text="knee arthrosis"), **only)
    assert [hit.metadata.get("label") for hit in knees] == ["arthrosis", None] and knees.warnings == ()
    assert knees[0].words == ("knee", "arthrosis")
    assert worded.search(Query(text="tibia"), **only)[0].id == knees[0].id
    assert worded.search(Query(text="bleeding"), where={"modality": "XR"}, **only).hits == []
    worded.remove(knees[0].id)
    again = worded.search(Query(text="knee arthrosis"), **only)
    assert [hit.id for hit in again] == [knees[1].id]
    assert again.warnings == ("no text and no field of the archive has: arthrosis",)
    for result in (before, knees):
        repeated = worded.repeat(json.loads(json.dumps(result.receipt)))
        assert repeated.hits == result.hits and repeated.warnings == result.warnings


def test_the_score_of_an_image_is_that_of_its_best_text_and_its_fields(worded):
    from medlike.archive.index.candidates import Field

    words = ("chest", "xr", "effusion")
    with worded.session() as session:
        images = [Field.of(part) for part in session.index.view().parts]
        texts = [Field.of(part) for part in session.indexes.texts.view().parts]
        by_fields, _ = session.indexes.field_words.scores(images, words)
        by_text, _ = session.indexes.words.scores(texts, words)
        naive = {}
        for field, scores in zip(images, by_fields, strict=True):
            naive |= {int(row): [score] for row, score in zip(field.part.segment.images, scores, strict=True)}
        for field, scores in zip(texts, by_text, strict=True):
            for row, score in zip(field.part.segment.images, scores, strict=True):
                naive[int(row)].append(score)
        ids = {row: image.id for row, image in session.store.images(list(naive)).items()}
    scored = {ids[row]: own + max(of_texts, default=0) for row, (own, *of_texts) in naive.items()}
    found = worded.search(Query(text="chest XR effusion"), weights={"texts": 0, "pictures": 0}, k=100)
    ranked = sorted((-float(np.float32(score)), id) for id, score in scored.items() if score)
    assert [hit.id for hit in found] == [id for _, id in ranked]


def test_a_receipt_of_before_the_fields_keeps_its_way(worded):
    only = {"weights": {"texts": 0, "pictures": 0}, "k": 100}
    now = worded.search(Query(text="the ultrasound radiograph"), **only)
    receipt = json.loads(json.dumps(now.receipt))
    assert receipt["query"]["text"].pop("fields") is True
    receipt["query"]["text"]["terms"] = ["the", "ultrasound", "radiograph"]
    before = worded.repeat(receipt)
    assert {hit.texts["text"][:5] for hit in before} == {"Left ", "No ef", "Small"}
    assert len(before) == 6 and len(now) == 10 and before.warnings == ("the answer differs from the receipt's",)


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
