"""Which frames of a multi-frame file, or pages of a TIFF, are read."""

from collections.abc import Callable
from typing import Literal

from medlike.errors import ImageError

Frames = Literal["middle", "all"] | int
#: Frame count to the 0-based frames to read, ascending.
Choice = Callable[[int], range]


def frame_choice(frames: Frames) -> Choice:
    """Return a frame setting as a function from frame count to the 0-based frames to read. Raises ImageError."""
    if frames == "middle":
        return lambda count: range(count // 2, count // 2 + 1)
    if frames == "all":
        return range
    if isinstance(frames, int) and not isinstance(frames, bool) and frames >= 1:
        return lambda count: range(0, count, frames)
    raise ImageError(f'frames={frames!r}: give "middle", "all" or a whole number n, for every n-th frame')
