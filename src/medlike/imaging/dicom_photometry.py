"""How a DICOM file wants its values shown: rescale, look-up tables, windows, of the file or of one frame."""

import math
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from medlike.imaging.image import Lut, Photometry, Window

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def photometry(dataset: Dataset, frame: int, pixels: np.ndarray) -> Photometry:
    """Photometry of one frame; what cannot be read of it is left out.

    frame: 0-based. pixels: the decoded frame, for its type. Functional groups of the frame come before the
    shared ones, and those before the elements of the file (PS3.3 C.7.6.16).
    """
    if pixels.ndim == 3:
        table_bits = 8 * pixels.dtype.itemsize
        bits = number(dataset, "BitsStored") or table_bits
        palette = dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
        return Photometry(bits=table_bits if palette else int(bits))
    rescaled = functional_group(dataset, frame, "PixelValueTransformationSequence") or dataset
    windowed = functional_group(dataset, frame, "FrameVOILUTSequence") or dataset
    slope, intercept = number(rescaled, "RescaleSlope"), number(rescaled, "RescaleIntercept")
    signed = dataset.get("PixelRepresentation") == 1
    modality_lut = _lut(dataset, rescaled, "ModalityLUTSequence", signed)
    return Photometry(
        bits=int(number(dataset, "BitsStored") or 8 * pixels.dtype.itemsize),
        slope=1.0 if slope is None or slope == 0 else slope,
        intercept=0.0 if intercept is None else intercept,
        modality_lut=modality_lut,
        windows=_windows(windowed),
        # After a modality look-up table the values are unsigned, whatever the stored ones were.
        voi_lut=_lut(dataset, windowed, "VOILUTSequence", signed and modality_lut is None),
        inverted=dataset.get("PhotometricInterpretation") == "MONOCHROME1",
    )


def functional_group(dataset: Dataset, frame: int, keyword: str) -> Dataset | None:
    """The item of a functional group for a frame (0-based), its own before the shared one, or None."""
    for groups, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        try:
            items = dataset.get(groups) or []
            group = items[index].get(keyword) if index < len(items) else None
            if group:
                return group[0]
        except Exception:  # a damaged group says nothing
            continue
    return None


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """The finite numbers of an element, in order; empty where it is absent or unreadable."""
    try:
        value: Any = dataset.get(keyword)
        values = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
        found = [float(one) for one in values if one is not None and str(one).strip()]
    except Exception:  # pydicom raises what the damage happens to provoke
        return []
    return found if all(math.isfinite(one) for one in found) else []


def number(dataset: Dataset, keyword: str) -> float | None:
    """The first number of an element, or None."""
    found = numbers(dataset, keyword)
    return found[0] if found else None


def _windows(dataset: Dataset) -> tuple[Window, ...]:
    centers, widths = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    try:
        function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    except Exception:
        function = "LINEAR"
    function = function if function in FUNCTIONS else "LINEAR"
    return tuple(Window(center, width, function) for center, width in zip(centers, widths, strict=False))


def _lut(dataset: Dataset, holder: Dataset, keyword: str, signed: bool) -> Lut | None:
    """The first table of a sequence, or None. Source: PS3.3 C.11.1.1.1, C.11.2.1.1."""
    try:
        items = holder.get(keyword)
        if not items:
            return None
        count, first, bits = (int(value) for value in items[0].LUTDescriptor)
        count = count or 65536
        if signed and first > 32767:
            first -= 65536
        data = items[0].LUTData
        if isinstance(data, bytes):
            little = dataset.file_meta.TransferSyntaxUID.is_little_endian
            kind = "u1" if len(data) in (count, count + 1) and bits <= 8 else ("<u2" if little else ">u2")
            entries = np.frombuffer(data, kind, count).tolist()
        else:
            entries = [int(value) for value in data][:count]
    except Exception:  # a table that cannot be read is no table
        return None
    if not entries or not 1 <= bits <= 16:
        return None
    # Tables that need more bits than they declare exist; the top entry then tells.
    return Lut(first, tuple(entries), max(bits, max(entries).bit_length()))
