"""Parameters and multiply-adds of the presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from medlike.models.networks import build
from medlike.models.presets import NetworkSettings, preset

SIDE = 224
# Modalities of a label tree of which only the number of finest classes is given.
MODALITIES = 8


def counts(
    settings: str | NetworkSettings, bits: int, classes: int | Mapping[str, int] = 16, stem_stride: str = "v1.5"
) -> dict[str, float]:
    """Count parameters and multiply-adds of a network for one image of 224x224; nothing is allocated.

    Args:
        settings: A preset's name, or settings.
        bits: K, bits of a code.
        classes: Level -> number of classes, or the number of finest classes.
        stem_stride: Stride placement of a ResNet stem. It changes gmacs but no parameter; published figures use
            "v1.5".

    Returns:
        parameters, parameters_with_decoder, gmacs, gmacs_with_decoder; gmacs are 10^9 multiply-adds of convolutions,
        linear maps and attention.
    """
    chosen = preset(settings) if isinstance(settings, str) else settings
    if chosen.stem == "resnet50":
        chosen = replace(chosen, stem_stride=stem_stride)  # type: ignore[arg-type]
    if not isinstance(classes, int):
        sizes = dict(classes)
    elif chosen.modality_aware:
        sizes = {"modality": MODALITIES, "label": classes}
    else:
        sizes = {"label": classes}
    with torch.device("meta"), torch.no_grad():
        network = build(chosen, bits, sizes, decoder=True).eval()
        image = torch.zeros(1, 3, SIDE, SIDE)
        decoder = network.decoder
        assert decoder is not None
        with FlopCounterMode(display=False) as plain:
            deep = network(image)["deep"]
        with FlopCounterMode(display=False) as decoding:
            decoder(deep)
    whole = sum(p.numel() for p in network.parameters())
    without_decoder = whole - sum(p.numel() for p in decoder.parameters())
    gmacs = plain.get_total_flops() / 2e9
    return {
        "parameters": without_decoder,
        "parameters_with_decoder": whole,
        "gmacs": gmacs,
        "gmacs_with_decoder": gmacs + decoding.get_total_flops() / 2e9,
    }
