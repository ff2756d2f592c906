import numpy as np
import pytest

from medlike import Query
from medlike.errors import ImageError, QueryError


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "empty"),
        ({"image": "a.png", "id": "0" * 32}, "not both"),
        ({"region": (0, 0, 1, 1)}, "empty"),
        ({"text": "nodule", "region": (0, 0, 1, 1)}, "needs the image"),
        ({"image": "a.png", "region": (5, 0, 5, 4)}, "empty or inverted"),
        ({"image": "a.png", "region": (5, 4, 9, 2)}, "empty or inverted"),
        ({"image": "a.png", "region": (0, 0, float("nan"), 4)}, "finite"),
        ({"image": "a.png", "region": (0, 0, float("inf"), 4)}, "finite"),
        ({"image": "a.png", "region": "1,2,3"}, "four numbers"),
        ({"image": "a.png", "region": 7}, "four numbers"),
        ({"id": 7}, "32 hexadecimal"),
        ({"text": "  "}, "one word"),
    ],
)
def test_parts_that_make_no_question(parts, message):
    with pytest.raises(QueryError, match=message):
        Query(**parts)


def test_a_region_becomes_four_floats():
    assert Query(image="a.png", region=np.array([1, 2, 3, 4])).region == (1.0, 2.0, 3.0, 4.0)


def test_every_kind_of_image_is_read(tmp_path):
    from PIL import Image

    from medlike import imaging

    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    path = tmp_path / "bild ü.png"
    Image.fromarray(pixels).save(path)
    for given in (
        path,
        str(path),
        pixels,
        pixels.tolist(),
        Image.fromarray(pixels),
        imaging.from_array(pixels),
    ):
        assert np.array_equal(Query(image=given).read().pixels, pixels)


def test_what_is_no_image_is_named(tmp_path):
    with pytest.raises(QueryError, match="object cannot be searched for"):
        Query(image=object()).read()
    with pytest.raises(ImageError):
        Query(image=tmp_path / "absent.png").read()
    with pytest.raises(ImageError):
        Query(image=np.zeros((2, 3, 4, 5))).read()


def test_anything_else_becomes_the_image_of_a_query(archive, pictures):
    folder = pictures(3)
    archive.add(folder)
    given = folder / "0001.png"
    assert [hit.id for hit in archive.search(given)] == [hit.id for hit in archive.search(Query(image=given))]
