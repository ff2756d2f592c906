"""Images from arrays and Pillow pictures."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image as PillowImage
from PIL import ImageFile, ImageOps
from PIL.Image import Resampling

from medlike.errors import ImageError
from medlike.imaging.image import Image, Photometry, Value, Window
from medlike.imaging.limits import check_size

KEPT = ("uint8", "uint16", "int16", "float32")


def from_array(
    array: ArrayLike, metadata: Mapping[str, Value] | None = None, window: tuple[float, float] | None = None
) -> Image:
    """Make an image from an array.

    Floats that all lie within 0 .. 1 are on that scale; other values follow the window rule.

    Args:
        array: [H, W], [H, W, 1], [H, W, 3] RGB or [H, W, 4] RGBA (blended with black), of booleans, integers or
            floats, or what numpy can convert to that.
        metadata: Searchable facts.
        window: Center and width to display it with.

    Raises:
        ImageError: The array is no image.
    """
    try:
        pixels = np.asarray(array)
    except Exception as error:
        raise ImageError(f"{type(array).__name__} cannot be turned into an array: {error}") from None
    scale = None
    if pixels.dtype.kind == "f" and pixels.size:
        finite = pixels[np.isfinite(pixels)]
        if finite.size and finite.min() >= 0 and finite.max() <= 1:
            scale = (0.0, 1.0)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = over_black(pixels)
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise ImageError(f"an array of shape {list(pixels.shape)} is no picture: give [H, W] or [H, W, 3]")
    check_size(pixels.shape[0], pixels.shape[1])
    pixels = kept_type(pixels)
    photometry = Photometry(
        bits=sample_bits(pixels),
        windows=() if window is None else (Window(float(window[0]), float(window[1])),),
        scale=scale,
    )
    return Image(pixels, photometry, metadata=dict(metadata or {}))


def from_pil(picture: PillowImage.Image, metadata: Mapping[str, Value] | None = None) -> Image:
    """Make an image from a Pillow picture of any mode, upright by its EXIF orientation. Raises ImageError."""
    check_size(picture.height, picture.width)
    try:
        pixels = pillow_pixels(picture)
    except Exception as error:
        raise ImageError(f"the Pillow picture cannot be decoded: {error}") from None
    return Image(pixels, Photometry(bits=sample_bits(pixels)), metadata=dict(metadata or {}))


def pillow_pixels(picture: PillowImage.Image) -> np.ndarray:
    """Return the pixels of a Pillow picture, upright: grey of 8, 16 or float bits, or RGB; equal channels become grey.

    Transparency is blended with black. Raises what Pillow raises on damaged data.
    """
    picture = ImageOps.exif_transpose(picture)
    mode = picture.mode
    if mode == "1" and "transparency" not in picture.info:
        return np.asarray(picture.convert("L"))
    if mode in ("La", "RGBa"):
        # Multiplied by alpha: laid over black already. Pillow's way back rounds to 8 bits.
        stored = np.asarray(picture)
        return np.ascontiguousarray(stored[..., 0]) if mode == "La" else grey_if_equal(stored[..., :3])
    if mode == "L" and "transparency" not in picture.info:
        return np.asarray(picture)
    if mode in ("I", "F") or mode.startswith("I;16"):
        return kept_type(np.asarray(picture))
    if mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        return grey_if_equal(over_black(np.asarray(picture.convert("RGBA"))))
    return grey_if_equal(np.asarray(picture.convert("RGB")))


def kept_type(pixels: np.ndarray) -> np.ndarray:
    """Return pixels as uint8, uint16, int16 or float32 in this machine's byte order, contiguous.

    Other integers become uint16 or int16 if that holds every value of their type (int8) or every value present; else,
    like other floats, float32. Raises ImageError for values that are no numbers, or finite only in a wider float.
    """
    native = pixels.dtype.newbyteorder("=")
    if native.name in KEPT:
        return np.ascontiguousarray(pixels, native)
    if native.kind == "i" and native.itemsize == 1:
        return np.ascontiguousarray(pixels, np.int16)
    if native.kind in "iu":
        lowest, highest = (int(pixels.min()), int(pixels.max())) if pixels.size else (0, 0)
        for kind in (np.uint16, np.int16):
            if np.iinfo(kind).min <= lowest and highest <= np.iinfo(kind).max:
                return np.ascontiguousarray(pixels, kind)
    if native.kind in "iuf":
        with np.errstate(over="ignore", invalid="ignore"):
            return np.ascontiguousarray(pixels, np.float32)
    raise ImageError(f"pixels of type {pixels.dtype} are no grey values: give integers or floats")


def wide_samples(opened: Callable[[], ImageFile.ImageFile], *raw_modes: str) -> np.ndarray:
    """Return samples of 16 bits that Pillow narrows to their high byte.

    Pillow's raw modes name the byte order of what it unpacks, and take the high byte. Unpacked once in the file's
    order and once in the other, every sample gives both of its bytes, whatever the filter, layout or compression.

    Args:
        opened: opens the picture anew.
        raw_modes: one that unpacks the high bytes, one that unpacks the low ones; a single one is unpacked alone.

    Returns:
        uint16 [H, W, S]; uint8 [H, W, S] of a single raw mode.
    """
    halves = []
    for raw_mode in raw_modes:
        with opened() as picture:
            tiles = []
            for tile in picture.tile:
                arguments = tile.args
                args = (raw_mode, *arguments[1:]) if isinstance(arguments, tuple) else raw_mode
                tiles.append(tile._replace(args=args))
            picture.tile = tiles
            halves.append(np.asarray(picture))
    if len(halves) == 1:
        return halves[0]
    return (halves[0].astype(np.uint16) << 8) | halves[1]


def resized(pixels: np.ndarray, height: int, width: int, filter: Resampling = Resampling.BILINEAR) -> np.ndarray:
    """Return pixels uint8 [H, W] or [H, W, 3] resampled to another height and width by one of Pillow's filters."""
    return np.asarray(PillowImage.fromarray(np.ascontiguousarray(pixels)).resize((width, height), filter))


def over_black(samples: np.ndarray, full: int | None = None) -> np.ndarray:
    """Return colour, or grey, multiplied by its alpha: [H, W, S + 1] of one type to [H, W, S] of that type.

    Args:
        samples: alpha is the last of them.
        full: the opaque value; the highest of the type where it is not given, 1 for floats.
    """
    colour, alpha = samples[..., :-1], samples[..., -1:]
    if samples.dtype.kind == "f":
        return colour * alpha
    full = full or int(np.iinfo(samples.dtype).max)
    if (alpha == full).all():
        return np.ascontiguousarray(colour)
    flat = np.empty(colour.shape, samples.dtype)
    for rows in bands(colour):
        flat[rows] = (colour[rows].astype(np.int64) * alpha[rows] + full // 2) // full
    return flat


def bands(pixels: np.ndarray) -> Iterator[slice]:
    """Yield slices of rows of about a million samples each: work on wide numbers then takes little memory."""
    rows = max(1, (1 << 20) // max(1, pixels[:1].size))
    for start in range(0, len(pixels), rows):
        yield slice(start, start + rows)


def sample_bits(pixels: np.ndarray) -> int:
    """Return the bits that pixels without a declared depth are shown with.

    Grey is shown by the window rule, which finds its scale from the values. Colour of 16 bits takes the smallest of
    8, 10, 12, 14 and 16 bits that holds its values: a file of 16 bits often holds 12.
    """
    if pixels.dtype.kind == "f" or pixels.dtype.itemsize == 1:
        return 8
    return holding_bits(pixels) if pixels.ndim == 3 else 16


def holding_bits(pixels: np.ndarray) -> int:
    """Return the smallest of 8, 10, 12, 14 and 16 bits that holds integer pixels."""
    highest = int(pixels.max())
    return next(bits for bits in (8, 10, 12, 14, 16) if highest < 2**bits)


def grey_if_equal(rgb: np.ndarray) -> np.ndarray:
    """Return [H, W] of [H, W, 3] whose channels are equal, else what was given."""
    red = rgb[..., 0]
    if (red == rgb[..., 1]).all() and (red == rgb[..., 2]).all():
        return np.ascontiguousarray(red)
    return np.ascontiguousarray(rgb)
