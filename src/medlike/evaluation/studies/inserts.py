"""Figures inside a page of the documentation: python -m medlike.evaluation.studies.inserts PAGE ...

Between `<!-- figures: FOLDER/results.json | TITLE -->` and `<!-- end of figures -->` stands the table of that title
in a study's results, FOLDER being beside the page, or what `medlike evaluate` measured where TITLE is `methods`;
between `<!-- figures: bundle NAME -->` and the end the measured quality of a bundle. What stands there is replaced;
everything else on the page is left as it is.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medlike.bundle import Bundle, shipped
from medlike.errors import DatasetError
from medlike.evaluation.report import write_text
from medlike.evaluation.studies.markdown import table_lines
from medlike.training.card import quality_part

_PLACE = re.compile(r"(<!-- figures: (?P<what>[^>]+?) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def filled(text: str, folder: Path) -> str:
    """The page with every insert written anew. folder: of the page. Raises DatasetError for an unknown table."""
    return _PLACE.sub(lambda found: f"{found[1]}\n{_figures(found['what'].strip(), folder)}\n\n{found[3]}", text)


def _figures(what: str, folder: Path) -> str:
    if what.startswith("bundle "):
        name = what.removeprefix("bundle ").strip()
        if name not in shipped(None):
            return f"{name} does not ship in this version."
        return quality_part(Bundle.load(name, kind=None).spec.get("quality") or {})
    path, _, title = (part.strip() for part in what.partition("|"))
    if not (folder / path).is_file():
        return f"Not run in this version: `{path}` is written by `medlike study {Path(path).parent.name} --out DIR`."
    results = json.loads((folder / path).read_text(encoding="utf-8"))
    if title == "methods" and "methods" in results:
        return "\n".join(table_lines(*_evaluated(results["methods"])))
    for table in results["tables"]:
        if table["title"] == title:
            return "\n".join(table_lines(table["head"], table["rows"]))
    known = "; ".join(table["title"] for table in results["tables"])
    raise DatasetError(f"{path} has no table {title!r}; it has: {known}")


def _evaluated(methods: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[str, ...], list[list[Any]]]:
    """Head and rows for what `medlike evaluate` measured of every method."""
    head = ("method", "bits", "bytes", "mAP", "95 %", "worst ties", "best ties", "within source")
    rows = []
    for name, found in methods.items():
        low, high = found["map_interval"]
        ties = [found["map_worst"], found["map_best"]]
        row = [name, found["bits"], found["bytes_per_image"], found["map_expected"], f"{low:.3f} to {high:.3f}"]
        rows.append([*row, *ties, found["map_within_source"]])
    return head, rows


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:]):
        write_text(page, filled(page.read_text(encoding="utf-8"), page.parent))
