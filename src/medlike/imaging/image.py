"""Image: pixels as stored, and what is known about them."""

import hashlib
from dataclasses import asdict, dataclass, field
from functools import cached_property

import numpy as np

from medlike.types import F64, Array, Box, JsonObject

Value = str | int | float


@dataclass(frozen=True)
class Lut:
    """Map stored values by a table (DICOM PS3.3 C.11.1.1 and C.11.2.1.1).

    Stored values below `first` take the first entry, those past the end the last.

    Attributes:
        first: Stored value of entry 0.
        entries: Output values.
        bits: Output range is 0 to 2**bits - 1.
    """

    first: int
    entries: tuple[int, ...]
    bits: int

    def __call__(self, values: Array) -> F64:
        """Return the output values of stored values: any shape, to float64 of that shape."""
        index = np.clip(values - self.first, 0, len(self.entries) - 1).astype(np.int64)
        return np.take(np.asarray(self.entries, np.float64), index)


@dataclass(frozen=True)
class Window:
    """Hold a display window (DICOM PS3.3 C.11.2.1.2).

    Attributes:
        center: Centre in modality units, after rescaling.
        width: Width in modality units.
        function: LINEAR, LINEAR_EXACT or SIGMOID.
    """

    center: float
    width: float
    function: str = "LINEAR"


@dataclass(frozen=True)
class Photometry:
    """Hold how a file's stored values are to be shown.

    Attributes:
        bits: Bits stored in a sample.
        slope: Factor from stored value to modality unit (CT: Hounsfield).
        intercept: Modality unit of stored value 0.
        modality_lut: Table instead of slope and intercept.
        windows: Display windows, in the file's order.
        voi_lut: Table instead of windows.
        inverted: True if the lowest value is white (MONOCHROME1).
        scale: Lowest and highest stored value of the picture's scale if known; None lets the window rule find it.
        padding: Lowest and highest stored value, both included, of padding; it is shown black and ignored by windows.
    """

    bits: int = 8
    slope: float = 1.0
    intercept: float = 0.0
    modality_lut: Lut | None = None
    windows: tuple[Window, ...] = ()
    voi_lut: Lut | None = None
    inverted: bool = False
    scale: tuple[float, float] | None = None
    padding: tuple[float, float] | None = None

    def as_dict(self) -> JsonObject:
        """Return plain values for JSON; `from_dict` reads them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: JsonObject) -> "Photometry":
        """Return the photometry of a dictionary made by `as_dict`."""

        def lut(value: JsonObject | None) -> Lut | None:
            return None if value is None else Lut(value["first"], tuple(value["entries"]), value["bits"])

        scale, padding = values.get("scale"), values.get("padding")
        return cls(
            bits=values["bits"],
            slope=values["slope"],
            intercept=values["intercept"],
            modality_lut=lut(values["modality_lut"]),
            windows=tuple(Window(**window) for window in values["windows"]),
            voi_lut=lut(values["voi_lut"]),
            inverted=values["inverted"],
            scale=None if scale is None else (scale[0], scale[1]),
            padding=None if padding is None else (padding[0], padding[1]),
        )


@dataclass(frozen=True, eq=False)
class Image:
    """Hold one picture, a file or one frame of it, and what is known about it.

    Attributes:
        pixels: uint8, uint16, int16 or float32, [H, W] or [H, W, 3] (RGB), as stored: neither rescaled nor windowed.
        photometry: How stored values become grey levels.
        spacing: Millimetres between rows and between columns, or None.
        frame: Number of the frame, from 0.
        frames: How many frames the file has.
        metadata: Searchable fields, by name; they identify nobody.
        texts: Texts of the picture, by kind (report, caption and others).
        identifiers: Names, dates and UIDs, by name; to be stored apart.
        path: The path as given, None for an array.
        boxes: Labelled boxes: x0, y0, x1, y1, half-open, in pixels of this frame; or None.
        replaced: Passages that rules removed from the texts.
        remarks: Sentences for a report on what was repaired or left out.
    """

    pixels: Array
    photometry: Photometry = Photometry()
    spacing: tuple[float, float] | None = None
    frame: int = 0
    frames: int = 1
    metadata: dict[str, Value] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    identifiers: dict[str, str] = field(default_factory=dict)
    path: str | None = None
    boxes: list[Box] | None = None
    replaced: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        """Return the number of rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return int(self.pixels.shape[1])

    @property
    def colour(self) -> bool:
        """Return True if the pixels are RGB."""
        return self.pixels.ndim == 3

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256, in hex, of the decoded pixels (little-endian) with their shape and type."""
        pixels = np.ascontiguousarray(self.pixels, self.pixels.dtype.newbyteorder("<"))
        seed = f"{pixels.dtype.str} {pixels.shape}\n".encode()
        digest = hashlib.sha256(seed)
        digest.update(pixels.data)
        return digest.hexdigest()
