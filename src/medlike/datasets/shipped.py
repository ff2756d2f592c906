"""The sample images that come with medlike."""

from pathlib import Path

from medlike.errors import DatasetError

MANIFEST, QUERIES = "manifest.csv", "queries.csv"


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
