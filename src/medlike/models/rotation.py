"""The untrained network: a stem as it is, the means of every depth, and linear maps fitted to them.

What a stem trained on photographs already knows, brought to bits by a learned rotation (iterative
quantisation, Gong and Lazebnik 2011) and nothing else: the floor that every trained preset has to beat.
"""

from __future__ import annotations

from torch import Tensor, nn

from medlike.models.pooling import DepthPooling
from medlike.models.stems import Stem


class RotationNetwork(nn.Module):
    """Map the standardised means of every depth of a stem linearly, once for each output."""

    def __init__(self, stem: str, bits: int, content: int, features: int, modalities: int = 0) -> None:
        super().__init__()
        self.stem = Stem(stem)
        self.pooling = DepthPooling(self.stem.channels)
        width = sum(self.stem.channels)
        self.code = nn.Linear(width, bits)
        self.content = nn.Linear(width, content, bias=False)
        self.features = nn.Linear(width, features, bias=False)
        self.modality = nn.Linear(width, modalities) if modalities else None

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the outputs of images, float [N, 3, 224, 224] in [0, 1].

        Returns:
            "bits" [N, bits], "content" [N, content], "outlier_features" [N, features] and, where the network has
            modalities, "modality" [N, modalities], probabilities.
        """
        standard = self.pooling.standardise(self.pooling(self.stem(images)))
        outputs = {
            "bits": self.code(standard),
            "content": self.content(standard),
            "outlier_features": self.features(standard),
        }
        if self.modality is not None:
            outputs["modality"] = self.modality(standard).softmax(dim=1)
        return outputs
