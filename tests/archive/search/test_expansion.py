"""Words of a query and what means the same."""

import json

import numpy as np
import pytest

from medlike import Archive, Query
from medlike.archive.index import bm25 as words_module
from medlike.archive.index.candidates import Field

TEXTS = (
    "Chest radiograph: consolidation in the left lower lobe.", "CXR with LLL consolidation.",
    "Lower pole of the left kidney; each lobe of the liver is normal.", "Subdural haematoma on computed tomography.",
    "Pulmonary embolus in the right main branch.", "Normal knee.",
)  # fmt: skip


@pytest.fixture
def reports(tmp_path, tiny_bundle, encoder, pictures):
    folder = pictures(len(TEXTS) + 2)
    lines = [f'{at:04}.png,"{text}",,' for at, text in enumerate(TEXTS)]
    lines += [f"{len(TEXTS):04}.png,,CR,chest", f"{len(TEXTS) + 1:04}.png,,CT,head"]
    (folder / "manifest.csv").write_text("\n".join(["path,text,modality,region", *lines]))
    with Archive.create(tmp_path / "a", tiny_bundle, encoder=encoder, text_bundle=None) as archive:
        archive.add(folder / "manifest.csv")
        yield archive


def answers(archive, text):
    return [hit.texts.get("text") or hit.metadata["modality"] for hit in archive.search(Query(text=text))]


def test_an_abbreviation_finds_what_is_written_out_and_the_other_way_round(reports):
    for text in ("LLL", "left lower lobe"):
        # The kidney's text has all three words, not one after another.
        assert {*answers(reports, text)[:2]} == {*TEXTS[:2]}, text
    assert len(answers(reports, "LLL")) == 2
    assert {*answers(reports, "CXR")} == {TEXTS[0], TEXTS[1], "XR"}
    assert {*answers(reports, "CAT scan")[:2]} == {TEXTS[3], "CT"}
    assert answers(reports, "subdural hematoma")[0] == TEXTS[3]
    hit = reports.search(Query(text="LLL"))
    assert {"left lower lobe", "LLL"} == {word for one in hit for word in one.words}


def test_words_that_a_paraphrase_has_are_not_missing(reports):
    assert not any("has:" in warning for warning in reports.search(Query(text="SDH")).warnings)
    assert any("has: zebra" in warning for warning in reports.search(Query(text="SDH zebra")).warnings)


def test_an_ambiguous_abbreviation_is_remarked_and_not_expanded(reports):
    result = reports.search(Query(text="PE"))
    assert not result.hits
    assert any("PE has several meanings (pulmonary embolism, pericardial effusion" in one for one in result.warnings)
    assert answers(reports, "PE thrombus") == [TEXTS[4]]


def test_receipts_hold_what_was_searched_for(reports, monkeypatch):
    first = reports.search(Query(text="CXR LLL"))
    receipt = json.loads(json.dumps(first.receipt))
    assert receipt["query"]["text"]["alternatives"]["lll"] == ["left lower lobe"]
    monkeypatch.setattr("medlike.archive.search.text_query.expansions", lambda text: ({}, ()))
    assert reports.repeat(receipt).hits == first.hits
    del receipt["query"]["text"]["alternatives"]  # one of an earlier medlike
    assert len(reports.repeat(receipt)) == 1


def test_a_paraphrase_counts_in_place_of_the_words_not_beside_them(reports):
    ones, others = reports.search(Query(text="CT")), reports.search(Query(text="computed tomography"))
    assert [hit.id for hit in ones] == [hit.id for hit in others]
    index = reports._indexes.field_words
    fields = [Field.of(part) for part in reports._indexes.images.view().parts]
    [plain], _ = index.scores(fields, ["ct"])
    from medlike.archive.search.expansion import expanded_scores

    [expanded], present = expanded_scores(index, fields, ["ct"], {"ct": ("computed tomography", "cat scan")})
    assert np.array_equal(plain > 0, expanded > 0) and "computed tomography" in present
    assert (expanded < 1.5 * plain)[plain > 0].all()


def test_phrases_are_found_as_sqlite_finds_them(reports, pictures, monkeypatch):
    folder = pictures(3, seed=5, name="later")
    (folder / "manifest.csv").write_text(
        'path,text\n0000.png,"left lower lobe, left lower lobe"\n0001.png,lower left lobe\n0002.png,left lower\n'
    )
    fields = lambda: [Field.of(part, None) for part in reports._indexes.texts.view().parts]  # noqa: E731
    words = reports._indexes.words
    before, _ = words.scores(fields(), ["left lower lobe"])
    assert np.count_nonzero(np.concatenate(before)) == 1
    reports.add(folder / "manifest.csv")
    later, _ = words.scores(fields(), ["left lower lobe"])  # counted by marks
    fresh, _ = words_module.Words(reports._store).scores(fields(), ["left lower lobe"])  # counted by places
    assert np.allclose(np.concatenate(later), np.concatenate(fresh))
    numbers = [number for (number,) in reports._store.query(
        "SELECT rowid FROM words WHERE words MATCH '\"left lower lobe\"' ORDER BY rowid"
    )]  # fmt: skip
    assert len(numbers) == 2 and np.count_nonzero(np.concatenate(fresh)) == 2
