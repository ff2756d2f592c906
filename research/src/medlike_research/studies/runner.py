"""Running a study: estimate, cells one by one, each kept the moment it is done, then the report."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from medlike import strict_json
from medlike.datasets.labels import cautions
from medlike.errors import QueryError
from medlike.evaluation.provenance import code_version, machine
from medlike.evaluation.report import plain, write_json
from medlike_research.studies.bench import Bench
from medlike_research.studies.page import write_study_report
from medlike_research.studies.study import Cell, Result, Study, Summary

Say = Callable[[str], None]
FORMAT = 1


def run_study(
    study: Study, bench: Bench, out: Path, only: Sequence[str] = (), dry: bool = False, say: Say = print
) -> Summary | None:
    """Run what is missing, then write the report into `out`; returns its summary, None for a dry run.

    only: patterns of cell names (`sch-64-*`); others are not run, but results that are there are reported. A run
    that is killed loses the cell it was in: the next one goes on there. Raises QueryError where no cell matches,
    or where `out` holds results of other settings.
    """
    cells = study.cells(bench)
    done = run_cells(study, bench, out, cells, only, dry, say)
    return None if dry else report_study(study, bench, out, cells, done)


def run_cells(
    study: Study, bench: Bench, out: Path, cells: Sequence[Cell], only: Sequence[str], dry: bool, say: Say
) -> dict[str, Result]:
    """Run the cells that match and are missing; returns every result that is there. See `run_study`."""
    chosen = [c for c in cells if not only or any(fnmatch.fnmatch(c.name, p) for p in only)]
    if not chosen:
        names = ", ".join(c.name for c in cells[:8])
        raise QueryError(f"no cell of {study.name} matches {' '.join(only)}; there are: {names}, ...")
    _claim(study, bench, out, dry)
    done = _results(cells, out)
    _same_bundle(study, bench, cells, done, out)
    missing = [c for c in chosen if c.name not in done]
    hours = sum(_expected(c, cells, done) for c in missing) / 3600
    say(
        f"{study.name}: {len(missing)} of {len(chosen)} cells to run, about {hours:.1f} hours on two cores"
        + ("" if missing else "; writing the report")
    )
    for cell in chosen if dry else ():
        say(f"  {cell.name}: {'done' if cell.name in done else f'{_expected(cell, cells, done):.0f} s'}")
    for number, cell in enumerate(() if dry else missing, 1):
        say(f"[{number}/{len(missing)}] {cell.name}")
        begun = time.perf_counter()
        result = plain(cell.run())
        result["seconds"] = time.perf_counter() - begun
        result["machine"] = machine()
        result["code"] = code_version()
        if study.of_bundle and cell.of_bundle:
            result["bundle_digest"] = bench.bundle.digest
        content = {"format": FORMAT, "cell": cell.name, "kind": cell.kind, "code": result["code"], "result": result}
        write_json(_file(out, cell), content)
        done[cell.name] = result
    return done


def report_study(study: Study, bench: Bench, out: Path, cells: Sequence[Cell], done: dict[str, Result]) -> Summary:
    """Summarise the results that are there, and write results.json, report.html and the tables."""
    summary = study.summarise(bench, done)
    summary = replace(summary, notes=[*summary.notes, *cautions(bench.data)])
    tables = [{"title": t, "head": list(h), "rows": [list(r) for r in rows]} for t, h, rows in summary.tables]
    everything = {
        "study": study.name,
        "question": study.question,
        "configuration": bench.configuration(study.of_bundle, study.trains),
        # Of the cells, which may have been run by several versions, and not of the program that writes the report.
        "code": " and ".join(dict.fromkeys(r["code"] for r in done.values() if "code" in r)) or code_version(),
        "machine": next((r["machine"] for r in done.values() if "machine" in r), machine()),
        "cells_done": len(done),
        "cells": len(cells),
        "cells_missing": [cell.name for cell in cells if cell.name not in done],
        **summary.results,
        "notes": list(summary.notes),
        "tables": tables,
    }
    write_study_report(study, everything, summary, out)
    return summary


def _claim(study: Study, bench: Bench, out: Path, dry: bool) -> None:
    """Keep results of different settings apart; a dry run writes nothing."""
    mark = out / "study.json"
    if mark.is_file():
        found = _read(mark)
        if found.get("digest") != bench.digest or found.get("study") != study.name:
            raise QueryError(
                f"{out} holds {found.get('study')} with other settings, data or split; give another --out, or "
                "the same settings"
            )
        return
    if dry:
        return
    (out / "cells").mkdir(parents=True, exist_ok=True)
    settings = bench.configuration(study.of_bundle, study.trains)
    write_json(mark, {"study": study.name, "digest": bench.digest, "configuration": settings})


def _same_bundle(study: Study, bench: Bench, cells: Sequence[Cell], done: dict[str, Result], out: Path) -> None:
    """Refuse results of another bundle, which a name can come to stand for: the report would credit this one."""
    if not study.of_bundle:
        return
    for cell in cells:
        found = done.get(cell.name, {}).get("bundle_digest", bench.bundle.digest)
        if cell.of_bundle and found != bench.bundle.digest:
            raise QueryError(
                f"{_file(out, cell)} was measured with a bundle of digest {found[:12]}, and {bench.bundle.name} is now "
                f"{bench.bundle.digest[:12]}; give another --out, or name the bundle of then with --bundle"
            )


def _results(cells: Sequence[Cell], out: Path) -> dict[str, Result]:
    done: dict[str, Result] = {}
    for cell in cells:
        file = _file(out, cell)
        if file.is_file():
            content = _read(file)
            if content.get("format") == FORMAT:
                done[cell.name] = {"code": content["code"], **content["result"]}
    return done


def _read(file: Path) -> Result:
    """Return a file that an earlier run wrote. Raises QueryError where it is damaged."""
    try:
        content = strict_json.read(file)
    except strict_json.Unreadable as error:
        raise QueryError(f"{file} is damaged ({error}): delete it, and its cell is measured again") from None
    if not isinstance(content, dict):
        raise QueryError(f"{file} is damaged (it is no object): delete it, and its cell is measured again")
    return content


def _expected(cell: Cell, cells: Sequence[Cell], done: dict[str, Result]) -> float:
    """Seconds a cell will take: as long as finished cells of its kind took, else its own guess."""
    taken = sorted(done[c.name]["seconds"] for c in cells if c.kind == cell.kind and c.name in done)
    return taken[len(taken) // 2] if taken else cell.seconds


def _file(out: Path, cell: Cell) -> Path:
    return out / "cells" / f"{cell.name}.json"
