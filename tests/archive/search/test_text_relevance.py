"""Queries that no text of an archive is about."""

import json

import numpy as np
import pytest

from medlike import Archive, Query
from medlike.archive.index import text_sample
from medlike.archive.index.text_sample import TextSample
from medlike.archive.search import text_relevance

TEXTS = (
    "Left pleural effusion in an upright chest radiograph.", "Axial CT of the head with subdural haematoma.",
    "Ultrasound shows a fetal skull in the plane of its circumference.", "Fracture through the distal radius.",
    "Hypoechoic breast lesion with irregular margins.", "Sagittal MRI: disc herniation at L4/L5.",
    "Cardiomegaly and vascular congestion.", "Gallstones without wall thickening.",
    "Diabetic retinopathy, many microaneurysms on the fundus photograph.", "Osteoarthritis of both knees.",
    "Renal cyst on contrast enhanced tomography.", "Pneumothorax, right lung collapsed.",
    "Glioblastoma crossing the corpus callosum.", "Thyroid nodule, TIRADS 3.",
    "Aortic aneurysm measuring 5 cm.", "Liver metastases from colorectal cancer.",
    "Hip prosthesis in good position.", "Scoliosis with a curve to one side.",
    "Appendicitis with perforation.", "Nasal polyps fill the maxillary sinus.",
)  # fmt: skip


@pytest.fixture
def reports(tmp_path, tiny_bundle, tiny_text_bundle, encoder, pictures, monkeypatch):
    """An archive of twenty texts about twenty things, few as they are taken for enough."""
    monkeypatch.setattr(text_relevance, "LEAST_TEXTS", 20)
    monkeypatch.setattr(text_sample, "LEAST_PAIRS", 50)
    folder = pictures(len(TEXTS))
    lines = [f'{at:04}.png,"{text}"' for at, text in enumerate(TEXTS)]
    (folder / "manifest.csv").write_text("\n".join(["path,text", *lines]))
    with Archive.create(tmp_path / "a", tiny_bundle, encoder=encoder, text_bundle=tiny_text_bundle) as archive:
        archive.add(folder / "manifest.csv")
        yield archive


def test_what_no_text_is_about_is_not_searched_by_meaning(reports):
    for text in ("climate change policy", "stock market prices", "quantum computer", "railway timetable"):
        result = reports.search(Query(text=text))
        assert len(result) == 0 and any("no text is about this" in warning for warning in result.warnings)
        again = reports.repeat(json.loads(json.dumps(result.receipt)))
        assert again.hits == [] and again.warnings == result.warnings
    none = reports.nearest_texts(Query(text="quantum computer"))
    assert len(none) == 0 and "no text is about this" in none.warnings[0]
    again = reports.repeat(json.loads(json.dumps(none.receipt)))
    assert again.hits == [] and again.warnings == none.warnings


def test_what_texts_are_about_in_other_words_is(reports):
    for text in ("enlarged heart", "broken wrist", "brain tumor", "kidney", "eye disease", "cholelithiasis"):
        result = reports.search(Query(text=text))
        assert {"texts", "pictures"} <= result.weights.keys(), text
        assert not any("about this" in warning for warning in result.warnings)


def test_an_image_beside_the_words_is_still_compared(reports, tmp_path):
    result = reports.search(Query(image=tmp_path / "pictures" / "0003.png", text="quantum computer"))
    assert result.weights.keys() == {"words", "image"} and result[0].texts["text"] == TEXTS[3]
    assert any("no text is about this" in warning for warning in result.warnings)


def test_a_text_that_has_all_the_words_is_about_them(reports, monkeypatch):
    monkeypatch.setattr(TextSample, "of", lambda texts, sample, vectors: TextSample(texts, vectors, 2.0, 2.0))
    assert "texts" not in reports.search(Query(text="one football")).weights
    assert "texts" in reports.search(Query(text="one side")).weights


def test_too_few_texts_are_no_judge(reports, monkeypatch):
    monkeypatch.setattr(text_relevance, "LEAST_TEXTS", 21)
    assert len(reports.search(Query(text="quantum computer"))) == 10


def test_limits_are_quantiles_of_pairs_that_share_no_word(monkeypatch):
    monkeypatch.setattr(text_sample, "LEAST_PAIRS", 3)
    texts = ["alpha beta", "gamma the", "the delta", "alpha gamma"]
    vectors = np.asarray([[1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8]], np.float32)
    sample = TextSample.of(4, texts, vectors)
    # "the" counts for nothing; 0-3 share alpha, 1-3 share gamma.
    apart = [0.8, 0.0, 0.6, 0.8]
    assert np.allclose([sample.low, sample.high], np.quantile(apart, [0.05, 0.95]), atol=1e-6)
    monkeypatch.setattr(text_sample, "LEAST_PAIRS", 5)
    assert TextSample.of(4, texts, vectors).high is None
