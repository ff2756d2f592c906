"""Images of a query as files that can be sent, pixel by pixel the same as they are here."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np

from medlike.cluster.exchange import Upload
from medlike.errors import ImageError, QueryError
from medlike.imaging import Image, as_image, from_array, render_colour
from medlike.types import Array


def query_file(value: object) -> Upload:
    """Return an image of a query as a file: a file as it is, what lies in memory without loss.

    Args:
        value: What the `image` of a Query may be.

    Raises:
        ImageError: The file is not there, or the array is no image.
        QueryError: It is of no kind that can be an image, or a file could not hold it as it is.
    """
    if isinstance(value, str | Path):
        return _stored(Path(value))
    image = as_image(value)
    if image is None:
        raise QueryError(
            f"{type(value).__name__} cannot be searched for: give a path, an array, a Pillow picture or an Image"
        )
    whole = image.frames == 1 or image.frame == image.frames // 2  # of several frames a service takes the middle one
    if image.path is not None and whole and Path(image.path).is_file():
        return _stored(Path(image.path))
    if image.path is not None or image.identifiers:
        raise QueryError(
            "this Image holds more than pixels, and a service is sent files: search for its file, or for its `pixels`"
        )
    return Upload(*_written(_plain(image)))


def _plain(image: Image) -> Array:
    """Return the pixels to send: as they are, or as the encoder sees them if a file could not say how to show them."""
    as_in_a_file = replace(from_array(image.pixels).photometry, scale=None)
    return image.pixels if image.photometry == as_in_a_file else render_colour(image)


def _stored(path: Path) -> Upload:
    if not path.is_file():
        raise ImageError(f"there is no file {path}: give the path of an image")
    # What a file is called may name a patient: the service is told of its kind only.
    return Upload(path, f"query{path.suffix}")


def _written(pixels: Array) -> tuple[bytes, str]:
    """Return a file without loss, and its name: PNG where that holds the pixels, else TIFF."""
    file, plain = io.BytesIO(), np.ascontiguousarray(pixels)
    if plain.dtype == np.uint8 or (plain.dtype == np.uint16 and plain.ndim == 2):
        from PIL import Image as PillowImage

        PillowImage.fromarray(plain).save(file, "PNG")
        return file.getvalue(), "query.png"
    import tifffile

    tifffile.imwrite(file, plain, photometric="rgb" if plain.ndim == 3 else "minisblack")
    return file.getvalue(), "query.tif"
