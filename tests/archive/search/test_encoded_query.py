"""Queries are encoded, or looked up by their id, with the patient they are of."""

import numpy as np
import pytest

from medlike import Archive, Query
from medlike.bundle import rewrite
from medlike.errors import QueryError


def shown(result):
    return [(hit.id, hit.distance, hit.similarity) for hit in result.hits]


def test_by_id_the_verdict_is_that_by_image(tmp_path, tiny_bundle, pictures):
    folder = pictures(4)
    spec = {**tiny_bundle.spec["outlier"], "threshold": 0.05}  # not the usual one
    bundle = rewrite(tiny_bundle, tmp_path / "strict", {}, {"outlier": spec})
    with Archive.create(tmp_path / "archive", bundle) as made:
        made.add(folder)
        for path in sorted(folder.glob("*.png")):
            by_image = made.search(Query(image=path))
            assert by_image.outlier["components"] and by_image.outlier["threshold"] == 0.05
            assert made.search(Query(id=by_image.hits[0].id)).outlier == by_image.outlier
        made.backup(tmp_path / "backup")
    with Archive.restore(tmp_path / "backup", tmp_path / "copy") as copy:
        assert copy.search(Query(id=by_image.hits[0].id)).outlier == by_image.outlier


def test_own_patient_is_left_out(population):
    patients = [f"{at % 4:032x}" for at in range(40)]
    asked = population.add(40, patient=patients)[0]
    row = population.rows[asked]
    result = population.archive.search(Query(id=asked), k=40, rank="content", exclude_own_patient=True)
    expected = population.expected(
        row["code"], row["content"], 40, accepts=lambda id: population.rows[id]["patient"] != row["patient"]
    )
    assert shown(result) == expected
    assert len(expected) == 30
    assert not result.warnings


def test_the_patient_of_an_image_given_is_known_where_the_image_is_stored(population, tmp_path):
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(random.integers(0, 256, (30, 30), dtype=np.uint8)).save(folder / f"{number}.png")
    lines = [f"pictures/{number}.png,P{number // 3}" for number in range(6)]
    (tmp_path / "manifest.csv").write_text("path,group\n" + "\n".join(lines) + "\n")
    assert population.archive.add(tmp_path / "manifest.csv").added == 6
    result = population.archive.search(Query(image=folder / "0.png"), k=9, exclude_own_patient=True)
    assert not result.warnings
    names = sorted(hit.source["path"].rsplit("/", 1)[-1] for hit in result)
    assert names == ["3.png", "4.png", "5.png"]


def test_an_unknown_patient_is_said(population):
    asked = population.add(5)[0]
    result = population.archive.search(Query(id=asked), exclude_own_patient=True)
    assert "patient is not known" in result.warnings[0]
    assert "warnings" in result.as_dict()


def test_parts_of_a_query_that_the_bundle_lacks_are_refused(population):
    asked = population.add(2)[0]
    with pytest.raises(QueryError, match="local codes"):
        population.archive.search(Query(id=asked, region=(0, 0, 5, 5)))
    with pytest.raises(QueryError, match="text"):
        population.archive.search(Query(text="pneumonia"))
    with pytest.raises(QueryError, match="no image"):
        population.archive.search(Query(id="0" * 32))
