"""Settings of a search: a wrong one is named, with what is known."""

import pytest

from medlike import Query
from medlike.errors import QueryError


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"rank": "best"}, "content, radius, hamming"),
        ({"radius": -1}, "radius is -1"),
        ({"group_by": "patient"}, "series, study"),
        ({"collapse": "study"}, "patient, duplicates"),
        ({"collapse": "patient", "group_by": "study"}, "leave one of them out"),
        ({"nearest": 3}, "exclude_own_patient"),
        ({"where": {"age": {"above": 3}}}, "gte"),
        ({"generation": 99}, "generation 99"),
    ],
)
def test_settings_that_make_no_sense_are_named(population, chosen, message):
    asked = population.add(2)[0]
    with pytest.raises(QueryError, match=message):
        population.archive.search(Query(id=asked), **chosen)


def test_the_keywords_an_editor_shows_are_the_settings():
    from dataclasses import fields

    from medlike.archive.search.settings import SearchKeywords, SearchSettings

    assert set(SearchKeywords.__annotations__) | {"k"} == {field.name for field in fields(SearchSettings)}
