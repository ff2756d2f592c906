"""ChestX-ray14 of the NIH: Data_Entry_2017.csv beside images/ or images_001/images/ (Wang et al. 2017)."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from medlike.datasets.sample import Dataset, Sample, require_images
from medlike.errors import DatasetError
from medlike.types import Box, Mask

_TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
_BOXES = "BBox_List_2017.csv"
_COLUMNS = ("Image Index", "Finding Labels", "Patient ID")


def read_chestxray14(path: str | Path, name: str = "chestxray14") -> Dataset:
    """Read the images that the table names; `group` is the patient, `label` the findings.

    Several findings stay joined by `|` as in the table; `findings` gives them as columns. Boxes come from
    BBox_List_2017.csv if it lies beside the table.

    Args:
        path: The folder with the table, or the table.
        name: Name of the collection.

    Raises:
        DatasetError: There is no table, or an image is missing: half a download would otherwise pass for the
            collection.
    """
    table = Path(path)
    if table.is_dir():
        table = next((table / n for n in _TABLES if (table / n).is_file()), table / _TABLES[0])
    if not table.is_file():
        raise DatasetError(f"{table} does not exist; ChestX-ray14 has a table {' or '.join(_TABLES)}")
    root = table.resolve().parent
    files = {
        f.name: f for folder in ("images", "images_*/images") for d in sorted(root.glob(folder)) for f in d.iterdir()
    }
    boxes = _boxes(root / _BOXES)
    samples, missing = [], []
    with table.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        absent = [column for column in _COLUMNS if column not in (reader.fieldnames or [])]
        if absent:
            raise DatasetError(f"{table} has no column {', '.join(absent)}; is it the table of ChestX-ray14?")
        for row in reader:
            image = row["Image Index"]
            if image not in files:
                missing.append(image)
                continue
            extra = {
                "view": row.get("View Position"),
                "age": row.get("Patient Age"),
                "sex": row.get("Patient Gender") or row.get("Patient Sex"),
            }
            samples.append(
                replace(
                    Sample.of(files[image], root, name),
                    label=row["Finding Labels"],
                    coarse="XR_chest",
                    group=row["Patient ID"],
                    modality="XR",
                    region="chest",
                    boxes=tuple(boxes.get(image, ())),
                    extra={k: v for k, v in extra.items() if v},
                )
            )
    require_images(table, len(samples), missing, "complete the download or delete their rows")
    return Dataset(name, tuple(samples))


def findings(dataset: Dataset) -> tuple[tuple[str, ...], Mask]:
    """Return the names of the findings, sorted, and which image has which: bool [N, L]. `No Finding` is none."""
    sets = [set(s.label.split("|")) - {"No Finding", ""} for s in dataset]
    names = tuple(sorted(set().union(*sets)))
    table = np.array([[name in present for name in names] for present in sets], dtype=bool)
    return names, table.reshape(-1, len(names))


def _boxes(table: Path) -> dict[str, list[Box]]:
    """Read the boxes by image: the table has x, y, w, h in four columns of which only the first has a usable name."""
    boxes: dict[str, list[Box]] = {}
    if not table.is_file():
        return boxes
    with table.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.reader(stream)
        next(rows, None)
        for row in rows:
            x, y, w, h = (float(v) for v in row[2:6])
            boxes.setdefault(row[0], []).append((x, y, x + w, y + h))
    return boxes
