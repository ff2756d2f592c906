"""Kolmogorov-Arnold layers: a learned cubic spline on every connection (Liu et al. 2024, arXiv 2404.19756).

The efficient form: y_o = sum_i W_b[o,i] SiLU(x_i) + sum_i sum_k W_s[o,i] scale[o,i,k] B_k(x_i), with cubic
B-splines on a fixed grid of 5 intervals on [-1, 1], 8 bases. Outside about [-2.2, 2.2] every basis is zero,
and between that and [-1, 1] they fade: so ours brings the input into the grid first, the published layer
does not.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INTERVALS = 5
ORDER = 3
BASES = INTERVALS + ORDER
STEP = 2.0 / INTERVALS


def spline_bases(x: Tensor) -> Tensor:
    """Return the 8 cubic B-splines of the grid at each value: float [...] -> float32 (or float64) [..., 8].

    On an equidistant grid every basis is one bump, moved: b(t) = max(0, 2-|t|)^3 / 6 - 4 max(0, 1-|t|)^3 / 6
    with t the distance to its centre in steps, which equals the Cox-de Boor recursion. They sum to one on
    [-1, 1].
    """
    x = x if x.dtype == torch.float64 else x.float()
    centres = torch.arange(-1, BASES - 1, device=x.device, dtype=x.dtype) * STEP - 1.0
    t = ((x.unsqueeze(-1) - centres) / STEP).abs()
    outer, inner = F.relu(2.0 - t), F.relu(1.0 - t)
    return (outer * outer * outer - 4.0 * inner * inner * inner) / 6.0


class KANLayer(nn.Module):
    """Apply one layer: [..., inputs] -> [..., outputs].

    normalise=True (ours) applies a layer norm and, for the splines, tanh, so that inputs lie in the grid;
    False (released) takes them raw.
    """

    def __init__(self, inputs: int, outputs: int, normalise: bool = True) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.norm = nn.LayerNorm(inputs) if normalise else None
        self.base_weight = nn.Parameter(torch.empty(outputs, inputs))
        self.spline_weight = nn.Parameter(torch.empty(outputs, inputs, BASES))
        self.spline_scale = nn.Parameter(torch.empty(outputs, inputs))
        nn.init.kaiming_uniform_(self.base_weight, a=math.sqrt(5))
        nn.init.normal_(self.spline_weight, std=0.1)
        nn.init.kaiming_uniform_(self.spline_scale, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's values, float [..., outputs]."""
        if self.norm is not None:
            x = self.norm(x)
        bases = spline_bases(x if self.norm is None else torch.tanh(x))
        weight = (self.spline_weight * self.spline_scale.unsqueeze(-1)).flatten(1)
        return F.linear(F.silu(x), self.base_weight) + F.linear(bases.flatten(-2).to(x.dtype), weight)

    def silence(self) -> None:
        """Set the output to zero for every input, with gradients still reaching base and spline weights."""
        with torch.no_grad():
            self.base_weight.zero_()
            self.spline_weight.zero_()
