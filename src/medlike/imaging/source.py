"""A file to be read, and what is known about it before it is opened."""

from dataclasses import dataclass, field

from medlike.imaging.frames import Frames
from medlike.imaging.image import Value
from medlike.types import Box


@dataclass(frozen=True)
class Source:
    """A file to be read, and what a manifest says of it.

    path: as given, or below the folder given, or resolved against the manifest's folder. frames: which of
    its frames. problem: why it cannot be read, where discovery already knows; `load` raises it. dropped:
    column -> cell of a manifest, of cells that are no value of their column. segmentations: whether a DICOM
    segmentation object is read, which is no picture; if not, `load` refuses it.
    """

    path: str
    metadata: dict[str, Value] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    identifiers: dict[str, str] = field(default_factory=dict)
    boxes: list[Box] | None = None
    frames: Frames = "middle"
    problem: str | None = None
    dropped: dict[str, str] = field(default_factory=dict)
    segmentations: bool = False
