"""The split of the development collections that every published figure uses: a file that does not change."""

from __future__ import annotations

from pathlib import Path

from medlike.datasets.splits import Split

FILE = Path(__file__).with_name("split.json")


def development_split(path: str | Path | None = None) -> Split:
    """Return the joint split of both development collections.

    Args:
        path: The split file; by default the published one, FILE.
    """
    return Split.load(path or FILE)
