"""The fields of an image as one written sentence."""

import pytest

from medlike.archive.index.field_sentences import field_sentence


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (
            {"modality": "XR", "region": "chest", "view": "PA", "label": "pneumonia", "age": 63.0, "sex": "F"},
            "Chest X-ray, posteroanterior view, pneumonia, 63 years, female",
        ),
        ({"modality": "MR", "region": "brain", "label": "glioma_tumor"}, "Brain MRI, glioma tumor"),
        ({"modality": "CT"}, "CT"),
        ({"region": "knee"}, "Knee image"),
        ({"modality": "XR", "body_part": "C SPINE", "view": "oblique view"}, "C spine X-ray, oblique view"),
        ({"modality": "MG", "region": "breast", "view": "MLO"}, "Breast mammogram, mediolateral oblique view"),
        ({"modality": "SM", "age": 0.4, "sex": "M"}, "SM, under 1 year, male"),
        ({"modality": "US", "age": 1.0, "sex": "O"}, "Ultrasound, 1 year"),
        ({"label": "  two \n words "}, "Two words"),
        ({"modality": None, "label": "", "age": True}, ""),
        ({}, ""),
    ],
)
def test_the_sentence_says_what_is_known(columns, sentence):
    assert field_sentence(columns) == sentence
    assert field_sentence({**columns, "patient": "hash", "source": "hospital", "year": 2020.0}) == sentence
    assert len(field_sentence({"label": "word " * 1000})) == 1000
