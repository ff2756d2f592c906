"""Read how a DICOM file says to display its values: rescale, look-up tables, windows, of the file or of one frame.

A rule is applied whole or not at all. Where slope, intercept or modality table cannot be read, or only one of slope
and intercept is there, none of them is applied, nor any window or VOI table, whose values are in the units that they
would have made. The image then shows its own values by the window rule, and a remark says so.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from pydicom.dataset import Dataset

from medlike.imaging.dicom_luts import fit_output, read_lut
from medlike.imaging.dicom_numbers import Number, number, positions
from medlike.imaging.image import Lut, Photometry, Window

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")

#: X-ray angiography and fluoroscopy: their modality table or rescale leads back to the intensity of the beam, and is no
#: part of the way to the screen. Source: PS3.3 C.8.7.1.1.2, PS3.17 FFF.2.3.1.3.4.
_NOT_RESCALED = tuple(f"1.2.840.10008.5.1.4.1.1.12.{last}" for last in (1, 2, 3))

#: Elements of padding, by element of pixels: value, limit of the range. Source: PS3.3 C.7.5.1.1.2, C.7.6.24.
_PADDING = {
    "PixelData": ("PixelPaddingValue", "PixelPaddingRangeLimit"),
    "FloatPixelData": ("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    "DoubleFloatPixelData": ("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
}


class _NotApplied(Exception):
    """Half of a rule cannot be read. The message names it."""


@dataclass
class _Reading:
    """One frame's photometry while it is read. remarks: what was repaired or left out."""

    dataset: Dataset
    remarks: list[str] = field(default_factory=list)

    def numbers(self, holder: Dataset, keyword: str) -> list[Number]:
        listed = positions(holder, keyword)
        for one in listed:
            if one.repaired:
                self.remarks.append(f"{keyword} {one.text[:16]!r} is read as {one.value:g}: it has a decimal comma")
        return listed


def photometry(dataset: Dataset, frame: int, pixels: np.ndarray) -> tuple[Photometry, tuple[str, ...]]:
    """Return the photometry of one frame, and what was repaired in it or left out of it.

    Functional groups of the frame come before the shared ones, and those before the elements of the file
    (PS3.3 C.7.6.16).

    Args:
        dataset: the file.
        frame: 0-based.
        pixels: the decoded frame, uint8, uint16, int16 or float32, [H, W] or [H, W, 3].

    Returns:
        The photometry, and remarks in words, none where the file can be taken at its word.
    """
    if pixels.ndim == 3:
        table_bits = 8 * pixels.dtype.itemsize
        bits = number(dataset, "BitsStored") or table_bits
        palette = dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
        return Photometry(bits=table_bits if palette else int(bits)), ()
    reading = _Reading(dataset)
    bits = int(number(dataset, "BitsStored") or 8 * pixels.dtype.itemsize)
    plain = Photometry(bits, inverted=_inverted(reading), padding=_padding(reading, bits))
    rescaled = functional_group(dataset, frame, "PixelValueTransformationSequence") or dataset
    windowed = functional_group(dataset, frame, "FrameVOILUTSequence") or dataset
    signed = dataset.get("PixelRepresentation") == 1
    try:
        if dataset.get("SOPClassUID") in _NOT_RESCALED:
            modality_lut, slope, intercept = None, 1.0, 0.0
        else:
            modality_lut = _modality_lut(reading, rescaled, signed)
            slope, intercept = (1.0, 0.0) if modality_lut else _rescale(reading, rescaled)
    except _NotApplied as error:
        reading.remarks.append(f"{error}: shown by its own values, without rescale and window")
        return plain, tuple(reading.remarks)
    lowest, highest = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    # The output of a modality table is unsigned, whatever the stored values are.
    negative = modality_lut is None and min(lowest * slope, highest * slope) + intercept < 0
    shown = replace(
        plain,
        slope=slope,
        intercept=intercept,
        modality_lut=modality_lut,
        windows=_windows(reading, windowed),
        voi_lut=_voi_lut(reading, windowed, negative),
    )
    return shown, tuple(dict.fromkeys(reading.remarks))


def functional_group(dataset: Dataset, frame: int, keyword: str) -> Dataset | None:
    """Return the item of a functional group for a frame (0-based), its own before the shared one, or None."""
    for groups, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        try:
            items = dataset.get(groups) or []
            group = items[index].get(keyword) if index < len(items) else None
            if group:
                return group[0]
        except Exception:  # a damaged group says nothing
            continue
    return None


def _rescale(reading: _Reading, holder: Dataset) -> tuple[float, float]:
    """Return slope and intercept: both, or neither unless a missing one changes nothing (PS3.3 C.11.1)."""
    slope, intercept = (
        (reading.numbers(holder, keyword) or [Number(None, "")])[0] for keyword in ("RescaleSlope", "RescaleIntercept")
    )
    for keyword, one in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
        if one.unreadable:
            raise _NotApplied(f"{keyword} {one.text[:16]!r} is no number")
    if slope.value == 0:
        raise _NotApplied("RescaleSlope is 0")
    if slope.value is None and intercept.value not in (None, 0.0):
        raise _NotApplied("RescaleIntercept has no RescaleSlope")
    if intercept.value is None and slope.value not in (None, 1.0):
        raise _NotApplied("RescaleSlope has no RescaleIntercept")
    return slope.value or 1.0, intercept.value or 0.0


def _windows(reading: _Reading, holder: Dataset) -> tuple[Window, ...]:
    """Return centres and widths, paired by position; an incomplete pair is left out (PS3.3 C.11.2.1.2)."""
    centers, widths = reading.numbers(holder, "WindowCenter"), reading.numbers(holder, "WindowWidth")
    try:
        function = str(holder.get("VOILUTFunction") or "LINEAR").strip().upper()
    except Exception:  # pydicom raises what the damage happens to provoke
        function = "LINEAR"
    if function not in FUNCTIONS:
        reading.remarks.append(f"VOILUTFunction {function[:16]!r} is unknown: LINEAR is used")
        function = "LINEAR"
    windows = []
    for center, width in zip(centers, widths, strict=False):
        if center.value is not None and width.value is not None:
            windows.append(Window(center.value, width.value, function))
    missing = max(len(centers), len(widths)) - len(windows)
    if missing:
        reading.remarks.append(f"{missing} window(s) left out: WindowCenter or WindowWidth is missing or no number")
    return tuple(windows)


def _modality_lut(reading: _Reading, holder: Dataset, signed: bool) -> Lut | None:
    try:
        items = holder.get("ModalityLUTSequence")
        if not items:
            return None
        lut, remark = read_lut(items[0], signed, *_encoding(reading.dataset))
    except Exception as error:  # pydicom raises what the damage happens to provoke
        raise _NotApplied(f"the modality look-up table cannot be read ({_why(error)})") from None
    reading.remarks += filter(None, (remark,))
    return lut


def _voi_lut(reading: _Reading, holder: Dataset, signed: bool) -> Lut | None:
    """Return the first readable table. Tables and windows are alternatives (PS3.3 C.11.2)."""
    try:
        items = list(holder.get("VOILUTSequence") or [])
    except Exception:  # pydicom raises what the damage happens to provoke
        items = []
        reading.remarks.append("the VOI look-up table cannot be read and is left out")
    for item in items:
        try:
            lut, remark = read_lut(item, signed, *_encoding(reading.dataset))
            lut, depth_remark = fit_output(lut)
        except Exception as error:  # pydicom raises what the damage happens to provoke
            reading.remarks.append(f"the VOI look-up table is left out: {_why(error)}")
            continue
        reading.remarks += filter(None, (remark, depth_remark))
        return lut
    return None


def _why(error: Exception) -> str:
    return str(error)[:80] if isinstance(error, ValueError) else "it is damaged"


def _encoding(dataset: Dataset) -> tuple[bool, bool]:
    """Return whether words are little-endian, and whether value representations are written in the file."""
    syntax = dataset.file_meta.TransferSyntaxUID
    return syntax.is_little_endian, not syntax.is_implicit_VR


def _inverted(reading: _Reading) -> bool:
    """Return whether the lowest value is white. Presentation LUT Shape, the last step, overrides the interpretation."""
    dataset = reading.dataset
    inverted = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
    shape = dataset.get("PresentationLUTShape")
    if shape not in ("IDENTITY", "INVERSE") or (shape == "INVERSE") == inverted:
        return inverted
    reading.remarks.append(f"PresentationLUTShape {shape} decides, not {dataset.PhotometricInterpretation}")
    return not inverted


def _padding(reading: _Reading, bits: int) -> tuple[float, float] | None:
    """Return the range of stored values that pad the picture, both ends included."""
    dataset = reading.dataset
    value_keyword, limit_keyword = next((_PADDING[one] for one in _PADDING if one in dataset), _PADDING["PixelData"])
    value, limit = number(dataset, value_keyword), number(dataset, limit_keyword)
    if value is None:
        return None
    ends = [value, value if limit is None else limit]
    if value_keyword == "PixelPaddingValue":
        # US or SS by the pixels' sign; files with the other one hold the same 16 bits.
        ends = [_stored(end, dataset.get("PixelRepresentation") == 1, bits) for end in ends]
    return min(ends), max(ends)


def _stored(value: float, signed: bool, bits: int) -> float:
    word = int(value) & 0xFFFF
    if not signed:
        return float(word)
    if bits < 16 and word >> bits == 0 and word >> (bits - 1):
        return float(word - (1 << bits))  # without the sign bits above those stored
    return float(word - 65536 if word > 32767 else word)
