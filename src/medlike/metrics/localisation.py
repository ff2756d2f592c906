"""Metrics of regional retrieval: does the box of a hit lie where the finding is?"""

from __future__ import annotations

import numpy as np

from medlike.errors import QueryError


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the intersection over union of every box of a with every box of b: float64 [A, B] in 0..1.

    Args:
        a: [A, 4]; x0, y0, x1, y1, half-open pixels.
        b: [B, 4], likewise.

    Raises:
        QueryError: A box has no area.
    """
    a, b = _boxes(a), _boxes(b)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = np.clip(high - low, 0, None).prod(axis=2)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(axis=1) for x in (a, b))
    return inter / (area_a[:, None] + area_b[None, :] - inter)


def is_hit(box: np.ndarray, labelled: np.ndarray, threshold: float = 0.5) -> bool:
    """Return True if the box has at least this IoU with one of the labelled boxes; False if there are none.

    Args:
        box: [4]; x0, y0, x1, y1, half-open pixels.
        labelled: [L, 4], likewise; L may be 0.
        threshold: Least IoU, 0..1.

    Raises:
        QueryError: A box has no area.
    """
    labelled = np.asarray(labelled, np.float64).reshape(-1, 4)
    return bool(len(labelled) and iou(np.reshape(box, (1, 4)), labelled).max() >= threshold)


def hit_rate(boxes: list[np.ndarray], labelled: list[np.ndarray], threshold: float = 0.5) -> float:
    """Return the share of hits whose box has this IoU with a labelled box of its own image: 0..1, higher is better.

    Args:
        boxes: One box [4] a hit; x0, y0, x1, y1, half-open pixels.
        labelled: The labelled boxes [L, 4] of each hit's image, in the same order.
        threshold: Least IoU, 0..1.

    Returns:
        The share; NaN if there are no hits.

    Raises:
        QueryError: The two lists differ in length, or a box has no area.
    """
    if len(boxes) != len(labelled):
        raise QueryError(f"{len(boxes)} boxes but {len(labelled)} lists of labelled boxes: give one list each")
    if not boxes:
        return float("nan")
    return float(np.mean([is_hit(b, own, threshold) for b, own in zip(boxes, labelled, strict=True)]))


def normalised_score(rate: float, floor: float, ceiling: float) -> float:
    """Return (rate - floor) / (ceiling - floor): 0 is chance, 1 is the best possible window.

    Args:
        rate: Hit rate that was measured, 0..1.
        floor: Hit rate of a random window.
        ceiling: Hit rate of the best window that the search can return.

    Returns:
        The score, higher is better; NaN if the ceiling is not above the floor, because then it means nothing.
    """
    return (rate - floor) / (ceiling - floor) if ceiling > floor else float("nan")


def _boxes(boxes: np.ndarray) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise QueryError(f"boxes have shape {list(boxes.shape)}: they must be [N, 4], x0 y0 x1 y1")
    bad = (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)
    if bad.any():
        raise QueryError(f"box {boxes[bad][0].tolist()} has no area: x1 and y1 must be above x0 and y0")
    return boxes
