"""What an upgrade does to codes: texts get theirs without pixels; images are encoded again only if asked."""

import json
import shutil

import pytest
from tests.archive.storage.test_upgrade import as_format_1
from tests.cli.conftest import medlike

from medlike import Archive, Query
from medlike.bundle import rewrite


@pytest.fixture
def ship(tmp_path, monkeypatch, tiny_bundle, tiny_regional_bundle, tiny_text_bundle):
    """Ship a joint bundle of regions and texts, and beside it one of whole images; gives the shipped folder."""
    folder = tmp_path / "shipped"
    rewrite(tiny_bundle, folder / tiny_bundle.name)
    joint = rewrite(tiny_regional_bundle, folder / tiny_regional_bundle.name)
    shutil.copytree(tiny_text_bundle.path, joint.path / "text")
    monkeypatch.setattr("medlike.bundle.bundle.SHIPPED", folder)
    monkeypatch.setattr("medlike.bundle.bundle.DEFAULT", joint.name)
    monkeypatch.setattr("medlike.bundle.bundle.DEFAULT_TEXT", tiny_text_bundle.name)
    return folder


@pytest.fixture
def captions(ship, tmp_path, captioned):
    """An archive of ten captioned images under the shipped bundle of whole images, without text bundle.

    Commands run in processes of their own, where the true bundles are shipped.
    """
    with Archive.create(tmp_path / "captions", "tiny-64", text_bundle=None) as made:
        made.add(captioned())
    return made.path


def without_pixels(archive):
    """Delete the files of the images and their previews."""
    shutil.rmtree(archive.parent / "captioned")
    for preview in (archive / "pixels" / "previews").rglob("*.*"):
        preview.unlink()


def damaged(archive):
    return {problem.part for problem in archive.verify()}


def change(archive, **facts):
    file = archive / "archive.json"
    known = json.loads(file.read_text())
    file.write_text(json.dumps(known | {name: known[name] | value for name, value in facts.items()}))


@pytest.mark.slow
def test_an_archive_of_format_1_gets_codes_of_its_texts_without_pixels(captions):
    as_format_1(captions)
    without_pixels(captions)
    with Archive.open(captions) as archive:
        assert archive.search(Query(text="effusion")).weights == {"words": 1.0}
        report = archive.upgrade()
        assert (report.former, report.format, report.text) == (1, 3, "tiny-text-16")
        assert (report.encoded, report.lost) == (0, [])
        assert set(archive.search(Query(text="effusion")).weights) > {"words"}
        assert damaged(archive) <= {"previews"} and not archive.upgrade().changed


def test_an_archive_that_has_no_text_bundle_by_choice_keeps_none(captions):
    with Archive.open(captions) as archive:
        assert archive.upgrade().text is None and archive.text_bundle is None


@pytest.mark.slow
def test_codes_of_a_text_bundle_that_is_no_longer_shipped_are_made_anew(captions):
    with Archive.open(captions) as archive:
        archive.reindex(text_bundle="tiny-text-16")
        before = archive.search(Query(text="effusion"))
    change(captions, text_bundle={"digest": "0" * 64, "encoder": "1" * 64})
    without_pixels(captions)
    with Archive.open(captions) as archive:
        report = archive.upgrade()
        assert report.text == "tiny-text-16" and report.changed
        assert archive.search(Query(text="effusion")).hits == before.hits and damaged(archive) <= {"previews"}
        assert archive.upgrade().text is None
    # A bundle of the user's own may come back.
    change(captions, text_bundle={"digest": "0" * 64, "encoder": "1" * 64, "path": "/nowhere"})
    with Archive.open(captions) as archive:
        assert archive.upgrade().text is None and archive.text_bundle.digest == "0" * 64


def test_a_former_digest_of_the_text_bundle_changes_nothing(captions, ship, tiny_text_bundle):
    with Archive.open(captions) as archive:
        archive.reindex(text_bundle="tiny-text-16")
    facts = {"name": "tiny-text-16", "encoder_digest": tiny_text_bundle.encoder_digest}
    (ship / "former.json").write_text(json.dumps({"0" * 64: facts}))
    change(captions, text_bundle={"digest": "0" * 64, "encoder": None})
    with Archive.open(captions) as archive:
        assert archive.text_bundle.load().name == "tiny-text-16"
        assert archive.upgrade().text is None and archive.text_bundle.digest == "0" * 64


@pytest.mark.slow
def test_one_switch_gives_the_codes_of_the_joint_bundle(captions):
    with Archive.open(captions) as archive:
        whole = archive.search(Query(id=archive.ids()[0]), codes="trained")
        steps = []
        report = archive.upgrade(lambda so_far: steps.append(so_far.encoded), encode_again=True)
        assert (report.encoded, report.lost, report.text) == (10, [], "tiny-text-16")
        assert steps[-1] == 10 and report.changed
        assert archive.info()["bundle"]["name"] == "tiny-regional-64" and archive.text_bundle.name == "tiny-text-16"
        assert archive.search(Query(id=archive.ids()[0]), codes="trained").hits == whole.hits
        assert archive.info()["fit"]["images"] == 10
        assert archive.search(Query(id=archive.ids()[0], region=(8, 8, 40, 40))).hits
        assert set(archive.search(Query(text="effusion")).weights) > {"words"}
        assert archive.verify() == []
        again = archive.upgrade(encode_again=True)
        assert not again.changed and again.encoded == 0


def test_images_without_pixels_are_listed_and_nothing_is_switched(captions):
    without_pixels(captions)
    with Archive.open(captions) as archive:
        before, ids = archive.search(Query(id=archive.ids()[0]), codes="trained"), archive.ids()
        assert archive.upgrade().lost == []
        report = archive.upgrade(encode_again=True)
        assert sorted(report.lost) == sorted(ids) and report.encoded == 0
        assert archive.info()["bundle"]["name"] == "tiny-64"
        assert archive.search(Query(id=ids[0]), codes="trained").hits == before.hits
        assert damaged(archive) <= {"previews"}


@pytest.mark.slow
def test_the_command_lists_images_without_pixels(captions):
    without_pixels(captions)
    with Archive.open(captions) as archive:
        ids = archive.ids()
    done = medlike("upgrade", "-a", captions, "--encode-again")
    assert done.code == 3 and all(id in done.err for id in ids) and "was not switched: 10 images" in done.err
    assert medlike("upgrade", "-a", captions).code == 0


@pytest.mark.slow
def test_the_command_says_what_was_encoded(captions):
    as_format_1(captions)
    done = medlike("upgrade", "-a", captions, "--encode-again")
    assert done.code == 0 and "10 images encoded again" in done.out
    assert "images and texts encoded under medlike-text-16" in done.out
