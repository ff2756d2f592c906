"""ROCO, figures of articles with their captions: data/PART/KIND/images with captions.txt or a CSV beside them.

Pelka et al., MICCAI LABELS 2018. PART is train, validation or test; KIND is radiology or non-radiology.
"""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

from medlike.datasets.sample import Dataset, Sample, require_images
from medlike.datasets.texts import meaningful
from medlike.errors import DatasetError

PARTS, KINDS = ("train", "validation", "test"), ("radiology", "non-radiology")
_ARTICLE = re.compile(r"PMC\d+")


def read_roco(path: str | Path, name: str = "roco", complete: bool = True) -> Dataset:
    """Read every figure with its caption; `group` is the article if it is known (from the CSV or dlinks.txt).

    The label is the kind, radiology or non-radiology: ROCO names no finding. `extra` has the part that the authors put
    the figure in and, if cuis.txt exists, cuis: the UMLS concepts of the caption joined by `|`.

    Args:
        path: The folder that holds train, validation and test, or the one above it (`data` or `all_data`).
        name: Name of the collection.
        complete: Refuse missing images; if false, leave them out (articles have been withdrawn since).

    Raises:
        DatasetError: The folder has another layout, or images are missing.
    """
    root = _root(Path(path))
    samples, missing = [], []
    for part in PARTS:
        for kind in KINDS:
            folder = root / part / kind
            if not folder.is_dir():
                continue
            captions, articles = _captions(folder)
            articles = _links(folder) | articles
            concepts = _table(folder / "cuis.txt")
            for number, caption in captions.items():
                file = folder / "images" / f"{number}.jpg"
                if not file.is_file():
                    missing.append(file)
                    continue
                extra = {"part": part, "cuis": "|".join(concepts.get(number, "").split())}
                samples.append(
                    replace(
                        Sample.of(file, root, name),
                        label=kind,
                        coarse=kind,
                        group=articles.get(number, ""),
                        text=meaningful(caption),
                        extra={key: value for key, value in extra.items() if value},
                    )
                )
    if complete or not samples:
        advice = "run ROCO's scripts/fetch.py to its end, or read it with complete=False"
        require_images(root, len(samples), missing, advice)
    if not samples:
        raise DatasetError(f"{root} has no captions.txt or CSV in train/radiology and its like; is this ROCO?")
    return Dataset(name, tuple(samples))


def holds_roco(path: Path) -> bool:
    """Return whether a folder, or `data` or `all_data` in it, has ROCO's layout."""
    return any((_root(path) / part / kind).is_dir() for part in PARTS for kind in KINDS)


def _root(path: Path) -> Path:
    inside = (path / name for name in ("data", "all_data"))
    return next((place for place in inside if any((place / part).is_dir() for part in PARTS)), path)


def _captions(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Read caption and article of each figure: from the CSV (id, name, caption) if there is one, else captions.txt."""
    captions, articles = {}, {}
    for file in sorted(folder.glob("*.csv")):
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            if not {"id", "caption"} <= set(reader.fieldnames or ()):
                continue
            for row in reader:
                captions[row["id"].strip()] = row["caption"] or ""
                if article := _ARTICLE.search(row.get("name") or ""):
                    articles[row["id"].strip()] = article.group()
    return captions or _table(folder / "captions.txt"), articles


def _links(folder: Path) -> dict[str, str]:
    links = {number: _ARTICLE.search(rest) for number, rest in _table(folder / "dlinks.txt").items()}
    return {number: article.group() for number, article in links.items() if article}


def _table(file: Path) -> dict[str, str]:
    """Read lines of a number, a tab, and the rest; {} if the file does not exist."""
    if not file.is_file():
        return {}
    rows = (line.split("\t", 1) for line in file.read_text(encoding="utf-8").splitlines() if "\t" in line)
    return {number.strip(): rest.strip() for number, rest in rows}
