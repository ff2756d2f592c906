"""medlike finds medical images like this one."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> module that holds it. Loaded on first use, so that `import medlike` is instant.
_EXPORTS = {
    "Archive": "medlike.archive.archive",
    "Bundle": "medlike.bundle",
    "Hit": "medlike.archive.search.result",
    "MedlikeError": "medlike.errors",
    "Query": "medlike.archive.search.query",
    "Result": "medlike.archive.search.result",
    "samples": "medlike.datasets.shipped",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'medlike' has no attribute {name!r}")
    if _EXPORTS[name].startswith("medlike.archive."):
        import_module("medlike.display")  # lies above the archive, and gives results their pictures
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from medlike.archive.archive import Archive as Archive
    from medlike.archive.search.query import Query as Query
    from medlike.archive.search.result import Hit as Hit
    from medlike.archive.search.result import Result as Result
    from medlike.bundle import Bundle as Bundle
    from medlike.datasets.shipped import samples as samples
    from medlike.errors import MedlikeError as MedlikeError
