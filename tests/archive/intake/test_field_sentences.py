"""Fields of images as sentences: encoded with the images, searched by meaning, remade, erased, repeated."""

import json
import sqlite3
from dataclasses import replace

import numpy as np
import pytest

from medlike import Archive, Query
from medlike.archive.index.segment import UNIT
from medlike.archive.search import text_relevance
from medlike.errors import QueryError

ROWS = ["CR,chest,pneumonia", "MR,brain,glioma", "CT,abdomen,", "MG,breast,mass", ",,"]
SENTENCES = ["Chest X-ray, pneumonia", "Brain MRI, glioma", "Abdomen CT", "Breast mammogram, mass", ""]
ONLY = {"weights": {"words": 0, "pictures": 0}, "k": 100}


def manifest(folder, rows, text=""):
    lines = [f"{at:04}.png,{row},{text}" for at, row in enumerate(rows)]
    (folder / "manifest.csv").write_text("\n".join(["path,modality,region,label,text", *lines]))
    return folder / "manifest.csv"


@pytest.fixture
def wordless(tmp_path, tiny_bundle, tiny_text_bundle, encoder, pictures):
    """An archive of five images without texts, four of which have fields."""
    with Archive.create(tmp_path / "a", tiny_bundle, encoder=encoder, text_bundle=tiny_text_bundle) as archive:
        archive.add(manifest(pictures(len(ROWS)), ROWS))
        yield archive


def stored(archive):
    sql = "SELECT code, embedding FROM field_encodings WHERE bundle = ? ORDER BY row"
    return archive._store.query(sql, (archive._folder.text.digest,))


def as_earlier(archive):
    """Make an archive what an earlier medlike leaves: without codes of sentences."""
    archive._store.connection.execute("DROP TABLE field_encodings")
    folder = replace(archive._folder, sentences=0)
    archive._bundles.use(folder)
    assert "sentences" not in json.loads((folder.path / "archive.json").read_text())


def test_fields_have_the_codes_of_their_sentence(wordless, tiny_text_bundle):
    from medlike.inference import CrossEncoder, SentenceEncoder

    with SentenceEncoder.load() as sentences:
        expected = CrossEncoder(tiny_text_bundle).encode(None, sentences.encode(SENTENCES[:4]))
    rows = stored(wordless)
    assert [code for code, _ in rows] == [*(code.tobytes() for code in expected.code), b""]
    for (_, embedding), vector in zip(rows, expected.embedding, strict=False):
        assert np.allclose(np.frombuffer(embedding, "<i2") / UNIT, vector, atol=1 / UNIT)
    assert wordless.info()["texts"] == 0 and wordless.verify() == []


def test_images_without_texts_are_found_by_the_meaning_of_their_fields(wordless):
    for text, label in (("Brain MRI, glioma", "glioma"), ("Chest X-ray, pneumonia", "pneumonia")):
        result = wordless.search(Query(text=text), **ONLY)
        assert result.weights == {"texts": 1.0} and len(result) == 4
        assert result[0].metadata["label"] == label and result[0].ranks == {"texts": 1}
    where = wordless.search(Query(text="Brain MRI, glioma"), where={"modality": "CT"}, **ONLY)
    assert [hit.metadata["region"] for hit in where] == ["abdomen"]
    with pytest.raises(QueryError, match="has no texts"):
        wordless.nearest_texts(Query(text="glioma"))  # nobody wrote one


def test_sentences_stand_beside_texts(worded, pictures):
    worded.add(manifest(pictures(1, seed=9, name="more"), ["CT,head,hydrocephalus"], "As dictated."))
    for text in ("As dictated.", "Head CT, hydrocephalus"):
        assert worded.search(Query(text=text), **ONLY)[0].metadata["label"] == "hydrocephalus", text
    # What is stored as a text is what somebody wrote.
    [hit] = worded.nearest_texts(Query(text="Head CT, hydrocephalus"), where={"label": "hydrocephalus"})
    assert hit.text == "As dictated."


def test_changed_fields_are_encoded_anew_and_old_receipts_repeat(wordless, tmp_path):
    before = wordless.search(Query(text="Brain MRI, glioma"), **ONLY)
    manifest(tmp_path / "pictures", [ROWS[0], "MR,brain,meningioma", *ROWS[2:]])
    assert wordless.add(tmp_path / "pictures" / "manifest.csv").replaced == 1
    after = wordless.search(Query(text="Brain MRI, meningioma"), **ONLY)
    assert after[0].metadata["label"] == "meningioma" and after[0].id == before[0].id
    again = wordless.repeat(json.loads(json.dumps(before.receipt)))
    assert again.hits == before.hits and not any("differs" in warning for warning in again.warnings)
    wordless.compact()
    assert len(stored(wordless)) == 5 and wordless.verify() == []


def test_erasing_an_image_erases_the_code_of_its_fields(wordless):
    hit = wordless.search(Query(text="Brain MRI, glioma"), **ONLY)[0]
    wordless.remove(hit.id, erase=True)
    assert len(stored(wordless)) == 4
    assert hit.id not in [other.id for other in wordless.search(Query(text="Brain MRI, glioma"), **ONLY)]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["reindex", "upgrade"])
def test_an_earlier_archive_gets_them_and_its_receipts_repeat(wordless, way, encoder):
    expected = wordless.search(Query(text="Brain MRI, glioma"), k=5)
    codes = stored(wordless)
    as_earlier(wordless)
    former = wordless.search(Query(text="Brain MRI, glioma"), k=5)
    assert "texts" not in former.weights and "sentences" not in former.receipt["query"]["text"]
    assert wordless.verify() == []
    if way == "reindex":
        assert wordless.reindex(text_bundle=wordless._folder.text.path).text.sentences == 5
    else:
        report = wordless.upgrade()
        assert report.sentences == 5 and report.changed and not wordless.upgrade().changed
    assert stored(wordless) == codes and wordless.verify() == []
    assert wordless.search(Query(text="Brain MRI, glioma"), k=5).hits == expected.hits
    again = wordless.repeat(json.loads(json.dumps(former.receipt)))
    assert again.hits == former.hits and not any("differs" in warning for warning in again.warnings)
    with Archive.open(wordless.path, encoder=encoder) as other:
        assert other.search(Query(text="Brain MRI, glioma"), k=5).hits == expected.hits
    path = wordless._folder.text.path
    wordless.reindex(text_bundle="none")
    with pytest.raises(QueryError, match="search anew"):
        wordless.repeat(expected.receipt)
    wordless.reindex(text_bundle=path)
    assert wordless.repeat(expected.receipt).hits == expected.hits


def test_verify_counts_images_whose_fields_have_no_code(wordless):
    with sqlite3.connect(wordless._folder.store) as connection:
        connection.execute("DELETE FROM field_encodings WHERE row = 2")
    said = "\n".join(map(str, wordless.verify()))
    assert "the fields of 1 images have no code under tiny-text-16: run `medlike reindex --text-bundle" in said


@pytest.mark.slow
def test_what_no_field_is_about_is_not_searched_by_meaning(
    tmp_path, tiny_bundle, tiny_text_bundle, encoder, pictures, monkeypatch
):
    monkeypatch.setattr(text_relevance, "LEAST_TEXTS", 12)
    rows = [*ROWS[:4], "US,thyroid,nodule", "CR,hand,fracture", "CR,chest,", "MR,knee,", "CT,head,haematoma",
            "US,heart,", "CR,chest,pleural effusion", "MR,spine,disc herniation"]  # fmt: skip
    with Archive.create(tmp_path / "b", tiny_bundle, encoder=encoder, text_bundle=tiny_text_bundle) as archive:
        archive.add(manifest(pictures(len(rows)), rows))
        for text in ("climate change policy", "stock market prices", "quantum computer", "railway timetable"):
            result = archive.search(Query(text=text))
            assert not result.hits and any("no text is about this" in warning for warning in result.warnings), text
            again = archive.repeat(json.loads(json.dumps(result.receipt)))
            assert again.hits == [] and again.warnings == result.warnings
        for text in ("brain tumour", "lung infection", "breast cancer", "slipped disc", "CXR", "ultrasound"):
            result = archive.search(Query(text=text))
            assert {"texts", "pictures"} <= result.weights.keys(), text
            assert not any("about this" in warning for warning in result.warnings), text
        monkeypatch.setattr(text_relevance, "LEAST_TEXTS", 13)
        assert any("too few texts" in warning for warning in archive.search(Query(text="quantum computer")).warnings)
