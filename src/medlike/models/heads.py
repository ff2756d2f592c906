"""The heads on the blended feature: the hash head and the auxiliary classifiers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medlike.errors import TrainingError
from medlike.models.kan import KANLayer

MIN_BITS, MAX_BITS = 8, 512
HEADS = ("kan", "mlp", "linear")


def check_bits(bits: int) -> None:
    """Raise TrainingError unless `bits` is a multiple of 8 from 8 to 512."""
    if bits % 8 or not MIN_BITS <= bits <= MAX_BITS:
        raise TrainingError(f"{bits} bits cannot be packed; choose a multiple of 8 from {MIN_BITS} to {MAX_BITS}")


class HashHead(nn.Module):
    """Map the feature to real codes: KAN [inputs, hidden, bits] or another kind, with an optional linear path.

    u = head(feature) + direct(parts); the linear path can start as a learned rotation.
    """

    def __init__(
        self, inputs: int, hidden: int, bits: int, normalise: bool, direct: int = 0, kind: str = "kan"
    ) -> None:
        """Build a head.

        Args:
            inputs: Width of the feature.
            hidden: Width of the hidden layer.
            bits: K, a multiple of 8 from 8 to 512.
            normalise: As for KANLayer.
            direct: Width of what the linear path reads; 0 for no such path.
            kind: "kan" (published), "mlp" (one hidden layer) or "linear" (none: the hidden units are the feature).

        Raises:
            TrainingError: `bits` or `kind` is not supported.
        """
        super().__init__()
        check_bits(bits)
        self.bits = bits
        self.enter: nn.Module
        self.leave: nn.Module
        if kind == "kan":
            self.enter, self.leave = KANLayer(inputs, hidden, normalise), KANLayer(hidden, bits, normalise)
        elif kind == "mlp":
            self.enter = nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, hidden), nn.GELU())
            self.leave = nn.Linear(hidden, bits)
        elif kind == "linear":
            hidden = inputs
            self.enter, self.leave = nn.Identity(), nn.Linear(inputs, bits)
        else:
            raise TrainingError(f"hash head {kind!r} is unknown; known: {', '.join(HEADS)}")
        self.hidden = hidden
        self.direct = nn.Linear(direct, bits) if direct else None

    def forward(self, feature: Tensor, parts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return u, float32 [N, bits], and hidden units [N, hidden]; feature: [N, inputs], parts: [N, direct]."""
        hidden = self.enter(feature)
        u = self.leave(hidden).float()
        if self.direct is not None:
            u = u + self.direct(feature if parts is None else parts).float()
        return u, hidden

    def initialise_from_projection(self, weight: Tensor, offset: Tensor | None = None) -> None:
        """Make u = parts @ weight + offset; the head's last layer gives zero and learns from there.

        Codes read the sign of u and losses its tanh: a weight that gives each bit unit variance starts well.

        Args:
            weight: float [direct, bits].
            offset: float [bits]; zero if None.

        Raises:
            TrainingError: There is no linear path, shapes differ, or numbers are not finite.
        """
        if self.direct is None:
            raise TrainingError("this head has no linear path to initialise; build it with linear > 0")
        expected = (self.direct.in_features, self.bits)
        if tuple(weight.shape) != expected:
            raise TrainingError(f"a projection of shape {tuple(weight.shape)} does not fit; expected {expected}")
        if not torch.isfinite(weight).all():
            raise TrainingError("the projection has values that are not finite; fit it again")
        with torch.no_grad():
            self.direct.weight.copy_(weight.T)
            self.direct.bias.copy_(torch.tensor(0.0) if offset is None else offset)
        if isinstance(self.leave, KANLayer):
            self.leave.silence()
        else:
            for parameter in self.leave.parameters():
                nn.init.zeros_(parameter)


class HierarchyHeads(nn.Module):
    """Classify linearly from coarse to fine, each level seeing the probabilities of the one before.

    `sizes` are the numbers of classes by level, coarsest first, for example of modality, region, label.
    """

    def __init__(self, inputs: int, sizes: Mapping[str, int]) -> None:
        super().__init__()
        if not sizes or any(size < 1 for size in sizes.values()):
            raise TrainingError(f"classes {dict(sizes)} cannot be told apart; every level needs at least one class")
        self.levels = tuple(sizes)
        self.heads = nn.ModuleDict()
        above = 0
        for level, size in sizes.items():
            self.heads[level] = nn.Linear(inputs + above, size)
            above = size

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return logits by level, float [N, size], of x, float [N, inputs]."""
        logits: dict[str, Tensor] = {}
        seen = x
        for level in self.levels:
            logits[level] = self.heads[level](seen)
            seen = torch.cat([x, logits[level].softmax(dim=1).to(x.dtype)], dim=1)
        return logits
