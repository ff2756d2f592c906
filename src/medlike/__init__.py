"""medlike finds medical images like this one.

The names of `__all__` are the public API. Each is loaded on first use, so `import medlike` is instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.2.0"

_ERRORS = (
    "ArchiveError", "ArchiveFull", "ArchiveLocked", "BundleError", "DatasetError", "ImageError", "InputError",
    "MedlikeError", "MissingExtra", "NothingAdded", "PluginError", "QueryError", "TextNotInstalled", "TrainingError",
    "UnknownField", "UnknownImage", "WorkerError",
)  # fmt: skip

# Public name -> module that holds it.
_EXPORTS = {
    "AddReport": "medlike.archive.intake.report",
    "Archive": "medlike.archive.archive",
    "AsyncClient": "medlike.cluster.async_client",
    "Bundle": "medlike.bundle",
    "Client": "medlike.cluster.client",
    "Encoder": "medlike.inference.encoder",
    "Encodings": "medlike.inference.encoding",
    "Hit": "medlike.archive.search.result",
    "Image": "medlike.imaging",
    "Query": "medlike.archive.search.query",
    "Result": "medlike.archive.search.result",
    "TextHit": "medlike.archive.search.text_result",
    "TextResult": "medlike.archive.search.text_result",
    "samples": "medlike.datasets.shipped",
    **dict.fromkeys(_ERRORS, "medlike.errors"),
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'medlike' has no attribute {name!r}")
    if _EXPORTS[name].startswith(("medlike.archive.", "medlike.cluster.")):
        import_module("medlike.display")  # lies above the archive, and gives results their pictures
    value: object = getattr(import_module(_EXPORTS[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from medlike.archive.archive import Archive as Archive
    from medlike.archive.intake.report import AddReport as AddReport
    from medlike.archive.search.query import Query as Query
    from medlike.archive.search.result import Hit as Hit
    from medlike.archive.search.result import Result as Result
    from medlike.archive.search.text_result import TextHit as TextHit
    from medlike.archive.search.text_result import TextResult as TextResult
    from medlike.bundle import Bundle as Bundle
    from medlike.cluster.async_client import AsyncClient as AsyncClient
    from medlike.cluster.client import Client as Client
    from medlike.datasets.shipped import samples as samples
    from medlike.errors import ArchiveError as ArchiveError
    from medlike.errors import ArchiveFull as ArchiveFull
    from medlike.errors import ArchiveLocked as ArchiveLocked
    from medlike.errors import BundleError as BundleError
    from medlike.errors import DatasetError as DatasetError
    from medlike.errors import ImageError as ImageError
    from medlike.errors import InputError as InputError
    from medlike.errors import MedlikeError as MedlikeError
    from medlike.errors import MissingExtra as MissingExtra
    from medlike.errors import NothingAdded as NothingAdded
    from medlike.errors import PluginError as PluginError
    from medlike.errors import QueryError as QueryError
    from medlike.errors import TextNotInstalled as TextNotInstalled
    from medlike.errors import TrainingError as TrainingError
    from medlike.errors import UnknownField as UnknownField
    from medlike.errors import UnknownImage as UnknownImage
    from medlike.errors import WorkerError as WorkerError
    from medlike.imaging import Image as Image
    from medlike.inference.encoder import Encoder as Encoder
    from medlike.inference.encoding import Encodings as Encodings
