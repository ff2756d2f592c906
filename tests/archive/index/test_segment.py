"""A segment on disk is opened only if it is what its layout says."""

import json

import pytest

from medlike import Archive


@pytest.fixture
def picture(pictures):
    return (pictures(1) / "0000.png").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"segments": ["../../pixels"]}, {"segments": [".."]}, {"segments": [7]}, {"segments": "ab"},
        {"generation": float("inf")}, {"segments": {"a": 1}},
    ],
)  # fmt: skip
def test_an_index_that_names_other_folders_is_built_anew(archive, picture, encoder, change):
    archive.receive(picture, "a.png")
    archive.drain()
    archive.reindex()
    (place,) = archive._folder.index.iterdir()
    facts = json.loads((place / "index.json").read_text())
    (place / "index.json").write_text(json.dumps(facts | change))
    archive.close()
    with Archive.open(archive.path, encoder=encoder) as again:
        assert again.verify() == []


@pytest.mark.parametrize("kind", ["|O", "<f8", "<i4"])
@pytest.mark.parametrize("name", ["rows", "modality"])
def test_a_segment_states_no_other_types_than_the_layout(archive, picture, encoder, kind, name):
    archive.receive(picture, "a.png")
    archive.drain()
    archive.reindex()
    file = next(archive._folder.index.glob("*/*/segment.json"))
    facts = json.loads(file.read_text())
    facts["arrays"][name][0] = kind
    file.write_text(json.dumps(facts))
    (file.parent / f"{name}.bin").write_bytes(b"\xee" * 8)
    archive.close()
    with Archive.open(archive.path, encoder=encoder) as again:
        assert again.verify() == []
