"""The public API is what `medlike.__all__` says, no more and no less."""

import medlike

PUBLIC = {"Archive", "Bundle", "Hit", "MedlikeError", "Query", "Result", "__version__", "samples"}


def test_public_names_are_pinned():
    assert set(medlike.__all__) == PUBLIC


def test_public_names_can_be_had():
    for name in medlike.__all__:
        assert getattr(medlike, name) is not None
    assert set(dir(medlike)) >= PUBLIC
