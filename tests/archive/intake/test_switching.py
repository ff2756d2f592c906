"""Text bundles follow the image bundle: one that does not fit is refused or dropped."""

import pytest

from medlike import Archive, Query
from medlike.bundle import rewrite
from medlike.errors import BundleError


def ids(result):
    return [hit.id for hit in result]


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
