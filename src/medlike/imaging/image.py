"""The Image: pixels as stored, and what is known of them."""

import hashlib
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

Value = str | int | float
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Lut:
    """A look-up table. Stored values below `first` take the first entry, those past the end the last.

    first: stored value of entry 0. entries: output values. bits: output range is 0 .. 2**bits - 1.
    Source: DICOM PS3.3 C.11.1.1 and C.11.2.1.1.
    """

    first: int
    entries: tuple[int, ...]
    bits: int

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Map values, any shape, to float64 of that shape."""
        index = np.clip(values - self.first, 0, len(self.entries) - 1).astype(np.int64)
        return np.asarray(self.entries, np.float64)[index]


@dataclass(frozen=True)
class Window:
    """A display window, in modality units (after rescale). Source: DICOM PS3.3 C.11.2.1.2."""

    center: float
    width: float
    function: str = "LINEAR"


@dataclass(frozen=True)
class Photometry:
    """What a file says of how its stored values are to be shown.

    bits: bits stored in a sample. slope, intercept: stored value to modality unit (CT: Hounsfield).
    modality_lut: in place of slope and intercept. windows: in the file's order. voi_lut: in place of windows.
    inverted: the lowest value is white (MONOCHROME1). scale: lowest and highest stored value of the scale the
    picture is on, where that is known; None: the window rule finds it. padding: lowest and highest stored value,
    both included, of what pads the picture: shown black, and in no window or contrast.
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

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; `from_dict` turns them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Photometry":
        """Make a Photometry from the plain values of `as_dict`."""

        def lut(value: dict[str, Any] | None) -> Lut | None:
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
    """One picture: a file, or one frame of it.

    pixels: uint8, uint16, int16 or float32, [H, W] or [H, W, 3] (RGB), as stored in the file: unscaled, not
    windowed. spacing: millimetres between rows and between columns, or None. frame: 0-based, of `frames`.
    metadata: searchable, names nobody. texts: words that belong to the picture (report, caption).
    replaced: how many passages were taken out of the texts by rule. identifiers: who, when, UIDs; to be kept
    apart. path: as given, None for arrays.
    boxes: [x0, y0, x1, y1], half-open, pixels of this frame, or None. remarks: what of the file was repaired or
    left out to show it, in words for a report.
    """

    pixels: np.ndarray
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
        """Return whether the pixels are RGB."""
        return self.pixels.ndim == 3

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256, hex, of the decoded pixels with their shape and type, little-endian."""
        pixels = np.ascontiguousarray(self.pixels, self.pixels.dtype.newbyteorder("<"))
        seed = f"{pixels.dtype.str} {pixels.shape}\n".encode()
        return hashlib.sha256(seed + pixels.tobytes()).hexdigest()
