"""An encoded query is searched for again without its image, under any settings, and equals the query itself."""

import json
from dataclasses import replace

import numpy as np
import pytest

from medlike import Archive, Query
from medlike.archive.search.encoded_query import EncodedQuery
from medlike.errors import QueryError
from medlike.inference import Encoder

SETTINGS = (
    {}, {"rank": "content"}, {"rank": "exact"}, {"rank": "radius", "radius": 30}, {"rank": "hamming"},
    {"codes": "trained"}, {"exclude_own_patient": True}, {"group_by": "study"}, {"where": {"modality": ["CT", "MR"]}},
)  # fmt: skip


@pytest.fixture(scope="module")
def regional(tiny_regional_bundle):
    """The tiny regional bundle, loaded once."""
    with Encoder(tiny_regional_bundle, threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def filled(tmp_path_factory, tiny_regional_bundle, regional, write_phantoms):
    """An archive of drawn images with a fit, and the folder of others."""
    folder = tmp_path_factory.mktemp("encode")
    write_phantoms(folder / "in", each=6)
    write_phantoms(folder / "others", each=1, first=500)
    with Archive.create(folder / "archive", tiny_regional_bundle, encoder=regional) as made:
        made.add(folder / "in" / "manifest.csv", pixels="copy")
        made.fit(bits=16)
        yield made, sorted((folder / "others").glob("*.png"))


def plain(result):
    return {name: value for name, value in result.to_dict().items() if name != "seconds"}


def through_json(encoded):
    return EncodedQuery.from_dict(json.loads(json.dumps(encoded.to_dict())))


def test_it_equals_the_query_under_every_setting(filled):
    archive, others = filled
    ids = archive.ids()
    for query in (
        Query(image=others[0]), Query(image=others[1], title="Mine"), Query(images=others[:3]), Query(id=ids[4]),
        Query(image=others[2], region=(10, 10, 60, 70)), Query(id=ids[5], region=(10, 10, 60, 70)),
    ):  # fmt: skip
        encoded = through_json(archive.encode(query))
        for chosen in SETTINGS:
            if query.region is not None and chosen.get("rank") == "radius":
                continue
            assert plain(archive.search(encoded, **chosen)) == plain(archive.search(query, **chosen)), (query, chosen)
    turned = Query(image=others[2], region=(10, 10, 60, 70))
    for chosen in ({"region_turns": "rearranged"}, {"orientations": 1}):
        assert plain(archive.search(archive.encode(turned), **chosen)) == plain(archive.search(turned, **chosen))


def test_marks_and_words_move_it_as_they_move_the_query(filled):
    archive, others = filled
    ids = archive.ids()
    for codes in ("fitted", "trained"):
        first = Query(image=others[0], like=ids[:2], unlike=ids[7:8])
        encoded = archive.encode(first)  # marks are left out
        again = Query(encoded=through_json(encoded), like=ids[:2], unlike=ids[7:8])
        assert plain(archive.search(again, codes=codes)) == plain(archive.search(first, codes=codes))
        assert plain(archive.search(encoded, codes=codes)) == plain(archive.search(Query(image=others[0]), codes=codes))
    with_words = Query(image=others[0], text="lesion CT")
    assert plain(archive.search(Query(encoded=encoded, text="lesion CT"))) == plain(archive.search(with_words))
    assert plain(archive.search(through_json(archive.encode(with_words)))) == plain(archive.search(with_words))
    only_words = Query(text="lesion")
    assert plain(archive.search(through_json(archive.encode(only_words)))) == plain(archive.search(only_words))


def test_it_is_refused_where_it_makes_no_sense(filled):
    archive, others = filled
    ids = archive.ids()
    encoded = archive.encode(Query(image=others[0]))
    other = replace(encoded, bundle="0" * 64)
    for query, text in (
        (other, "of bundle 0000000000000000, the archive now uses .*encode the query anew"),
        (replace(encoded, bundle=None), "the encoded query is of no bundle"),
        (Query(encoded=archive.encode(Query(images=others[:2])), like=ids[:1]), "move one whole image"),
        (Query(encoded=archive.encode(Query(text="lesion")), like=ids[:1]), "move one whole image"),
        (Query(encoded=archive.encode(Query(images=others[:2])), text="lesion"), "leave text out"),
        (replace(encoded, like=("a" * 32,)), "moved by marks"),
        (Query(encoded="words"), "encoded is str: give what `Archive.encode` returned"),
    ):
        with pytest.raises(QueryError, match=text):
            archive.search(query)
    for name, value in (("id", ids[0]), ("image", others[0]), ("region", (0, 0, 5, 5))):
        with pytest.raises(QueryError, match=f"leave {name} out"):
            Query(encoded=encoded, **{name: value})
    with pytest.raises(QueryError, match="leave image, id, region, text, encoded"):
        Query(images=others[:1], encoded=encoded)


def test_damaged_ones_are_refused_with_a_sentence(filled):
    archive, others = filled
    sound = archive.encode(Query(image=others[0], region=(10, 10, 60, 70)))
    study = archive.encode(Query(images=others[:2]))
    for damage in (
        {"code": sound.code[:3]}, {"content": sound.content[:9]}, {"row": 1 << 70, "id": "a" * 32}, {"copy": "zz"},
        {"own": {"patient": "Jane"}}, {"own": {"name": "a" * 32}}, {"modality": 3}, {"outlier": [1]},
        {"size": (0, 5)}, {"cells": sound.cells[:3]}, {"mask": None}, {"mask": sound.mask.astype(np.uint8)},
        {"region": replace(sound.region, turned=sound.region.turned[:2])}, {"members": (study,)},
        {"members": (sound,) * 33}, {"members": (replace(sound, region=None, code=sound.code[:1]),)},
    ):  # fmt: skip
        with pytest.raises(QueryError, match="cannot be searched for"):
            archive.search(replace(sound, **damage))
    facts = sound.to_dict()
    for damage in (
        {"size": []}, {"size": [float("1e400"), 1]}, {"version": 2}, {"own": 3}, {"text": {"text": "x"}},
        {"region": facts["region"] | {"shape": [10**9, 10**9, 0], "codes": ""}}, {"members": [3]},
    ):
        with pytest.raises(QueryError, match="this is no encoded query"):
            EncodedQuery.from_dict(facts | damage)


def test_an_erased_copy_is_not_named_again(filled, tmp_path):
    archive, others = filled
    archive.add(others[4:5], pixels="copy")
    encoded = archive.encode(Query(image=others[4]))
    assert encoded.copy == archive.ids()[-1]
    archive.remove(encoded.copy, erase=True)
    assert encoded.copy not in json.dumps(archive.search(encoded).to_dict())


class Stranger:
    """A viewer that sees nothing private."""

    def may(self, what):
        return False

    def saw(self, what, names):
        raise AssertionError(what)


def test_a_viewer_without_filters_learns_nothing_from_true_identifiers(filled, scan):
    archive, _ = filled
    mine = scan("mine.dcm", seed=3, PatientID="P-1")
    archive.add(mine, pixels="copy")
    other = scan("other.dcm", seed=4, PatientID="P-1")
    assert archive.encode(Query(image=mine)).copy == archive.ids()[-1]
    assert archive.encode(Query(image=mine), viewer=Stranger()).copy is None
    assert archive.encode(Query(image=other)).own and not archive.encode(Query(image=other), viewer=Stranger()).own
    with pytest.raises(QueryError, match="patient cannot be filtered by its true value here"):
        archive.search(Query(image=other), viewer=Stranger(), exclude_own_patient=True)
    given = archive.search(archive.encode(Query(image=other)), viewer=Stranger(), exclude_own_patient=True)
    assert "the query's patient is not known" in given.warnings[-1] and not given.receipt["query"]["own"]


def test_texts_are_found_by_an_encoded_image(worded, pictures):
    image = sorted(pictures(2, seed=8, name="more").glob("*.png"))[0]
    expected = worded.nearest_texts(Query(image=image), 3).as_dict()
    found = worded.nearest_texts(worded.encode(Query(image=image)), 3).as_dict()
    assert expected["texts"] and expected | {"seconds": 0} == found | {"seconds": 0}
