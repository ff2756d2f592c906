"""Images of a query as files that can be sent, pixel by pixel the same as they are here."""

import io
from pathlib import Path

import numpy as np

from medlike.cluster.exchange import Upload
from medlike.errors import ImageError, QueryError
from medlike.imaging import Image, as_image


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
    if image.path is not None or image.photometry.windows or image.photometry.inverted or image.identifiers:
        raise QueryError(
            "this Image holds more than pixels, and a service is sent files: search for its file, or for its `pixels`"
        )
    return Upload(_written(image), "query.tif" if _needs_tiff(image) else "query.png")


def _stored(path: Path) -> Upload:
    if not path.is_file():
        raise ImageError(f"there is no file {path}: give the path of an image")
    # What a file is called may name a patient: the service is told of its kind only.
    return Upload(path, f"query{path.suffix}")


def _needs_tiff(image: Image) -> bool:
    return image.pixels.dtype != np.uint8 and not (image.pixels.dtype == np.uint16 and not image.colour)


def _written(image: Image) -> bytes:
    file = io.BytesIO()
    if _needs_tiff(image):
        import tifffile

        photometric = "rgb" if image.colour else "minisblack"
        tifffile.imwrite(file, np.ascontiguousarray(image.pixels), photometric=photometric)
    else:
        from PIL import Image as PillowImage

        PillowImage.fromarray(np.ascontiguousarray(image.pixels)).save(file, "PNG")
    return file.getvalue()
