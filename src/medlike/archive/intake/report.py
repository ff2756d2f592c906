"""What a run of `add` or `drain` reports."""

from dataclasses import asdict, dataclass, field

from medlike.archive.intake.conflicts import Conflict
from medlike.archive.storage.fits import FitReport
from medlike.errors import NothingAdded
from medlike.types import JsonObject


@dataclass
class AddReport:
    """Report what `Archive.add` or `Archive.drain` did. Counts are of images.

    Attributes:
        added: Images with a new id.
        replaced: Images whose id was stored with other pixels, metadata or texts.
        unchanged: Images that were stored already, each counted once, however many files have it.
        skipped: (path, reason) of each file or frame that was refused.
        duplicates: (path, id) of each image equal to a stored one from another file.
        seconds: Time by stage: read (summed over threads), encode, commit, index, total.
        files: Files that were read or skipped.
        generation: Generation of the last commit.
        texts: Texts that were stored with the images.
        deidentified: Names, dates, numbers and addresses that were removed from the texts before storing.
        archives: Folders below the sources that were passed over because they are archives or backups.
        dropped: By manifest column, how many cells were left out because their value is invalid, and the first one.
        remarks: (path, remark) of each image whose file was repaired or partly left out.
        conflicts: Files with the SOP instance UID of a stored image of another patient, study or series, or with
            other pixels.
        replacements: (path, path of the stored image or None, id) of each replaced image.
        fit: The fit that was made at the end, None if none was due.
        relinked: Unchanged images whose source was unknown, as after a restore without links, or has moved; the place
            where they are now is stored.
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    files: int = 0
    generation: int = 0
    texts: int = 0
    deidentified: int = 0
    archives: list[str] = field(default_factory=list)
    dropped: dict[str, tuple[int, str]] = field(default_factory=dict)
    remarks: list[tuple[str, str]] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    replacements: list[tuple[str, str | None, str]] = field(default_factory=list)
    relinked: int = 0
    fit: FitReport | None = None

    def to_dict(self) -> JsonObject:
        """Return the report as JSON holds it, its pairs as objects with named members."""
        return {
            **asdict(self),
            "replacements": [{"path": path, "replaced": old, "id": id} for path, old, id in self.replacements],
            "duplicates": [{"path": path, "of": id} for path, id in self.duplicates],
            "skipped": [{"path": path, "reason": reason} for path, reason in self.skipped],
            "remarks": [{"path": path, "remark": remark} for path, remark in self.remarks],
            "dropped": {column: {"count": n, "example": cell} for column, (n, cell) in self.dropped.items()},
        }

    def require_some(self) -> None:
        """Raise NothingAdded if files were refused and no image is stored of any other."""
        if self.skipped and not (self.added or self.replaced or self.unchanged or self.duplicates):
            raise NothingAdded(self, self.skipped)
