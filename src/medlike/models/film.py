"""FiLM: a feature-wise affine map set by the predicted modality (Perez et al. 2018, arXiv 1709.07871)."""

from __future__ import annotations

from torch import Tensor, nn


class ModalityAffine(nn.Module):
    """Compute x (1 + gain(m)) + shift(m) per channel; the identity until trained.

    No gradient flows through the probabilities, so that the modality head learns modalities alone.
    """

    def __init__(self, modalities: int, channels: int) -> None:
        super().__init__()
        self.affine = nn.Linear(modalities, 2 * channels)
        nn.init.zeros_(self.affine.weight)
        nn.init.zeros_(self.affine.bias)

    def forward(self, x: Tensor, probabilities: Tensor) -> Tensor:
        """Return x, float [N, C] or [N, C, H, W], changed for modality probabilities, float [N, M]."""
        gain, shift = self.affine(probabilities.detach()).chunk(2, dim=1)
        if x.ndim == 4:
            gain, shift = gain[:, :, None, None], shift[:, :, None, None]
        return x * (1 + gain) + shift
