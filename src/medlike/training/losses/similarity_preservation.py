"""Similarity preservation: the codes keep the similarities of a teacher's untouched features.

Relational distillation (Park et al., CVPR 2019).
No labels are needed, so unlabelled images take part.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medlike.errors import TrainingError
from medlike.training.losses.similarity import cosine_matrix, mean_over, pearson_matrix, precise


def relational_error(u: Tensor, teacher: Tensor, squash: bool = True, centre: bool = False) -> Tensor:
    """Return the mean square of cos(u_i, u_j) - cos(t_i, t_j) over pairs i != j: scalar.

    u: float [B,K], through tanh first if `squash` (codes; False for float features); teacher: float [B,P],
    held fixed. centre=True compares correlations instead of cosines. Zero for fewer than two images.
    """
    if u.ndim != 2 or teacher.ndim != 2 or len(u) != len(teacher):
        raise TrainingError(f"codes {list(u.shape)} and teacher {list(teacher.shape)} must have the same rows")
    similarity = pearson_matrix if centre else cosine_matrix
    student = similarity(torch.tanh(precise(u)) if squash else precise(u))
    with torch.no_grad():
        fixed = similarity(teacher.detach()).to(student.dtype)
    others = ~torch.eye(len(u), dtype=torch.bool, device=u.device)
    return mean_over((student - fixed).square(), others)
