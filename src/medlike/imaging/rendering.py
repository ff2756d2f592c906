"""Rendering to 8 bit: the one picture that the encoder sees, and the rule that picks its window.

The window rule, for grey pictures; the first line that applies decides:

1. The file has a VOI look-up table: the first one is applied.
2. The file has windows: the first one that shows something is applied, with the file's function (LINEAR,
   LINEAR_EXACT, SIGMOID; floats take LINEAR as LINEAR_EXACT). A window shows something if its width is
   positive and it overlaps the range of the pixels. The windows after it are alternatives.
3. The scale is known (`Photometry.scale`, float arrays within 0 .. 1): it is spread over 0 .. 255.
4. The values are an 8-bit picture, in whatever container. Whole numbers within 0 .. 255 are shown as they
   are (fewer than 8 bits stored: spread). It was stretched if all values are multiples of a 255th of a 10, 12,
   14 or 16-bit scale (rounded or cut off) or, within 0 .. 1, of 1/255; it was shifted if all are multiples of
   256, or of a smaller power of two with the highest quotient in 128 .. 255.
5. The values fill a scale 0 .. 2**b - 1, b = 8, 10, 12, 14 or 16, the smallest that holds them: their 0.5th
   percentile is in its lowest quarter and their 99.5th in its highest. That scale is spread over 0 .. 255.
6. Else the range from the 0.5th to the 99.5th percentile is spread over 0 .. 255.

Percentiles are of the pixels that are neither the lowest nor the highest value: those two are padding,
background and saturation, and how much of them there is says nothing of contrast.

MONOCHROME1 is then inverted. Padding (`Photometry.padding`) is black, and no rule looks at its values.

Why so. A PNG or JPEG made of a windowed DICOM is already what rule 2 shows, and rule 4 leaves it alone: all
three render alike. A 16-bit PNG that holds a DICOM's own values carries no window, no bit depth and no
modality, so rules 4 to 6 look at nothing but the values, and a DICOM without a window renders like that PNG.
Rule 5 leaves a picture that was drawn on its scale as it was drawn; what it changes against rule 6 is bounded
by its quarters. Percentiles are of ranks, not interpolated; tables are computed in float64 and rounded half
up: the picture is the same on every machine.

Colour of 8 bits is shown as stored, more bits follow rules 3 and 4, else the bits (`Photometry.bits`) are spread
over 0 .. 255. Its luminance is ITU-R BT.601 in integers.
"""

from dataclasses import replace

import numpy as np
from PIL.Image import Resampling

from medlike.errors import ImageError
from medlike.imaging.arrays import bands, resized
from medlike.imaging.image import Image, Lut, Photometry, Window

LOW_PERCENTILE = 0.5
HIGH_PERCENTILE = 99.5

#: What turns grey values in modality units into 0 .. 255: a VOI look-up table, a window, or a range that is spread.
Shading = Lut | Window | tuple[float, float]


def render(image: Image) -> np.ndarray:
    """Render an image for the encoder: uint8 [H, W], 0 black, by the window rule above.

    Raises ImageError if no pixel is a number.
    """
    if image.colour:
        return luminance(_colour(image))
    return _grey(image)


def render_colour(image: Image, window: Window | None = None) -> np.ndarray:
    """Render a picture to show: uint8 [H, W, 3] RGB of a colour image, uint8 [H, W] of a grey one.

    Args:
        image: The image.
        window: For a grey image: applied in place of what the window rule chooses.
    """
    return _colour(image) if image.colour else _grey(image, window)


def shading(image: Image, window: Window | None = None) -> Shading:
    """Return what a grey image is shaded by: the choice of the window rule, or a window in its place.

    A VOI look-up table takes modality units rounded half up, and its output is spread from 0 .. 2**bits - 1. A window
    is applied with its function; LINEAR of floats is returned as LINEAR_EXACT.

    Raises ImageError if no pixel is a number.
    """
    pixels, photometry = image.pixels, image.photometry
    if pixels.dtype.kind == "f":
        values, counts = np.unique(pixels[_finite(pixels)], return_counts=True)
        values = values.astype(np.float64)
    else:
        stored, every = _histogram(pixels)
        values, counts = stored[every > 0], every[every > 0]
    seen = ~_padded(values, counts > 0, photometry)
    return _chosen(values[seen], counts[seen], photometry, pixels.dtype.kind != "f", window)


def lookup_table(image: Image, window: Window | None = None) -> tuple[int, np.ndarray]:
    """Return how each stored value of a grey image of integers is shown.

    Args:
        image: The image.
        window: As for `render_colour`.

    Returns:
        The lowest stored value, and what is shown of it and of each value after it: uint8 [N].
    """
    photometry = image.photometry
    stored, counts = _histogram(image.pixels)
    padded = _padded(stored, counts > 0, photometry)
    present = (counts > 0) & ~padded
    grey = _shaded(stored, stored[present], counts[present], photometry, whole=True, window=window)
    return int(stored[0]), np.where(padded, np.uint8(0), grey)


def scaled(shown: np.ndarray, side: int) -> np.ndarray:
    """Return a picture with a longer side of at most `side` pixels, each the mean of the area it covers, within 1.

    Args:
        shown: uint8 [H, W] or [H, W, 3]; it is never enlarged.
        side: Longest side, pixels.
    """
    height, width = shown.shape[:2]
    longest = max(height, width)
    if longest <= side:
        return shown
    size = max(1, round(height * side / longest)), max(1, round(width * side / longest))
    return resized(shown, *size, Resampling.BOX)


def preview(image: Image, side: int = 512) -> np.ndarray:
    """Render a picture to show with a longer side of at most `side` pixels; it is never enlarged."""
    shown = render_colour(image)
    height, width = shown.shape[:2]
    longest = max(height, width)
    if longest <= side:
        return shown
    return resized(shown, max(1, round(height * side / longest)), max(1, round(width * side / longest)))


def luminance(rgb: np.ndarray) -> np.ndarray:
    """Return ITU-R BT.601 luminance in integers: uint8 [H, W, 3] to uint8 [H, W]. Equal channels stay."""
    grey = np.empty(rgb.shape[:2], np.uint8)
    for rows in bands(rgb):
        red, green, blue = (rgb[rows, :, channel].astype(np.uint32) for channel in range(3))
        grey[rows] = (299 * red + 587 * green + 114 * blue + 500) // 1000
    return grey


def _colour(image: Image) -> np.ndarray:
    pixels = image.pixels
    if pixels.dtype == np.uint8 and image.photometry.scale in (None, (0.0, 255.0)):
        return pixels
    full = (0.0, float(2**image.photometry.bits - 1))
    if pixels.dtype.kind == "f":
        values = np.unique(pixels[_finite(pixels)]).astype(np.float64)
        low, high = _known_scale(values, image.photometry, whole=False) or full
        return _spread(np.nan_to_num(pixels.astype(np.float64), nan=low), low, high)
    stored, counts = _histogram(pixels)
    low, high = _known_scale(stored[counts > 0], image.photometry, whole=True) or full
    return _looked_up(_spread(stored, low, high), pixels, int(stored[0]))


def _grey(image: Image, window: Window | None = None) -> np.ndarray:
    """Render grey by a table: each distinct stored value is shaded once, then looked up."""
    pixels, photometry = image.pixels, image.photometry
    if pixels.dtype.kind == "f":
        finite = _finite(pixels)
        padded = _padded(pixels, finite, photometry)
        values, counts = np.unique(pixels[finite & ~padded], return_counts=True)
        low, high = float(values[0]), float(values[-1])
        # NaN is what lies outside of the picture: the low end; infinities are the ends of the scale.
        stored = np.nan_to_num(pixels.astype(np.float64), nan=low, posinf=high, neginf=low)
        grey = _shaded(stored, values.astype(np.float64), counts, photometry, whole=False, window=window)
        return np.where(padded, np.uint8(0), grey)
    lowest, table = lookup_table(image, window)
    return _looked_up(table, pixels, lowest)


def _finite(pixels: np.ndarray) -> np.ndarray:
    """Return which pixels are numbers, bool of their shape. Raises ImageError if none is."""
    finite = np.isfinite(pixels)
    if not finite.any():
        raise ImageError("no pixel is a number: all are NaN or infinite")
    return finite


def _histogram(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all values of integer pixels from the lowest to the highest, float64 [N], and their counts [N]."""
    lowest, highest = int(pixels.min()), int(pixels.max())
    counts = np.zeros(highest - lowest + 1, np.int64)
    for rows in bands(pixels):
        counts += np.bincount(_places(pixels[rows], lowest).ravel(), minlength=len(counts))
    return np.arange(lowest, highest + 1, dtype=np.float64), counts


def _looked_up(table: np.ndarray, pixels: np.ndarray, lowest: int) -> np.ndarray:
    """Return the entries of a table, uint8 [N], that begins with the lowest value, for integer pixels of any shape."""
    shown = np.empty(pixels.shape, np.uint8)
    for rows in bands(pixels):
        shown[rows] = table[_places(pixels[rows], lowest)]
    return shown


def _places(pixels: np.ndarray, lowest: int) -> np.ndarray:
    return pixels.astype(np.int32) - lowest


def _padded(values: np.ndarray, present: np.ndarray, photometry: Photometry) -> np.ndarray:
    """Return which values are padding: bool, any shape. None of them if nothing but padding would be present."""
    if photometry.padding is None:
        return np.zeros(values.shape, bool)
    low, high = photometry.padding
    padded = (values >= low) & (values <= high)
    return padded if (present & ~padded).any() else np.zeros(values.shape, bool)


def _shaded(
    stored: np.ndarray,
    values: np.ndarray,
    counts: np.ndarray,
    photometry: Photometry,
    whole: bool,
    window: Window | None = None,
) -> np.ndarray:
    """Return stored values, float64 of any shape, by the window rule as uint8.

    values: distinct stored values of the picture, ascending, float64. counts: how often each occurs.
    whole: they are integers. window: applied in place of what the rule chooses.
    """
    chosen = _chosen(values, counts, photometry, whole, window)
    units = _modality_units(stored, photometry)
    if isinstance(chosen, Lut):
        shown = _spread(chosen(np.floor(units + 0.5)), 0.0, float(2**chosen.bits - 1))
    elif isinstance(chosen, Window):
        shown = _apply(chosen, units)
    else:
        shown = _spread(units, *chosen)
    return 255 - shown if photometry.inverted else shown


def _chosen(
    values: np.ndarray, counts: np.ndarray, photometry: Photometry, whole: bool, window: Window | None
) -> Shading:
    units = _modality_units(values, photometry)
    if window is None and photometry.voi_lut is not None:
        return photometry.voi_lut
    for given in photometry.windows if window is None else (window,):
        if window is not None or _shows_something(given, float(units.min()), float(units.max())):
            # LINEAR leaves half a step on each side of whole numbers, which makes no sense for floats.
            return replace(given, function="LINEAR_EXACT") if not whole and given.function == "LINEAR" else given
    scale = _known_scale(values, photometry, whole)
    if scale is None:
        scale = _filled_scale(values, counts)
    if scale is not None and photometry.modality_lut is None:
        low, high = sorted(_modality_units(np.asarray(scale, np.float64), photometry))
    else:
        order = np.argsort(units, kind="stable")
        low, high = _percentiles(units[order], counts[order])
    return float(low), float(high)


def _modality_units(stored: np.ndarray, photometry: Photometry) -> np.ndarray:
    if photometry.modality_lut is not None:
        return photometry.modality_lut(stored)
    return stored * photometry.slope + photometry.intercept


def _shows_something(window: Window, lowest: float, highest: float) -> bool:
    if not (np.isfinite(window.center) and np.isfinite(window.width) and window.width > 0):
        return False
    if window.function == "SIGMOID" or lowest == highest:
        return True
    return lowest < window.center + window.width / 2 and highest > window.center - window.width / 2


def _apply(window: Window, units: np.ndarray) -> np.ndarray:
    """Apply a window: PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.1 (SIGMOID), C.11.2.1.3.2 (LINEAR_EXACT)."""
    center, width = window.center, window.width
    if window.function == "SIGMOID":
        shown = 255.0 / (1.0 + np.exp(np.clip(-4.0 * (units - center) / width, -700, 700)))
        return np.floor(shown + 0.5).astype(np.uint8)
    if window.function == "LINEAR_EXACT" or width < 1:
        return _spread(units, center - width / 2, center + width / 2)
    if width == 1:
        return np.where(units <= center - 0.5, 0, 255).astype(np.uint8)
    return _spread(units, center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2)


def _spread(units: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale low .. high to 0 .. 255, clipped, rounded half up. A range without extent is a threshold."""
    if not high > low:
        return np.where(units > low, 255, 0).astype(np.uint8)
    return np.floor(np.clip((units - low) * (255.0 / (high - low)), 0.0, 255.0) + 0.5).astype(np.uint8)


def _known_scale(values: np.ndarray, photometry: Photometry, whole: bool) -> tuple[float, float] | None:
    """Return the scale that the stored values are on, if it is certain (rules 3 and 4)."""
    if photometry.scale is not None:
        return photometry.scale
    lowest, highest = float(values[0]), float(values[-1])
    if lowest < 0:
        return None
    if not whole and highest <= 1:
        return (0.0, 1.0) if _integral(values * 255.0) else None
    if not whole and not _integral(values):
        return None
    if highest <= 255:
        return 0.0, float(2 ** min(photometry.bits, 8) - 1)
    if highest > 65535:
        return None
    values = np.rint(values)
    step = _shifted_8_bit(values)
    # A shift by whole bytes is the likelier reading of few values; by fewer bits, the less likely one.
    if step == 256 and np.any(values % 257):
        return 0.0, 65280.0
    full = _stretched_8_bit(values) or 255.0 * step
    return (0.0, full) if full else None


def _stretched_8_bit(values: np.ndarray) -> float:
    """Return the top of the 10 to 16-bit scale that an 8-bit picture was stretched to, 0 if it was not."""
    if len(values) > 256:
        return 0.0
    for bits in (16, 14, 12, 10):
        full = float(2**bits - 1)
        exact = np.rint(values * 255.0 / full) * full / 255.0
        if np.array_equal(np.rint(exact), values) or np.array_equal(np.floor(exact), values):
            return full
    return 0.0


def _shifted_8_bit(values: np.ndarray) -> int:
    """Return the power of two that an 8-bit picture was multiplied by, 0 if it was not."""
    bits = int(np.bitwise_or.reduce(values.astype(np.int64)))
    step = min(bits & -bits, 256)
    return step if step == 256 or 128 <= values[-1] / max(step, 1) < 256 else 0


def _filled_scale(values: np.ndarray, counts: np.ndarray) -> tuple[float, float] | None:
    """Return the scale that the values fill (rule 5). values: distinct, ascending; counts: how often each occurs."""
    if values[0] < 0:
        return None
    for bits in (8, 10, 12, 14, 16):
        full = float(2**bits - 1)
        if values[-1] <= full:
            low, high = _percentiles(values, counts)
            return (0.0, full) if low <= full / 4 and high >= 3 * full / 4 else None
    return None


def _integral(values: np.ndarray) -> bool:
    return bool(np.all(np.abs(values - np.rint(values)) < 1e-3))


def _percentiles(units: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Return the range of rule 6. units: ascending float64; counts: how often each occurs."""
    if len(units) > 2:
        units, counts = units[1:-1], counts[1:-1]
    reached = np.cumsum(counts)
    ranks = np.asarray([LOW_PERCENTILE, HIGH_PERCENTILE]) / 100.0 * reached[-1]
    low, high = units[np.minimum(np.searchsorted(reached, ranks), len(units) - 1)]
    if low == high:
        low, high = units[0], units[-1]
    return float(low), float(high)
