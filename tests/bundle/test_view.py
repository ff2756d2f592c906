"""Views share tensors with another bundle and are whole bundles all the same: same bytes, digests and outputs."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save, save_file

from medlike import bundle
from medlike.archive.storage.folder import BundleFacts, TextBundleFacts, default_text_bundle
from medlike.bundle import Bundle, rewrite
from medlike.bundle.bundle import ARRAYS, FILES, SHIPPED, SPECIFICATION, TEXT_PART, WEIGHTS, canonical, file_digest
from medlike.bundle.session import open_session
from medlike.bundle.view import FILE, NEGATIVE, OWN, BundleView, divide, save_view
from medlike.errors import BundleError

VIEWS = ["medlike-compact-64", "medlike-itq-64"]
JOINT = "medlike-hmar-64"


def make_view(source, whole, folder):
    """Write the bundle `whole` as a view of `source` into a folder."""
    arrays = {name: source.array(name) for name in source.array_names()}
    view = divide(
        {name: whole.file(name) for name in (WEIGHTS, ARRAYS)},
        source.name,
        {WEIGHTS: source.weights(), ARRAYS: arrays},
    )
    folder.mkdir()
    for name in (SPECIFICATION, "model.onnx"):
        (folder / name).write_bytes(whole.file(name))
    save_view(folder, view)
    return view


@pytest.fixture
def pair(tiny_bundle, tmp_path):
    """The tiny bundle, and beside it a view of it that has an array of its own."""
    folder = tmp_path / "pair"
    source = rewrite(tiny_bundle, folder / tiny_bundle.name)
    whole = rewrite(source, tmp_path / "whole", {"extra": np.arange(3, dtype=np.float32)}, {"name": "seen"})
    make_view(source, whole, folder / "seen")
    return source, whole, folder / "seen"


def test_whole_numbers_are_shared_beside_zeros_with_a_sign():
    of, made = (
        {WEIGHTS: save({"a": np.array([0, 1], np.uint8), "b": np.array([sign * 0.0, 2.0], np.float32)})}
        for sign in (1, -1)
    )
    source = {WEIGHTS: {"a": np.array([0, 1], np.uint8), "b": np.array([0.0, 2.0], np.float32)}}
    view = divide(made, "other", source)
    assert view.files(source) == made != of and set(view.shared[WEIGHTS]) == {"a", "b"}


def test_a_view_is_the_bundle_that_it_was_made_of(pair):
    source, whole, folder = pair
    view = Bundle.load(folder)
    assert not (folder / WEIGHTS).exists() and not (folder / ARRAYS).exists()
    assert view.digest == whole.digest and view.encoder_digest == source.encoder_digest
    assert view.bytes == whole.bytes
    assert all(view.file(name) == whole.file(name) for name in FILES)
    assert view.array("extra").tolist() == [0, 1, 2]
    assert {name: value.tolist() for name, value in view.weights().items()} == {
        name: value.tolist() for name, value in whole.weights().items()
    }
    one, other = view.session(), whole.session()
    for picture in view.golden_inputs():
        given = {"image": picture[None]}
        for left, right in zip(one.run(view.outputs, given), other.run(view.outputs, given), strict=True):
            assert left.tobytes() == right.tobytes()


def test_the_copy_of_a_view_holds_all_of_its_files(pair, tmp_path):
    _, whole, folder = pair
    copy = rewrite(Bundle.load(folder), tmp_path / "elsewhere" / "copy")
    assert sorted(path.name for path in copy.path.iterdir()) == sorted([SPECIFICATION, *FILES])
    assert copy.digest == whole.digest and file_digest(copy.path / WEIGHTS) == file_digest(whole.path / WEIGHTS)


def test_zeros_keep_their_signs():
    shared = np.array([0, -0.0, 1, -2], np.float16)
    own = np.array([-0.0, 0, 1, -2], np.float16)
    files = {"w": save({"a": own, "b": -own, "c": np.array([7], np.int32)})}
    source = {"w": {"x.a": shared, "n": np.array([7], np.int32)}}
    view = divide(files, "other", source)
    assert view.shared == {"w": {"a": "x.a", "c": "n"}} and f"w/{NEGATIVE}" in view.own
    assert view.files(source) == files
    assert view.files({"w": source["w"] | {"x.a": own}}) == files
    assert view.files({"w": source["w"] | {"x.a": own * 2}}) != files


def test_what_is_changed_beside_a_view_is_noticed(pair):
    source, _, folder = pair
    tensors = load_file(source.path / WEIGHTS)
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] + 1
    save_file(tensors, source.path / WEIGHTS)
    with pytest.raises(BundleError, match=r"weights\.safetensors is damaged"):
        Bundle.load(folder)
    # Even where the other bundle is made sound again.
    spec = json.loads((source.path / SPECIFICATION).read_text())
    spec["files"][WEIGHTS]["sha256"] = file_digest(source.path / WEIGHTS)
    spec["digest"] = hashlib.sha256(canonical(spec)).hexdigest()
    (source.path / SPECIFICATION).write_text(json.dumps(spec))
    assert Bundle.load(source.path).weights()[name].tobytes() == tensors[name].tobytes()
    with pytest.raises(BundleError, match=r"weights\.safetensors of .*seen is damaged"):
        Bundle.load(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / FILE).write_text("[]"),
        lambda folder: (folder / FILE).write_text('{"format": 2}'),
        lambda folder: (folder / FILE).write_text('{"format": 1, "of": "../pair/tiny-64", "shared": {}}'),
        lambda folder: (folder / FILE).write_text('{"format": 1, "of": "nowhere", "shared": {}}'),
        lambda folder: (folder / FILE).write_text(json.dumps({"format": 1, "of": "tiny-64", "shared": {}})),
        lambda folder: (folder / FILE).write_text(
            (folder / FILE).read_text().replace('"to_bits"', '"to_content"', 1)
        ),
        lambda folder: (folder / OWN).unlink(),
        lambda folder: (folder / OWN).write_bytes(b"no tensors"),
        lambda folder: save_file({"arrays.safetensors/extra": np.ones(3, np.float32)}, folder / OWN),
    ],
)
def test_a_damaged_view_is_refused(pair, damage):
    damage(pair[2])
    with pytest.raises(BundleError):
        Bundle.load(pair[2])


def test_a_view_of_a_view_is_refused(pair):
    folder = pair[2]
    facts = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps(facts | {"of": "seen"}))
    with pytest.raises(BundleError, match="which is a view itself"):
        Bundle.load(folder)


def test_the_runtime_gets_all_weights_of_a_view_or_refuses(pair):
    view = Bundle.load(pair[2])
    weights = view.weights()
    assert any(value.dtype == np.float16 for value in weights.values())
    for name in weights:
        with pytest.raises(BundleError, match="the runtime cannot open"):
            open_session(view.graph, {other: value for other, value in weights.items() if other != name})


def test_files_that_would_not_come_out_are_kept(monkeypatch):
    monkeypatch.setattr(BundleView, "files", lambda view, source: {})
    with pytest.raises(BundleError, match="byte for byte"):
        divide({"w": save({"a": np.ones(2, np.float32)})}, "other", {"w": {}})


@pytest.mark.parametrize("name", VIEWS)
def test_shipped_views_run_as_their_whole_files_do(name, tmp_path):
    view = Bundle.load(name)
    assert BundleView.at(view.path).of == JOINT
    whole = rewrite(view, tmp_path / name)
    assert BundleView.at(whole.path) is None
    assert (whole.digest, whole.encoder_digest) == (view.digest, view.encoder_digest)
    one, other = view.session(), open_session(whole.graph)
    for picture, bits in list(zip(view.golden_inputs(), view.golden_bits(), strict=True))[:4]:
        given = {"image": picture[None]}
        outputs = [session.run(view.outputs, given) for session in (one, other)]
        assert all(left.tobytes() == right.tobytes() for left, right in zip(*outputs, strict=True))
        assert ((outputs[0][view.outputs.index("bits")][0] > 0) == bits).mean() > 0.98


@pytest.mark.parametrize("name", VIEWS)
def test_a_changed_byte_of_the_joint_weights_is_noticed_through_every_view(name, tmp_path):
    for folder in (JOINT, name):
        shutil.copytree(SHIPPED / folder, tmp_path / folder)
    assert Bundle.load(tmp_path / name).digest == Bundle.load(name).digest
    file = tmp_path / JOINT / WEIGHTS
    data = bytearray(file.read_bytes())
    data[-1] ^= 1  # of a tensor that only the joint bundle uses, too
    file.write_bytes(data)
    with pytest.raises(BundleError, match="damaged"):
        Bundle.load(tmp_path / name)


def test_a_copied_view_finds_the_shipped_bundle(tmp_path):
    shutil.copytree(SHIPPED / VIEWS[1], tmp_path / "mine")
    assert Bundle.load(tmp_path / "mine").digest == Bundle.load(VIEWS[1]).digest


def test_shipped_weights_are_small():
    def size(folder):
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())

    assert size(SHIPPED / JOINT) <= 14_000_000
    assert size(SHIPPED) <= 16_000_000


def test_stems_lie_on_disk_once():
    for name in VIEWS:
        assert not any("stem.body" in own for own in BundleView.at(SHIPPED / name).own)
    assert len(list(SHIPPED.rglob(WEIGHTS))) == 2  # of images and texts


def test_one_name_gives_images_and_texts():
    images, texts = Bundle.load(JOINT), Bundle.load(JOINT, kind="text")
    assert {"bits", "cells"} <= set(images.outputs)
    assert texts.name == bundle.default_text() and texts.path == SHIPPED / JOINT / TEXT_PART
    assert texts.spec["text"]["image_encoder_digest"] == images.encoder_digest
    assert texts.is_shipped and TextBundleFacts.of(texts).path is None
    with pytest.raises(BundleError, match="one of kind image is needed"):
        Bundle.load(bundle.default_text())


@pytest.mark.slow
def test_a_copied_joint_bundle_keeps_its_text_part(tmp_path, monkeypatch):
    monkeypatch.setattr("medlike.inference.sentence_weights.text_installed", lambda: True)
    copy = rewrite(Bundle.load(JOINT), tmp_path / "ours", {"extra": np.ones(1, np.float32)})
    assert not copy.is_shipped and copy.text_part == tmp_path / "ours" / TEXT_PART
    assert default_text_bundle(copy).path == copy.text_part
    assert default_text_bundle(Bundle.load(VIEWS[0])).path == SHIPPED / JOINT / TEXT_PART
    assert default_text_bundle(Bundle.load(VIEWS[1])) is None


def test_former_digests_load_as_what_they_became():
    known = bundle.former()
    assert {facts["name"] for facts in known.values()} == {*VIEWS, JOINT, bundle.default_text()}
    for digest, facts in known.items():
        loaded = Bundle.load(digest, kind=None)
        assert loaded.name == facts["name"] and loaded.encoder_digest == facts["encoder_digest"]
        assert loaded.digest != digest


def test_an_early_archive_that_names_a_former_digest_alone_finds_its_bundle():
    before = next(digest for digest, facts in bundle.former().items() if facts["name"] == "medlike-itq-64")
    assert BundleFacts("medlike-itq-64", before, 64, 192).load().name == "medlike-itq-64"
    with pytest.raises(BundleError, match="the archive was made with"):
        BundleFacts("medlike-itq-64", "0" * 64, 64, 192).load()
    with pytest.raises(BundleError, match="the archive was made with"):
        BundleFacts("medlike-itq-64", before, 64, 192, encoder="0" * 64).load()
