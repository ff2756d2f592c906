"""The sample images that come with medlike."""

import csv
from collections.abc import Collection
from pathlib import Path

from medlike.errors import DatasetError

MANIFEST, QUERIES, ATTRIBUTION = "manifest.csv", "queries.csv", "ATTRIBUTION.csv"


def samples() -> Path:
    """Return the folder of the sample images that come with medlike.

    It holds manifest.csv, queries.csv, ATTRIBUTION.csv and the images that they name.

    Raises:
        DatasetError: Neither the copy of the repository nor the installed package has them.
    """
    package = Path(__file__).parents[1]
    places = [package.parents[1] / "samples", package / "samples"]
    for place in places:
        if (place / MANIFEST).is_file():
            return place
    raise DatasetError(f"no samples in {' or '.join(map(str, places))}; install medlike again, or take a checkout")


def attributions(names: Collection[str]) -> list[str]:
    """Return whose some samples are: a line for each author with origin, terms and what was changed.

    Args:
        names: The samples, relative to their folder.
    """
    origins: dict[tuple[str, str, str, str], set[str]] = {}
    with (samples() / ATTRIBUTION).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["path"] in names:
                key = row["author"], row["licence"], row["licence_url"], row["changes"]
                origins.setdefault(key, set()).add(row["origin"].split(", ")[0].split(" (")[0])
    return [
        f"{author}; {', '.join(sorted(places))}; {licence}, {url}; changes: {changes}"
        for (author, licence, url, changes), places in origins.items()
    ]
