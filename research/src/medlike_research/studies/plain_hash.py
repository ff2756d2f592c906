"""The rival of MCMFH in the study `text`: no fusion and no experts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medlike.models.mcmfh import CrossModalSettings
from medlike.models.mcmfh_parts import unit


class PlainHash(nn.Module):
    """A perceptron for each side, D -> hidden -> K, with the inputs and outputs of CrossModalNetwork.

    The embedding is the real code of unit length; with both sides the two codes are averaged.
    """

    def __init__(self, settings: CrossModalSettings) -> None:
        super().__init__()
        self.settings = settings
        s = settings
        hidden = 2 * s.hash_hidden
        self.image_side, self.sentence_side = (
            nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(s.dropout), nn.Linear(hidden, s.bits))
            for width in (s.image_width, s.sentence_width)
        )

    def voted(self, image: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor]:
        """Entries of order 1, no votes."""
        s = self.settings
        return unit(image) * s.image_width**0.5, unit(sentence) * s.sentence_width**0.5

    def forward(self, image: Tensor, sentence: Tensor, present: Tensor) -> dict[str, Any]:
        """Return the mean of the sides that are present: embedding and u [N, bits], and no logits."""
        sides = torch.stack([self.image_side(image), self.sentence_side(sentence)], dim=1) * present.unsqueeze(-1)
        u = sides.sum(dim=1) / present.sum(dim=1, keepdim=True)
        return {"embedding": unit(u), "u": u, "logits": []}
