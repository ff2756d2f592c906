"""Conflicts: a file with the SOP instance UID of a stored image that is of another patient, or looks different."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from medlike.archive.storage.record import Record
    from medlike.archive.storage.rows import ImageRow

#: What to do with a file in conflict with a stored image. None keeps the stored image if patient, study or series
#: differ, and replaces it if only the pixels differ.
OnConflict = Literal["keep", "replace", "refuse"]

_OWNERS = ("patient", "study", "series")


@dataclass(frozen=True)
class Conflict:
    """A file and a stored image that share their SOP instance UID and frame, but differ.

    Attributes:
        path: The file.
        stored: The path of the stored image; None if it was received or its link is missing.
        id: The public id of both.
        differs: What differs: "patient", "study", "series", "pixels".
        outcome: What became of it: "kept" the stored image, "replaced" it, or "refused" the file.
    """

    path: str
    stored: str | None
    id: str
    differs: tuple[str, ...]
    outcome: Literal["kept", "replaced", "refused"]

    @property
    def reason(self) -> str:
        """Return in words why the file conflicts with the stored image."""
        stored = self.stored or "a received file"
        return f"its SOP instance UID is stored from {stored} with another {' and '.join(self.differs)}"


def differences(live: "ImageRow", record: "Record") -> tuple[str, ...]:
    """Return what makes a file another image than the stored one of the same id; nothing for ids made from pixels.

    A patient, study or series that only one of the two states is no difference.
    """
    if record.by_pixels:
        return ()
    pairs = {name: (getattr(live, name), record.columns[name]) for name in _OWNERS}
    differing = [name for name, pair in pairs.items() if None not in pair and pair[0] != pair[1]]
    if live.pixels != record.columns["pixels"]:
        differing.append("pixels")
    return tuple(differing)


def resolved(
    path: str, stored: str | None, live: "ImageRow", record: "Record", on_conflict: OnConflict | None, received: bool
) -> Conflict | None:
    """Return the conflict of a file with the stored image of its id, and what is done about it; None without one.

    Args:
        path: The file.
        stored: The path of the stored image.
        live: The stored image.
        record: The image of the file.
        on_conflict: How to resolve it.
        received: If true, there is no file to go back to: instead of keeping the stored image alone, it is refused,
            and so set aside.
    """
    differs = differences(live, record)
    if not differs:
        return None
    chosen = on_conflict or ("replace" if differs == ("pixels",) else "keep")
    if received and chosen == "keep":
        chosen = "refuse"
    outcome: Literal["kept", "replaced", "refused"]
    outcome = "kept" if chosen == "keep" else "replaced" if chosen == "replace" else "refused"
    return Conflict(path, stored, record.id, differs, outcome)
