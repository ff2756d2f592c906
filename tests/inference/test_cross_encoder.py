"""A text bundle brings images and sentences into one space, row by row, and goes with one image bundle only."""

import numpy as np
import pytest

from medlike import bundle
from medlike.bundle import Bundle
from medlike.errors import BundleError, InputError
from medlike.inference import CrossEncoder, Encoder


@pytest.fixture(scope="module")
def cross_encoder(tiny_text_bundle):
    return CrossEncoder(tiny_text_bundle)


@pytest.fixture(scope="module")
def pairs():
    random = np.random.default_rng(3)
    content = random.integers(-127, 128, (9, 32)).astype(np.int8)
    sentences = random.normal(size=(9, 384)).astype(np.float32)
    return content, sentences / np.linalg.norm(sentences, axis=1, keepdims=True)


def naive(bundle, content, sentences, present):
    """The tiny network in numpy: what each side gives is added, and the masks of what is there."""
    weights = {name: value.astype(np.float64) for name, value in bundle.weights().items()}
    raw = np.array(present, np.float64) @ weights["masks"]
    for side, value in (("content", content), ("sentence", sentences)):
        norm = np.maximum(np.linalg.norm(value.astype(np.float64), axis=1, keepdims=True), 1e-6)
        raw = raw + value / norm @ weights[f"to.{side}"]
    embedding = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    return np.packbits(embedding @ weights["to.bits"] > 0, axis=1), embedding


def test_the_three_views_are_what_the_network_gives(cross_encoder, pairs):
    content, sentences = pairs
    for given, present in (
        ((content, None), (1, 0)), ((None, sentences), (0, 1)), ((content, sentences), (1, 1)),
    ):  # fmt: skip
        found = cross_encoder.encode(*given)
        sides = [np.zeros((9, width)) if side is None else side for side, width in zip(given, (32, 384), strict=True)]
        code, embedding = naive(cross_encoder.bundle, *sides, present)
        assert found.code.dtype == np.uint8 and found.code.shape == (9, 2) and len(found) == 9
        assert found.embedding.dtype == np.float32 and found.embedding.shape == (9, cross_encoder.width)
        np.testing.assert_allclose(found.embedding, embedding, atol=1e-5)
        np.testing.assert_array_equal(found.code, code)


def test_a_row_depends_on_nothing_but_itself(cross_encoder, pairs):
    content, sentences = pairs
    whole = cross_encoder.encode(content, sentences)
    for n in range(9):
        alone = cross_encoder.encode(content[n : n + 1], sentences[n : n + 1])
        np.testing.assert_array_equal(alone.embedding[0], whole.embedding[n])
        np.testing.assert_array_equal(alone.code[0], whole.code[n])


def test_no_rows_give_no_rows(cross_encoder):
    found = cross_encoder.encode(np.zeros((0, 32), np.int8))
    assert found.code.shape == (0, 2) and found.embedding.shape == (0, cross_encoder.width)


@pytest.mark.parametrize(
    ("content", "sentences", "reason"),
    [
        (None, None, "neither images nor sentences"),
        (np.zeros((2, 31), np.int8), None, r"shape \[2, 31\] and type int8 do not fit; .* int8 \[N, 32\]"),
        (np.zeros((2, 32), np.float32), None, "type float32 do not fit"),
        (None, np.zeros((2, 383), np.float32), r"float32 \[N, 384\]"),
        (None, np.zeros(384, np.float32), "do not fit"),
        (None, np.full((1, 384), np.nan, np.float32), "not finite"),
        (np.zeros((2, 32), np.int8), np.zeros((3, 384), np.float32), "2 content vectors and 3 sentences"),
    ],
)
def test_what_does_not_fit_is_refused(cross_encoder, content, sentences, reason):
    with pytest.raises(InputError, match=reason):
        cross_encoder.encode(content, sentences)


def test_it_goes_with_the_image_bundle_it_was_trained_on(cross_encoder, tiny_bundle, make_tiny_bundle, tmp_path):
    cross_encoder.require_images(tiny_bundle)
    other = make_tiny_bundle(tmp_path / "other", "other-64", seed=1)
    with pytest.raises(BundleError, match=r"encoded by tiny-64 .* not by other-64 .*medlike train mcmfh"):
        cross_encoder.require_images(other)


def test_it_goes_with_an_encoder_of_the_same_content(
    cross_encoder, tiny_bundle, tiny_regional_bundle, make_tiny_bundle, tmp_path, monkeypatch
):
    # The regional one has the weights of the other, and local codes beside them.
    assert tiny_regional_bundle.encoder_digest != tiny_bundle.encoder_digest
    with pytest.raises(BundleError, match="not by tiny-regional-64"):
        cross_encoder.require_images(tiny_regional_bundle)  # what it was trained with is not at hand to compare
    monkeypatch.setattr("medlike.bundle.bundle.SHIPPED", tiny_bundle.path.parent)
    cross_encoder.require_images(tiny_regional_bundle)
    with pytest.raises(BundleError, match="not by other-64"):
        cross_encoder.require_images(make_tiny_bundle(tmp_path / "other", "other-64", seed=1))


def test_calibrating_the_image_bundle_changes_nothing(cross_encoder, tiny_bundle, tmp_path):
    cross_encoder.require_images(bundle.rewrite(tiny_bundle, tmp_path / "ours", None, {"terms": "ours"}))


def test_each_kind_is_refused_where_the_other_is_asked_for(tiny_text_bundle, tiny_bundle):
    with pytest.raises(BundleError, match="tiny-text-16 is a bundle of kind text, one of kind image is needed here"):
        Bundle.load(tiny_text_bundle.path)
    with pytest.raises(BundleError, match="tiny-64 is a bundle of kind image, one of kind text is needed here"):
        Bundle.load(tiny_bundle.path, kind="text")
    with pytest.raises(BundleError, match="tiny-text-16 is a text bundle"):
        Encoder(tiny_text_bundle)
    with pytest.raises(BundleError, match="tiny-64 is an image bundle"):
        CrossEncoder(tiny_bundle)
    assert Bundle.load(tiny_text_bundle.path, kind=None).digest == tiny_text_bundle.digest


def test_golden_bits_tell_whether_a_host_computes_the_same(tiny_text_bundle, tmp_path):
    cross_encoder = CrossEncoder(tiny_text_bundle)
    assert cross_encoder.golden_share == 1
    cross_encoder.require_golden()
    wrong = ~tiny_text_bundle.array("golden.code")
    broken = bundle.rewrite(tiny_text_bundle, tmp_path / "broken", {"golden.code": wrong})
    with pytest.raises(BundleError, match=r"0\.0% of the golden bits .* come out on this host"):
        CrossEncoder(broken).require_golden()


def test_golden_rows_cover_the_three_views(tiny_text_bundle):
    assert tiny_text_bundle.golden_bits().shape == (48, 16)
    content, sentences = (tiny_text_bundle.array(f"golden.{name}") for name in ("content", "sentences"))
    code, _ = naive(tiny_text_bundle, content, np.zeros_like(sentences), (1, 0))
    np.testing.assert_array_equal(np.packbits(tiny_text_bundle.golden_bits()[:16], axis=1), code)


def test_a_text_bundle_says_which_encoders_it_goes_with(tiny_text_bundle, tmp_path):
    import onnx

    graph = onnx.load(tiny_text_bundle.graph)
    spec = {"name": "x", "kind": "text", "preset": "tiny", "bits": 16, "content_dim": 32}
    with pytest.raises(BundleError, match=r"lacks text\.image_encoder_digest, text\.image_bundle"):
        bundle.write(tmp_path / "x", graph, {}, spec)
    with pytest.raises(BundleError, match="unknown kind of bundle: sound; known: image, text"):
        bundle.write(tmp_path / "x", graph, {}, spec | {"kind": "sound"})
    with pytest.raises(BundleError, match="text is fixed by the network"):
        bundle.rewrite(tiny_text_bundle, tmp_path / "x", None, {"text": {}})
