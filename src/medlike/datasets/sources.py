"""Read facts about the sources of a collection: a CSV with a row for each source.

Columns: `source` (as in the manifest); `apart`: yes for images that would mislead, because their backgrounds reveal
their classes for example; `origin`: the same word for sources that share a hospital or an origin; `caution`: a
sentence for readers of figures; `licence`: terms, in place of those of the rows. All but `source` may be empty.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from medlike.datasets.sample import Dataset
from medlike.errors import DatasetError
from medlike.types import Json, JsonObject

COLUMNS = ("source", "apart", "origin", "caution", "licence")

Sources = Mapping[str, Mapping[str, Json]]


def read_sources(path: str | Path) -> Sources:
    """Return the fields of Sample that a file sets, by source.

    Args:
        path: The CSV file, in UTF-8.

    Raises:
        DatasetError: No such file, not UTF-8, no column `source`, an unknown column, a source twice, or `apart` that is
            neither yes nor no.
    """
    file = Path(path)
    if not file.is_file():
        raise DatasetError(f"{file} does not exist; give a CSV file with the columns {', '.join(COLUMNS)}")
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns, rows = list(reader.fieldnames or []), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file} is not a CSV file in UTF-8: {error}; save it as one") from error
    if "source" not in columns or not set(columns) <= set(COLUMNS):
        names, known = ", ".join(columns) or "nothing", ", ".join(COLUMNS)
        raise DatasetError(f"{file} has the columns {names}; known: {known}, the first needed")
    sources: dict[str, JsonObject] = {}
    for number, row in enumerate(rows, 1):
        values = {name: (row[name] or "").strip() for name in columns}
        source = values.pop("source")
        if not source or source in sources:
            raise DatasetError(f"{file}, row {number}: source is {source!r}; name each source once")
        facts: JsonObject = {name: value for name, value in values.items() if value}
        if "apart" in facts:
            facts["apart"] = yes(facts["apart"], f"{file}, row {number}")
        sources[source] = facts
    return sources


def with_sources(dataset: Dataset, sources: Sources) -> Dataset:
    """Return the dataset with what is known of its sources in every sample; other sources stay as they are."""
    samples = tuple(replace(s, **sources[s.source]) if sources.get(s.source) else s for s in dataset)
    return replace(dataset, samples=samples)


def yes(value: str, where: str) -> bool:
    """Return True for yes, False for no or nothing; DatasetError names the place of anything else."""
    if value.lower() not in ("yes", "no", ""):
        raise DatasetError(f"{where}: apart is {value!r}; write yes or no")
    return value.lower() == "yes"
