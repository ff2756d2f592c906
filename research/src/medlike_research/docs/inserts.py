"""Figures inside a page of the documentation: python -m medlike_research.docs.inserts PAGE ...

Between `<!-- figures: FOLDER/results.json | TITLE -->` and `<!-- end of figures -->` stands the table of that title
in a study's results, FOLDER being beside the page, or of what `medlike evaluate` measured: `methods`, `outliers`,
`comparisons` or `alarms`; `| TITLE | ROW; ROW` takes the rows with these first cells, and a further
`| COLUMN; COLUMN` the columns with these heads. Between
`<!-- figures: bench FILE.json | LINE = WORDS; LINE = WORDS -->` and the end stand lines of a bench, each by its words.
Between `<!-- figures: bundle NAME -->` and the end stands the measured quality of a bundle or, for
`bundle NAME | regional`, what the training of its regional expert reported. What stands there is replaced; everything
else on the page is left as it is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medlike import strict_json
from medlike.bundle import Bundle, shipped
from medlike.errors import DatasetError
from medlike.evaluation.tables import ORACLE, between
from medlike.files import write_text
from medlike.training.card import quality_part, regional_part
from medlike_research.docs.markdown import table_lines

Table = tuple[Sequence[str], Sequence[Sequence[Any]]]

_PLACE = re.compile(r"(<!-- figures: (?P<what>[^>]+?) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def filled(text: str, folder: Path) -> str:
    """The page with every insert written anew. folder: of the page. Raises DatasetError for an unknown table."""
    return _PLACE.sub(lambda found: f"{found[1]}\n{_figures(found['what'].strip(), folder)}\n\n{found[3]}", text)


def _figures(what: str, folder: Path) -> str:
    if what.startswith("bundle "):
        name, part = (word.strip() for word in f"{what.removeprefix('bundle ')}|".split("|")[:2])
        if name not in shipped(None):
            return f"{name} does not ship in this version."
        spec = Bundle.load(name, kind=None).spec
        if part == "regional":
            return regional_part(spec.get("training") or {})
        return quality_part(spec.get("quality") or {})
    if what.startswith("bench "):
        return _bench(what.removeprefix("bench "), folder)
    path, title, wanted, heads = (part.strip() for part in f"{what}|||".split("|")[:4])
    if not (folder / path).is_file():
        return f"Not run in this version: `{path}` is written by `medlike study {Path(path).parent.name} --out DIR`."
    results = strict_json.read(folder / path)
    if "methods" in results:
        tables = _evaluated(results)
    else:
        tables = {table["title"]: (table["head"], table["rows"]) for table in results["tables"]}
    if title not in tables:
        raise DatasetError(f"{path} has no table {title!r}; it has: {'; '.join(tables)}")
    head, rows = tables[title]
    if wanted:
        by_name = {row[0]: row for row in rows}
        names = [name.strip() for name in wanted.split(";")]
        if missing := [name for name in names if name not in by_name]:
            raise DatasetError(f"table {title!r} of {path} has no row {missing[0]!r}; it has: {'; '.join(by_name)}")
        rows = [by_name[name] for name in names]
    if heads:
        names = [name.strip() for name in heads.split(";")]
        if unclear := [name for name in names if head.count(name) != 1]:
            raise DatasetError(f"table {title!r} of {path}: no one column {unclear[0]!r}; it has: {'; '.join(head)}")
        columns = [head.index(name) for name in names]
        head, rows = names, [[row[column] for column in columns] for row in rows]
    return "\n".join(table_lines(head, rows))


def _bench(what: str, folder: Path) -> str:
    """Lines of a bench in seconds, as a table."""
    path, _, wanted = (part.strip() for part in what.partition("|"))
    if not (folder / path).is_file():
        name = Path(path).stem
        return f"Not run in this version: `{path}` holds what `medlike bench {name} --format json` prints."
    lines = strict_json.read(folder / path)["lines"]
    rows = []
    for each in wanted.split(";"):
        name, _, words = (part.strip() for part in each.partition("="))
        if name not in lines:
            raise DatasetError(f"{path} has no line {name!r}; it has: {'; '.join(lines)}")
        told = lines[name]
        if told["kind"] == "seconds":
            value = told["value"]
            rows.append([words, f"{value:.2g} s" if value >= 1 else f"{1000 * value:.2g} ms"])
        else:
            rows.append([words, f"{told['value']:.2g}"])
    return "\n".join(table_lines(["task", "time"], rows))


def _evaluated(results: Mapping[str, Any]) -> dict[str, Table]:
    """What `medlike evaluate` measured of every method, as tables by name."""
    methods = [
        [
            name, f["bits"], f["bytes_per_image"], f["map_expected"], between(f["map_interval"]), f["map_worst"],
            f["map_best"], f["map_within_source"], f.get("train_in_gallery", {}).get("map_expected"),
        ]
        for name, f in results["methods"].items()
    ]  # fmt: skip
    if oracle := results.get("source_oracle"):
        methods.append([ORACLE, "", "", oracle["map_expected"], between(oracle["map_interval"]), *[None] * 4])
    outliers = []
    for name, f in results.get("outliers", {}).items():
        rule = f.get("rule", {})
        interval = between(rule.get("false_alarms_interval", (None, None)))
        figures = f["auroc"], f["detection_at_3_false_alarms"], rule.get("detected"), rule.get("false_alarms")
        outliers.append([name, *figures, interval])
    comparisons = [
        [c["method"], c["difference"], between(c["interval"]), c["p"], c["p_holm"]]
        for c in results.get("comparisons", ())
        if c["protocol"] == "pooled"
    ]
    alarms = [[a["method"], a["name"], a["message"]] for a in results.get("alarms", ())]
    return {
        "methods": (
            (
                "method",
                "bits",
                "bytes",
                "mAP",
                "95 %",
                "worst ties",
                "best ties",
                "within source",
                "train part in the gallery",
            ),
            methods,
        ),
        "outliers": (
            ("score", "AUROC", "found at 3 % false alarms", "found at p 0.03", "known flagged at p 0.03", "95 %"),
            outliers,
        ),
        "comparisons": (("method", "difference in mAP", "95 %", "p", "p (Holm)"), comparisons),
        "alarms": (("method", "alarm", "what it says"), alarms),
    }


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:]):
        write_text(page, filled(page.read_text(encoding="utf-8"), page.parent))
