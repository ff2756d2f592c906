"""Learning curves, drawn as they grow."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path


def keep_history(
    history: list[dict[str, float]], folder: Path, stage: str = "", measured: Sequence[str] = ("map",)
) -> None:
    """Write history.csv, one row an epoch, and draw curves.png beside it where matplotlib is installed.

    stage: put before both names, as in decoder-history.csv. measured: how the names of columns begin that are no
    losses but measured on the validation part.
    """
    before = f"{stage}-" if stage else ""
    if not history:
        return
    columns = list(dict.fromkeys(name for row in history for name in row))
    with (folder / f"{before}history.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(history)
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    scores = [name for name in columns if name.startswith(tuple(measured))]
    losses = [name for name in columns if name not in (*scores, "epoch", "seconds", "rate", "waiting")]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    judged = "validation mAP" if "map" in measured else "validation"
    for axis, names, title in ((left, losses, "loss terms"), (right, scores, judged)):
        for name in names:
            points = [(row["epoch"], row[name]) for row in history if name in row]
            axis.plot(*zip(*points, strict=True), marker=".", label=name)
        axis.set(title=title, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        if names:
            axis.legend(fontsize=8)
    if losses:
        left.set_yscale("log")
    figure.savefig(folder / f"{before}curves.png", dpi=110)
    pyplot.close(figure)
