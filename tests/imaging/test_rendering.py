"""The window rule: the same picture renders alike whatever file it comes in."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as PillowImage

from medlike.errors import ImageError
from medlike.imaging import (
    Image,
    Lut,
    Photometry,
    Window,
    from_array,
    lookup_table,
    prepare,
    preview,
    read,
    render,
    render_colour,
    scaled,
    shading,
)

RNG = np.random.default_rng(7)


def phantom(low: float, high: float, noise: float = 0.004) -> np.ndarray:
    """A soft picture, float64 [240, 200]: discs on a ramp, in a dark frame of the lowest value."""
    y, x = np.mgrid[0:240, 0:200]
    picture = 0.2 + 0.3 * x / 200 + 0.1 * y / 240
    picture[(x - 70) ** 2 + (y - 90) ** 2 < 40**2] += 0.25
    picture[(x - 130) ** 2 + (y - 160) ** 2 < 25**2] -= 0.15
    picture += noise * RNG.standard_normal(picture.shape)
    picture[:20], picture[-20:] = 0.0, 0.0
    return low + np.clip(picture, 0, 1) * (high - low)


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference, grey levels."""
    return float(np.abs(first.astype(int) - second.astype(int)).mean())


def saved(tmp_path, name: str, pixels: np.ndarray, **options) -> Image:
    PillowImage.fromarray(pixels).save(tmp_path / name, **options)
    return next(read(tmp_path / name))


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": 40, "WindowWidth": 400, "RescaleIntercept": -1024, "RescaleSlope": 1},
        {
            "WindowCenter": [40, -600],
            "WindowWidth": [400, 1500],
            "RescaleIntercept": -1024,
            "RescaleSlope": 1,
        },
        {"WindowCenter": 1200, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 1200, "WindowWidth": 900},
        {},
    ],
    ids=["window", "windows", "sigmoid", "inverted", "inverted window", "no window"],
)
def test_dicom_png_and_jpeg_render_alike(write_dicom, tmp_path, elements):
    stored = phantom(600, 1700).astype(np.uint16)
    dicom = next(read(write_dicom("a.dcm", stored, BitsStored=12, HighBit=11, **elements)))
    shown = render(dicom)
    assert shown.max() - shown.min() > 100
    png = saved(tmp_path, "a.png", shown)
    jpeg = saved(tmp_path, "a.jpg", shown, quality=90)
    np.testing.assert_array_equal(render(png), shown)
    assert difference(render(jpeg), shown) < 2.0
    assert difference(prepare(jpeg).pixels, prepare(dicom).pixels) < 1.5
    np.testing.assert_array_equal(prepare(png).pixels, prepare(dicom).pixels)
    assert difference(prepare(jpeg).fingerprint, prepare(dicom).fingerprint) < 1.0


def test_16_bit_png_of_the_stored_values_renders_like_the_dicom_without_window(write_dicom, tmp_path):
    stored = phantom(600, 1700).astype(np.uint16)
    dicom = next(read(write_dicom("a.dcm", stored, BitsStored=12, HighBit=11)))
    rescaled = next(read(write_dicom("b.dcm", stored, RescaleSlope="0.5", RescaleIntercept="-1024")))
    png = saved(tmp_path, "a.png", stored)
    assert png.pixels.dtype == np.uint16
    np.testing.assert_array_equal(render(png), render(dicom))
    np.testing.assert_array_equal(render(png), render(rescaled))
    tiff = saved(tmp_path, "a.tif", stored)
    np.testing.assert_array_equal(render(tiff), render(dicom))


def test_8_bit_dicom_without_window_is_shown_as_stored(write_dicom, tmp_path):
    stored = phantom(20, 230).astype(np.uint8)
    np.testing.assert_array_equal(render(next(read(write_dicom("a.dcm", stored)))), stored)
    wide = next(read(write_dicom("b.dcm", stored.astype(np.uint16))))
    np.testing.assert_array_equal(render(wide), stored)
    np.testing.assert_array_equal(render(saved(tmp_path, "a.png", stored.astype(np.uint16))), stored)


@given(hnp.arrays(np.uint8, (9, 7)))
def test_8_bit_pictures_in_wider_containers_are_shown_as_they_are(grey):
    for wide in (
        grey,
        grey.astype(np.uint16),
        grey.astype(np.int16),
        grey.astype(np.int64),
        grey.astype(np.uint16) * 257,
        (grey / 255.0).astype(np.float32),
        grey / 255.0,
    ):
        np.testing.assert_array_equal(render(from_array(wide)), grey)
    shifted = grey.astype(np.uint16) << 8
    expected = grey.astype(np.uint16) * 257 >> 8 if not np.any(shifted % 257) else grey
    np.testing.assert_array_equal(render(from_array(shifted)), expected)
    np.testing.assert_array_equal(
        render(Image((grey / 255.0).astype(np.float32))), grey if grey.max() else 0 * grey
    )


@pytest.mark.parametrize("factor", [2, 4, 16, 64, 256, 257, 4095 / 255, 1023 / 255, 65535 / 255])
def test_8_bit_pictures_on_wider_scales_render_like_themselves(write_dicom, tmp_path, factor):
    grey = phantom(0, 400, noise=0.02).clip(0, 255).astype(np.uint8)
    wide = np.rint(grey.astype(float) * factor).astype(np.uint16)
    assert np.percentile(grey, 99) > 200
    png = saved(tmp_path, "a.png", wide)
    assert np.abs(render(png).astype(int) - grey).max() <= 1
    np.testing.assert_array_equal(render(next(read(write_dicom("a.dcm", wide)))), render(png))
    np.testing.assert_array_equal(render(Image(wide.astype(np.float32))), render(png))


def test_pictures_drawn_on_a_wider_scale_keep_their_contrast():
    soft = phantom(-300, 1600, noise=0.02).clip(0, 1023)
    for bits in (10, 12, 14, 16):
        full = 2**bits - 1
        wide = np.rint(soft * (full / 1023)).astype(np.uint16)
        assert len(np.unique(wide)) > 256
        assert np.abs(render(from_array(wide)).astype(float) - soft * (255 / 1023)).max() <= 1


def test_values_that_do_not_fill_a_scale_are_spread():
    narrow = phantom(5000, 9000).astype(np.uint16)
    assert (render(from_array(narrow)).min(), render(from_array(narrow)).max()) == (0, 255)
    high = phantom(2500, 4090).astype(np.uint16)
    assert render(from_array(high)).min() == 0


def test_rendering_does_not_depend_on_padding():
    """A border of the darkest value leaves the contrast as it was."""
    stored = phantom(600, 1700).astype(np.uint16)
    padded = np.pad(stored, 100, constant_values=stored.min())
    np.testing.assert_array_equal(render(from_array(padded))[100:-100, 100:-100], render(from_array(stored)))


def test_percentiles_ignore_a_few_hot_pixels():
    stored = phantom(600, 1700).astype(np.uint16)
    hot = stored.copy()
    hot[0, :20] = np.linspace(30000, 60000, 20)
    assert difference(render(from_array(hot)), render(from_array(stored))) < 2


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.float32])
def test_every_type_spreads_over_the_whole_scale(kind):
    shown = render(from_array(phantom(900, 5000).astype(kind)))
    assert shown.min() == 0
    assert shown.max() == 255


def test_percentile_rule_against_a_slow_reference():
    stored = RNG.integers(-500, 3000, (60, 50)).astype(np.int16)
    inner = np.sort(stored[(stored > stored.min()) & (stored < stored.max())]).astype(float)
    low = inner[int(np.ceil(0.005 * inner.size)) - 1]
    high = inner[int(np.ceil(0.995 * inner.size)) - 1]
    expected = np.floor(np.clip((stored - low) / (high - low), 0, 1) * 255 + 0.5)
    assert np.abs(render(from_array(stored)) - expected).max() <= 1


def linear(x: np.ndarray, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1 word for word, y from 0 to 255."""
    y = ((x - (center - 0.5)) / (width - 1) + 0.5) * 255
    y[x <= center - 0.5 - (width - 1) / 2] = 0
    y[x > center - 0.5 + (width - 1) / 2] = 255
    return np.floor(y + 0.5)


def test_window_functions_are_the_standards():
    stored = np.arange(4000, dtype=np.uint16).reshape(50, 80)
    x = stored.astype(float) * 2 - 1000

    def shown(window: Window) -> np.ndarray:
        return render(Image(stored, Photometry(bits=12, slope=2, intercept=-1000, windows=(window,)))).astype(
            int
        )

    assert np.abs(shown(Window(500, 1200)) - linear(x.copy(), 500, 1200)).max() <= 1
    exact = np.clip((x - (500 - 600)) / 1200, 0, 1) * 255
    assert np.abs(shown(Window(500, 1200, "LINEAR_EXACT")) - exact).max() <= 0.51
    sigmoid = 255 / (1 + np.exp(-4 * (x - 500) / 1200))
    assert np.abs(shown(Window(500, 1200, "SIGMOID")) - sigmoid).max() <= 0.51
    assert set(np.unique(shown(Window(500, 1)))) == {0, 255}


def test_the_first_window_that_shows_something_is_used():
    stored = phantom(600, 1700).astype(np.uint16)
    good = Window(1100, 800)
    expected = render(Image(stored, Photometry(bits=12, windows=(good,))))
    for bad in (
        Window(1100, 0),
        Window(1100, -5),
        Window(float("nan"), 10),
        Window(-5000, 100),
        Window(9000, 100),
    ):
        np.testing.assert_array_equal(
            render(Image(stored, Photometry(bits=12, windows=(bad, good)))), expected
        )
        only = render(Image(stored, Photometry(bits=12, windows=(bad,))))
        np.testing.assert_array_equal(only, render(Image(stored, Photometry(bits=12))))


def test_look_up_tables():
    stored = np.arange(256, dtype=np.uint16).reshape(16, 16)
    square = tuple(v * v for v in range(256))
    shown = render(Image(stored, Photometry(bits=8, voi_lut=Lut(0, square, 16))))
    np.testing.assert_array_equal(shown.ravel(), np.floor(np.array(square) * 255 / 65535 + 0.5))
    short = render(Image(stored, Photometry(bits=8, voi_lut=Lut(100, (0, 255), 8))))
    np.testing.assert_array_equal(short.ravel(), np.where(np.arange(256) > 100, 255, 0))
    falling = Image(stored, Photometry(bits=8, modality_lut=Lut(0, tuple(range(65535, 0, -257)), 16)))
    assert np.all(np.diff(render(falling).astype(int).ravel()) <= 0)


def test_monochrome1_and_negative_slope_invert():
    stored = phantom(600, 1700).astype(np.uint16)
    plain = render(Image(stored, Photometry(bits=12)))
    np.testing.assert_array_equal(render(Image(stored, Photometry(bits=12, inverted=True))), 255 - plain)
    negative = render(Image(stored, Photometry(bits=12, slope=-1))).astype(int)
    assert np.abs(negative - (255 - plain.astype(int))).max() <= 12
    assert np.corrcoef(negative.ravel(), plain.ravel())[0, 1] < -0.999


def test_floats_with_gaps():
    picture = phantom(0, 3).astype(np.float32)
    expected = render(from_array(picture))
    broken = picture.copy()
    broken[100, 100], broken[101, 100], broken[102, 100] = np.nan, np.inf, -np.inf
    shown = render(from_array(broken))
    assert shown[100, 100] == 0
    assert shown[101, 100] == 255
    assert shown[102, 100] == 0
    broken_rows = shown[:95], expected[:95]
    assert difference(*broken_rows) < 1
    with pytest.raises(ImageError, match="NaN"):
        render(from_array(np.full((4, 4), np.nan)))
    with pytest.raises(ImageError, match="NaN"):
        render(from_array(np.full((4, 4, 3), np.nan)))


def test_float_scales():
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    np.testing.assert_array_equal(render(from_array(ramp * 0.5)), np.floor(ramp * 127.5 + 0.5))
    windowed = from_array(ramp * 100, window=(50, 100))
    np.testing.assert_array_equal(render(windowed), np.floor(ramp * 255 + 0.5))


@pytest.mark.parametrize("value", [0, 1, 200, 1000, -3, 40000])
def test_flat_pictures_render(value):
    kind = np.int16 if value < 0 else np.uint16
    assert len(np.unique(render(from_array(np.full((5, 5), value, kind))))) == 1


def test_colour():
    rgb = RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    image = from_array(rgb)
    np.testing.assert_array_equal(render_colour(image), rgb)
    luminance = rgb @ np.array([0.299, 0.587, 0.114])
    assert np.abs(render(image) - luminance).max() <= 0.5001
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    np.testing.assert_array_equal(render(from_array(grey)), grey[..., 0])
    np.testing.assert_array_equal(render_colour(from_array(rgb.astype(np.uint16) * 257)), rgb)
    np.testing.assert_array_equal(render_colour(from_array(rgb / 255)), rgb)
    deep = Image(rgb.astype(np.uint16) * 4 + 3, Photometry(bits=10))
    assert np.abs(render_colour(deep).astype(int) - rgb).max() <= 1


@given(st.integers(0, 2**32 - 1))
def test_rendering_is_deterministic(seed):
    stored = np.random.default_rng(seed).integers(0, 4096, (33, 17)).astype(np.uint16)
    np.testing.assert_array_equal(render(from_array(stored)), render(from_array(stored.copy(order="F"))))


def test_preview_is_small_and_in_shape():
    image = from_array(phantom(0, 4000).repeat(4, axis=0).astype(np.uint16))
    assert preview(image, 512).shape == (512, 107)
    assert preview(image, 5000).shape == (960, 200)
    assert preview(from_array(np.zeros((600, 3, 3), np.uint8)), 512).shape == (512, 3, 3)


def test_photometry_survives_json():
    import json

    photometry = Photometry(
        bits=12,
        slope=0.5,
        intercept=-3,
        modality_lut=Lut(-4, (1, 2, 3), 12),
        windows=(Window(1, 2), Window(3, 4, "SIGMOID")),
        voi_lut=Lut(0, (5, 6), 8),
        inverted=True,
        scale=(0.0, 1.0),
    )
    assert Photometry.from_dict(json.loads(json.dumps(photometry.as_dict()))) == photometry
    assert Photometry.from_dict(json.loads(json.dumps(Photometry().as_dict()))) == Photometry()


def test_one_bit_pictures_use_the_whole_scale():
    mask = np.array([[0, 1], [1, 0]], np.uint8)
    np.testing.assert_array_equal(render(Image(mask, Photometry(bits=1))), mask * 255)
    np.testing.assert_array_equal(render(from_array(mask.astype(bool))), mask * 255)


def test_png_saved_through_memory_has_the_same_digest():
    grey = phantom(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(np.stack([grey] * 3, axis=2)).save(buffer, "PNG")
    from medlike.imaging import from_pil

    assert from_pil(PillowImage.open(buffer)).digest == from_array(grey).digest
    assert from_array(grey.astype(np.uint16)).digest != from_array(grey).digest
    assert from_array(grey.reshape(200, 240)).digest != from_array(grey).digest


def test_scaled_down_each_pixel_is_the_mean_of_its_area():
    grey = RNG.integers(0, 256, (96, 64)).astype(np.uint8)
    means = grey.reshape(24, 4, 16, 4).mean(axis=(1, 3))
    assert np.abs(scaled(grey, 24) - means).max() <= 1  # Pillow rounds rows, then columns
    assert scaled(grey, 96) is grey and scaled(grey, 4000) is grey
    colour = RNG.integers(0, 256, (30, 90, 3)).astype(np.uint8)
    assert scaled(colour, 45).shape == (15, 45, 3) and scaled(colour[:1], 30).shape == (1, 30, 3)


@pytest.mark.parametrize("padding", [None, (0, 40)])
@pytest.mark.parametrize("inverted", [False, True])
def test_a_window_that_is_given_takes_the_place_of_the_rule(padding, inverted):
    stored = phantom(0, 1500).astype(np.uint16)
    lut = Lut(0, tuple(range(256)), 8)
    photometry = Photometry(16, 0.5, -100, windows=(Window(9, 9),), voi_lut=lut, inverted=inverted, padding=padding)
    units = stored * 0.5 - 100
    shown = np.floor(np.clip((units - (300 - 0.5 - 199 / 2)) * 255 / 199, 0, 255) + 0.5)
    shown = 255 - shown if inverted else shown
    shown[(stored <= 40) & (padding is not None)] = 0
    for pixels in (stored, stored.astype(np.int16)):
        np.testing.assert_array_equal(render_colour(Image(pixels, photometry), Window(300, 200)), shown)
    lowest, table = lookup_table(Image(stored, photometry), Window(300, 200))
    np.testing.assert_array_equal(table[stored.astype(int) - lowest], shown)
    # Outside of the values it shows nothing, which is what was chosen.
    assert set(np.unique(render_colour(Image(stored, photometry), Window(1e6, 10)))) <= {0, 255}


def test_the_shading_says_what_is_chosen():
    stored = phantom(0, 1500).astype(np.uint16)
    lut, windows = Lut(0, (0, 255), 8), (Window(1e6, 5), Window(300, 200))
    assert shading(Image(stored, Photometry(16, voi_lut=lut, windows=windows))) is lut
    assert shading(Image(stored, Photometry(16, windows=windows))) == windows[1]
    assert shading(Image(stored, Photometry(16, windows=windows)), Window(1e6, 5)) == Window(1e6, 5)
    assert shading(Image(stored.astype(np.float32), Photometry(windows=windows))).function == "LINEAR_EXACT"
    assert shading(Image(stored.astype(np.uint8))) == (0.0, 255.0)
    low, high = shading(Image(stored, Photometry(16, slope=2.0, intercept=-1000.0)))
    assert -1000 < low < 0 < high < 2000
    # Padding has no say.
    padded = np.where(stored < 300, 60000, stored).astype(np.uint16)
    assert shading(Image(padded, Photometry(16, padding=(60000, 60000))))[1] < 1500
