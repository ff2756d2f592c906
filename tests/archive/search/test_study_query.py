"""Several images of a study as one query, against a naive twin."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from medlike import Query
from medlike.archive.index import index as index_module
from medlike.archive.search import ranking
from medlike.archive.search.encoded_query import EncodedQuery
from medlike.archive.search.search import Clock, _answer
from medlike.archive.search.settings import SearchSettings
from medlike.archive.search.study_query import as_studies, least_unusual
from medlike.codes import hamming, reranking
from medlike.codes.reranking import _cosines, _expanded, original_first, reranked
from medlike.errors import ImageError, QueryError


@pytest.fixture
def few(monkeypatch):
    """Short shortlists, small blocks, and an index of several parts."""
    monkeypatch.setattr(ranking, "SHORTLIST_IMAGES", 25)
    monkeypatch.setattr(reranking, "MEMBERS", 12)
    monkeypatch.setattr(index_module, "WORTH_A_FILE", 30)
    monkeypatch.setattr(hamming, "STEP", 17)


def shown(result):
    return [(hit.id, hit.distance, hit.similarity) for hit in result]


def member(code, content, p=None, **facts):
    outlier = None if p is None else {"p_value": p}
    return EncodedQuery(np.asarray(code), np.asarray(content), None, facts.pop("own", {}), outlier=outlier, **facts)


def answered(population, members, **chosen):
    """The answer to images with given codes and contents."""
    [study], _ = as_studies([Query(images=[0] * len(members))], members, [None] * len(members))
    with population.archive.session() as session:
        images = session.images(None)
        settings = SearchSettings.of(**chosen)
        return _answer(session, images, images.index.view(settings.generation), [study], settings, Clock())[0]


def naive(population, members, order, radius=None, accepts=lambda id: True):
    """Every image by its best member: (id, distance, similarity) in the order."""
    whole = []
    for id in population.alive():
        near = min(population.distance(one.code, id) for one in members)
        alike = max(population.similarity(one.content, id) for one in members)
        if accepts(id) and (radius is None or near <= radius):
            whole.append((id, near, alike))
    if order == "hamming":
        return sorted(whole, key=lambda each: (each[1], each[0]))
    if order == "radius":
        return sorted(whole, key=lambda each: (-each[2], each[1], each[0]))
    if order == "exact":
        return sorted(whole, key=lambda each: (-each[2], each[0]))
    whole.sort(key=lambda each: (each[1], -each[2], each[0]))
    if order == "content":
        return whole
    listed = sorted(whole[:25], key=lambda each: (-each[2], each[0]))
    if order == "neighbours":
        vectors = np.array([population.rows[id]["content"] for id, _, _ in listed[:12]])
        listed[:12] = [listed[at] for at in reranked(np.stack([one.content for one in members]), vectors)]
    return listed + whole[25:]


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), images=st.integers(1, 4), k=st.integers(1, 70))
def test_every_order_equals_the_naive_search(population, few, seed, images, k):
    population.restart(seed)
    contents = [population.content() for _ in range(7)]
    for size in (35, 20):
        draws = population.random.integers(7, size=size)
        population.add(size, [population.code(0.01) for _ in range(size)], [contents[at] for at in draws])
    population.remove(list(population.alive())[1::7])
    members = [member(population.code(0.01), contents[at]) for at in range(images)]
    for order, radius in (
        ("content", None), ("content", 5), ("hamming", None), ("radius", 20), ("exact", None), ("exact", 9),
        ("shortlist", None), ("neighbours", None),
    ):  # fmt: skip
        result = answered(population, members, k=k, rank=order, radius=radius)
        assert shown(result) == naive(population, members, order, radius)[:k], order
        for hit in result:
            alike = [population.similarity(one.content, hit.id) for one in members]
            assert hit.member == 1 + alike.index(max(alike)) and hit.similarity == max(alike)


def test_hits_of_a_study_are_the_best_of_each_study(population, few):
    studies = [None if at % 9 == 0 else f"{at % 11:032x}" for at in range(60)]
    population.add(60, study=studies)
    members = [member(population.code(), population.content()) for _ in range(3)]
    result = answered(population, members, k=8, rank="content", group_by="study", others=2)
    order = naive(population, members, "content")
    groups = {}
    for each in order:
        groups.setdefault(population.rows[each[0]]["study"] or each[0], []).append(each)
    assert shown(result) == [group[0] for group in list(groups.values())[:8]]
    assert [shown(hit.others) for hit in result] == [group[1:3] for group in list(groups.values())[:8]]
    assert [hit.group_size for hit in result] == [len(group) for group in list(groups.values())[:8]]


def test_several_queries_rank_by_the_best_score_and_one_as_before():
    random = np.random.default_rng(3)
    members = random.integers(-127, 128, (40, 8)).astype(np.int8)
    queries = random.integers(-127, 128, (3, 8)).astype(np.int8)
    queries[1] = members[17]
    invariant = np.eye(8, dtype=np.int16) * 32767
    for method in ("expansion", "diffusion"):
        assert (reranked(queries[:1], members, method) == reranked(queries[0], members, method)).all()
        assert (reranked(queries[[0, 0]], members, method) == reranked(queries[0], members, method)).all()
    alone = [_expanded(_cosines(np.concatenate([members, query[None]])), reranking.NEAREST) for query in queries]
    order = reranked(queries, members)
    assert (order == sorted(range(40), key=lambda at: -max(scores[at] for scores in alone))).all()
    assert original_first(queries, members, order, invariant)[0] == 17
    assert original_first(queries[[0, 2]], members, order, invariant)[0] != 17


def test_the_verdict_is_of_the_least_unusual_image():
    code, content = np.zeros(2, np.uint8), np.zeros(3, np.int8)
    members = [member(code, content, p, title=str(p)) for p in (0.02, 0.4, None, 0.4)]
    assert least_unusual(members) == 1 and least_unusual(members[2:3]) == 0
    plain = member(code, content, 0.1)
    [study, other], pictures = as_studies([Query(images=[0] * 4), Query(id="1")], [*members, plain], list("abcde"))
    assert study.outlier == {"p_value": 0.4} and study.title == "0.4" and pictures == ["b", "e"]
    assert study.members == tuple(members) and other is plain and other.members == ()


def test_one_image_as_a_study_is_the_same_as_that_image(archive, pictures):
    folder = pictures(12)
    archive.add(folder)
    path = folder / "0003.png"
    for rank in ("neighbours", "content", "exact"):
        one = archive.search(Query(image=path), k=9, rank=rank)
        study = archive.search(Query(images=[path]), k=9, rank=rank, group_by=None)
        assert shown(study) == shown(one) and study.outlier == one.outlier and study.familiarity == one.familiarity
        assert [hit.itself for hit in study] == [hit.itself for hit in one] and {hit.member for hit in study} == {1}
        assert [hit.mirrored for hit in study] == [hit.mirrored for hit in one]


def test_images_of_every_kind_are_one_query_whose_receipt_repeats(archive, pictures):
    folder = pictures(12)
    archive.add(folder)
    paths = [folder / f"{at:04}.png" for at in (2, 5, 7)]
    with Image.open(paths[1]) as picture:
        array = np.array(picture)
    query = Query(images=[str(paths[0]), array, Image.open(paths[2])])
    result = archive.search(query, k=12)
    assert result.receipt["settings"]["group_by"] == "study" and result.receipt["query"]["kind"] == "images"
    assert {(hit.member, hit.distance) for hit in result if hit.itself} == {(1, 0), (2, 0), (3, 0)}
    assert shown(archive.search(Query(images=paths), k=12)) == shown(result)
    receipt = json.loads(json.dumps(result.receipt))
    archive.add(pictures(3, seed=9, name="later"))
    archive.remove(result[4].id)
    again = archive.repeat(receipt)
    assert shown(again) == shown(result) and again.receipt == receipt and not again.warnings
    assert [hit.member for hit in again] == [hit.member for hit in result]
    assert again.familiarity == result.familiarity and again.outlier == result.outlier
    receipt["query"]["members"][1]["code"] = "00"
    with pytest.raises(QueryError, match="the archive's queries 64 and 32"):
        archive.repeat(receipt)


def test_a_study_among_other_queries_changes_none_of_them(archive, pictures):
    folder = pictures(9)
    archive.add(folder)
    paths = sorted(folder.glob("*.png"))
    queries = [Query(image=paths[0]), Query(images=paths[1:4]), Query(image=paths[5])]
    together = archive.search_many(queries, k=5)
    assert [shown(result) for result in together] == [shown(archive.search(query, k=5)) for query in queries]
    assert together[0].receipt["settings"]["group_by"] is None
    encoded = together[1].receipt["query"]["outlier"]["p_value"]
    assert encoded == max(archive.search(Query(image=path)).outlier["p_value"] for path in paths[1:4])


def test_under_a_fit_each_image_has_its_own_fitted_code(archive, pictures):
    folder = pictures(30)
    archive.add(folder)
    archive.fit(bits=8)
    paths = sorted(folder.glob("*.png"))[:2]
    result = archive.search(Query(images=paths), k=30, rank="content", group_by=None)
    singles = [{hit.id: hit for hit in archive.search(Query(image=path), k=30, rank="content")} for path in paths]
    for hit in result:
        assert hit.distance == min(single[hit.id].distance for single in singles)
        assert hit.similarity == max(single[hit.id].similarity for single in singles)


def test_the_patients_of_all_images_are_left_out(population):
    patients = [f"{at % 4:032x}" for at in range(40)]
    population.add(40, patient=patients)
    members = [member(population.code(), population.content(), own={"patient": f"{at:032x}"}) for at in range(2)]
    result = answered(population, members, k=40, rank="content", exclude_own_patient=True)
    left = naive(population, members, "content", accepts=lambda id: int(population.rows[id]["patient"]) > 1)
    assert shown(result) == left and len(left) == 20


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"images": []}, "0 images: give 1 to 32"),
        ({"images": ["a.png"] * 33}, "33 images: give 1 to 32"),
        ({"images": "a.png"}, "list of images"),
        ({"images": 7}, "list of images"),
        ({"images": ["a.png"], "image": "b.png"}, "give one image"),
        ({"images": ["a.png"], "id": "0" * 32}, "give one image"),
        ({"images": ["a.png"], "text": "nodule"}, "give one image"),
        ({"images": ["a.png"], "region": (0, 0, 1, 1)}, "give one image"),
        ({"images": ["a.png"], "like": ["0" * 32]}, "give one image"),
    ],
)
def test_images_that_make_no_query(parts, message):
    with pytest.raises(QueryError, match=message):
        Query(**parts)


def test_an_image_that_cannot_be_read_is_numbered(archive, pictures):
    folder = pictures(2)
    archive.add(folder)
    with pytest.raises(ImageError, match=r"image 2 of 2: "):
        archive.search(Query(images=[folder / "0000.png", folder / "absent.png"]))
    with pytest.raises(QueryError, match="one image"):
        archive.nearest_texts(Query(images=[folder / "0000.png"]))


def test_collapsed_hits_of_a_study_are_not_grouped_too(population):
    population.add(30, patient=[f"{at % 5:032x}" for at in range(30)])
    members = [member(population.code(), population.content()) for _ in range(2)]
    result = answered(population, members, k=9, rank="content", collapse="patient")
    best = {}
    for each in naive(population, members, "content"):
        best.setdefault(population.rows[each[0]]["patient"], each)
    assert shown(result) == list(best.values()) and len(result) == 5


def test_a_collapsed_query_of_several_images_names_no_study(archive, pictures):
    folder = pictures(4)
    archive.add(folder)
    result = archive.search(Query(images=[folder / "0001.png"]), collapse="patient")
    assert (result.receipt["settings"]["group_by"], result.receipt["settings"]["collapse"]) == (None, "patient")
