"""Stored images with their own pixels, without what names anybody."""

import numpy as np
import pytest

from medlike.errors import QueryError, UnknownImage
from medlike.imaging import read


@pytest.mark.parametrize("pixels", ["reference", "copy"])
def test_an_image_comes_back_as_stored_and_names_nobody(archive, scan, pixels):
    path = scan("scan.dcm")
    archive.add(path, pixels=pixels)
    (id,), original = archive.ids(), next(read(path))
    image = archive.image(id)
    np.testing.assert_array_equal(image.pixels, original.pixels)
    assert image.photometry == original.photometry and image.spacing == original.spacing
    assert image.metadata == archive.facts(id).metadata
    assert (image.identifiers, image.texts, image.path) == ({}, {}, None)
    assert original.identifiers and image.frame == original.frame and image.frames == original.frames


def test_a_preview_is_kept_of_what_is_stored_by_reference(archive, pictures):
    archive.add(folder := pictures(2))
    for id in archive.ids():
        assert archive.preview(id).startswith(b"\xff\xd8\xff")
        assert len(archive.stamp(id)) == 32
    assert len({archive.stamp(id) for id in archive.ids()}) == 2
    stamps = [archive.stamp(id) for id in archive.ids()]
    archive.add(folder, pixels="copy")
    assert [archive.preview(id) for id in archive.ids()] == [None, None]
    assert not {archive.stamp(id) for id in archive.ids()} & set(stamps)


def test_what_is_not_stored_is_said_so(archive, pictures):
    folder = pictures(1)
    archive.add(folder)
    (id,) = archive.ids()
    for verb in (archive.image, archive.preview, archive.stamp, archive.facts, archive.picture):
        with pytest.raises(UnknownImage, match="take an id from a search"):
            verb("0" * 32)
    with pytest.raises(QueryError, match="has 1, numbered from 0"):
        archive.image(id, 1)
    for file in folder.iterdir():
        file.unlink()
    assert archive.image(id) is None and archive.picture(id) is not None


def test_a_page_by_the_first_digits_of_ids(archive, pictures):
    archive.add(pictures(5))
    ids = archive.ids()
    for prefix in ("", ids[2][:1], ids[2][:5], ids[2]):
        listing = archive.browse(prefix=prefix)
        assert [image.id for image in listing.images] == archive.ids(prefix) and listing.total >= 1
    page = archive.browse(limit=1, offset=1)
    assert page.total == 5 and page.images[0].id == ids[1]
    archive.remove(ids[2])
    assert archive.browse(prefix=ids[2]).total == 0
    for prefix in ("XYZ", "A", ids[0] + "0", "%"):
        with pytest.raises(QueryError, match="first of the 32 hex digits"):
            archive.browse(prefix=prefix)
