import json

import numpy as np
import pytest

from medlike import Hit, Query, Result
from medlike.archive.search import result as results
from medlike.archive.search.result import ResultPictures
from medlike.errors import InputError


def picture(id="", side=40):
    return np.random.default_rng(len(id)).integers(0, 256, (side, side + 8), dtype=np.uint8)


@pytest.fixture
def result():
    hits = [
        Hit(
            1,
            "a" * 32,
            3,
            0.934,
            metadata={"modality": "CT", "body_part": "CHEST", "label": "CT_chest_normal"},
        ),
        Hit(2, "b" * 32, 1, -0.2, metadata={"label": "<script>alert(1)</script>"}, group_size=4),
        Hit(3, "c" * 32, 0.125, 0.5, box=(1, 2, 3, 4), source={"path": "/x"}),
    ]
    outlier = {"is_outlier": True, "p_value": 0.0004, "score": 3.0, "threshold": 0.03, "components": {}}
    return Result(
        hits, outlier, {"generation": 3}, {"search": 0.1}, modality="CT", title="query & co.dcm",
        warnings=("mind this",), pictures=ResultPictures(picture, lambda id: None if id[0] == "c" else picture(id)),
    )  # fmt: skip


def test_a_result_is_a_sequence_of_hits(result):
    assert len(result) == 3
    assert [hit.rank for hit in result] == [1, 2, 3]
    assert result[1].id == "b" * 32


def test_a_hit_tells_of_its_group_only_where_hits_are_grouped(result):
    first, second, third = (hit.as_dict() for hit in result)
    assert list(first) == ["rank", "id", "distance", "similarity", "box", "metadata", "source"]
    assert second["others"] == []
    assert second["group_size"] == 4
    assert third["box"] == [1, 2, 3, 4]


def test_json_keeps_every_script():
    hit = Hit(1, "a" * 32, 0, 1.0, metadata={"label": "肺炎"})
    text = Result([hit]).to_json()
    assert "肺炎" in text
    assert json.loads(text)["hits"][0]["metadata"]["label"] == "肺炎"


def test_sheet_and_page_are_written(result, tmp_path):
    from PIL import Image

    result.sheet(tmp_path / "sheet.png")
    assert Image.open(tmp_path / "sheet.png").format == "PNG"
    result.sheet(tmp_path / "sheet.JPG")
    assert Image.open(tmp_path / "sheet.JPG").format == "JPEG"
    for name in ("found.xyz", "found", "png"):
        with pytest.raises(InputError, match=r"ends in \.png, \.jpg, \.jpeg"):
            result.sheet(tmp_path / name)
        assert not (tmp_path / name).exists()
    text = results.page([result, result], tmp_path / "page.html", "two")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == text
    assert result.page() != text


def test_what_was_found_is_drawn_as_of_its_generation(archive, pictures):
    archive.add(pictures(4))
    first, *others = (row.id for row in archive._store.images([1, 2, 3, 4]).values())
    found = archive.search(Query(id=first))
    archive.remove([first, *others[:2]])
    again = archive.repeat(found.receipt)
    assert again.sheet().tobytes() == found.sheet().tobytes() and "missing" not in again.page()
    archive.remove([first, others[0]], erase=True)
    assert archive.repeat(found.receipt).page().count("picture missing") == 1 and "<img" in again.page()
