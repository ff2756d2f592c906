"""How large a picture may be, checked before anything is decoded."""

from medlike.errors import ImageError

#: A frame larger than this is refused: 100 million pixels, four times the largest mammogram.
MAX_PIXELS = 100_000_000

#: A deflated DICOM file may not unpack to more than this.
MAX_INFLATED_BYTES = 2 * 1024**3


def check_size(height: int, width: int) -> None:
    """Refuse a picture without pixels, or with more than MAX_PIXELS.

    height, width: pixels, as a header declares them.
    Raises ImageError.
    """
    if height < 1 or width < 1:
        raise ImageError(f"the picture is {width} x {height}: it has no pixels")
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"the picture is {width} x {height}, {height * width / 1e6:.0f} million pixels; the limit is "
            f"{MAX_PIXELS / 1e6:.0f} million: cut it into tiles or scale it down first"
        )
