"""Means of parts of the queries (a label, a source, a modality), each with what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from medlike.metrics import bootstrap_interval
from medlike.types import JsonObject

Parts: TypeAlias = Mapping[str, tuple[np.ndarray, np.ndarray]]


def parted(column: np.ndarray, values: np.ndarray, units: np.ndarray) -> Parts:
    """Return the values and units of the queries of each value of a column, by its name. All three are [Q]."""
    return {str(name): (values[column == name], units[column == name]) for name in np.unique(column)}


def part_figures(name: str, parts: Parts) -> JsonObject:
    """Return the mean of each part under `name`; under `name`_interval, _queries and _units what it rests on.

    Intervals are 95 %, by unit; a part of fewer than two units has none: NaN twice.

    Args:
        name: First key of the result.
        parts: float [Q], NaN left out, and units [Q] of each part.
    """
    intervals = {part: bootstrap_interval(values, units) for part, (values, units) in parts.items()}
    nothing = [float("nan")] * 2
    return {
        name: {part: i.mean for part, i in intervals.items()},
        f"{name}_interval": {part: [i.low, i.high] if i.units > 1 else nothing for part, i in intervals.items()},
        f"{name}_queries": {part: int((~np.isnan(values)).sum()) for part, (values, _) in parts.items()},
        f"{name}_units": {part: i.units for part, i in intervals.items()},
    }
