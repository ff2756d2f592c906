"""Parts that bring two kinds of embedding into one space: dropout voting, and experts behind a gate.

Ahn, Jang, Jang, arXiv 2512.06449.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DropoutVoting(nn.Module):
    """Average a frozen random network over several fixed dropout masks.

    v float [N, D] of unit length -> v' = norm(v + mean_m norm(f_m(v))), float [N, D]. f_m is D -> 2D -> D with
    ReLU and the m-th of `voters` fixed masks on the hidden units (share `silent` is zero), so the same v always
    gives the same v'. Nothing is trained. votes = False passes v on. The sizes, the number of masks and the sum are
    ours.
    """

    first: Tensor
    second: Tensor
    masks: Tensor

    def __init__(self, width: int, voters: int = 8, silent: float = 0.3, seed: int = 0, votes: bool = True) -> None:
        super().__init__()
        self.votes = votes
        if not votes:
            return
        source = torch.Generator().manual_seed(seed)
        hidden = 2 * width
        self.register_buffer("first", torch.randn(hidden, width, generator=source) * math.sqrt(2 / width))
        self.register_buffer("second", torch.randn(width, hidden, generator=source) * math.sqrt(1 / hidden))
        masks = torch.rand(voters, hidden, generator=source) >= silent
        self.register_buffer("masks", masks.float() / (1 - silent))

    def forward(self, v: Tensor) -> Tensor:
        """Return voted vectors, float [N, D]."""
        if not self.votes:
            return v
        hidden = torch.relu(F.linear(v, self.first))
        votes = F.linear(hidden[:, None] * self.masks, self.second)
        return unit(v + unit(votes).mean(dim=1))


class ExpertLayer(nn.Module):
    """Apply the best `chosen` of several feed-forward experts, D -> 2D -> D, to each token.

    The weights of the chosen sum to 1. All experts are computed: they are small, and the graph stays free of branches.
    """

    def __init__(self, width: int, experts: int = 4, chosen: int = 2) -> None:
        super().__init__()
        self.chosen = min(chosen, experts)
        self.gate = nn.Linear(width, experts, bias=False)
        scale = 1 / math.sqrt(width)
        self.first = nn.Parameter((torch.rand(experts, width, 2 * width) * 2 - 1) * scale)
        self.first_bias = nn.Parameter(torch.zeros(experts, 1, 2 * width))
        self.second = nn.Parameter((torch.rand(experts, 2 * width, width) * 2 - 1) * scale / math.sqrt(2))
        self.second_bias = nn.Parameter(torch.zeros(experts, 1, width))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return changed tokens, float [N, T, D], and the gate's logits, float [N, T, E]."""
        logits = self.gate(tokens)
        weights = chosen_weights(logits, self.chosen)
        flat = tokens.reshape(1, -1, tokens.shape[-1])
        answers = F.gelu(flat @ self.first + self.first_bias) @ self.second + self.second_bias
        # [E, N T, D] weighted by [N T, E]
        share = weights.reshape(-1, weights.shape[-1]).T.unsqueeze(-1)
        return (answers * share).sum(dim=0).reshape(tokens.shape), logits


def chosen_weights(logits: Tensor, chosen: int) -> Tensor:
    """Return the softmax over the `chosen` largest logits [..., E]; zero for the others."""
    best = logits.topk(chosen, dim=-1).values
    mask = logits >= best[..., -1:]
    return logits.masked_fill(~mask, float("-inf")).softmax(dim=-1)


class FusionBlock(nn.Module):
    """Apply a pre-norm layer of the fusion transformer: attention among the tokens of one pair, then experts.

    Both residual branches begin at zero, so training starts from the tokens as they are.
    """

    def __init__(self, width: int, heads: int, experts: int, chosen: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.between = nn.LayerNorm(width)
        self.ask = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.experts = ExpertLayer(width, experts, chosen)
        self.scales = nn.Parameter(torch.zeros(2, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return changed tokens, float [N, 2, D], and the gate's logits, float [N, 2, E]."""
        tokens = tokens + self.scales[0] * self.dropout(self.attend(self.before(tokens)))
        answers, logits = self.experts(self.between(tokens))
        return tokens + self.scales[1] * self.dropout(answers), logits

    def attend(self, tokens: Tensor) -> Tensor:
        """Attend over the tokens of each row, not across rows: [N, T, D] -> [N, T, D]."""
        rows, length, width = tokens.shape
        split = self.ask(tokens).reshape(rows, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        share = (query @ key.transpose(-2, -1) / math.sqrt(width // self.heads)).softmax(dim=-1)
        return self.mix((share @ value).transpose(1, 2).reshape(rows, length, width))


def unit(x: Tensor) -> Tensor:
    """Return rows of unit length over the last axis; a row of zeros stays zeros."""
    return x / x.square().sum(dim=-1, keepdim=True).sqrt().clamp(min=1e-12)
