"""Every generation keeps the images that lived then."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medlike.archive.storage.rows import EncodingRow, NewImage
from medlike.archive.storage.store import Store

COLUMNS = {"width": 1, "height": 1, "frame": 0, "frames": 1, "kind": "reference", "facts": {}, "metadata": {}}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 5), min_size=1)), max_size=12))
def test_every_generation_keeps_what_lived_then(tmp_path_factory, steps):
    store = Store.create(tmp_path_factory.mktemp("store") / "store.sqlite")
    live, past = set(), [set()]
    for adding, numbers in steps:
        with store.commit("add" if adding else "remove") as commit:
            for number in numbers:
                id = f"{number:032x}"
                commit.remove(id)
                live.discard(id)
                if adding:
                    commit.add(
                        NewImage({**COLUMNS, "id": id, "pixels": id}, EncodingRow(b"c", b"v")), "bundle"
                    )
                    live.add(id)
        past.append(set(live))
    assert store.generation() == len(steps)
    for generation, expected in enumerate(past):
        assert store.count(generation) == len(expected)
        assert {f"{i:032x}" for i in range(6) if store.find(f"{i:032x}", generation)} == expected
    store.close()
