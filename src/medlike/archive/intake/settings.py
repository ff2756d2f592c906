"""How to add images: every setting with its default, checked."""

import os
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from medlike.archive.intake.conflicts import OnConflict
from medlike.errors import QueryError
from medlike.option import Option

Fitting = Literal["auto", "never"]


@dataclass(frozen=True)
class IntakeSettings:
    """Settings of adding images.

    Attributes:
        pixels: "copy" stores the pixels; "reference" stores a preview and the path.
        frames: Frames of a multi-frame file: "middle", "all", or n for every n-th.
        keep_identifiers: If true, names and dates are stored in the private folder.
        threads: Threads that read files; 0 for one per core, at most 8.
        decoding: "process" decodes files in worker processes, "inline" in this one.
        on_conflict: What to do with a file that has the SOP instance UID of a stored image of another patient, study
            or series, or other pixels: "keep" the stored image, "replace" it, or "refuse" the file. None replaces if
            only the pixels differ, and keeps otherwise.
        fit: "auto" fits the codes to the archive at the end, first at 500 images of 200 patients, then at four times as
            many images as the fit knew; "never" does not.
    """

    pixels: Annotated[
        str,
        Option(
            "Keep a lossless copy, or a preview and a reference to the file.", text=Literal["copy", "reference"]
        ),
    ] = "reference"
    frames: Annotated[
        Literal["middle", "all"] | int,
        Option(
            "Frames of a multi-frame file to index: all, the middle one, or every Nth.",
            metavar="all|middle|N",
            text=str,
        ),
    ] = "middle"
    keep_identifiers: Annotated[
        bool, Option("For a new archive: store names and dates in its private folder, beside UIDs and paths.")
    ] = False
    threads: int = 0
    decoding: Annotated[
        Literal["process", "inline"],
        Option(
            "Decode files in worker processes, which a harmful file cannot leave, or inline, for files that you trust."
        ),
    ] = "process"
    on_conflict: Annotated[
        OnConflict | None,
        Option(
            "If a file has the SOP instance UID of a stored image but differs: keep the stored image, replace it, or "
            "refuse the file.",
            shown="replace if only the pixels differ, else keep",
        ),
    ] = None

    fit: Annotated[
        Fitting,
        Option(
            "Fit codes to the archive at the end when it is time (`medlike fit`), or never."
        ),
    ] = "auto"

    def __post_init__(self) -> None:
        if self.pixels not in ("copy", "reference"):
            raise QueryError(f"pixels is {self.pixels!r}: give 'copy' or 'reference'")
        if self.decoding not in ("process", "inline"):
            raise QueryError(f"decoding is {self.decoding!r}: give 'process' or 'inline'")
        if self.fit not in get_args(Fitting):
            raise QueryError(f"fit is {self.fit!r}: give 'auto' or 'never'")
        if self.on_conflict not in (None, *get_args(OnConflict)):
            raise QueryError(f"on_conflict is {self.on_conflict!r}: give {', '.join(get_args(OnConflict))}, or None")

    @property
    def workers(self) -> int:
        """Return how many threads read files."""
        return self.threads or min(8, len(os.sched_getaffinity(0)))
