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

_KNOWN = {
    "path", "class", "source", "orig", "group", "modality", "region", "label", "task", "width", "height",
    "boxes_xywh", "mask", "text", "extra", "licence", "apart", "origin", "caution",
}  # fmt: skip


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
    missing = [s for s in dataset if not s.file.is_file()]
    if missing:
        shown = ", ".join(str(s.file) for s in missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DatasetError(
            f"{dataset.name}: {len(missing)} of {len(dataset)} files are missing: {shown}; "
            "put them back or delete their rows"
        )


def write_manifest(dataset: Dataset, path: str | Path) -> None:
    """Write a Dataset of files as a manifest with absolute paths (for readers of other layouts)."""
    columns = [
        "path", "class", "source", "group", "modality", "region", "label", "task", "width", "height",
        "boxes_xywh", "mask", "text", "extra", "licence", "apart", "origin", "caution",
    ]  # fmt: skip
    with drafted(Path(path)) as draft, draft.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
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
    values = {k: (v or "").strip() for k, v in row.items() if k is not None and not isinstance(v, list)}
    path = values.get("path", "")
    if not path:
        raise DatasetError(f"{where}: the path is empty; name the image file")
    mask = values.get("mask", "")
    label, coarse = values.get("label", ""), values.get("class", "")
    return Sample(
        path=Path(path).as_posix(),
        file=root / path,
        label=label or coarse,
        coarse=coarse or label,
        source=values.get("source", ""),
        group=values.get("group", ""),
        modality=values.get("modality", ""),
        region=values.get("region", ""),
        task=values.get("task", ""),
        width=_integer(values.get("width", ""), where, "width"),
        height=_integer(values.get("height", ""), where, "height"),
        boxes=_boxes(values.get("boxes_xywh", ""), where),
        mask=root / mask if mask else None,
        text=meaningful(values.get("text", "")),
        licence=values.get("licence", values.get("license", "")),
        apart=yes(values.get("apart", ""), where),
        origin=values.get("origin", ""),
        caution=values.get("caution", ""),
        collection=collection,
        extra=_extra(values),
    )


def _integer(value: str, where: str, column: str) -> int | None:
    if not value:
        return None
    try:
        return int(float(value))
    except (ValueError, OverflowError):
        raise DatasetError(f"{where}: {column} is {value[:60]!r}; give a whole number of pixels") from None


def _boxes(value: str, where: str) -> tuple[tuple[float, float, float, float], ...]:
    if not value:
        return ()
    try:
        boxes = [(float(x), float(y), float(w), float(h)) for x, y, w, h in strict_json.loads(value)]
    except (ValueError, TypeError):
        shown = value[:60]
        raise DatasetError(f"{where}: boxes_xywh is {shown!r}; give a JSON list of [x, y, w, h]") from None
    for box in boxes:
        if not (box[2] > 0 and box[3] > 0):
            raise DatasetError(f"{where}: box {list(box)} is empty; width and height must be above 0")
    return tuple((x, y, x + w, y + h) for x, y, w, h in boxes)


def _extra(values: dict[str, str]) -> dict[str, object]:
    extra: dict[str, object] = {}
    text = values.get("extra", "")
    if text:
        try:
            parsed = strict_json.loads(text)
        except ValueError:
            parsed = text
        extra.update(parsed if isinstance(parsed, dict) else {"value": parsed})
    if values.get("orig"):
        extra["orig"] = values["orig"]
    for key, value in values.items():
        if key not in _KNOWN and value:
            extra[key] = value
    return extra
