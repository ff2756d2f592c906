"""Facts that come with a received file are checked when they arrive."""

import pytest

from medlike.errors import InputError


@pytest.fixture
def picture(pictures):
    return (pictures(1) / "0000.png").read_bytes()


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"identifiers": {"patient_id": 12345}}, r"identifiers\['patient_id'\] is 12345 \(int\): give a text"),
        ({"metadata": {"age": 10**400}}, r"metadata\['age'\] is a whole number of 1329 bits"),
        ({"metadata": {"age": float("nan")}}, "finite number"),
        ({"metadata": {"age": float("inf")}}, "finite number"),
        ({"metadata": {"a": {"b": 1}}}, "give a text"),
        ({"metadata": {"a": [[1]]}}, "give a text"),
        ({"metadata": {7: "a"}}, "printable name"),
        ({"metadata": {"": "a"}}, "printable name"),
        ({"metadata": {"a\x1b[31m": "a"}}, "printable name"),
        ({"metadata": {"k" * 65: "a"}}, "printable name"),
        ({"metadata": {str(n): 1 for n in range(300)}}, "300 entries, at most 256"),
        ({"metadata": {"a": "x" * 70_000}}, "70000 characters"),
        ({"metadata": "abc"}, "give a mapping"),
        ({"texts": {"report": 1}}, "give a text"),
        ({"texts": {"report": "\ud800"}}, "half of a surrogate pair"),
        ({"texts": {"report": "x" * (1 << 21)}}, "characters"),
        ({"name": 7}, "file name"),
        ({"name": "x" * 5000}, "file name"),
    ],
)
def test_facts_are_checked_when_they_arrive(archive, picture, facts, said):
    with pytest.raises(InputError, match=said):
        archive.receive(picture, **facts)
    assert list(archive._folder.spool.glob("[0-9]*")) == []


def test_ordinary_facts_arrive_as_they_are(archive, picture):
    metadata = {"age": 45, "label": "Lunge links", "ratio": -0.5, "flag": True, "none": None, "tags": ["a", "b"]}
    archive.receive(picture, "bad\udcff.png", metadata, {"report": "klar 𝔸"}, {"patient_id": "12345"})
    (entry,) = archive._spool.entries()
    assert entry.metadata == metadata and entry.name == "bad\\udcff.png" and entry.identifiers["patient_id"] == "12345"
    assert archive.drain().added == 1
