"""A bundle says what it is, notices every changed byte, and is written whole or not at all."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from medlike import bundle
from medlike.bundle import Bundle
from medlike.bundle.bundle import ARRAYS, FILES, GRAPH, SPECIFICATION, WEIGHTS
from medlike.bundle.phantoms import packed_pictures, phantoms, unpacked_pictures
from medlike.errors import BundleError


@pytest.fixture
def copy(tiny_bundle, tmp_path):
    target = tmp_path / "copy"
    shutil.copytree(tiny_bundle.path, target)
    return target


def reseal(folder, **changes):
    """Change the specification and make its digest right again, as a forger or another version would."""
    import hashlib

    from medlike.bundle.bundle import canonical

    spec = json.loads((folder / SPECIFICATION).read_text()) | changes
    spec["digest"] = hashlib.sha256(canonical(spec)).hexdigest()
    (folder / SPECIFICATION).write_text(json.dumps(spec))


def test_a_written_bundle_says_what_it_is(tiny_bundle):
    assert (tiny_bundle.name, tiny_bundle.preset) == ("tiny-64", "tiny")
    assert (tiny_bundle.bits, tiny_bundle.content_dim, tiny_bundle.local_bits) == (64, 32, None)
    assert tiny_bundle.modalities == ["CT", "MR", "XR"]
    assert tiny_bundle.outputs == ["bits", "content", "outlier_features", "modality"]
    assert len(tiny_bundle.digest) == len(tiny_bundle.encoder_digest) == 64
    sizes = [(tiny_bundle.path / name).stat().st_size for name in (SPECIFICATION, *FILES)]
    assert tiny_bundle.bytes == sum(sizes)


@pytest.mark.parametrize("name", FILES)
def test_every_changed_byte_is_noticed(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name} is damaged.*fetch the bundle again"):
        Bundle.load(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        Bundle.load(copy)


def test_a_changed_specification_is_noticed(copy):
    text = (copy / SPECIFICATION).read_text()
    (copy / SPECIFICATION).write_text(text.replace('"tiny-64"', '"other"'))
    with pytest.raises(BundleError, match=r"bundle\.json is damaged: digest"):
        Bundle.load(copy)


def test_another_format_is_refused_with_the_way_out(copy):
    reseal(copy, format=99)
    with pytest.raises(BundleError, match="format 99, this medlike reads format 1; use the medlike"):
        Bundle.load(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "\x00"])
def test_a_senseless_specification_is_refused(copy, text):
    (copy / SPECIFICATION).write_text(text)
    with pytest.raises(BundleError, match="fetch the bundle again"):
        Bundle.load(copy)


def test_an_unknown_name_lists_the_shipped_ones(tmp_path):
    with pytest.raises(BundleError, match=r"no bundle 'nothing'.*medlike-itq-64"):
        Bundle.load("nothing")
    with pytest.raises(BundleError, match=r"is a folder without bundle\.json"):
        Bundle.load(tmp_path)


def test_large_weights_are_halves_and_small_ones_are_not(tiny_bundle):
    weights = tiny_bundle.weights()
    assert weights["to_bits"].dtype == np.float16
    assert weights["to_modality"].dtype == np.float32
    assert "scale" not in weights  # a constant of the graph, no weight
    assert (tiny_bundle.path / GRAPH).stat().st_size < 3000 < (tiny_bundle.path / WEIGHTS).stat().st_size


def test_the_runtime_reads_the_weights_inside_the_safetensors_file(tiny_bundle):
    from medlike.bundle.session import code_values, open_session

    picture = np.random.default_rng(0).integers(0, 256, (1, 224, 224)).astype(np.uint8)
    weights = tiny_bundle.weights()["to_bits"].astype(np.float64)
    pooled = (picture[0] / 255).reshape(14, 16, 14, 16).mean(axis=(1, 3)).reshape(1, 196)
    expected = (pooled - pooled.mean()) @ weights
    found = code_values(open_session(tiny_bundle.graph), picture)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_rewriting_arrays_keeps_the_codes_and_changes_the_digest(tiny_bundle, tmp_path):
    scores = tiny_bundle.array("outlier.calibration") + 1
    other = bundle.rewrite(tiny_bundle, tmp_path / "b", {"outlier.calibration": scores}, {"terms": "mine"})
    assert other.encoder_digest == tiny_bundle.encoder_digest
    assert other.digest != tiny_bundle.digest
    assert other.spec["terms"] == "mine"
    np.testing.assert_array_equal(other.array("outlier.calibration"), scores)
    np.testing.assert_array_equal(other.golden_bits(), tiny_bundle.golden_bits())


def test_rewriting_cannot_change_what_fixes_the_codes(tiny_bundle, tmp_path):
    with pytest.raises(BundleError, match="bits is fixed by the network"):
        bundle.rewrite(tiny_bundle, tmp_path / "b", None, {"bits": 32})
    assert not list(tmp_path.iterdir())


def test_another_network_has_another_encoder_digest(tiny_bundle, tmp_path, make_tiny_bundle):
    assert make_tiny_bundle(tmp_path / "b", seed=5).encoder_digest != tiny_bundle.encoder_digest


def test_writing_twice_gives_the_same_digest(tiny_bundle, tmp_path, make_tiny_bundle):
    assert make_tiny_bundle(tmp_path / "b").digest == tiny_bundle.digest


def test_writing_never_takes_the_place_of_something_else(tiny_bundle, tmp_path):
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    for replace in (False, True):
        with pytest.raises(BundleError, match="exists and is not a bundle"):
            bundle.rewrite(tiny_bundle, folder, replace=replace)
    with pytest.raises(BundleError, match="a bundle is already at"):
        bundle.rewrite(tiny_bundle, tiny_bundle.path)
    assert (folder / "letter.txt").read_text() == "dear"


def test_a_failed_write_leaves_nothing(tmp_path, tiny_graph):
    spec = {"name": "x", "preset": "tiny", "bits": 32, "content_dim": 32}
    with pytest.raises(BundleError, match="gives 64 bits, not the 32 specified"):
        bundle.write(tmp_path / "x", tiny_graph(), {}, spec)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bits": 12}, "12 bits; a code has a multiple of 8"),
        ({"colour": 1}, "unknown in the specification: colour; known: name"),
        ({"name": None}, "lacks name"),
        ({"content_blocks": [20, 20]}, r"content_blocks \[20, 20\] do not sum to content_dim 32"),
    ],
)
def test_a_wrong_specification_is_refused(tmp_path, tiny_graph, change, reason):
    spec = {"name": "x", "preset": "tiny", "bits": 64, "content_dim": 32} | change
    spec = {key: value for key, value in spec.items() if value is not None}
    with pytest.raises(BundleError, match=reason):
        bundle.write(tmp_path / "x", tiny_graph(), {}, spec)


def test_a_missing_array_lists_those_there_are(tiny_bundle):
    with pytest.raises(BundleError, match=r"no array 'nothing'; it has: golden\.code"):
        tiny_bundle.array("nothing")


def test_golden_inputs_are_the_phantoms(tiny_bundle):
    pictures = phantoms()
    np.testing.assert_array_equal(tiny_bundle.golden_inputs(), pictures)
    assert pictures.shape == (16, 224, 224)
    assert len({picture.tobytes() for picture in pictures}) == 16
    np.testing.assert_array_equal(unpacked_pictures(packed_pictures(pictures), 16), pictures)
    assert tiny_bundle.golden_bits().shape == (16, 64)


@pytest.mark.parametrize("name", bundle.shipped(None))
def test_shipped_bundles_are_whole_small_and_told(name):
    shipped = Bundle.load(name, kind=None)
    assert shipped.name == name
    assert shipped.bytes <= 12_000_000
    assert shipped.spec["terms"]
    assert shipped.spec["quality"]
    assert shipped.spec["training"]["data"]
    text = (shipped.path / SPECIFICATION).read_text()
    # No path of the machine that made it.
    assert str(Path.home()) not in text and '"/' not in text
    assert b"site-packages" not in (shipped.path / GRAPH).read_bytes()


def test_the_text_bundle_is_shipped_and_goes_with_the_default_image_bundle():
    from medlike.inference import CrossEncoder

    assert bundle.shipped("text") == [bundle.default_text()]
    assert bundle.default_text() not in bundle.shipped()
    cross_encoder = CrossEncoder(Bundle.load(bundle.default_text(), kind="text"))
    cross_encoder.require_images(Bundle.load(bundle.default()))
    cross_encoder.require_golden()
    assert cross_encoder.bundle.bytes < 5_000_000


def test_the_default_bundle_is_shipped():
    assert bundle.default() in bundle.shipped()
    assert (bundle.locate(bundle.default()) / ARRAYS).is_file()


@pytest.mark.parametrize(
    ("changes", "blocks"),
    [
        ({}, (64,)),
        ({"content_blocks": [40, 20, 4]}, (40, 20, 4)),
        ({"content_blocks": [40, 20]}, (64,)),
        ({"content_blocks": "40"}, (64,)),
        ({"network": {"settings": {"linear": 24}}}, (64,)),
        ({"network": {"settings": None}}, (64,)),
    ],
)
def test_a_content_vector_has_the_blocks_that_are_stated_or_is_one(changes, blocks):
    assert Bundle(Path(), {"content_dim": 64, **changes}).content_blocks == blocks


def test_a_bundle_states_blocks_that_make_its_content(tiny_bundle, tmp_path):
    stated = bundle.rewrite(tiny_bundle, tmp_path / "a", None, {"content_blocks": [20, 12]})
    assert stated.content_blocks == (20, 12)
    with pytest.raises(BundleError, match="content_blocks is '40', not a list of at most 64 widths"):
        bundle.rewrite(tiny_bundle, tmp_path / "b", None, {"content_blocks": "40"})


def test_the_blocks_of_a_network_follow_from_its_settings():
    assert Bundle.load("medlike-hmar-64").content_blocks == (288, 128, 48)
    assert Bundle.load("medlike-itq-64").content_blocks == (192,)
