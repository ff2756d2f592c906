"""The bundle's network in torch: the reference that the runtime's bits are compared with. Optional."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medlike.bundle import Bundle
from medlike.bundle.session import code_values, open_session
from medlike.errors import BundleError, MissingExtra
from medlike.types import Array, JsonObject

if TYPE_CHECKING:
    from torch import nn


def load_network(bundle: Bundle) -> nn.Module:
    """The bundle's network in float32 with the weights as the bundle holds them, in evaluation mode.

    Raises MissingExtra without torch, BundleError where weights and network do not belong together.
    """
    try:
        import torch
    except ImportError:
        raise MissingExtra("torch", "train") from None
    network = _build(bundle)
    stored = _scalars(bundle) | bundle.weights()
    weights = {name: torch.from_numpy(value.astype(np.float32)) for name, value in stored.items()}
    wanted = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    lacking = sorted(wanted - set(weights))
    # What no output depends on (auxiliary heads) is not exported, and missing here for the same reason.
    found = network.load_state_dict({name: value for name, value in weights.items() if name in wanted}, strict=False)
    if len(lacking) > len(wanted) // 2 or found.unexpected_keys:
        raise BundleError(f"the weights of {bundle.name} do not fit preset {bundle.preset}; export it again")
    return network.eval()


def torch_outputs(
    bundle: Bundle, pictures: npt.NDArray[np.uint8], outputs: Sequence[str] = ("bits",)
) -> dict[str, npt.NDArray[np.float32]]:
    """Outputs by name as torch computes them, float32 [N, ...]; pictures: uint8 [N, 224, 224]."""
    network = load_network(bundle)
    import torch

    from medlike.models.export import as_network_input, served_outputs

    rows: list[JsonObject] = []
    with torch.inference_mode():
        for start in range(0, len(pictures), 16):
            batch = torch.from_numpy(np.ascontiguousarray(pictures[start : start + 16]))
            found = served_outputs(network, as_network_input(batch))
            rows.append({name: found[name].numpy() for name in outputs})
    return {name: np.concatenate([row[name] for row in rows]) for name in outputs}


def equal_bits(bundle: Bundle, pictures: npt.NDArray[np.uint8]) -> float:
    """Share of bits on which the runtime and torch float32 agree, 0 to 1; pictures: uint8 [N, 224, 224]."""
    ours = code_values(open_session(bundle.graph), pictures) > 0
    theirs = torch_outputs(bundle, pictures)["bits"] > 0
    return float((ours == theirs).mean())


def _scalars(bundle: Bundle) -> dict[str, Array]:
    """Single numbers by name, which stand in the graph itself and not among the weights."""
    import onnx

    model = onnx.load(bundle.graph, load_external_data=False)
    single = [tensor for tensor in model.graph.initializer if not tensor.dims and not tensor.external_data]
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in single}


def _build(bundle: Bundle) -> nn.Module:
    kept = bundle.spec["network"]
    if bundle.preset == "itq":
        from medlike.models.rotation import RotationNetwork

        return RotationNetwork(kept["stem"], kept["bits"], kept["content"], kept["features"], kept["modalities"])
    if "settings" not in kept:
        raise BundleError(f"bundle {bundle.name} does not say how its network is built; export it again")
    from medlike.models.networks import rebuild
    from medlike.models.outlier_map import OutlierMap

    network = rebuild(kept)
    if "outlier_map" in kept:
        network.outlier_map = OutlierMap(**kept["outlier_map"])
    return network
