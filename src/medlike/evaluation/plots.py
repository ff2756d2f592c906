"""Plots of a report, as SVG text that can stand inside a page. Needs matplotlib (`medlike[report]`)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from medlike.errors import MissingExtra
from medlike.types import Json, JsonObject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import RcKeyType

# Distinct also for colour-blind readers (Okabe and Ito), black last for oracles and floors.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#000000")
_STYLE: dict[RcKeyType, object] = {
    "figure.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
    "font.family": "sans-serif",
}
_LEGEND_ROW = 0.17  # inches
Figures = Mapping[str, Mapping[str, Json]]


@contextmanager
def figure(width: float, height: float, columns: int = 1) -> Iterator[tuple[list[Axes], list[str]]]:
    """Yield axes to draw on, and a list that holds the SVG afterwards.

    Args:
        width: In inches.
        height: In inches.
        columns: Number of axes beside each other.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise MissingExtra("matplotlib", "report") from None
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    result: list[str] = []
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": f"medlike{width}{height}"}):
        page = Figure(figsize=(width, height), layout="constrained")
        canvas = FigureCanvasSVG(page)
        axes = page.subplots(1, columns, squeeze=False)[0]
        yield list(axes), result
        buffer = io.StringIO()
        canvas.print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    result.append(text[text.index("<svg") :])


def precision_recall(methods: Figures) -> str:
    """Draw interpolated precision against recall, a line a method."""
    with figure(6.6, 4.4) as ((axes,), result):
        for style, (name, figures) in zip(_styles(methods), methods.items(), strict=True):
            curve = figures["precision_recall_curve"]
            axes.plot(np.linspace(0, 1, len(curve)), curve, **style, label=name, lw=1.7)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        _legend(axes)
    return result[0]


def within_radius(methods: Figures) -> str:
    """Draw precision and recall of what lies within a Hamming radius; codes only."""
    coded = {n: f for n, f in methods.items() if "recall_within_radius" in f}
    with figure(8.2, 4.0, 2) as ((left, right), result):
        for style, (name, figures) in zip(_styles(coded), coded.items(), strict=True):
            for axes, key in ((left, "precision_within_radius"), (right, "recall_within_radius")):
                axes.plot(range(len(figures[key])), figures[key], **style, label=name, marker=".", lw=1.4)
        for axes in (left, right):
            axes.locator_params(axis="x", integer=True)
            axes.set(xlabel="Hamming radius", ylabel="precision" if axes is left else "recall", ylim=(0, 1.02))
        _legend(left)
    return result[0]


Bar = tuple[float, float, float]


def accuracy_bars(methods: Figures, oracle: float | None) -> str:
    """Draw mAP with intervals, pooled and within source, and the source-only oracle as a line where there is one."""
    series = {
        text: {m: (f[key], *f[interval]) for m, f in methods.items() if key in f}
        for text, key, interval in (
            ("pooled", "map_expected", "map_interval"),
            ("within the source, all queries alike", "map_within_source_by_query", "map_within_source_interval"),
        )
    }
    line = None if oracle is None else (oracle, "knowing the source only (pooled)")
    return bars(series, list(methods), "mAP", line)


def bars(
    series: Mapping[str, Mapping[str, Bar]], names: Sequence[str], xlabel: str, line: tuple[float, str] | None = None
) -> str:
    """Draw horizontal bars with intervals: a row a name, a colour a series.

    Args:
        series: Of each series, mean, low and high of each name, 0..1.
        names: Rows from top to bottom.
        xlabel: What the values are.
        line: Value and label of a vertical line.
    """
    drawn = {text: values for text, values in series.items() if values}
    width = 0.72 / max(len(drawn), 1)
    with figure(8.2, 0.9 + (0.2 + 0.16 * max(len(drawn), 1)) * len(names)) as ((axes,), result):
        for place, (text, values) in enumerate(drawn.items()):
            colour = COLOURS[place % len(COLOURS)]
            offset = 0.36 - width * (place + 0.5)
            at = np.array([len(names) - 1 - n + offset for n, name in enumerate(names) if name in values])
            means, low, high = np.array([values[name] for name in names if name in values]).T
            axes.barh(at, means, width * 0.94, color=colour, label=text, alpha=0.85)
            axes.errorbar(means, at, xerr=np.maximum([means - low, high - means], 0), fmt="none", ecolor="#333", lw=0.9)
        if line is not None:
            axes.axvline(line[0], color="black", ls="--", lw=1, label=line[1])
        axes.set(xlabel=xlabel, xlim=(0, 1), ylim=(-0.6, len(names) - 0.4))
        axes.set_yticks(range(len(names)), list(names)[::-1])
        axes.grid(axis="y", visible=False)
        _legend(axes)
    return result[0]


def accuracy_by_bytes(methods: Figures) -> str:
    """Draw mAP against what one image costs in the index."""
    with figure(6.6, 4.2) as ((axes,), result):
        for place, (name, figures) in enumerate(methods.items()):
            (low, high), value = figures["map_interval"], figures["map_expected"]
            axes.errorbar(
                # Methods of one size stand beside each other, not on each other.
                figures["bytes_per_image"] * 1.035 ** (place - len(methods) / 2), value,
                yerr=[[value - low], [high - value]], color=COLOURS[place % len(COLOURS)],
                fmt="o" if figures["bits"] else "s", ms=6, capsize=3, label=name,
                mfc="white" if place >= len(COLOURS) else None,
            )  # fmt: skip
        sizes = apart(sorted({figures["bytes_per_image"] for figures in methods.values()}))
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set(xlabel="bytes an image (round: codes, square: float features)", ylabel="mAP")
        _legend(axes)
    return result[0]


def lines(
    series: Mapping[str, Sequence[tuple[float, float, float, float]]],
    xlabel: str,
    ylabel: str,
    log: bool = False,
    ticks: Sequence[float] = (),
    names: Sequence[str] = (),
) -> str:
    """Draw a line a name, with intervals as bands.

    Args:
        series: Of each name, its points (x, y, low, high).
        xlabel: What x is.
        ylabel: What y is.
        log: Draw x on a logarithmic axis of base 2.
        ticks: Where x has ticks; by default matplotlib decides.
        names: Labels of the ticks.
    """
    with figure(6.6, 4.2) as ((axes,), result):
        for style, (name, points) in zip(_styles(series), series.items(), strict=True):
            x, y, low, high = np.array(sorted(points)).T
            axes.plot(x, y, **style, marker="o", ms=4, lw=1.6, label=name)
            axes.fill_between(x, low, high, color=style["color"], alpha=0.12, lw=0)
        if log:
            axes.set_xscale("log", base=2)
        if ticks:
            axes.set_xticks(ticks, names or [f"{t:g}" for t in ticks])
            axes.minorticks_off()
        axes.set(xlabel=xlabel, ylabel=ylabel)
        _legend(axes)
    return result[0]


def apart(values: Sequence[float], ratio: float = 1.6) -> list[float]:
    """Return those of rising values whose labels do not touch below a logarithmic axis; the last one stays."""
    labelled: list[float] = []
    for value in reversed(values):
        if not labelled or labelled[-1] / value >= ratio:
            labelled.append(value)
    return labelled[::-1]


def outliers(figures: Mapping[str, Json]) -> str:
    """Draw histograms of the outlier score, detection against false alarms, and precision against recall."""
    with figure(10.2, 3.2, 3) as ((left, right, last), result):
        edges = np.array(figures["histogram"]["edges"])
        for key, colour, text in (("inside", COLOURS[0], "known kinds"), ("outside", COLOURS[1], "outliers")):
            counts = np.array(figures["histogram"][key], float)
            shares = counts / max(counts.sum(), 1)
            left.stairs(shares, edges, color=colour, fill=True, alpha=0.45, label=text)
            left.stairs(shares, edges, color=colour, lw=1.2)
        left.set(xlabel="outlier score (higher is less typical)", ylabel="share of images")
        left.legend()
        false, detected = (np.array(figures["roc"][key]) for key in ("false_alarms", "detected"))
        right.plot(false, detected, color=COLOURS[0], lw=1.8)
        right.axvline(0.03, color="black", ls="--", lw=1, label="3 % false alarms")
        right.set(xlabel="false alarms", ylabel="outliers found", xlim=(-0.01, 1), ylim=(0, 1.01))
        right.legend(loc="lower right")
        hits, wrong = detected * figures["outside"], false * figures["inside"]
        some = hits + wrong > 0
        last.plot(detected[some], hits[some] / (hits + wrong)[some], color=COLOURS[0], lw=1.8)
        share = figures["outside"] / (figures["outside"] + figures["inside"])
        last.axhline(share, color="black", ls="--", lw=1, label="flagging everything")
        last.set(xlabel="outliers found (recall)", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
        last.legend(loc="lower left")
    return result[0]


def confusion_map(labels: Sequence[str], shares: np.ndarray) -> str:
    """Draw the share of each label among the ten nearest of a query, a row a query label.

    Args:
        labels: L labels.
        shares: float [L, L] in 0..1, each row sums to 1.
    """
    size = max(3.2, 0.3 * len(labels))
    with figure(size + 3.2, size + 1.4) as ((axes,), result):
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
        axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(labels)), labels)
        axes.grid(visible=False)
        for row, column in np.argwhere(shares >= 0.01):
            share = shares[row, column]
            axes.text(
                column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7,
                color="white" if share > 0.55 else "#222",
            )  # fmt: skip
        axes.set(xlabel="label of the neighbours", ylabel="label of the query")
    return result[0]


def _legend(axes: Axes) -> None:
    """Draw names below the plot, as many a row as fit; the figure grows with them, the plot keeps its size."""
    page = axes.get_figure(root=True)
    assert page is not None
    handles, names = axes.get_legend_handles_labels()
    longest = 40 + 5.2 * max(map(len, names), default=0)
    columns = max(1, min(3, int(72 * page.get_figwidth() / longest)))
    page.set_figheight(page.get_figheight() + _LEGEND_ROW * max(0, -(-len(names) // columns) - 3))
    page.legend(handles, names, loc="outside lower left", ncols=columns)


def _styles(methods: Mapping[str, Json]) -> list[JsonObject]:
    """Return a style each: a colour, and from the ninth on dashed lines, then dotted ones."""
    kinds = ("-", (0, (5, 2)), (0, (1, 1.5)))
    return [
        {"color": COLOURS[n % len(COLOURS)], "ls": kinds[n // len(COLOURS) % len(kinds)]} for n in range(len(methods))
    ]
