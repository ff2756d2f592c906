"""Read files in a worker process, or in this one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from medlike.imaging import reading
from medlike.imaging.frames import Frames
from medlike.imaging.image import Image

#: Where files are decoded: in a worker process, or in this one.
Decoding = Literal["process", "inline"]


def prepare_worker() -> None:
    """Begin to start a worker process, so that `read` soon finds it ready. Returns at once."""
    from medlike.imaging.pool import shared_pool

    shared_pool().start()


def read(
    path: str | Path, frames: Frames = "middle", segmentations: bool = True, decoding: Decoding = "process"
) -> Iterator[Image]:
    """Return the images in a file, as `reading.read` does, decoded in a worker process or in this one.

    Args:
        path: The file.
        frames: Which of several frames or pages.
        segmentations: Whether to read a DICOM segmentation object.
        decoding: "process" or "inline".

    Raises:
        ImageError: The file cannot be used, with the reason, when the first image is requested.
        WorkerError: No worker can be started.
    """
    if decoding == "inline":
        return reading.read(path, frames, segmentations)
    from medlike.imaging.pool import shared_pool

    return shared_pool().read(path, frames, segmentations)
