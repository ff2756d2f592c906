"""Codes depend on the image and the bundle, on nothing else."""

from dataclasses import dataclass

import numpy as np
import pytest

from medlike.bundle import Bundle, default, rewrite
from medlike.errors import BundleError, ImageError, InputError
from medlike.inference import Encoder, Encodings, check


@dataclass(frozen=True)
class Place:
    """A letterbox that leaves the lower half empty."""

    def valid_cells(self, grid=14):
        mask = np.zeros((grid, grid), bool)
        mask[: grid // 2] = True
        return mask


@dataclass(frozen=True)
class Ready:
    pixels: np.ndarray
    letterbox: Place


def equal(a: Encodings, b: Encodings) -> bool:
    parts = [(a.code, b.code), (a.content, b.content)]
    if a.cells is not None:
        parts += [(a.cells, b.cells), (a.cell_mask, b.cell_mask)]
    parts += [(a.outlier.score, b.outlier.score), (a.outlier.p, b.outlier.p)]
    return a.modality == b.modality and all(np.array_equal(x, y) for x, y in parts)


def test_encodings_have_the_promised_shapes(tiny_regional_bundle, tiny_pictures):
    with Encoder(tiny_regional_bundle) as encoder:
        found = encoder.encode(list(tiny_pictures(5)))
    assert len(found) == 5
    assert found.code.dtype == np.uint8 and found.code.shape == (5, 8)
    assert found.content.dtype == np.int8 and found.content.shape == (5, 32)
    assert found.cells.dtype == np.uint64 and found.cells.shape == (5, 14, 14, 1)
    assert found.cell_mask.dtype == bool and found.cell_mask.all()
    assert set(found.modality) <= {"CT", "MR", "XR", None}
    assert found.outlier.score.shape == found.outlier.p.shape == (5,)
    assert set(found[0].outlier.verdict()) == {
        "is_outlier", "p_value", "score", "threshold", "components", "modality",
    }  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_codes_do_not_depend_on_batch_order_or_threads(tiny_regional_bundle, tiny_pictures, threads):
    pictures = list(tiny_pictures(23))
    with Encoder(tiny_regional_bundle, threads=1) as encoder:
        one_by_one = Encodings.concatenate([encoder.encode([picture]) for picture in pictures])
    with Encoder(tiny_regional_bundle, threads=threads) as encoder:
        together = encoder.encode(pictures)
        reversed_ = encoder.encode(pictures[::-1])
        pieces = Encodings.concatenate([encoder.encode(pictures[:7]), encoder.encode(pictures[7:])])
    assert equal(one_by_one, together)
    assert equal(one_by_one, pieces)
    np.testing.assert_array_equal(reversed_.code[::-1], together.code)


def test_code_bits_are_the_signs_most_significant_first(tiny_bundle, tiny_pictures):
    pictures = list(tiny_pictures(3))
    with Encoder(tiny_bundle) as encoder:
        values = encoder.features(pictures, "bits")
        code = encoder.encode(pictures).code
    for row in range(3):
        for bit in range(64):
            assert bool(code[row, bit // 8] >> (7 - bit % 8) & 1) == bool(values[row, bit] > 0)


def test_cells_are_the_signs_of_the_maps(tiny_regional_bundle, tiny_pictures):
    with Encoder(tiny_regional_bundle) as encoder:
        values = encoder.features(list(tiny_pictures(1)), "cells")
        cells = encoder.encode(list(tiny_pictures(1))).cells
    for bit in range(64):
        plane = (cells[0, :, :, 0] >> np.uint64(bit)) & np.uint64(1)
        np.testing.assert_array_equal(plane.astype(bool), values[0, :, :, bit] > 0)


def test_prepared_images_bring_their_mask(tiny_regional_bundle, tiny_pictures):
    picture = tiny_pictures(1)[0]
    with Encoder(tiny_regional_bundle) as encoder:
        found = encoder.encode([Ready(picture, Place()), picture])
    assert found.cell_mask[0].sum() == 98 and found.cell_mask[1].all()
    np.testing.assert_array_equal(found.code[0], found.code[1])


def test_nothing_gives_nothing_of_the_right_shape(tiny_regional_bundle, tiny_pictures):
    with Encoder(tiny_regional_bundle) as encoder:
        empty = encoder.encode([])
        some = encoder.encode(list(tiny_pictures(2)))
    assert len(empty) == 0
    assert equal(Encodings.concatenate([empty, some]), some)


@pytest.mark.parametrize(
    "image",
    [np.zeros((224, 224), np.float32), np.zeros((10, 10), np.uint8), np.zeros((224, 224, 3), np.uint8)],
)
def test_outputs_refuse_an_unprepared_image(tiny_bundle, image):
    with Encoder(tiny_bundle) as encoder, pytest.raises(InputError, match="prepare it to uint8"):
        encoder.outputs([image])


def test_no_threads_are_refused(tiny_bundle):
    with pytest.raises(InputError, match="threads is 0"):
        Encoder(tiny_bundle, threads=0)


def test_the_threshold_is_a_setting(tiny_bundle, tiny_pictures):
    pictures = list(tiny_pictures(40))
    counts = []
    for threshold in (0.0, 0.3, 1.0):
        with Encoder(tiny_bundle, threshold=threshold) as encoder:
            found = encoder.encode(pictures).outlier
        assert found.threshold == found[0].threshold == threshold
        counts.append(int(found.is_outlier.sum()))
    assert counts[0] == 0 < counts[1] < counts[2] == 40
    with pytest.raises(InputError, match=r"threshold is 3; a p-value lies between 0 and 1"):
        Encoder(tiny_bundle, threshold=3)


def test_golden_bits_come_out_where_the_bundle_was_made(tiny_bundle):
    assert check(tiny_bundle) == 1.0
    with Encoder(tiny_bundle) as encoder:
        assert encoder.golden_share == 1.0
        encoder.require_golden()


def test_other_golden_bits_forbid_writing_and_say_what_to_do(tiny_bundle, tmp_path):
    code = tiny_bundle.array("golden.code").copy()
    code[:, 0] ^= 0b1000_0000  # one bit of 64: 98.4 % are equal
    other = rewrite(tiny_bundle, tmp_path / "other", {"golden.code": code})
    with Encoder(other) as encoder:
        assert encoder.golden_share == pytest.approx(63 / 64)
        with pytest.raises(BundleError, match=r"99\.5% are needed to write: search here"):
            encoder.require_golden()


def test_an_output_the_bundle_lacks_is_named(tiny_bundle, tiny_pictures):
    with Encoder(tiny_bundle) as encoder, pytest.raises(BundleError, match="no output 'cells'; it has: bits"):
        encoder.features(list(tiny_pictures(1)), "cells")


def test_the_shipped_bundle_runs_and_keeps_its_golden_bits():
    bundle = Bundle.load("medlike-itq-64")
    with Encoder(bundle) as encoder:
        assert encoder.golden_share >= 0.995
        found = encoder.encode(list(bundle.golden_inputs()[:4]))
    np.testing.assert_array_equal(np.unpackbits(found.code, axis=1), bundle.golden_bits()[:4])
    with Encoder(bundle, threads=1) as encoder:
        backwards = encoder.encode(list(bundle.golden_inputs()[3::-1]))
    np.testing.assert_array_equal(backwards.code[::-1], found.code)
    np.testing.assert_array_equal(backwards.content[::-1], found.content)
    np.testing.assert_array_equal(backwards.outlier.score[::-1], found.outlier.score)
    assert len({code.tobytes() for code in found.code}) == 4


def test_a_noise_picture_is_an_outlier_for_the_shipped_bundle():
    noise = np.random.default_rng(0).integers(0, 256, (2, 224, 224)).astype(np.uint8)
    with Encoder(Bundle.load("medlike-itq-64")) as encoder:
        assert encoder.encode(list(noise)).outlier.is_outlier.all()


def test_paths_arrays_and_images_are_encoded_alike(tiny_regional_bundle, tmp_path):
    from PIL import Image as PillowImage

    from medlike import imaging

    grey = np.random.default_rng(3).integers(0, 256, (90, 140)).astype(np.uint8)
    picture = PillowImage.fromarray(grey)
    picture.save(tmp_path / "a.png")
    image = imaging.from_array(grey)
    given = [tmp_path / "a.png", str(tmp_path / "a.png"), grey, picture, image, imaging.prepare(image)]
    with Encoder(tiny_regional_bundle, threads=2) as encoder:
        found = encoder.encode(given)
        stack = encoder.encode(np.stack([grey, grey]))
        colour = encoder.encode([np.stack([grey] * 3, axis=2)])
    assert (found.code == found.code[0]).all() and (found.content == found.content[0]).all()
    assert not found.cell_mask.all() and (found.cell_mask == found.cell_mask[0]).all()
    assert (stack.code == found.code[:2]).all() and (colour.code == found.code[:1]).all()
    vectors = found.vectors()
    assert vectors.dtype == np.float32 and np.allclose((vectors * vectors).sum(axis=1), 1)


@pytest.mark.parametrize("one", ["a.png", np.zeros((50, 60), np.uint8), np.zeros((50, 60, 3), np.uint8)])
def test_one_image_in_place_of_several_is_refused(tiny_bundle, one):
    with Encoder(tiny_bundle) as encoder, pytest.raises(InputError, match="put it into a list"):
        encoder.encode(one)


def test_what_is_no_image_is_refused(tiny_bundle, tmp_path):
    with Encoder(tiny_bundle) as encoder:
        with pytest.raises(InputError, match="dict cannot be encoded: give a path"):
            encoder.encode([{}])
        with pytest.raises(ImageError):
            encoder.encode([tmp_path / "missing.png"])


def test_an_encoder_takes_the_name_or_folder_of_a_bundle(tiny_bundle):
    with Encoder(tiny_bundle.path) as encoder:
        assert encoder.bundle.digest == tiny_bundle.digest
    with Encoder() as encoder:
        assert encoder.bundle.name == default()
    with pytest.raises(BundleError, match="no bundle 'nothing'"):
        Encoder("nothing")
