"""Manifests: a CSV with a row for each file, and what the row says of it."""

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from medlike import strict_json
from medlike.errors import ImageError
from medlike.imaging import vocabulary
from medlike.imaging.silence import reason
from medlike.imaging.source import Source
from medlike.types import Box

#: Column -> identifier. `group` is whatever may not be torn apart: a patient or a case.
_IDENTIFIERS = {
    "group": "patient_id",
    "patient": "patient_id",
    "patient_id": "patient_id",
    "case": "patient_id",
    "study": "study_uid",
    "study_uid": "study_uid",
    "series": "series_uid",
    "series_uid": "series_uid",
    "sop_uid": "sop_uid",
    "instance_number": "instance_number",
    "orig": "original_path",
    "mask": "mask",
}

#: Members of `extra` that mean something else there: a description of the study, the clip of a frame.
_EXTRA_IDENTIFIERS = {"study": "study_description", "video": "series_uid"}

#: Columns of words that belong to the picture.
_TEXTS = ("text", "report", "caption", "findings", "impression", "description", "diagnosis", "case_dx")

#: Columns that the file itself answers better.
_IGNORED = ("path", "width", "height", "boxes_xywh", "extra")

_NAMES_SOMEBODY = re.compile(
    r"name|patient|birth|dob|mrn|accession|address|phone|mail|physician|doctor|operator|date|time|uid"
    r"|subject|person|study|series"
)

#: Projections, as `extra` gives them in plain words.
_VIEWS = {"PA", "AP", "L", "LATERAL", "LL", "RL", "AP SUPINE", "AP ERECT", "MLO", "CC"}

_PLACEHOLDERS = re.compile(
    r"\W*(replace this\b.*|in progress|to be (added|done|completed|determined)|tb[ad]|todo|n/?a|none|null|nan"
    r"|unknown|no (text|caption|report|description)( available)?|not available|lorem ipsum\b.*|placeholder.*"
    r"|(fig(ure)?|image)\W*\d*|test|x+|)\W*",
    re.IGNORECASE | re.DOTALL,
)


#: Numbers of a manifest lie below it, as the database holds whole ones.
_LARGEST = 2**63

_SHOWN = 40  # characters of a cell in a reason


#: Columns of closed vocabularies.
_READ = {
    "modality": vocabulary.modality,
    "region": vocabulary.manifest_region,
    "sex": vocabulary.sex,
    "age": vocabulary.age,
}


def read_manifest(path: Path) -> Iterator[Source]:
    """Yield the rows of a CSV manifest, one at a time. Raises ImageError if it is not a manifest.

    Columns: `path` (required; relative to the manifest), and any of class, source, orig, group, modality,
    region, label, task, width, height, boxes_xywh (JSON list of [x, y, w, h]), mask, text, extra (JSON
    object or words), licence, sex, age, patient, study, series, view ... Other columns are searchable
    metadata unless their name says that they identify a person. If rows contradict each other about one file, the
    last is used.
    """
    try:
        left = _contradicted(path)
        for line, cells in _cells(path):
            if isinstance(cells, str):
                yield Source(str(path.parent), problem=f"line {line} of the manifest cannot be read: {cells}")
                continue
            named = _named(cells, path.parent)
            if left.get(named, 0) > 1:
                left[named] -= 1
                problem = f"line {line} of the manifest: a later line says other things of this file, and is used"
                yield Source(str(path.parent / cells["path"]), problem=problem)
            else:
                yield _row(cells, path.parent, line)
    except (csv.Error, UnicodeError) as error:
        raise ImageError(f"the manifest cannot be read: {reason(error)}") from None


def _cells(path: Path) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Yield (line, column -> cell) for every row that is not empty; (line, reason) for one that cannot be read."""
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        rows = csv.DictReader(file)
        columns = [(name or "").strip().lower() for name in rows.fieldnames or ()]
        if "path" not in columns:
            names = ", ".join(columns)[:100] or "none"
            raise ImageError(f"it is no manifest: it has no column `path` (columns: {names})")
        rows.fieldnames = columns
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                # Such as a cell beyond the reader's limit; it goes on with the next line.
                yield rows.line_num, str(error)
                continue
            # A null character ends a text early for much that reads it; a path with one names no file at all.
            cells = {
                name: (cell if name == "path" else cell.replace("\0", "")).strip()
                for name, cell in row.items()
                if isinstance(name, str) and isinstance(cell, str)
            }
            if any(cells.values()):
                yield rows.line_num, cells


def _named(cells: dict[str, str], folder: Path) -> int:
    """Return a number for the file that a row names."""
    return hash(os.path.normpath(folder / cells.get("path", "")))


def _contradicted(path: Path) -> dict[int, int]:
    """Return files with contradicting rows -> number of rows that name them. Takes 16 bytes a row."""

    def rows() -> Iterator[tuple[int, int]]:
        for _, cells in _cells(path):
            if not isinstance(cells, str) and cells.get("path"):
                yield _named(cells, path.parent), hash(frozenset(cells.items() - {("path", cells["path"])}))

    pairs = np.fromiter(rows(), np.dtype((np.int64, 2)))
    files, different = np.unique(np.unique(pairs, axis=0)[:, 0], return_counts=True)
    files, counts = np.unique(pairs[np.isin(pairs[:, 0], files[different > 1]), 0], return_counts=True)
    return dict(zip(files.tolist(), counts.tolist(), strict=True))


def is_placeholder(text: str) -> bool:
    """Return whether a text is a placeholder: empty, "Replace this ...", "IN PROGRESS", "N/A" and the like."""
    return _PLACEHOLDERS.fullmatch(text.strip()) is not None


def _row(cells: dict[str, str], folder: Path, line: int) -> Source:
    if not cells.get("path"):
        return Source(str(folder), problem=f"line {line} of the manifest names no path")
    if "\0" in cells["path"]:
        return Source(str(folder), problem=f"line {line} of the manifest names a path with a null character")
    path = str(folder / cells["path"])
    try:
        boxes = _boxes(cells.get("boxes_xywh", ""))
    except ValueError as error:
        return Source(path, problem=f"line {line} of the manifest: boxes_xywh {error}")
    source = Source(path, boxes=boxes)
    for column, cell in cells.items():
        if cell and column and column not in _IGNORED:
            _put(source, column, cell, folder)
    _put_extra(source, cells.get("extra", ""))
    return source


def _put(source: Source, column: str, cell: str, folder: Path) -> None:
    """Put one cell into metadata, texts or identifiers; the first value stays."""
    if column in _TEXTS:
        if not is_placeholder(cell):
            source.texts.setdefault(column, cell)
    elif column in _IDENTIFIERS:
        value = str(folder / cell) if column == "mask" else cell
        source.identifiers.setdefault(_IDENTIFIERS[column], value)
    elif column in _READ:
        read = _READ[column](cell)
        if read is not None:
            source.metadata.setdefault(column, read)
        elif not vocabulary.says_nothing(cell):
            source.dropped[column] = cell
    elif column == "view" and cell.upper() in _VIEWS:
        source.metadata.setdefault(column, cell.upper())
    elif _NAMES_SOMEBODY.search(column):
        source.identifiers.setdefault(column, cell)
    else:
        source.metadata.setdefault(column, cell)


def _put_extra(source: Source, extra: str) -> None:
    """Put `extra`: the members of an object are treated like columns; plain words are a view or themselves."""
    if not extra:
        return
    try:
        members = strict_json.loads(extra)
    except strict_json.NotJSON:
        members = extra
    except strict_json.Unreadable:
        source.dropped["extra"] = extra[:_SHOWN]
        return
    if not isinstance(members, dict):
        words = str(members).strip()
        if words.upper() in _VIEWS:
            source.metadata.setdefault("view", words.upper())
        else:
            source.metadata.setdefault("extra", words)
        return
    for name, value in members.items():
        key = str(name).strip().lower()
        if isinstance(value, bool):
            value = str(value).lower()
        if isinstance(value, int | float):
            if key == "age":
                _put(source, key, str(value), Path())
            elif _finite(value):
                source.metadata.setdefault(key, value)
        elif isinstance(value, str) and value.strip():
            _put_extra_words(source, key, value.strip())
        elif isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            source.metadata.setdefault(key, ", ".join(value))


def _put_extra_words(source: Source, key: str, words: str) -> None:
    if key == "case":
        # A case's title, not its number: the column `case` identifies, this does not.
        if not is_placeholder(words):
            source.texts.setdefault(key, words)
    elif key in _EXTRA_IDENTIFIERS:
        source.identifiers.setdefault(_EXTRA_IDENTIFIERS[key], words)
    elif len(words) > 64 and key != "note" and not (key in _TEXTS or _NAMES_SOMEBODY.search(key)):
        source.texts.setdefault(key, words)
    else:
        _put(source, key, words, Path())


def _boxes(text: str) -> list[Box] | None:
    """Convert [[x, y, w, h], ...] as JSON to half-open x0, y0, x1, y1. Raises ValueError."""
    if not text:
        return None
    try:
        listed = strict_json.loads(text)
    except ValueError:
        raise ValueError(f"cannot be read: {text[:_SHOWN]}") from None
    boxes: list[Box] = []
    for box in listed if isinstance(listed, list) else [listed]:
        if not (isinstance(box, list) and len(box) == 4 and all(_finite(number) for number in box)):
            raise ValueError(f"is no list of [x, y, w, h]: {text[:_SHOWN]}")
        x, y, width, height = (float(number) for number in box)
        if width <= 0 or height <= 0:
            raise ValueError(f"has a box without extent: {box}")
        boxes.append((x, y, x + width, y + height))
    return boxes or None


def _finite(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < _LARGEST
