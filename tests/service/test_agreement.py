"""How one image agrees with a query is what a search would say of it as a hit."""

import io
import json

import numpy as np
import pytest
from PIL import Image as Pillow

from medlike import Query
from medlike.errors import QueryError, UnknownImage


def as_array(grid):
    return np.array([[np.nan if share is None else share for share in row] for row in grid], np.float32)


@pytest.mark.parametrize("region", [None, (20.0, 10.0, 90.0, 80.0)])
def test_agreement_is_that_of_the_hit(kinds, region):
    ids = kinds.ids
    result = kinds.archive.search(
        Query(id=ids["signed"], region=region), k=20, rank="content", include_self=True
    )  # fmt: skip
    assert len(result) > 8
    for hit in result:
        params = {"query": ids["signed"]} | ({} if region is None else {"region": ",".join(map(str, region))})
        facts = kinds.get(f"images/{hit.id}/agreement", params=params).json()
        np.testing.assert_array_equal(as_array(facts["grid"]), hit.agreement)
        assert facts["box"] == (None if hit.box is None else list(hit.box))
        for name in ("distance", "similarity", "orientation", "scale", "mirrored", "id"):
            assert facts[name] == getattr(hit, name), name


def test_an_image_agrees_with_itself(kinds):
    id = kinds.ids["grey"]
    grid = as_array(kinds.get(f"images/{id}/agreement", params={"query": id}).json()["grid"])
    assert np.nanmin(grid) == 1 and np.isnan(grid[:, 0]).all()  # a tall picture: its sides are padding


def test_the_picture_covers_the_cells_that_agree(kinds):
    id = kinds.ids["grey"]
    response = kinds.get(f"images/{id}/agreement", params={"query": id, "format": "png", "size": 350})
    drawn = np.asarray(Pillow.open(io.BytesIO(response.content)))
    assert drawn.shape == (350, 250, 4) and (drawn[:, :, 3] > 0).mean() > 0.95
    other = kinds.get(f"images/{id}/agreement", params={"query": kinds.ids["wide"], "format": "png"})
    assert (np.asarray(Pillow.open(io.BytesIO(other.content)))[:, :, 3] > 0).mean() < 0.6


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({}, "query is missing"),
        ({"query": "0" * 32}, "there is no image"),
        ({"query": "own", "region": "1,2,3"}, "give four numbers"),
        ({"query": "own", "region": "1,2,3,nan"}, "region"),
        ({"query": "own", "region": "9000,9000,9999,9999"}, "lies outside of the image"),
        ({"query": "own", "orientations": 3}, "orientations is "),
        ({"query": "own", "scales": 2}, "scales is "),
        ({"query": "own", "format": "gif"}, "format is "),
        ({"query": "own", "size": 8}, "size is "),
        ({"query": "own", "k": 8}, "'k' is not a parameter of"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused(kinds, params, sentence):
    params = {name: kinds.ids["grey"] if value == "own" else value for name, value in params.items()}
    response = kinds.get(f"images/{kinds.ids['wide']}/agreement", params=params)
    assert response.status_code == 422 and sentence in response.json()["detail"]


def test_an_unknown_image_has_no_agreement(kinds):
    response = kinds.get(f"images/{'0' * 32}/agreement", params={"query": kinds.ids["grey"]})
    assert response.status_code == 404
    with pytest.raises(UnknownImage):
        kinds.archive.agreement(Query(id=kinds.ids["grey"]), "0" * 32)


def test_words_and_studies_have_no_agreement(kinds):
    for query in (Query(text="lung"), Query(images=[np.zeros((9, 9), np.uint8)])):
        with pytest.raises(QueryError, match="agreement is of one image with another"):
            kinds.archive.agreement(query, kinds.ids["grey"])


@pytest.mark.parametrize("region", [None, [10.0, 10.0, 300.0, 400.0]])
def test_the_body_of_a_search_is_compared(kinds, region):
    """By id, by the encoded query of an answer, and by an upload: all as the archive says."""
    id = kinds.ids["wide"]
    body = {"id": kinds.ids["grey"], "region": region, "k": 5, "where": {"modality": "CT"}, "rank": "hamming"}
    expected = kinds.archive.agreement(Query(id=body["id"], region=region), id)
    facts = kinds.client.post(f"images/{id}/agreement", json=body).json()
    np.testing.assert_array_equal(as_array(facts["grid"]), expected.agreement)
    assert facts["distance"] == expected.distance and facts["mirrored"] == expected.mirrored
    own = {"image": kinds.files["grey"].read_bytes()}
    more = {"request": json.dumps({"region": region, "region_turns": "rearranged"})}
    uploaded = kinds.client.post(f"images/{id}/agreement", files=own, data=more).json()
    np.testing.assert_allclose(as_array(uploaded["grid"]), expected.agreement)
    if region is None:
        encoded = kinds.archive.encode(Query(id=body["id"])).to_dict()
        again = kinds.client.post(f"images/{id}/agreement", json={"encoded": encoded}).json()
        assert again == facts
    drawn = kinds.client.post(f"images/{id}/agreement", json=body, params={"format": "png", "size": 64})
    assert Pillow.open(io.BytesIO(drawn.content)).size == (64, 47)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "a query is empty"),
        ({"text": "lung"}, "agreement is of one image with another"),
        ({"id": "own", "texts": True}, "texts have no agreement map"),
        ({"id": "own", "colour": 1}, "'colour' is not a key of a search"),
        ({"id": "0" * 32}, "there is no image"),
    ],
)
def test_a_body_that_makes_no_sense_is_refused(kinds, body, sentence):
    body = {name: kinds.ids["grey"] if value == "own" else value for name, value in body.items()}
    response = kinds.client.post(f"images/{kinds.ids['wide']}/agreement", json=body)
    assert response.status_code == 422 and sentence in response.json()["detail"]


def test_an_image_that_is_given_agrees_too(kinds):
    hit = kinds.archive.agreement(Query(image=kinds.files["grey"]), kinds.ids["grey"])
    assert np.nanmin(hit.agreement) == 1 and hit.itself and hit.similarity > 0.999
