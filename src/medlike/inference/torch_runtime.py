"""The bundle's network in torch: the reference that the runtime's bits are compared with. Optional."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medlike.bundle import Bundle
from medlike.bundle.session import code_values
from medlike.errors import BundleError, MissingExtra
from medlike.types import F32, U8, Array

if TYPE_CHECKING:
    from torch import nn


def load_network(bundle: Bundle) -> nn.Module:
    """Return the bundle's network in evaluation mode, in float32, with the weights as the bundle holds them.

    Raises:
        MissingExtra: torch is not installed.
        BundleError: Weights and network do not belong together.
    """
    try:
        import torch
    except ImportError:
        raise MissingExtra("torch", "train") from None
    network = _build(bundle)
    stored = _scalars(bundle) | bundle.weights()
    weights = {name: torch.from_numpy(value.astype(np.float32)) for name, value in stored.items()}
    names = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    # What no output depends on (auxiliary heads) is not exported, and missing here for the same reason.
    network.load_state_dict({name: value for name, value in weights.items() if name in names}, strict=False)
    if len(names - set(weights)) > len(names) // 2:
        raise BundleError(f"the weights of {bundle.name} do not fit preset {bundle.preset}; export it again")
    return network.eval()


def torch_outputs(bundle: Bundle, pictures: U8, outputs: Sequence[str] = ("bits",)) -> dict[str, F32]:
    """Return outputs by name as torch computes them, float32 [N, ...]; pictures: uint8 [N, 224, 224]."""
    network = load_network(bundle)
    import torch

    from medlike.models.export import as_network_input, served_outputs

    rows: list[dict[str, F32]] = []
    with torch.inference_mode():
        for start in range(0, len(pictures), 16):
            batch = torch.from_numpy(np.ascontiguousarray(pictures[start : start + 16]))
            computed = served_outputs(network, as_network_input(batch))
            rows.append({name: computed[name].numpy() for name in outputs})
    return {name: np.concatenate([row[name] for row in rows]) for name in outputs}


def equal_bits(bundle: Bundle, pictures: U8) -> float:
    """Return the share of bits on which the runtime and torch float32 agree, 0 to 1; pictures: uint8 [N, 224, 224]."""
    ours = code_values(bundle.session(), pictures) > 0
    theirs = torch_outputs(bundle, pictures)["bits"] > 0
    return float((ours == theirs).mean())


def _scalars(bundle: Bundle) -> dict[str, Array]:
    """Return single numbers by name, which stand in the graph itself and not among the weights."""
    import onnx

    model = onnx.load(bundle.graph, load_external_data=False)
    single = [tensor for tensor in model.graph.initializer if not tensor.dims and not tensor.external_data]
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in single}


def _build(bundle: Bundle) -> nn.Module:
    description = bundle.spec["network"]
    if bundle.preset == "itq":
        from medlike.models.rotation import RotationNetwork

        return RotationNetwork(*(description[name] for name in ("stem", "bits", "content", "features", "modalities")))
    if "settings" not in description:
        raise BundleError(f"bundle {bundle.name} does not say how its network is built; export it again")
    from medlike.models.networks import rebuild
    from medlike.models.outlier_map import OutlierMap

    network = rebuild(description)
    if "outlier_map" in description:
        network.outlier_map = OutlierMap(**description["outlier_map"])
    return network
