"""NT-Xent over cells: the same place of an image and its transformed copy should have the same local code.

Chen et al. 2020 (arXiv 2002.05709) over the cells of feature maps, as stage 2 of HMAR needs it (after Yuan,
arXiv 2603.16679; the choice of negatives is ours).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medlike.errors import TrainingError
from medlike.training.losses.similarity import cosine_matrix, inner, precise


def cell_contrast(
    first: Tensor,
    second: Tensor,
    image: Tensor,
    place: Tensor,
    fingerprints: Tensor,
    temperature: float = 0.1,
    far: float = 3.0,
    alike: float = 0.9,
) -> Tensor:
    """Return NT-Xent of matching cells in both directions.

    Negatives are cells of other images and, in the same image, those at least `far` cells away; those whose
    fingerprints correlate above `alike` are dropped.

    Args:
        first: float [M,L], codes of content cells of x.
        second: float [M,L], codes of the same places in T(x).
        image: int64 [M], which image a cell is of.
        place: [M,2], row and column of the cell in x.
        fingerprints: [M,F], of the pixels of the cell.
        temperature: Above 0.
        far: Distance in cells, the larger of rows and columns.
        alike: Correlation, -1 to 1.

    Returns:
        A scalar, the mean over cells that have a negative; zero for fewer than two cells.

    Raises:
        TrainingError: The shapes do not fit, or the temperature is not above 0.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise TrainingError(f"cells must be two arrays [M,L]; got {list(first.shape)} and {list(second.shape)}")
    m = len(first)
    if image.shape != (m,) or place.shape != (m, 2) or fingerprints.shape[:1] != (m,):
        raise TrainingError(
            f"image [{m}], place [{m},2] and fingerprints [{m},F] are needed; got {list(image.shape)}, "
            f"{list(place.shape)}, {list(fingerprints.shape)}"
        )
    if temperature <= 0:
        raise TrainingError(f"temperature must be above 0; got {temperature}")
    if m < 2:
        return (first.sum() + second.sum()) * 0
    a, b = F.normalize(precise(first), dim=1), F.normalize(precise(second), dim=1)
    negative = _negatives(image, place, fingerprints, far, alike)
    usable = negative.any(dim=1)
    positive = (a * b).sum(dim=1) / temperature
    ab, aa, bb = inner(a, b), inner(a, a), inner(b, b)
    shut = ~negative
    losses = []
    for across, within in ((ab, aa), (ab.T, bb)):
        others = torch.cat([across.masked_fill(shut, -torch.inf), within.masked_fill(shut, -torch.inf)], 1)
        everything = torch.cat([positive[:, None], others / temperature], dim=1)
        losses.append(everything.logsumexp(dim=1) - positive)
    each = (losses[0] + losses[1]) / 2
    return torch.where(usable, each, torch.zeros_like(each)).sum() / usable.sum().clamp(min=1)


def _negatives(image: Tensor, place: Tensor, fingerprints: Tensor, far: float, alike: float) -> Tensor:
    with torch.no_grad():
        # Correlation in one pass: flat cells have no direction and stay negatives of everything.
        f = precise(fingerprints.flatten(1))
        f = f - f.mean(dim=1, keepdim=True)
        similar = cosine_matrix(f) > alike
        spot = place.float()
        distance = (spot[:, None] - spot[None]).abs().amax(dim=2)
        apart = (image[:, None] != image[None]) | (distance >= far)
        return apart & ~similar
