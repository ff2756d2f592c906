"""Searches against a naive twin: sort everything by the total order."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medlike import Query
from medlike.archive.index import index as index_module
from medlike.errors import UnknownField

RELAXED = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def shown(result):
    return [(hit.id, hit.distance, hit.similarity) for hit in result.hits]


def without(*ids):
    return lambda id: id not in ids


@RELAXED
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    k=st.integers(1, 60),
)
def test_every_mode_equals_the_naive_search(population, monkeypatch, seed, sizes, k):
    monkeypatch.setattr(index_module, "WORTH_A_FILE", 30)
    population.restart(seed)
    for size in sizes:
        population.add(size)
    population.remove(list(population.alive())[1::7])
    asked = next(iter(population.alive()))
    row = population.rows[asked]
    for rank, radius in (
        ("content", None),
        ("content", 3),
        ("hamming", None),
        ("radius", None),
        ("radius", 20),
    ):
        result = population.archive.search(Query(id=asked), k=k, rank=rank, radius=radius)
        limit = 8 if (rank, radius) == ("radius", None) else radius
        expected = population.expected(row["code"], row["content"], k, rank, limit, without(asked))
        assert shown(result) == expected


def test_ties_beyond_the_last_hit_are_ordered_by_content_then_id(population):
    code = population.code()
    content = population.content()
    contents = [content if at % 3 == 0 else population.content() for at in range(400)]
    asked = population.add(400, [code] * 400, contents)[1]
    row = population.rows[asked]
    for k in (1, 5, 50, 399):
        for rank in ("content", "hamming", "radius"):
            result = population.archive.search(Query(id=asked), k=k, rank=rank)
            limit = 8 if rank == "radius" else None
            assert shown(result) == population.expected(code, row["content"], k, rank, limit, without(asked))


def test_a_search_as_of_any_generation(population):
    population.add(20)
    asked = population.add(1)[0]
    population.remove(list(population.alive())[:5])
    population.add(10)
    row = population.rows[asked]
    for generation in range(2, population.store.generation() + 1):
        result = population.archive.search(Query(id=asked), k=50, rank="content", generation=generation)
        expected = population.expected(row["code"], row["content"], 50, accepts=without(asked), generation=generation)
        assert shown(result) == expected
        assert result.receipt["generation"] == generation


def test_no_file_name_is_shown_unless_a_title_is_given(population, tmp_path):
    from PIL import Image

    population.add(3)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "Doe Jane.png")
    result = population.archive.search(Query(image=tmp_path / "Doe Jane.png"))
    assert result.title == population.archive.repeat(result.receipt).title == "Query"
    for shown in (json.dumps(result.receipt), result.to_json(), result.page(), result._repr_html_()):
        assert "Doe" not in shown
    named = population.archive.search(Query(image=tmp_path / "Doe Jane.png", title="Case <3>"))
    assert named.title == "Case <3>" and "<h2>Case &lt;3&gt;</h2>" in named.page()
    assert "Case" not in json.dumps(named.receipt)


def test_searches_beside_a_writer_see_one_generation_each(population, monkeypatch):
    import threading

    monkeypatch.setattr(index_module, "WORTH_A_FILE", 25)
    asked = population.add(20)[0]
    row = population.rows[asked]
    found, failed = [], []

    def read():
        try:
            for _ in range(12):
                found.append(population.archive.search(Query(id=asked), k=15, rank="content"))
        except Exception as error:
            failed.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(12):
        population.add(9)
        population.remove([id for id in population.alive() if id != asked][:4])
    for reader in readers:
        reader.join()
    assert not failed
    for result in found:
        generation = result.receipt["generation"]
        expected = population.expected(row["code"], row["content"], 15, accepts=without(asked), generation=generation)
        assert shown(result) == expected
    assert population.archive._indexes.images.verify() == []


@RELAXED
@given(seed=st.integers(0, 2**32), k=st.integers(1, 12), number=st.integers(1, 80))
def test_groups_show_the_best_image_and_the_others_behind_it(population, seed, k, number):
    population.restart(seed)
    studies = [None if at % 9 == 0 else f"{population.random.integers(12):032x}" for at in range(number)]
    asked = population.add(number, study=studies)[0]
    row = population.rows[asked]
    for rank in ("content", "hamming"):
        result = population.archive.search(Query(id=asked), k=k, group_by="study", rank=rank, others=3)
        order = population.expected(row["code"], row["content"], 10**6, rank, accepts=without(asked))
        groups = {}
        for id, *_ in order:
            groups.setdefault(population.rows[id]["study"] or id, []).append(id)
        expected = list(groups.values())[:k]
        assert [hit.id for hit in result.hits] == [group[0] for group in expected]
        assert [[other.id for other in hit.others] for hit in result.hits] == [group[1:4] for group in expected]
        assert [hit.group_size for hit in result.hits] == [len(group) for group in expected]


@RELAXED
@given(seed=st.integers(0, 2**32), number=st.integers(1, 6))
def test_many_queries_at_once_answer_as_one_by_one(population, seed, number):
    population.restart(seed)
    known = population.add(50, modality=["CT", "MR"] * 25)
    population.remove(known[10:13])
    queries = [Query(id=id) for id in known[:number]]
    for chosen in ({}, {"where": {"modality": "MR"}}, {"rank": "hamming"}, {"group_by": "series"}):
        together = population.archive.search_many(queries, k=7, **chosen)
        assert [shown(result) for result in together] == [
            shown(population.archive.search(query, k=7, **chosen)) for query in queries
        ]


def test_the_stored_query_itself_is_found_only_on_request(population):
    asked = population.add(10)[4]
    assert asked not in {hit.id for hit in population.archive.search(Query(id=asked), k=20)}
    found = population.archive.search(Query(id=asked), k=20, include_self=True)
    assert found.hits[0].id == asked
    assert (found.hits[0].distance, round(found.hits[0].similarity, 6)) == (0, 1)


def test_an_image_as_query_finds_its_stored_twin(population, tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (90, 70), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    population.add(8)
    report = population.archive.add([tmp_path / "a.png"])
    assert report.added == 1
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), pixels, Image.fromarray(pixels)):
        result = population.archive.search(Query(image=image), k=3)
        assert result.hits[0].distance == 0
        assert result.hits[0].source["path"] == str(tmp_path / "a.png")
        assert result.outlier["p_value"] > 0
        assert result.query_picture().shape == (90, 70)
    assert population.archive.search(pixels, k=3).hits[0].id == result.hits[0].id


def test_json_has_the_documented_keys(population):
    asked = population.add(3, modality="CT")[0]
    result = population.archive.search(Query(id=asked), k=2)
    facts = json.loads(result.to_json())
    assert list(facts) == ["hits", "outlier", "receipt", "seconds", "familiarity"]
    assert list(facts["hits"][0]) == ["rank", "id", "distance", "similarity", "box", "metadata", "source"]
    assert [hit["rank"] for hit in facts["hits"]] == [1, 2]
    assert set(facts["receipt"]) == {"archive", "branch", "generation", "bundle", "settings", "query", "answer"}
    assert all(seconds >= 0 for seconds in facts["seconds"].values())


def test_an_empty_archive_answers_nothing(population):
    result = population.archive.search(np.zeros((20, 20), np.uint8))
    assert result.hits == []


def test_no_match_for_a_filter_says_what_there_is(population):
    asked = population.add(4, modality=["CT", "MR", "CT", None], age=3.0)[0]
    result = population.archive.search(Query(id=asked), where={"modality": "ct"})
    assert result.hits == []
    assert "CT, MR" in result.warnings[0]
    with pytest.raises(UnknownField, match=r"modalty: did you mean modality\?"):
        population.archive.search(Query(id=asked), where={"modalty": "CT"})
    assert not population.archive.search(Query(id=asked), where={"modality": "CT", "age": {"gt": 3}}).warnings


@pytest.mark.parametrize("room", [4096, 64])
def test_a_large_gallery_takes_the_compiled_road_and_answers_alike(population, monkeypatch, room):
    from medlike.archive.index import candidates
    from medlike.codes import hamming

    monkeypatch.setattr(hamming, "ROOM", room)
    monkeypatch.setattr(hamming, "STEP", 200)
    monkeypatch.setattr(candidates, "BLOCK", 64)
    # Half of the codes are equal: with little room, their order is found in a second pass.
    code = population.code()
    known = population.add(1500, [code if at % 2 else population.code() for at in range(1500)])
    population.remove(known[20:30])
    row = population.rows[known[1]]
    for k in (1, 10, 200, 700):
        for rank in ("content", "hamming", "radius"):
            monkeypatch.setattr(hamming, "SMALL", 0)
            compiled = shown(population.archive.search(Query(id=known[1]), k=k, rank=rank))
            monkeypatch.setattr(hamming, "SMALL", 1 << 30)
            assert compiled == shown(population.archive.search(Query(id=known[1]), k=k, rank=rank))
            limit = 8 if rank == "radius" else None
            assert compiled == population.expected(code, row["content"], k, rank, limit, without(known[1]))


def test_a_search_by_id_in_a_small_archive_loads_neither_runtime_nor_compiler(population):
    import subprocess
    import sys

    asked = population.add(30)[0]
    code = (
        "import sys; from medlike import Archive, Query\n"
        "with Archive.open(sys.argv[1]) as archive: assert archive.search(Query(id=sys.argv[2]), k=5).hits\n"
        "print(*sorted({'numba', 'onnxruntime', 'torch', 'scipy', 'pydicom'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", code, str(population.archive.path), asked]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
