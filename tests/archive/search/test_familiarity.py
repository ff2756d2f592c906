"""Whether anything in the archive is alike, in numbers and in words."""

import json

import numpy as np
import pytest

from medlike import Query, Result
from medlike.archive.search.familiarity import THRESHOLD, UNITS, Familiarity


@pytest.fixture
def crowd(population):
    """150 patients whose images are alike; one image that is like none of them; and one like all of them."""
    middle = population.content().astype(float)

    def near(noise=30):
        return np.clip(0.8 * middle + population.random.normal(0, noise, len(middle)), -127, 127).astype(np.int8)

    population.add(150, contents=[near() for _ in range(150)], patient=[f"{at:032x}" for at in range(150)])
    population.stranger = population.add(1, contents=[population.content()], patient=f"{900:032x}")[0]
    population.neighbour = population.add(1, contents=[near(10)], patient=f"{901:032x}")[0]
    return population


def test_what_is_like_nothing_is_told_from_what_is_like_the_rest(crowd):
    search = crowd.archive.search
    alike = search(Query(id=crowd.neighbour)).familiarity
    assert alike.alike and alike.units == 152 and alike.share > THRESHOLD
    assert str(alike).startswith("Alike images found: similarity 0.")
    other = search(Query(id=crowd.stranger)).familiarity
    assert other.alike is False and other.similarity < alike.usual
    assert str(other).startswith("Nothing alike in this archive: similarity ")
    filtered = search(Query(id=crowd.stranger), where={"width": 64}).familiarity
    assert str(filtered).startswith("Nothing alike that passes the filter: ")


def test_the_judgement_is_one_whatever_is_shown(crowd):
    expected = crowd.archive.search(Query(id=crowd.neighbour)).familiarity
    for chosen in (
        {"k": 1}, {"k": 40}, {"rank": "hamming"}, {"rank": "radius", "radius": 0}, {"group_by": "study"},
        {"include_self": True, "k": 1},
    ):  # fmt: skip
        assert crowd.archive.search(Query(id=crowd.neighbour), **chosen).familiarity == expected, chosen
    several = crowd.archive.search_many([Query(id=crowd.neighbour), Query(id=crowd.stranger)], k=1)
    assert several[0].familiarity == expected


def test_what_is_usual_differs_from_place_to_place(population):
    """A query beside 300 images that differ much is familiar there, and is not beside 300 that are nearly one."""
    draw, size = population.random, len(population.content())

    def around(middle, noise):
        return np.clip(0.8 * middle + draw.normal(0, noise, size), -127, 127).astype(np.int8)

    tight, loose = (population.content().astype(float) for _ in range(2))
    contents = [around(tight, 8) for _ in range(300)] + [around(loose, 60) for _ in range(300)]
    population.add(600, contents=contents, patient=[f"{at:032x}" for at in range(600)])
    beside = population.add(2, contents=[around(tight, 40), around(loose, 60)], patient=[f"{9:030x}aa", f"{9:030x}bb"])
    near_tight, near_loose = (population.archive.search(Query(id=id)).familiarity for id in beside)
    assert near_tight.alike is False and near_loose.alike
    assert near_tight.similarity > near_loose.similarity, "one threshold for all would have judged the other way"
    assert near_tight.usual > near_loose.usual


def test_one_image_of_another_patient_does_not_make_the_query_familiar(crowd):
    query = crowd.rows[crowd.stranger]
    crowd.add(1, [query["code"]], [query["content"]], patient=f"{920:032x}")
    assert crowd.archive.search(Query(id=crowd.stranger)).familiarity.alike is False


def test_too_few_patients_judge_nothing(population):
    ids = population.add(UNITS - 1, patient=[f"{at:032x}" for at in range(UNITS - 1)])
    judged = population.archive.search(Query(id=ids[0])).familiarity
    assert judged.alike is None and judged.units == UNITS - 1
    assert str(judged) == "Too few patients to judge whether anything is alike: 99, and 100 are needed"
    population.add(1, patient=f"{UNITS:032x}")
    assert population.archive.search(Query(id=ids[0])).familiarity.alike is not None


def test_many_images_of_few_patients_judge_nothing(population):
    ids = population.add(200, patient=[f"{at % 20:032x}" for at in range(200)])
    assert population.archive.search(Query(id=ids[0])).familiarity.units == 20


def test_nothing_to_compare_with_is_said(population):
    id = population.add(1)[0]
    assert str(population.archive.search(Query(id=id)).familiarity) == "No other image in this archive to compare with"
    population.add(1, modality="MR")
    filtered = population.archive.search(Query(id=id), where={"modality": "CT"}).familiarity
    assert str(filtered) == "No other image that passes the filter to compare with"


def test_an_earlier_generation_is_judged_as_it_was(crowd):
    before = crowd.archive.search(Query(id=crowd.stranger))
    query = crowd.rows[crowd.stranger]
    crowd.add(5, [query["code"]] * 5, [query["content"]] * 5, patient=[f"{at:032x}" for at in range(910, 915)])
    assert crowd.archive.search(Query(id=crowd.stranger)).familiarity.alike
    assert crowd.archive.repeat(before.receipt).familiarity == before.familiarity


def test_searches_in_words_are_not_judged(archive, pictures):
    folder = pictures(2)
    archive.receive((folder / "0000.png").read_bytes(), "a.png", texts={"report": "a finding"})
    archive.drain()
    result = archive.search(Query(image=folder / "0001.png", text="finding"))
    assert result.familiarity is None
    assert result.as_dict()["unjudged"] == result.unjudged
    assert result.unjudged == "Whether anything here is alike is judged for whole images only, not for words"
    assert archive.search(Query(image=folder / "0001.png")).unjudged is None


@pytest.mark.parametrize(
    "judged", [Familiarity(None, None, None, None, 0), Familiarity(False, 0.25, 0.5, 0.01, 300, True)]
)
def test_it_is_plain_data(judged):
    result = Result([], familiarity=judged)
    facts = json.loads(json.dumps(result.to_dict()))
    assert Result.from_dict(facts).familiarity == judged
    assert result.as_dict()["familiarity"] == judged.to_dict()
    del facts["familiarity"]
    assert Result.from_dict(facts).familiarity is None, "a result of an earlier medlike"


def test_the_query_itself_is_marked_and_does_not_count(archive, pictures):
    folder = pictures(4)
    archive.add(folder)
    result = archive.search(Query(image=folder / "0001.png"))
    assert [hit.itself for hit in result.hits] == [True, False, False, False]
    assert result[0].as_dict()["itself"] is True and "itself" not in result[1].as_dict()
    assert result.familiarity.similarity < 0.999 * result[0].similarity
    again = archive.repeat(json.loads(json.dumps(result.receipt)))
    assert [hit.itself for hit in again.hits] == [True, False, False, False]
    assert again.familiarity == result.familiarity
    by_id = archive.search(Query(id=result[0].id), include_self=True)
    assert by_id[0].itself
    (archive.path / "private" / "key").unlink()
    archive._bundles.close()
    assert not archive.search(Query(image=folder / "0001.png"))[0].itself, "without the key nothing is known again"
