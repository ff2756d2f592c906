"""Read manifest.csv: one row per image.

The only required column is `path` (relative to the manifest's folder, or absolute). Known columns: class,
source, group, modality, region, label, task, width, height, boxes_xywh, mask, text, extra, licence, and apart,
origin, caution as in medlike.datasets.sources; any other column goes to `extra`.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

from medlike import strict_json
from medlike.datasets.sample import Dataset, Sample
from medlike.datasets.sources import yes
from medlike.datasets.texts import meaningful
from medlike.errors import DatasetError
from medlike.files import drafted
from medlike.types import Box

_COLUMNS = (
    "path", "class", "source", "group", "modality", "region", "label", "task", "width", "height",
    "boxes_xywh", "mask", "text", "extra", "licence", "apart", "origin", "caution",
)  # fmt: skip


def read_manifest(path: str | Path, name: str | None = None, check_files: bool = True) -> Dataset:
    """Read a manifest as a Dataset, in file order.

    Args:
        path: The CSV, or the folder that holds manifest.csv.
        name: Defaults to the folder's name.
        check_files: Refuse a manifest that names files which are not there.

    Raises:
        DatasetError: No such manifest, no `path` column, missing files, duplicate paths, bad boxes.
    """
    manifest = Path(path)
    if manifest.is_dir():
        manifest = manifest / "manifest.csv"
    if not manifest.is_file():
        raise DatasetError(f"{manifest} does not exist; give a manifest.csv or the folder that holds one")
    root = manifest.resolve().parent
    name = name or root.name
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = reader.fieldnames or []
            if "path" not in columns:
                raise DatasetError(
                    f"{manifest} has no column `path` (found: {', '.join(columns) or 'nothing'}); "
                    "add one that names the image files"
                )
            samples = [_sample(row, root, name, f"{manifest}, row {n}") for n, row in enumerate(reader, 1)]
    except UnicodeDecodeError as error:
        raise DatasetError(f"{manifest} is not UTF-8 ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise DatasetError(f"{manifest} is not a CSV file: {error}") from error
    if not samples:
        raise DatasetError(f"{manifest} has no rows")
    dataset = Dataset(name, tuple(samples))
    if check_files:
        missing_files(dataset)
    return dataset


def missing_files(dataset: Dataset) -> None:
    """Raise DatasetError when a file of the dataset is not there; the message counts and names some."""
    missing = [str(s.file) for s in dataset if not s.file.is_file()]
    if missing:
        shown = ", ".join([*missing[:3], *(["..."] if len(missing) > 3 else [])])
        raise DatasetError(
            f"{dataset.name}: {len(missing)} of {len(dataset)} files are missing: {shown}; "
            "put them back or delete their rows"
        )


def write_manifest(dataset: Dataset, path: str | Path) -> None:
    """Write a Dataset of files as a manifest with absolute paths (for readers of other layouts)."""
    with drafted(Path(path)) as draft, draft.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(_COLUMNS)
        for s in dataset:
            if s.item is not None:
                raise DatasetError(f"{s.path} lies inside {s.file}: export its images to files first")
            boxes = [[b[0], b[1], b[2] - b[0], b[3] - b[1]] for b in s.boxes]
            writer.writerow([
                s.file, s.coarse, s.source, s.group, s.modality, s.region, s.label, s.task,
                "" if s.width is None else s.width, "" if s.height is None else s.height,
                json.dumps(boxes) if boxes else "", s.mask or "", s.text,
                json.dumps(dict(s.extra)) if s.extra else "", s.licence,
                "yes" if s.apart else "", s.origin, s.caution,
            ])  # fmt: skip


def _sample(row: dict[str, str], root: Path, collection: str, where: str) -> Sample:
    cells = {k: (v or "").strip() for k, v in row.items() if k is not None and not isinstance(v, list)}
    values = dict.fromkeys(_COLUMNS, "") | cells
    if not values["path"]:
        raise DatasetError(f"{where}: the path is empty; name the image file")
    return Sample(
        path=Path(values["path"]).as_posix(),
        file=root / values["path"],
        label=values["label"] or values["class"],
        coarse=values["class"] or values["label"],
        source=values["source"],
        group=values["group"],
        modality=values["modality"],
        region=values["region"],
        task=values["task"],
        width=_integer(values["width"], where, "width"),
        height=_integer(values["height"], where, "height"),
        boxes=_boxes(values["boxes_xywh"], where),
        mask=root / values["mask"] if values["mask"] else None,
        text=meaningful(values["text"]),
        licence=cells.get("licence", cells.get("license", "")),
        apart=yes(values["apart"], where),
        origin=values["origin"],
        caution=values["caution"],
        collection=collection,
        extra=_extra(cells),
    )


def _integer(value: str, where: str, column: str) -> int | None:
    if not value:
        return None
    try:
        return int(float(value))
    except (ValueError, OverflowError):
        raise DatasetError(f"{where}: {column} is {value[:60]!r}; give a whole number of pixels") from None


def _boxes(value: str, where: str) -> tuple[Box, ...]:
    if not value:
        return ()
    try:
        boxes = [(float(x), float(y), float(w), float(h)) for x, y, w, h in strict_json.loads(value)]
    except (ValueError, TypeError):
        raise DatasetError(f"{where}: boxes_xywh is {value[:60]!r}; give a JSON list of [x, y, w, h]") from None
    for box in boxes:
        if not (box[2] > 0 and box[3] > 0):
            raise DatasetError(f"{where}: box {list(box)} is empty; width and height must be above 0")
    return tuple((x, y, x + w, y + h) for x, y, w, h in boxes)


def _extra(cells: dict[str, str]) -> dict[str, object]:
    """Return the members of the cell `extra`, and the cells of all columns that are no field of Sample."""
    text = cells.get("extra", "")
    try:
        members = strict_json.loads(text) if text else {}
    except ValueError:
        members = text
    columns = {name: cell for name, cell in cells.items() if cell and name not in _COLUMNS}
    return (members if isinstance(members, dict) else {"value": members}) | columns
