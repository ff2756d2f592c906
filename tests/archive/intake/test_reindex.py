"""Another bundle: encoded beside the one in use, switched in one step, resumed, lost images named."""

import threading

import numpy as np
import pytest

from medlike import Archive, Query, imaging
from medlike.inference import Encoder


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another bundle, of the same widths, and its encoder."""
    from tests.conftest import make_tiny_bundle

    bundle = make_tiny_bundle(tmp_path_factory.mktemp("other") / "other-64", "other-64", seed=7)
    with Encoder(bundle, threads=1) as encoder:
        yield bundle, encoder


def codes(archive, digest):
    return {
        image.id: encoding.code for image, encoding in archive._store.rows(digest) if image.removed is None
    }


def test_every_image_gets_the_new_bundles_code(archive, pictures, scan, other):
    bundle, encoder = other
    folder = pictures(5)
    archive.add(folder)
    archive.add(scan("a.dcm", SOPInstanceUID="1.2"), pixels="copy")
    report = archive.reindex(bundle, encoder=encoder)
    assert (report.encoded, report.from_preview, report.lost, report.switched) == (6, 0, [], True)
    assert archive._folder.bundle.digest == bundle.digest
    stored = codes(archive, bundle.digest)
    for path in [*folder.iterdir(), folder.parent / "a.dcm"]:
        image = next(imaging.read(path))
        id = archive._bundles.current().identity.public_id(image.identifiers.get("sop_uid"), 0, image.digest)
        assert stored[id] == encoder.encode([imaging.prepare(image)]).code[0].tobytes()
    assert archive.verify() == []
    assert archive.search(Query(image=folder / "0002.png")).hits[0].distance == 0
    with Archive.open(archive.path) as again:
        assert again.search(Query(image=folder / "0002.png")).hits[0].distance == 0


def test_other_readers_follow_the_switch(archive, pictures, other, encoder):
    bundle, new = other
    folder = pictures(3)
    archive.add(folder)
    with Archive.open(archive.path) as reader:
        assert (
            reader.search(Query(image=folder / "0000.png")).receipt["bundle"] == archive._folder.bundle.digest
        )
        archive.reindex(bundle, encoder=new)
        result = reader.search(Query(image=folder / "0000.png"))
        assert result.receipt["bundle"] == bundle.digest and result.hits[0].distance == 0


def test_originals_that_are_gone_are_encoded_from_previews(archive, pictures, other):
    bundle, encoder = other
    folder = pictures(3)
    archive.add(folder)
    (folder / "0001.png").unlink()
    report = archive.reindex(bundle, encoder=encoder)
    assert (report.encoded, report.from_preview, report.switched) == (3, 1, True)


def test_originals_that_changed_are_not_taken_for_the_image(archive, pictures, other):
    bundle, encoder = other
    folder = pictures(2)
    archive.add(folder)
    (folder / "0001.png").write_bytes((folder / "0000.png").read_bytes())
    assert archive.reindex(bundle, encoder=encoder).from_preview == 1


def test_lost_images_stop_the_switch_until_told_otherwise(archive, pictures, other):
    bundle, encoder = other
    folder = pictures(3)
    archive.add(folder)
    before = archive._folder
    (folder / "0001.png").unlink()
    lost = archive._store.images([2])[2].id
    archive._pixels.preview_path(archive._store.images([2])[2].preview).unlink()
    report = archive.reindex(bundle, encoder=encoder)
    assert not report.switched and report.lost == [lost]
    assert archive._folder == before and len(archive.search(Query(image=folder / "0000.png")).hits) == 3
    report = archive.reindex(bundle, encoder=encoder, drop_lost=True)
    assert report.switched and len(archive) == 2 and report.encoded == 0  # the others were kept from before


def test_an_interrupted_reindex_goes_on(archive, pictures, other, monkeypatch):
    from medlike.archive.intake import reindex

    bundle, encoder = other
    monkeypatch.setattr(reindex, "GROUP", 4)
    monkeypatch.setattr(reindex, "BATCH", 2)
    folder = pictures(10)
    archive.add(folder)

    def interrupt(report):
        if report.encoded == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archive.reindex(bundle, encoder=encoder, progress=interrupt)
    assert archive._folder.bundle.name == "tiny-64" and archive.verify() == []
    assert archive.search(Query(image=folder / "0000.png")).hits[0].distance == 0
    assert archive.reindex(bundle, encoder=encoder).encoded == 2
    assert archive._folder.bundle.name == "other-64" and archive.verify() == []


def test_images_added_after_a_switch_use_the_new_bundle(archive, pictures, other):
    bundle, encoder = other
    archive.add(pictures(2))
    archive.reindex(bundle, encoder=encoder)
    assert archive.add(pictures(4)).added == 2
    assert len(codes(archive, bundle.digest)) == 4 and archive.verify() == []


def test_compact_drops_the_earlier_bundles_encodings(archive, pictures, other):
    bundle, encoder = other
    was = archive._folder.bundle.digest
    archive.add(pictures(3))
    archive.reindex(bundle, encoder=encoder)
    assert len(codes(archive, was)) == 3
    archive.compact()
    assert codes(archive, was) == {} and len(codes(archive, bundle.digest)) == 3
    assert [path.name for path in archive._folder.index.iterdir() if any(path.glob("*/"))] == [
        bundle.digest[:16]
    ]


def test_without_a_bundle_the_index_is_built_again(archive, pictures):
    import shutil

    folder = pictures(3)
    archive.add(folder)
    archive.reindex()
    shutil.rmtree(archive._folder.index)
    archive._folder.index.mkdir()
    with Archive.open(archive.path) as again:
        assert len(again.search(Query(image=folder / "0000.png")).hits) == 3
        again.reindex()
        assert again.verify() == [] and again.info()["bytes"]["index"] > 0


def encoding_threads():
    return {each for each in threading.enumerate() if each.name.startswith(("medlike-encode", "medlike-sentence"))}


def test_encoders_made_by_an_archive_are_closed_with_it(worded, tiny_regional_bundle, encoder):
    picture = worded.source(worded._store.images([1])[1].id)["path"]
    before = encoding_threads()
    with Archive.open(worded.path) as again:
        again.search(Query(image=picture))
        again.search(Query(text="effusion"))
        first = encoding_threads() - before
        assert {each.name.rstrip("_0123456789") for each in first} == {"medlike-encode", "medlike-sentence"}
        again.reindex(tiny_regional_bundle)
        again.search(Query(image=picture))
        for each in first:
            each.join(10)  # nobody uses the replaced ones any more
    assert encoding_threads() == before
    worded.close()
    # One that was given goes on.
    assert len(encoder.encode([np.zeros((224, 224), np.uint8)])) == 1
