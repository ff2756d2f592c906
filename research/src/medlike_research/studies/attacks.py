"""Attacks on a bundle by someone who has its weights: FGSM and PGD in the maximum norm."""

from __future__ import annotations

from typing import Any

import numpy as np

from medlike.bundle import Bundle
from medlike.errors import BundleError

_BATCH = 16
# Both terms are cosines, so they weigh alike.
_DETECTOR_WEIGHT = 1.0


def attacked(bundle: Bundle, pixels: np.ndarray, epsilon: int, steps: int, goal: str) -> np.ndarray:
    """Pictures changed by at most `epsilon` grey values so that their codes turn: uint8 [N, 224, 224].

    pixels: uint8 [N, 224, 224]. steps: 1 is FGSM (Goodfellow et al. 2015), more is PGD from a random start
    (Madry et al. 2018). goal: "code"; "code-and-detector" also keeps the outlier score small;
    "cells" turns the local codes. The loss is the cosine between the soft code and the clean one, over cells their
    mean; results are rounded to whole grey values, as a file would hold them. Raises BundleError for a bundle that
    lacks what is to be attacked.
    """
    import torch
    import torch.nn.functional as F

    from medlike.inference.torch_runtime import load_network

    network = load_network(bundle)
    detector, output = goal == "code-and-detector", "cells" if goal == "cells" else "bits"
    if goal == "cells" and not bundle.spec.get("local_bits"):
        raise BundleError(f"bundle {bundle.name} has no local codes to attack")
    usual_side = _usual_side(bundle) if detector else None
    changed = []
    generator = torch.Generator().manual_seed(0)
    for start in range(0, len(pixels), _BATCH):
        clean = torch.from_numpy(pixels[start : start + _BATCH]).float()
        with torch.no_grad():
            usual = _soft(network, clean)[output]
        target = torch.sign(usual)
        scale = usual.abs().mean(dim=-1, keepdim=True)
        moved = clean.clone()
        if steps > 1:
            moved += (torch.rand(clean.shape, generator=generator) * 2 - 1) * epsilon
        size = float(epsilon) if steps == 1 else 2.5 * epsilon / steps
        if steps == 1:
            # At the picture itself the cosine is at its top and has no slope: half a grey value aside it has.
            moved += (torch.rand(clean.shape, generator=generator) - 0.5) * min(1.0, epsilon)
        for _ in range(steps):
            moved = moved.detach().requires_grad_(True)
            outputs = _soft(network, moved)
            alike = F.cosine_similarity(torch.tanh(outputs[output] / scale), target, dim=-1)
            loss = alike.flatten(1).mean(dim=1).sum() if goal == "cells" else alike.sum()
            if usual_side is not None:
                near = F.normalize(outputs["outlier_features"], dim=1) @ usual_side.T
                loss = loss - _DETECTOR_WEIGHT * near.topk(min(5, len(usual_side)), dim=1).values.mean(dim=1).sum()
            (slope,) = torch.autograd.grad(loss, moved)
            with torch.no_grad():
                moved = moved - size * slope.sign()
                moved = torch.clamp(moved, clean - epsilon, clean + epsilon).clamp(0, 255)
        changed.append(moved.detach().round().to(torch.uint8).numpy())
    return np.concatenate(changed)


def _usual_side(bundle: Bundle) -> Any:
    """Vectors of unit length [R, F] that features of a usual image are near: the reference, or away from strangers.

    Raises BundleError for a bundle without outlier part.
    """
    import torch
    import torch.nn.functional as F

    names = bundle.array_names()
    if "outlier.reference" in names:
        return F.normalize(torch.from_numpy(bundle.array("outlier.reference").astype(np.float32)), dim=1)
    if "outlier.direction" in names:
        return F.normalize(-torch.from_numpy(bundle.array("outlier.direction").astype(np.float32))[None], dim=1)
    raise BundleError(f"bundle {bundle.name} has no outlier part to attack")


def _soft(network: Any, grey: Any) -> Any:
    from medlike.models.export import served_outputs

    return served_outputs(network, (grey / 255).unsqueeze(1).expand(-1, 3, -1, -1))
