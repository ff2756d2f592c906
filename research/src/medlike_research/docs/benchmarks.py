"""The page of benches from their JSON: python -m medlike_research.docs.benchmarks FOLDER writes FOLDER.md beside it.

FOLDER holds what `medlike bench NAME --format json` printed, as NAME.json; growth is drawn into it as growth.svg.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from medlike import strict_json
from medlike.evaluation.plots import figure
from medlike.files import write_text

ORDER = ("hamming", "regions", "text", "encode", "ingest", "startup", "memory", "fit", "growth", "service")
UNITS = {"ratio": "", "seconds": " s", "megabytes": " MB", "bytes": " bytes"}
DRAWING = "growth.svg"

_HEAD = """# Benches: results

Each table is one run of one command. medlike and its peer take turns, and their medians are compared.

- A ratio of times is that of medlike over that of the peer: lower is better. For a ratio of rates, higher is better.
- *Load* is the average load of the system before and after. If it exceeds the number of cores, other processes were
  running too: seconds are then longer than on an idle machine, and ratios suffer less.
- *CPU* is core-seconds of the process alone. Load changes them little.

[Speed](../speed.md) summarises these figures, and explains what bounds them.
"""


def bench_markdown(results: dict[str, dict[str, Any]], folder: str) -> str:
    """The page. results: name -> the JSON of that bench; folder: what the page calls the folder they lie in."""
    lines = [_HEAD]
    for name in sorted(results, key=lambda each: (ORDER.index(each) if each in ORDER else len(ORDER), each)):
        lines += _part(results[name])
        if name == "growth":
            lines += [f"![Seconds against images]({folder}/{DRAWING})", ""]
    lines += [f"Written from `{folder}/*.json` by `python -m medlike_research.docs.benchmarks`.", ""]
    return "\n".join(lines)


def _part(result: dict[str, Any]) -> list[str]:
    machine, name = result["machine"], result["name"]
    settings = ", ".join(f"{key} {_shown(value)}" for key, value in result["settings"].items())
    loads = " to ".join(f"{load:g}" for load in machine["load"] if load is not None)
    lines = [
        f"## medlike bench {name}",
        "",
        f"{settings}.",
        f"{machine['processor']}, {machine['cores']} cores, {machine.get('memory_gb', '?')} GB; memory read at "
        f"{machine['read_gb_s']:g} GB/s on all cores in the same run; load {loads}.",
        "",
        "| line | value | better | peer, CPU and more |",
        "|---|---:|---|---|",
    ]
    for line, told in result["lines"].items():
        value = f"{told['value']:.4g}{UNITS[told['kind']]}"
        lines.append(f"| {line} | {value} | {told['better']} | {_remarks(result['facts'].get(line, {}))} |")
    for check, holds in result.get("checks", {}).items():
        lines.append(f"| {check} | {_shown(holds)} |  |  |")
    return [*lines, ""]


def _remarks(facts: Any) -> str:
    if not isinstance(facts, dict):
        return ""
    said = [f"over {facts['peer_is']}"] if "peer_is" in facts else []
    for who in ("ours", "peer"):
        times = facts.get(who)
        if isinstance(times, dict) and "median" in times:
            said.append(f"{who} {times['median']:.3g} s (CPU {times['cpu']:.3g} s)")
    for key, value in facts.items():
        if isinstance(value, int | float | str) and key != "peer_is":
            said.append(f"{key.replace('_', ' ')} {_shown(value)}")
        elif key == "loaded":
            said.append("loaded: " + (", ".join(value) or "neither runtime nor compiler"))
    return "; ".join(said)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return " to ".join(_shown(each) for each in (value[0], value[-1]))
    return str(value)


def growth_drawing(result: dict[str, Any]) -> str:
    """Seconds of each task against the number of images, both logarithmic, as SVG. Needs matplotlib."""
    tasks = result["facts"]["growth"]["seconds"]
    with figure(6.6, 4.0) as ((axes,), drawn):
        for task, by_size in tasks.items():
            sizes = sorted(map(int, by_size))
            axes.plot(sizes, [by_size[str(size)] for size in sizes], marker="o", label=task)
        axes.set(xscale="log", yscale="log", xlabel="images", ylabel="seconds")
        axes.legend(ncols=2)
    return drawn[0]


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """name -> JSON of every bench in a folder."""
    return {path.stem: strict_json.read(path) for path in sorted(folder.glob("*.json"))}


if __name__ == "__main__":
    for place in map(Path, sys.argv[1:]):
        found = read_results(place)
        write_text(place.with_suffix(".md"), bench_markdown(found, place.name))
        if "growth" in found:
            write_text(place / DRAWING, growth_drawing(found["growth"]))
