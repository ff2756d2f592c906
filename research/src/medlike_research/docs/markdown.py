"""A study's results as a page of the documentation: python -m medlike_research.docs.markdown FOLDER ...

FOLDER/results.json becomes FOLDER.md. The page holds nothing that is not in the results, and a test writes it again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medlike import strict_json
from medlike.evaluation.tables import shown
from medlike.files import write_text
from medlike_research.studies.page import command, facts


def study_markdown(results: dict[str, Any], folder: str) -> str:
    """The page of one study: question, notes, tables, and how to run it again. folder: of the results."""
    lines = [f"# Study: {results['study']}", "", results["question"], ""]
    if results["cells_done"] < results["cells"]:
        missing = results.get("cells_missing", ())
        without = f" Not run: {', '.join(missing)}." if missing else ""
        run = f"{results['cells_done']} of {results['cells']} cells were run; the tables rest on those."
        lines += [run + without, ""]
    for note in results["notes"]:
        lines += [note, ""]
    for table in results["tables"]:
        lines += [f"## {table['title']}", "", *table_lines(table["head"], table["rows"]), ""]
    lines += [
        "## How to get these figures again",
        "",
        "```",
        command(results),
        "```",
        "",
        *(f"- {name}: {value}" for name, value in facts(results)),
        "",
        "Intervals are 95 % and resample patients (split units); p is a paired permutation test over units, corrected",
        f"after Holm over its table. Written from `{folder}/results.json` by",
        "`python -m medlike_research.docs.markdown`.",
        "",
    ]
    return "\n".join(lines)


def table_lines(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """A table as lines of Markdown: floats with three digits, nothing for what is missing."""
    written = [f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return written + [f"| {' | '.join(_cell(c) for c in row)} |" for row in rows]


def _cell(cell: Any) -> str:
    return shown(cell).replace("|", "\\|")


if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:]):
        found = strict_json.read(folder / "results.json")
        write_text(folder.with_name(folder.name + ".md"), study_markdown(found, folder.name))
