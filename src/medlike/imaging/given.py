"""Turn what a user gives as an image into an Image: a path, an array, a Pillow picture, or an Image."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from medlike.errors import ImageError
from medlike.imaging.arrays import from_array, from_pil
from medlike.imaging.decoding import Decoding, read
from medlike.imaging.image import Image

if TYPE_CHECKING:
    from PIL.Image import Image as Pillow


def as_image(value: object, decoding: Decoding = "inline") -> Image | None:
    """Return what a user gives as an Image; None if it is of no kind that can be one.

    Args:
        value: An Image, the path of a file (of several frames the middle one), an array [H, W] or [H, W, 3], or a
            Pillow picture.
        decoding: Where a file is decoded: "process", in a worker process, or "inline".

    Raises:
        ImageError: The file or the array cannot be read.
    """
    if isinstance(value, Image):
        return value
    if isinstance(value, str | Path):
        for image in read(value, "middle", decoding=decoding):
            return image
        raise ImageError(f"{value} holds no image")
    if _is_pillow(value):
        return from_pil(value)
    if hasattr(value, "__array__") or isinstance(value, list | tuple):
        return from_array(value)
    return None


def _is_pillow(value: object) -> "TypeGuard[Pillow]":
    # By name, so that Pillow need not be imported to tell.
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(value).__mro__)
