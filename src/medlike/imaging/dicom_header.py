"""Read and check the Image Pixel module of a DICOM header before anything is decoded (PS3.3 C.7.6.3)."""

from dataclasses import dataclass

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels import get_decoder

from medlike.errors import ImageError
from medlike.imaging.limits import CONVERTED, DECODED, check_size
from medlike.imaging.silence import reason

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

#: Supplement 244: each frame deflated on its own. pydicom has no decoder for it.
DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"

#: Objects whose pixels say to which segment a place belongs: Segmentation and Label Map Segmentation Storage.
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")


@dataclass(frozen=True)
class PixelHeader:
    """What the header says of the pixels.

    keyword: the element that has them. rows, columns, frames, samples: counts; samples is of one pixel. allocated,
    stored: bits of a sample. high: the most significant stored bit, 0-based. signed: two's complement.
    interpretation: Photometric Interpretation, "" where there is none. planar: colour by plane.
    """

    keyword: str
    rows: int
    columns: int
    frames: int
    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool
    interpretation: str
    planar: bool


def pixel_header(dataset: Dataset, segmentations: bool = True) -> PixelHeader:
    """Return the header of pixels that can be decoded.

    Args:
        dataset: an opened file.
        segmentations: whether to read segmentation objects.

    Raises:
        ImageError: there are no pixels, they are of a kind that is not read, or an element cannot be read, is absent
            or is out of its range; the reason names it.
    """
    keyword = next((name for name in PIXELS if name in dataset), None)
    if keyword is None:
        raise ImageError(_why_no_pixels(dataset))
    if not segmentations and dataset.get("SOPClassUID") in SEGMENTATIONS:
        raise ImageError(
            "it is a segmentation, not a picture; to read it nevertheless, index it with --segmentations "
            "(in Python, segmentations=True)"
        )
    rows, columns, allocated = (_needed(dataset, name) for name in ("Rows", "Columns", "BitsAllocated"))
    check_size(rows, columns)
    if not dataset.get(keyword):
        raise ImageError("the pixel data is empty")
    frames = _whole(dataset, "NumberOfFrames")
    frames = 1 if frames is None else frames
    if frames < 1:
        raise ImageError(f"the header says {frames} frames")
    samples = _whole(dataset, "SamplesPerPixel") or 1
    if samples not in (1, 3):
        raise ImageError(f"{samples} samples a pixel are no picture: 1 (grey, palette) and 3 (colour) are read")
    # Bits are unpacked to bytes, and chroma to floats.
    check_size(rows, columns, samples * max(allocated // 8, 1) * (CONVERTED if samples == 3 else DECODED))
    stored, high = _bits(dataset, allocated, keyword)
    syntax = dataset.file_meta.TransferSyntaxUID
    native = syntax == DEFLATED_FRAMES or not is_encapsulated(dataset)
    header = PixelHeader(
        keyword,
        rows,
        columns,
        frames,
        samples,
        allocated,
        stored,
        high,
        signed=keyword == "PixelData" and _flag(dataset, "PixelRepresentation"),
        interpretation=_interpretation(dataset),
        # Compressed frames say it themselves (PS3.5 8.2.1 to 8.2.4, annex G.2).
        planar=native and samples == 3 and _flag(dataset, "PlanarConfiguration"),
    )
    _check_syntax(dataset, header)
    return header


def _whole(dataset: Dataset, keyword: str) -> int | None:
    """Return the first number of an element, None where it is absent or empty. Raises ImageError naming it."""
    try:
        value = dataset.get(keyword)
        if value is None or value == "":
            return None
        return int(value[0]) if isinstance(value, MultiValue | list) else int(value)
    except Exception as error:
        raise ImageError(f"the header says no {keyword} that can be read: {reason(error)}") from None


def _needed(dataset: Dataset, keyword: str) -> int:
    value = _whole(dataset, keyword)
    if value is None:
        raise ImageError(f"the header says no {keyword}")
    return value


def _flag(dataset: Dataset, keyword: str) -> bool:
    """Return whether an element is 1. Raises ImageError unless it is 0 or 1: a guess may give a wrong picture."""
    value = _whole(dataset, keyword)
    if value not in (0, 1):
        raise ImageError(f"the header says {'no' if value is None else value} {keyword}: 0 or 1 is needed")
    return value == 1


def _interpretation(dataset: Dataset) -> str:
    value = str(dataset.get("PhotometricInterpretation") or "").strip().upper()
    if not value:
        raise ImageError("the header says no PhotometricInterpretation: black and white cannot be told apart")
    return value


def _bits(dataset: Dataset, allocated: int, keyword: str) -> tuple[int, int]:
    """Return Bits Stored and High Bit. Source: PS3.3 C.7.6.3.1, PS3.5 8.1.1.

    High Bit below Bits Stored - 1 leaves no room for the stored bits: they then begin at bit 0, the only place in
    which nothing is lost. The same holds where all allocated bits are stored.
    """
    if keyword != "PixelData":
        return allocated, allocated - 1
    stored = _whole(dataset, "BitsStored") or allocated
    if not 1 <= stored <= allocated:
        raise ImageError(f"the header says {stored} bits stored of {allocated} allocated: no value can be read so")
    high = _whole(dataset, "HighBit")
    if high is None or high < stored - 1 or stored == allocated:
        return stored, stored - 1
    if high >= allocated:
        raise ImageError(f"the header says HighBit {high} of {allocated} bits allocated: no value can be read so")
    return stored, high


def _check_syntax(dataset: Dataset, header: PixelHeader) -> None:
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == DEFLATED_FRAMES:
        return
    try:
        get_decoder(syntax)
    except NotImplementedError:
        kind = "is video" if any(word in syntax.name for word in ("MPEG", "HEVC", "SMPTE")) else "is not decoded"
        raise ImageError(f"transfer syntax {syntax.name} {kind}: convert it to an uncompressed one") from None
    if not is_encapsulated(dataset):
        if getattr(dataset[header.keyword], "is_undefined_length", False):
            raise ImageError(f"the transfer syntax says {syntax.name}, but the pixel data is compressed")
        _check_length(dataset, header)


def _check_length(dataset: Dataset, header: PixelHeader) -> None:
    """Refuse native pixel data that hold more than the header says: it is wrong about the size then."""
    size = len(dataset[header.keyword].value)
    bits = header.rows * header.columns * header.samples * header.allocated
    if is_subsampled(header, size):
        bits = bits * 2 // 3
    # Frames of single bits run on without a gap (PS3.5 8.1.1); other bits come in whole bytes.
    needed = (bits * header.frames + 7) // 8
    # A little padding at the end is common; a frame's worth means that the header is wrong about the size.
    padding = 2 if header.allocated == 1 and bits % 8 and header.frames > 1 else max(bits // 8, 4)
    if size - needed >= padding:
        raise ImageError(
            f"the header says {header.frames} frame(s) of {header.columns} x {header.rows}, {needed} bytes, "
            f"but the pixel data has {size} bytes"
        )


def is_encapsulated(dataset: Dataset) -> bool:
    """Return whether the transfer syntax puts each frame into items of its own (PS3.5 A.4)."""
    syntax = dataset.file_meta.TransferSyntaxUID
    return syntax == DEFLATED_FRAMES or syntax.is_encapsulated


def is_subsampled(header: PixelHeader, size: int) -> bool:
    """Return whether native pixel data have one chroma pair for two pixels (PS3.3 C.7.6.3.1.2, YBR_FULL_422).

    Data as long as unsubsampled ones are unsubsampled, whatever the header calls them.

    Args:
        header: what the header says.
        size: bytes of all frames together.
    """
    if header.interpretation != "YBR_FULL_422" or header.samples != 3:
        return False
    return size < header.rows * header.columns * 3 * header.allocated // 8 * header.frames


def _why_no_pixels(dataset: Dataset) -> str:
    storage = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    if storage == MEDIA_STORAGE_DIRECTORY or "DirectoryRecordSequence" in dataset:
        return "it is a DICOMDIR, a directory of images: give the folder instead"
    if storage:
        return f"it holds no pixel data ({uid.UID(storage).name})"
    modality = f" (modality {dataset.Modality})" if dataset.get("Modality") else ""
    return f"it holds no pixel data{modality}"
