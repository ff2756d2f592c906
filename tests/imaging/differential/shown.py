"""Grey pictures under drawn rescales, look-up tables and windows, as medlike renders them and as DCMTK does."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from files import header, save, words
from pydicom import uid
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from variants import Draw, put
from witnesses import pnm, run

#: DCMTK computes in tables of its own rounding.
TOLERANCE = 1


@dataclass
class Shown:
    """A file, its honest twin for DCMTK, the option of `dcm2pnm` that applies what it says, and its words."""

    path: Path
    honest: Path
    option: list[str]
    words: list[str]


def draw_shown(seed: int, folder: Path) -> Shown:
    """Return a drawn grey file with a window or a VOI look-up table; the same seed gives the same one."""
    draw = Draw((seed, 99), folder)
    signed = draw("signed", False, True)
    stored = draw("stored", 8, 10, 12, 16)
    allocated = 8 if stored == 8 else 16
    values = draw.picture(stored, signed, frames=1, smallest=4)
    photometric = draw("of", "MONOCHROME2", "MONOCHROME1")
    syntax = draw("", uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian)
    draw.words.append(uid.UID(syntax).name)
    dataset = header(values, syntax, photometric, stored, allocated, signed)
    put(dataset, words(values, (stored, allocated)), "OW")
    low, high = rescaled(draw, dataset, values, signed)
    if draw("", False, True):
        option = window(draw, dataset, low, high)
    else:
        option = table(draw, dataset, low, high)
    honest = save(dataset, draw.path("honest"))
    return Shown(lie(draw, dataset, honest), honest, option, draw.words)


def lie(draw, dataset, honest):
    """Draw a fault of the numbers that leaves their meaning plain: decimal commas, a window without its center."""
    path = draw.path("shown")
    kind = draw("fault", "none", "none", "decimal commas", "an empty window first")
    if kind == "decimal commas":
        commas = bytearray(honest.read_bytes())
        for keyword in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"):
            if keyword in dataset:
                said = "\\".join(str(value) for value in np.atleast_1d(dataset[keyword].value)).encode()
                assert commas.count(said) >= 1, said
                commas = commas.replace(said, said.replace(b".", b","))
        path.write_bytes(commas)
    elif kind == "an empty window first" and "WindowCenter" in dataset:
        center, width = (np.atleast_1d(dataset[name].value) for name in ("WindowCenter", "WindowWidth"))
        dataset.WindowCenter, dataset.WindowWidth = ["", *map(str, center)], ["77", *map(str, width)]
        save(dataset, path)
    else:
        return honest
    return path


def rescaled(draw, dataset, values, signed):
    """Draw a rescale or a modality look-up table, and return the range of its output."""
    how = draw("modality", "none", "rescale", "table")
    lowest, highest = int(values.min()), int(values.max())
    if how == "rescale":
        # DCMTK cuts fractions off.
        slope, intercept = draw("slope", 1, 2), draw("intercept", 0, -1024, 100)
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{slope}.0", f"{intercept}.0"
        dataset.RescaleType = "US"
        return lowest * slope + intercept, highest * slope + intercept
    if how == "table":
        entries = min(highest - lowest + 1, 4096)
        data = np.linspace(0, 4095, entries).astype(int).tolist()
        dataset.ModalityLUTSequence = lut(dataset, entries, lowest, 12, data, signed)
        dataset.ModalityLUTSequence[0].ModalityLUTType = "US"
        return 0, 4095
    return lowest, highest


def window(draw, dataset, low, high):
    """Draw windows that overlap the range; the first is applied."""
    span = max(high - low, 4)
    width = max(2, round(float(draw.random.uniform(0.2, 1.5)) * span))
    center = round(float(draw.random.uniform(low, high)))
    if draw("alternatives", False, True):
        dataset.WindowCenter, dataset.WindowWidth = [f"{center}.0", "7.0"], [f"{width}.0", "33.0"]
    else:
        dataset.WindowCenter, dataset.WindowWidth = f"{center}.0", f"{width}.0"
    function = draw("function", "none", "LINEAR", "SIGMOID")
    if function != "none":
        dataset.VOILUTFunction = function
    draw.words.append(f"window {center} {width}")
    return ["+Wi", "1"]


def table(draw, dataset, low, high):
    """Draw a VOI look-up table whose first mapped value may be negative where the rescaled values may be."""
    bits = draw("entry bits", 8, 10, 12, 16)
    entries = int(min(max(high - low, 16) * draw("length", 0.5, 1), 4096))
    first = int(low) + draw("first", 0, 10)
    first = max(-32768, min(first, 65535 if low >= 0 else 32767))
    curve = (np.linspace(0, 1, entries) ** draw("gamma", 0.5, 1, 2) * ((1 << bits) - 1)).astype(int)
    dataset.VOILUTSequence = lut(dataset, entries, first, bits, curve.tolist(), low < 0)
    item = dataset.VOILUTSequence[0]
    if bits == 8 and draw("packed", False, True):
        # Two entries in each word, the first one in the low byte.
        packed = np.append(curve, [0] * (entries % 2)).astype("u1").view("<u2")
        big = dataset.file_meta.TransferSyntaxUID == uid.ExplicitVRBigEndian
        item["LUTData"] = DataElement(item["LUTData"].tag, "OW", packed.astype(">u2" if big else "<u2").tobytes())
    elif bits in (10, 12) and draw("descriptor says 16", False, True):
        item.LUTDescriptor = [entries, first, 16]
        # DCMTK scales by the descriptor unless it is to look at the entries.
        return ["+Wl", "1", "+Mv"]
    return ["+Wl", "1"]


def lut(dataset, entries, first, bits, data, signed):
    """Return a sequence of one look-up table with data of 16-bit words."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if signed else "US", [entries, first, bits])
    item.add_new("LUTData", "US", data) if entries > 1 else item.add_new("LUTData", "US", data[0])
    return Sequence([item])


def witness(shown: Shown) -> np.ndarray:
    """Return DCMTK's picture, integer 0 .. 255 [H, W]."""
    out = shown.path.with_suffix(".pgm")
    run("dcm2pnm", "-q", "-O", *shown.option, "+opb", shown.honest, out)
    return pnm(out)
