"""The split of the development collections that every published figure uses: a file that does not change."""

from __future__ import annotations

from pathlib import Path

from medlike.datasets.splits import Split
from medlike.errors import DatasetError

_FILE = Path("docs") / "results" / "splits" / "development.json"


def development_split(path: str | Path | None = None) -> Split:
    """The joint split of both development collections.

    path: the split file; defaults to docs/results/splits/development.json of the source tree that this
    package runs from. Raises DatasetError where there is none: an installed package does not carry it.
    """
    if path is not None:
        return Split.load(path)
    for folder in Path(__file__).resolve().parents:
        if (folder / _FILE).is_file():
            return Split.load(folder / _FILE)
    raise DatasetError(
        f"{_FILE} is not beside this package; run from the source tree, or name the file with --split"
    )
