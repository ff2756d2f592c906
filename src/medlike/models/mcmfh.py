"""The network of MCMFH: images and sentences, alone or together, as one vector and one hash code.

Source: Ahn, Jang, Jang, arXiv 2512.06449: dropout voting, a fusion transformer with experts, hashing MLPs. Widths,
the mask token, the linear starts and the exact order are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor, nn

from medlike.errors import TrainingError
from medlike.models.changes import with_changes
from medlike.models.mcmfh_parts import DropoutVoting, FusionBlock, unit

if TYPE_CHECKING:
    from onnx import ModelProto

BITS = (16, 32, 64, 128)


@dataclass(frozen=True)
class CrossModalSettings:
    """Everything that shapes the network.

    Attributes:
        bits: Length of a code.
        image_width: Width of an image embedding.
        sentence_width: Width of a sentence embedding.
        width: Width of the common space and of the embedding that is returned.
        layers: Layers of the fusion transformer; 0 leaves it out.
        heads: Attention heads of each layer.
        experts: Experts of each layer.
        chosen: Experts that a token uses.
        dropout: Share of units dropped in training.
        votes: Use dropout voting.
        voters: Votes of dropout voting.
        silent: Share of units that are zero in a vote.
        hash_hidden: Width of the hashing MLP.
        seed: Of the frozen parts.
    """

    bits: int = 16
    image_width: int = 480
    sentence_width: int = 384
    width: int = 64
    layers: int = 2
    heads: int = 4
    experts: int = 4
    chosen: int = 2
    dropout: float = 0.1
    votes: bool = True
    voters: int = 8
    silent: float = 0.3
    hash_hidden: int = 128
    seed: int = 0


def preset(bits: int, **changes: object) -> CrossModalSettings:
    """Return the settings of the preset `mcmfh` at a length, with changes; TrainingError lists lengths and settings."""
    if bits not in BITS:
        raise TrainingError(f"mcmfh has no preset of {bits} bits; give one of {', '.join(map(str, BITS))}")
    settings = with_changes(CrossModalSettings(bits), changes)
    if settings.width % settings.heads:
        raise TrainingError(f"width {settings.width} cannot be shared by {settings.heads} heads; give a multiple")
    if settings.experts < 1 or settings.chosen < 1:
        raise TrainingError("experts and chosen must be at least 1")
    return settings


class CrossModalOutputs(TypedDict):
    """Hold what CrossModalNetwork computes.

    Attributes:
        embedding: float [N, W], of unit length.
        u: float [N, K], real code; a bit is u > 0.
        logits: Of the gates, float [N, 2, E] for each layer.
        tokens: float [N, 2, W], as they leave the last layer.
    """

    embedding: Tensor
    u: Tensor
    logits: list[Tensor]
    tokens: Tensor


class CrossModalNetwork(nn.Module):
    """Fuse and hash images and sentences, two tokens of one width.

    `voted` is frozen, so its results can be cached; `forward` takes them. An absent side is the learned mask token.
    """

    image_mean: Tensor
    sentence_mean: Tensor

    def __init__(self, settings: CrossModalSettings) -> None:
        super().__init__()
        self.settings = settings
        s = settings
        self.image_voting = DropoutVoting(s.image_width, s.voters, s.silent, 2 * s.seed, s.votes)
        self.sentence_voting = DropoutVoting(s.sentence_width, s.voters, s.silent, 2 * s.seed + 1, s.votes)
        self.register_buffer("image_mean", torch.zeros(s.image_width))
        self.register_buffer("sentence_mean", torch.zeros(s.sentence_width))
        self.image_projection = nn.Linear(s.image_width, s.width, bias=False)
        self.sentence_projection = nn.Linear(s.sentence_width, s.width, bias=False)
        self.masks = nn.Parameter(torch.zeros(2, s.width))
        self.types = nn.Parameter(torch.zeros(2, s.width))
        self.blocks = nn.ModuleList(
            FusionBlock(s.width, s.heads, s.experts, s.chosen, s.dropout) for _ in range(s.layers)
        )
        self.straight = nn.Linear(s.width, s.bits)
        self.hidden = nn.Linear(s.width, s.hash_hidden)
        self.bent = nn.Linear(s.hash_hidden, s.bits, bias=False)
        nn.init.zeros_(self.bent.weight)
        nn.init.zeros_(self.straight.bias)

    def voted(self, image: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings of any scale as `forward` takes them: unit length, voted, centred. Zeros stay harmless."""
        return (
            self.image_voting(unit(image)) - self.image_mean,
            self.sentence_voting(unit(sentence)) - self.sentence_mean,
        )

    def forward(self, image: Tensor, sentence: Tensor, present: Tensor) -> CrossModalOutputs:
        """Return embeddings and codes.

        Args:
            image: float [N, D], voted.
            sentence: float [N, S], voted.
            present: float [N, 2], 1 where the image and the sentence are there, else 0.
        """
        there = present.unsqueeze(-1)
        seen = torch.stack([unit(self.image_projection(image)), unit(self.sentence_projection(sentence))], dim=1)
        tokens = there * seen + (1 - there) * self.masks + self.types
        logits = []
        for block in self.blocks:
            tokens, gate = block(tokens)
            logits.append(gate)
        embedding = unit(tokens.mean(dim=1))
        return {"embedding": embedding, "u": self.hashed(embedding), "logits": logits, "tokens": tokens}

    def hashed(self, embedding: Tensor) -> Tensor:
        """Return real codes, float [N, K], of embeddings of unit length, float [N, W]."""
        # Entries of order 1, whatever the width.
        wide = embedding * self.settings.width**0.5
        return self.straight(wide) + self.bent(nn.functional.gelu(self.hidden(wide)))


class _Served(nn.Module):
    """Serve the network as a text bundle does: raw embeddings in, bits and embedding out."""

    def __init__(self, network: CrossModalNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, content: Tensor, sentence: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        # The int8 vector is centred but for rounding; centring it again makes its cosine Pearson's correlation.
        centred = content - content.mean(dim=1, keepdim=True)
        outputs = self.network(*self.network.voted(centred, sentence), present)
        return outputs["u"], outputs["embedding"]


def export_crossmodal(network: CrossModalNetwork) -> ModelProto:
    """Export a network as a graph for `medlike.bundle.write`; its weights keep their names.

    Inputs and outputs are those of `medlike.bundle.text_bundle`, one row a run. MissingExtra without onnx.
    """
    from medlike.models.export import served_graph

    s = network.settings
    example = {
        "content": torch.zeros(1, s.image_width),
        "sentence": torch.zeros(1, s.sentence_width),
        "present": torch.ones(1, 2),
    }
    return served_graph(_Served(network), example, ("bits", "embedding"))
