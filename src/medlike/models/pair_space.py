"""The common space of a vision tower and a text tower that were trained as a pair, as a text bundle serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medlike.models.mcmfh_parts import unit

if TYPE_CHECKING:
    from onnx import ModelProto


class PairSpace(nn.Module):
    """Bring content vectors and sentence vectors of a pair of towers together.

    embedding: the towers' own vectors, of unit length; of an image with a text their mean. u: both sides less their
    means, since images and texts lie apart in such spaces, and turned; a bit is u > 0.
    """

    basis: Tensor
    means: Tensor
    turn: Tensor

    def __init__(self, basis: Tensor, means: Tensor, turn: Tensor) -> None:
        """Keep the maps.

        Args:
            basis: float [D, W], from a content vector to the tower's.
            means: float [2, W], of image vectors and of sentence vectors of unit length.
            turn: float [W, K].
        """
        super().__init__()
        self.register_buffer("basis", basis)
        self.register_buffer("means", means)
        self.register_buffer("turn", turn)

    def forward(self, content: Tensor, sentence: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return u, float [N, K], and embeddings, float [N, W]; inputs as in `medlike.bundle.text_bundle`."""
        image = unit((content - content.mean(dim=1, keepdim=True)) @ self.basis)
        vectors = torch.stack([image, sentence], dim=1)
        there = present.unsqueeze(-1)
        return (there * (vectors - self.means)).sum(dim=1) @ self.turn, unit((there * vectors).sum(dim=1))


class _ServedPair(nn.Module):
    """Wrap a network as `served_graph` takes it."""

    def __init__(self, network: PairSpace) -> None:
        super().__init__()
        self.network = network

    def forward(self, content: Tensor, sentence: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return bits and embedding."""
        outputs: tuple[Tensor, Tensor] = self.network(content, sentence, present)
        return outputs


def export_pair_space(network: PairSpace) -> ModelProto:
    """Export the network as a graph for `medlike.bundle.write`; MissingExtra without onnx."""
    from medlike.models.export import served_graph

    content, sentence = network.basis.shape
    example = {
        "content": torch.zeros(1, content), "sentence": torch.zeros(1, sentence), "present": torch.ones(1, 2)
    }  # fmt: skip
    return served_graph(_ServedPair(network), example, ("bits", "embedding"))
