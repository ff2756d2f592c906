"""How large a picture may be, checked before anything is decoded."""

from medlike.errors import ImageError
from medlike.imaging.memory import reserve

#: A frame larger than this is refused: 100 million pixels, four times the largest mammogram.
MAX_PIXELS = 100_000_000

#: A deflated DICOM file may not unpack to more than this.
MAX_INFLATED_BYTES = 2 * 1024**3

#: Bytes that decoding takes at its peak, measured on 16 million pixels: for a byte of a sample, for a sample of
#: JPEG 2000, and for a sample of what is converted on the way (YCbCr, WebP, JPEG in DICOM).
DECODED, DECODED_JPEG_2000, CONVERTED = 6, 8, 10


def check_size(height: int, width: int, pixel_bytes: float = 0) -> None:
    """Refuse a picture without pixels, with more than MAX_PIXELS, or whose decoding takes too much memory.

    Args:
        height: Rows, as a header or codestream declares them.
        width: Columns.
        pixel_bytes: Memory that decoding takes for a pixel; 0 if the picture is decoded already.

    Raises:
        ImageError: With the value, the limit and what to do.
    """
    if height < 1 or width < 1:
        raise ImageError(f"the picture is {width} x {height}: it has no pixels")
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"the picture is {width} x {height}, {height * width / 1e6:.0f} million pixels; the limit is "
            f"{MAX_PIXELS / 1e6:.0f} million: cut it into tiles or scale it down first"
        )
    if pixel_bytes:
        reserve("picture", int(height * width * pixel_bytes), f"the picture is {width} x {height}")
