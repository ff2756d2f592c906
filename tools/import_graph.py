"""Draw which rooms of the package import which others: `python tools/import_graph.py docs/images/rooms.svg`.

A room is a module or package directly below `medlike`, or a package directly below `medlike.archive`. An arrow means
"imports", lazy and type-checking imports included. An arrow is left out where a longer way says the same; an arrow that
is part of a circle is red. The drawing is the same for the same imports, so that a test can tell whether it is stale.
"""

import sys
from collections.abc import Iterable, Mapping
from html import escape
from itertools import pairwise
from pathlib import Path

import grimp

Edge = tuple[str, str]

SPLIT = ("archive",)
LEFT_OUT = ("", "__main__")
WIDTH, HEIGHT, GAP, ROW, MARGIN, LANE = 128, 34, 22, 92, 24, 26
STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #16202b; text-anchor: middle; dominant-baseline: central; }
  rect { fill: #ffffff; stroke: #0b7a6d; stroke-width: 1.4; }
  path { fill: none; stroke: #7d8b99; stroke-width: 1.3; }
  path.circle { stroke: #c8322b; stroke-width: 1.8; stroke-dasharray: 5 3; }
  .ground { fill: #f4f7f8; stroke: none; }
  .tip { fill: #7d8b99; stroke: none; }
"""


def room_of(module: str) -> str:
    """Return the room of a module, "" for the root: medlike.archive.index.segment -> archive.index."""
    parts = module.split(".")[1:]
    if parts[:1] and parts[0] in SPLIT and len(parts) > 2:
        return ".".join(parts[:2])
    return parts[0] if parts else ""


def room_edges(package: str = "medlike") -> tuple[list[str], set[Edge]]:
    """Return the rooms of a package, and (importer, imported) for every pair of them with an import."""
    graph = grimp.build_graph(package, cache_dir=None)
    rooms = {room_of(module) for module in graph.modules} - set(LEFT_OUT)
    edges = {
        (room_of(module), room_of(imported))
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    }
    return sorted(rooms), {(a, b) for a, b in edges if a != b and a in rooms and b in rooms}


def reachable(edges: Iterable[Edge]) -> dict[str, set[str]]:
    """Return, for each room, the rooms that it imports directly or through others."""
    below: dict[str, set[str]] = {}
    for a, b in edges:
        below.setdefault(a, set()).add(b)
    changed = True
    while changed:
        changed = False
        for a, found in below.items():
            more = set().union(*(below.get(b, set()) for b in found)) - found
            if more:
                below[a] = found | more
                changed = True
    return below


def circles(edges: Iterable[Edge]) -> set[Edge]:
    """Return the edges that are part of a circle."""
    edges = set(edges)
    below = reachable(edges)
    return {(a, b) for a, b in edges if a in below.get(b, set())}


def reduced(edges: Iterable[Edge]) -> set[Edge]:
    """Return the edges of an acyclic graph that no longer way replaces."""
    edges = set(edges)
    below = reachable(edges)
    return {
        (a, b) for a, b in edges if not any((a, c) in edges and b in below.get(c, set()) for c in below[a] if c != b)
    }


def levels(rooms: Iterable[str], edges: Iterable[Edge]) -> dict[str, int]:
    """Return how far each room stands above the ground: the length of its longest way down."""
    edges = set(edges)
    height = dict.fromkeys(rooms, 0)
    for _ in height:
        for a, b in edges:
            height[a] = max(height[a], height[b] + 1)
    return height


def rows_and_lanes(height: Mapping[str, int], edges: Iterable[Edge]) -> tuple[list[list[str]], list[list[str]]]:
    """Return the rows from the top down, each left to right, and the chain of places that each arrow passes.

    An arrow over several rows gets a place of its own ("a>b@row") in each, so that it passes between the boxes.
    """
    rows: list[list[str]] = [[] for _ in range(max(height.values()) + 1)]
    for room in sorted(height):
        rows[height[room]].append(room)
    chains = []
    for a, b in sorted(edges):
        lane = [f"{a}>{b}@{level}" for level in range(height[a] - 1, height[b], -1)]
        for level, place in zip(range(height[a] - 1, height[b], -1), lane, strict=True):
            rows[level].append(place)
        chains.append([a, *lane, b])
    near: dict[str, list[str]] = {}
    for chain in chains:
        for upper, lower in pairwise(chain):
            near.setdefault(upper, []).append(lower)
            near.setdefault(lower, []).append(upper)
    for _ in range(24):
        at = {place: (i + 0.5) / len(row) for row in rows for i, place in enumerate(row)}
        for row in rows:
            row.sort(key=lambda p: (sum(at[q] for q in near.get(p, [p])) / len(near.get(p, [p])), p))
            at.update({place: (i + 0.5) / len(row) for i, place in enumerate(row)})
    return rows[::-1], chains


def svg(rooms: list[str], edges: set[Edge]) -> str:
    """Return the drawing."""
    in_circles = circles(edges)
    straight = reduced(edges - in_circles)
    height = levels(rooms, edges - in_circles)
    rows, chains = rows_and_lanes(height, straight)
    span = {place: WIDTH if place in height else LANE for row in rows for place in row}
    full = max(sum(span[p] + GAP for p in row) - GAP for row in rows)
    middle: dict[str, tuple[float, float]] = {}
    for i, row in enumerate(rows):
        space = (full - sum(span[p] for p in row)) / max(len(row), 1)
        x = MARGIN + space / 2
        for place in row:
            middle[place] = (x + span[place] / 2, MARGIN + i * ROW + HEIGHT / 2)
            x += span[place] + space
    total_w, total_h = full + 2 * MARGIN, (len(rows) - 1) * ROW + HEIGHT + 2 * MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total_w:.0f} {total_h:.0f}" '
        f'width="{total_w:.0f}" height="{total_h:.0f}" role="img">',
        "<title>Which rooms of medlike import which</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="tip" d="M0 0 8 4 0 8z"/></marker></defs>',
        f'<rect class="ground" width="{total_w:.0f}" height="{total_h:.0f}" rx="10"/>',
        *(_arrow([middle[place] for place in chain]) for chain in chains),
        *(_bow(middle[a], middle[b]) for a, b in sorted(in_circles)),
        *(_box(room, *middle[room]) for room in rooms),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _arrow(points: list[tuple[float, float]]) -> str:
    """Return an arrow from the lower edge of the first box through its lanes to the upper edge of the last."""
    (x, y), *between, (end_x, end_y) = points
    y += HEIGHT / 2
    path = [f"M{x:.0f} {y:.0f}"]
    for nx, ny in [*between, (end_x, end_y)]:
        last = (nx, ny) == (end_x, end_y)
        top = ny - HEIGHT / 2
        bend = (y + top) / 2
        path.append(f"C{x:.0f} {bend:.0f} {nx:.0f} {bend:.0f} {nx:.0f} {top:.0f}")
        if not last:
            path.append(f"V{ny + HEIGHT / 2:.0f}")
        x, y = nx, ny + HEIGHT / 2
    return f'<path d="{" ".join(path)}" marker-end="url(#tip)"/>'


def _bow(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x, y), (u, v) = start, end
    return f'<path class="circle" d="M{x:.0f} {y:.0f} Q{(x + u) / 2:.0f} {(y + v) / 2 + 40:.0f} {u:.0f} {v:.0f}"/>'


def _box(room: str, x: float, y: float) -> str:
    left, top = x - WIDTH / 2, y - HEIGHT / 2
    name = escape(room.replace(".", " / "))
    return (
        f'<rect x="{left:.0f}" y="{top:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{x:.0f}" y="{y:.0f}">{name}</text>'
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(svg(*room_edges()), encoding="utf-8")
