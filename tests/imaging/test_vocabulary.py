"""Codes and words into closed vocabularies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medlike.imaging import vocabulary


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("045Y", 45.0),
        ("006M", 0.5),
        ("022Y", 22.0),
        ("22Y", 22.0),
        ("052W", 0.9966),
        ("000D", 0.0),
        ("010D", 0.0274),
        ("63", 63.0),
        ("63.5", 63.5),
        (" 7 ", 7.0),
        ("000Y", None),
        ("", None),
        ("unknown", None),
        ("999Y", None),
        ("-3", None),
        ("045y", 45.0),
        ("1e3", None),
        ("nan", None),
    ],
)
def test_ages(text, years):
    assert vocabulary.age(text) == (None if years is None else pytest.approx(years, abs=1e-4))


@given(st.text())
def test_ages_of_anything(text):
    years = vocabulary.age(text)
    assert years is None or 0 <= years <= 150


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("CHEST", "chest"),
        ("THORAX", "chest"),
        ("CSPINE", "spine"),
        ("Lumbar Spine", "spine"),
        ("L-SPINE", "spine"),
        ("HEAD", "head"),
        ("SKULL", "head"),
        ("BRAIN", "brain"),
        ("Whole Body Bone", "wholebody"),
        ("WHOLE BODY", "wholebody"),
        ("PANCREAS", "abdomen"),
        ("BREAST", "breast"),
        ("ANKLE", "foot"),
        ("CT Abdomen/Pelvis", "abdomen"),
        ("LIVERPOOL", None),
        ("", None),
        ("SMITH", None),
    ],
)
def test_regions(text, region):
    assert vocabulary.region(text) == region


@pytest.mark.parametrize(
    ("text", "modality"),
    [
        ("CR", "XR"),
        ("dx", "XR"),
        ("IO", "XR"),
        ("CT", "CT"),
        ("MRI", "MR"),
        ("xr", "XR"),
        (" mg ", "MG"),
        ("photo", "photo"),
        ("", None),
        ("unknown", None),
    ],
)
def test_modalities(text, modality):
    assert vocabulary.modality(text) == modality


@pytest.mark.parametrize(
    ("text", "sex"), [("f", "F"), ("Male", "M"), ("O", "O"), ("?", None), ("", None), ("X", None)]
)
def test_sexes(text, sex):
    assert vocabulary.sex(text) == sex


def test_manifest_regions():
    assert [vocabulary.manifest_region(r) for r in ("thorax", "Fetal_head", "none", "other", " chest ")] == [
        "chest",
        "fetal_head",
        None,
        None,
        "chest",
    ]
