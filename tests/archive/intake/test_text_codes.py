"""Texts: stored without what names somebody, found by words and by meaning, erased with their images."""

import json
import sqlite3

import numpy as np
import pytest

from medlike import Archive, Query
from medlike.archive.index.segment import UNIT
from medlike.archive.intake import text_codes as crossmodal
from medlike.bundle import rewrite
from medlike.errors import BundleError, QueryError


def ids(result):
    return [hit.id for hit in result]


def test_texts_are_stored_without_names_and_dates(worded):
    texts = {text for (text,) in worded._store.connection.execute("SELECT text FROM texts")}
    assert "Small pneumothorax on the right, seen by [name] on [date]." in texts
    assert not any("Smith" in text or "2024" in text or "Replace this" in text for text in texts)


def test_the_report_counts_texts_and_what_was_taken_out(tmp_path, tiny_bundle, encoder, captioned):
    with Archive.create(tmp_path / "a", tiny_bundle, encoder=encoder) as archive:
        report = archive.add(captioned())
        assert (report.texts, report.deidentified) == (8, 4)
        again = archive.add(tmp_path / "captioned" / "manifest.csv")
        assert (again.unchanged, again.texts) == (10, 0)


def test_the_words_of_a_dicom_file_are_found_and_its_people_are_not(archive, scan):
    archive.add(scan("a.dcm", StudyDescription="CT thorax of Jane Doe", ImageComments="Doe: nodule, 12.03.2021"))
    [hit] = archive.search(Query(text="nodule"))
    assert hit.texts == {"description": "CT thorax of [name] [name]", "comments": "[name]: nodule, [date]"}
    assert not archive.search(Query(text="doe jane")).hits


def test_an_archive_without_a_text_bundle_is_searched_by_words(tmp_path, tiny_bundle, encoder, captioned):
    with Archive.create(tmp_path / "a", tiny_bundle, encoder=encoder) as archive:
        archive.add(captioned())
        result = archive.search(Query(text="effusion"))
        assert result.weights == {"words": 1.0} and len(result) == 4
        assert all(hit.distance is None and hit.ranks == {"words": hit.rank} for hit in result)
        with pytest.raises(QueryError, match="text bundle"):
            archive.nearest_texts(Query(image=tmp_path / "captioned" / "0000.png"))


def test_every_image_and_text_has_the_code_that_the_bundle_gives(worded, tiny_text_bundle):
    from medlike.inference import CrossEncoder, SentenceEncoder

    crosses = CrossEncoder(tiny_text_bundle)
    rows = list(worded._store.rows(worded._folder.bundle.digest))
    content = np.stack([np.frombuffer(encoding.content, np.int8) for _, encoding in rows])
    expected = crosses.encode(content, None)
    for (image, _), code, embedding in zip(rows, expected.code, expected.embedding, strict=True):
        stored = worded._store.encoding(image.row, tiny_text_bundle.digest)
        assert stored.code == code.tobytes()
        assert np.allclose(np.frombuffer(stored.content, "<i2") / UNIT, embedding, atol=1 / UNIT)
    sql = "SELECT text, code FROM texts JOIN text_encodings USING (number)"
    found = worded._store.connection.execute(sql).fetchall()
    assert len(found) == 8
    with SentenceEncoder.load() as sentences:
        codes = crosses.encode(None, sentences.encode([text for text, _ in found])).code
    assert [code for _, code in found] == [code.tobytes() for code in codes]


def test_a_text_bundle_added_later_needs_no_pixels_and_goes_on_where_it_stopped(
    tmp_path, tiny_bundle, tiny_text_bundle, encoder, captioned, monkeypatch
):
    manifest = captioned(40)
    with Archive.create(tmp_path / "new", tiny_bundle, encoder=encoder, text_bundle=tiny_text_bundle) as made:
        made.add(manifest)
        expected = made.search(Query(text="effusion on the left"), k=40)
    with Archive.create(tmp_path / "old", tiny_bundle, encoder=encoder) as archive:
        archive.add(manifest)
        for file in manifest.parent.glob("*.png"):
            file.unlink()
        monkeypatch.setattr(crossmodal, "_GROUP", 16)

        def stop(report):
            if report.images >= 32:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            archive.reindex(text_bundle=tiny_text_bundle, progress=stop)
        assert archive._folder.text is None and archive.search(Query(text="effusion")).weights == {"words": 1.0}
        report = archive.reindex(text_bundle=tiny_text_bundle)
        assert (report.text.images, report.text.texts, report.switched) == (8, 32, True)
        result = archive.search(Query(text="effusion on the left"), k=40)
        # The ids of the archives differ, and with them the order of images that are otherwise equal.
        assert sorted((hit.distance, hit.similarity) for hit in result) == sorted(
            (hit.distance, hit.similarity) for hit in expected
        )
        assert archive.verify() == []
    with Archive.open(tmp_path / "old", encoder=encoder) as opened:
        assert opened.info()["text_bundle"]["name"] == "tiny-text-16"


def test_a_text_bundle_of_other_images_is_refused(tmp_path, tiny_bundle, make_tiny_bundle, make_tiny_text_bundle):
    other = make_tiny_bundle(tmp_path / "other", "other-64", seed=5)
    foreign = make_tiny_text_bundle(tmp_path / "foreign", other)
    with pytest.raises(BundleError, match="goes with images encoded by"):
        Archive.create(tmp_path / "a", tiny_bundle, text_bundle=foreign)


def test_a_text_bundle_that_says_more_of_itself_and_codes_alike_may_take_its_place(
    tmp_path, tiny_bundle, tiny_text_bundle, make_tiny_text_bundle, encoder, captioned
):
    own = rewrite(tiny_text_bundle, tmp_path / "own")
    with Archive.create(tmp_path / "archive", tiny_bundle, encoder=encoder, text_bundle=own) as archive:
        archive.add(captioned())
        before = archive.search(Query(text="effusion on the left"))
    measured = rewrite(tiny_text_bundle, own.path, spec={"quality": {"map": 0.5}}, replace=True)
    assert measured.digest != own.digest
    with Archive.open(tmp_path / "archive", encoder=encoder) as archive:
        after = archive.search(Query(text="effusion on the left"))
        assert ids(after) == ids(before)
        assert archive.verify() == []
    other = make_tiny_text_bundle(tmp_path / "other", tiny_bundle, seed=1)
    rewrite(other, own.path, replace=True)
    with Archive.open(tmp_path / "archive", encoder=encoder) as archive, pytest.raises(BundleError, match="put that"):
        archive.search(Query(text="effusion on the left"))


def test_another_image_bundle_drops_the_text_bundle_that_does_not_fit(worded, make_tiny_bundle, tmp_path):
    other = make_tiny_bundle(tmp_path / "other", "other-64", seed=5)
    report = worded.reindex(other)
    assert report.text_dropped == "tiny-text-16" and worded._folder.text is None
    assert worded.search(Query(text="effusion")).weights == {"words": 1.0}
    assert worded.verify() == []


def test_an_image_bundle_of_the_same_content_keeps_the_text_bundle(
    worded, tiny_bundle, tiny_regional_bundle, tiny_text_bundle, tmp_path, monkeypatch
):
    monkeypatch.setattr("medlike.bundle.bundle.SHIPPED", tiny_bundle.path.parent)
    before = worded.search(Query(text="effusion"), weights={"words": 0})
    report = worded.reindex(tiny_regional_bundle)
    assert report.text_dropped is None and worded._folder.text.name == "tiny-text-16"
    assert worded.search(Query(text="effusion"), weights={"words": 0}).hits == before.hits and worded.verify() == []
    Archive.create(tmp_path / "new", tiny_regional_bundle, text_bundle=tiny_text_bundle).close()


def test_erasing_leaves_no_word_of_a_text(worded):
    [first] = worded.search(Query(text="pneumothorax"), k=1, weights={"texts": 0, "pictures": 0})
    worded.remove(first.id, erase=True)
    rest = worded.search(Query(text="pneumothorax"), weights={"texts": 0, "pictures": 0})
    for hit in rest:
        worded.remove(hit.id, erase=True)
    assert not worded.search(Query(text="pneumothorax"), weights={"texts": 0, "pictures": 0}).hits
    worded.close()
    for file in worded.path.rglob("*"):
        if file.is_file():
            assert b"neumothorax" not in file.read_bytes(), file


def test_a_backup_holds_texts_and_their_codes(worded, tmp_path, encoder):
    expected = worded.search(Query(text="effusion"))
    worded.backup(tmp_path / "backup", links=True)
    with Archive.restore(tmp_path / "backup", tmp_path / "restored", encoder=encoder) as restored:
        found = restored.search(Query(text="effusion"))
        assert [hit.as_dict() for hit in found] == [hit.as_dict() for hit in expected]
        assert restored.verify() == []


def test_verify_names_a_missing_code_and_a_changed_word_index(worded):
    connection = sqlite3.connect(worded._folder.store)
    connection.execute("DELETE FROM encodings WHERE bundle = ? AND row = 1", (worded._folder.text.digest,))
    connection.execute("UPDATE texts SET text = 'something else' WHERE number = (SELECT min(number) FROM texts)")
    connection.commit()
    connection.close()
    said = "\n".join(map(str, worded.verify()))
    assert "row 1 has no code under tiny-text-16" in said and "the word index differs" in said


def test_an_archive_of_an_earlier_medlike_takes_a_text_bundle(archive, captioned, tiny_text_bundle):
    archive.add(captioned())
    archive._store.connection.execute("DROP TABLE text_encodings")
    assert archive.search(Query(text="effusion")).hits
    archive.reindex(text_bundle=tiny_text_bundle)
    assert len(archive.search(Query(text="effusion"), k=20).hits) == 10


def test_the_nearest_texts_of_an_image(worded, tiny_text_bundle, tmp_path):
    from medlike.inference import CrossEncoder

    picture = tmp_path / "captioned" / "0001.png"
    hits = worded.nearest_texts(Query(image=picture), k=20)
    asked = worded.search(Query(image=picture), k=1)[0]
    row = worded._store.find(asked.id).row
    content = np.frombuffer(worded._store.encoding(row, worded._folder.bundle.digest).content, np.int8)
    code = CrossEncoder(tiny_text_bundle).encode(content[None], None).code[0]
    stored = worded._store.connection.execute("SELECT code FROM text_encodings").fetchall()
    assert [hit.distance for hit in hits] == sorted(
        int(np.bitwise_count(np.frombuffer(one, np.uint8) ^ code).sum()) for (one,) in stored
    )
    keys = [(hit.distance, -hit.similarity, hit.id) for hit in hits]
    assert keys == sorted(keys) and [hit.rank for hit in hits] == list(range(1, 9))
    by_id = worded.nearest_texts(Query(id=asked.id), k=20)
    assert asked.id not in {hit.id for hit in by_id} and len(by_id) == 7
    assert len(worded.nearest_texts(Query(id=asked.id), k=20, include_self=True)) == 8
    only = worded.nearest_texts(Query(text="effusion"), where={"modality": "US"})
    assert len(only) == 4


def test_nearest_texts_give_what_a_search_gives(worded, captioned, tmp_path):
    picture = tmp_path / "captioned" / "0001.png"
    searched = worded.search(Query(image=picture))
    results = [
        worded.nearest_texts(Query(image=picture), k=5),
        worded.nearest_texts(Query(id=searched[0].id), k=5, include_self=True),
        worded.nearest_texts(Query(text="effusion"), k=5, where={"modality": ("US",)}),
        worded.nearest_texts(Query(image=picture, text="effusion"), k=5),
    ]
    assert [result.outlier for result in results] == [searched.outlier, searched.outlier, None, searched.outlier]
    assert set(results[0].seconds) == {"read", "encode", "search"} and results[0].modality == searched.modality
    told = [json.loads(json.dumps(result.as_dict())) for result in results]
    worded.add(captioned(20, name="later", seed=9).parent / "manifest.csv")
    worded.remove([results[0][0].id])
    assert worded.nearest_texts(Query(image=picture), k=5).hits != results[0].hits
    for result, facts in zip(results, told, strict=True):
        assert list(facts) == ["texts", "outlier", "receipt", "seconds"]
        again = worded.repeat(facts["receipt"])
        assert again.as_dict()["texts"] == facts["texts"] and again.hits == result.hits
        assert again.outlier == result.outlier and again.warnings == () and again.erased == 0
        assert again.receipt == facts["receipt"]
    worded.remove([results[0][1].id], erase=True)
    again = worded.repeat(told[0]["receipt"])
    assert again.erased == 1 and "erased since" in again.as_dict()["warnings"][0]
    with pytest.raises(QueryError, match="of bundle 000"):
        worded.repeat(told[0]["receipt"] | {"bundle": "0" * 64})
