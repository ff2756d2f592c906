"""From a torch network to the runtime's graph: what is served, and how it is exported."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medlike.errors import BundleError, MissingExtra
from medlike.models.rotation import RotationNetwork

if TYPE_CHECKING:
    import onnx_ir
    from onnx import ModelProto
    from torch.onnx import ONNXProgram

SIZE = 224
OPSET = 18
# What a graph may give, in the order in which it gives them.
OUTPUTS = ("bits", "content", "cells", "cell_weight", "modality", "outlier_features", "reconstruction_error")
# What ServedNetwork puts before the name of each weight.
WRAPPED = "network."
Served = Callable[[nn.Module, Tensor], dict[str, Tensor]]


def served_outputs(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return what a network of any preset gives at search time, by the names of OUTPUTS.

    bits: u. content: the blended feature. outlier_features: the same, or what the network's `outlier_map` makes of it
    and the pooled depths. cells [N, 14, 14, L] and cell_weight: with a regional expert. modality: where it is
    predicted. reconstruction_error [N]: with a decoder, the mean squared error on [0, 1] images.

    Args:
        network: Of any preset.
        images: float [N, 3, 224, 224] in [0, 1].
    """
    if isinstance(network, RotationNetwork):
        return network(images)
    decodes = getattr(network, "decoder", None) is not None
    raw = network(images, reconstruct=True) if decodes else network(images)
    outputs = {"bits": raw["u"], "content": raw["feature"]}
    outputs |= {name: raw[name] for name in ("cells", "cell_weight", "modality") if name in raw}
    outlier_map = getattr(network, "outlier_map", None)
    outputs["outlier_features"] = raw["feature"] if outlier_map is None else outlier_map(raw["pooled"], raw["feature"])
    if decodes:
        outputs["reconstruction_error"] = ((raw["reconstruction"] - images) ** 2).mean(dim=(1, 2, 3))
    return outputs


class ServedNetwork(nn.Module):
    """Serve a network: grey pictures uint8 [1, 224, 224] in, the named outputs as a tuple out."""

    def __init__(self, network: nn.Module, outputs: Sequence[str], served: Served | None = None) -> None:
        super().__init__()
        self.network = network
        self.outputs = tuple(outputs)
        self.served = served

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the named outputs of a picture, uint8 [1, 224, 224]."""
        images = as_network_input(image)
        outputs = self.network(images) if self.served is None else self.served(self.network, images)
        return tuple(outputs[name] for name in self.outputs)


def as_network_input(image: Tensor) -> Tensor:
    """Return grey pictures, uint8 [N, 224, 224], as the networks take them: float32 [N, 3, 224, 224] in [0, 1]."""
    return (image.to(torch.float32) / 255.0).unsqueeze(1).expand(-1, 3, -1, -1)


@torch.no_grad()
def round_weights(network: nn.Module, smallest: int = 1024) -> nn.Module:
    """Round in place the weights that a bundle stores as float16, so that torch runs what will be shipped.

    Those are the floating tensors of two or more axes and at least `smallest` elements; others stay float32.
    """
    for tensor in network.state_dict().values():
        if tensor.dtype == torch.float32 and tensor.ndim >= 2 and tensor.numel() >= smallest:
            tensor.copy_(tensor.half().float())
    return network


def export_graph(
    network: nn.Module, outputs: Sequence[str] | None = None, served: Served = served_outputs
) -> ModelProto:
    """Export a network as a graph for `medlike.bundle.write`; see `trace`.

    Round the weights first (`round_weights`), so that torch agrees with what is shipped.

    Args:
        network: As for `trace`.
        outputs: Names of those that `served` gives, "bits" and "content" among them; all by default.
        served: (network, images) -> outputs by name.

    Raises:
        BundleError: An output is unknown or not given.
    """
    network = network.eval().float().cpu()
    with torch.no_grad():
        available = served(network, as_network_input(torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)))
    names = [name for name in OUTPUTS if name in available] if outputs is None else list(outputs)
    for name in names:
        if name not in OUTPUTS or name not in available:
            raise BundleError(f"output {name!r} is not given; the network gives: {', '.join(available)}")
    return trace(network, names, served)


def trace(network: nn.Module, outputs: Sequence[str], served: Served | None = None) -> ModelProto:
    """Export a network in evaluation mode and float32, one image a run; its weights keep their names.

    Args:
        network: Takes float [N, 3, 224, 224] in [0, 1] and returns a dictionary, or does so through
            `served(network, images)`.
        outputs: Names of the outputs to export.
        served: (network, images) -> outputs by name; the network itself if None.

    Raises:
        MissingExtra: onnx is not installed.
    """
    wrapped = ServedNetwork(network, outputs, served)
    return served_graph(wrapped, {"image": torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)}, outputs)


def served_graph(wrapped: nn.Module, example: Mapping[str, Tensor], outputs: Sequence[str]) -> ModelProto:
    """Export a wrapper; the weights of its member `network` get the names that they have in that network.

    Args:
        wrapped: A module with a member `network`, which returns a tuple.
        example: An input by name, in the order of `wrapped.forward`.
        outputs: Names of the members of that tuple.

    Raises:
        MissingExtra: onnx is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtra(str(error.name), "train") from None
    wrapped = wrapped.eval().float().cpu()
    model = _folded(_quietly(wrapped, example, list(outputs)))
    _rename(model)
    _drop_zero_biases(model, {name.removeprefix(WRAPPED) for name in wrapped.state_dict()})
    return model


def _quietly(wrapped: nn.Module, example: Mapping[str, Tensor], names: list[str]) -> ONNXProgram:
    """Run torch's exporter without the progress it prints."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        # Unoptimised: that would merge batch norms into weights, which then were not the network's own.
        program = torch.onnx.export(
            wrapped,
            tuple(example.values()),
            input_names=list(example),
            output_names=names,
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    assert program is not None  # of the exporter with dynamo
    return program


def _folded(program: ONNXProgram) -> ModelProto:
    """Compute what depends on no weight: shapes, casts that do nothing.

    Left as the exporter makes them, they keep the runtime from merging batch norms: three times slower. Weights stay
    as they are, however small, so that the bundle holds them under their own names.
    """
    import onnx_ir
    from onnxscript import optimizer

    weights = {name for name in program.model.graph.initializers if name.startswith(WRAPPED)}

    def free_of_weights(node: onnx_ir.Node) -> bool | None:
        return False if any(value is not None and value.name in weights for value in node.inputs) else None

    optimizer.fold_constants(program.model, input_size_limit=256, output_size_limit=4096, should_fold=free_of_weights)
    optimizer.remove_unused_nodes(program.model)
    return onnx_ir.to_proto(program.model)


def _drop_zero_biases(model: ModelProto, known: set[str]) -> None:
    """Remove the zeros that the exporter adds to a convolution without a bias."""
    from onnx import numpy_helper

    zeros = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.name not in known and not numpy_helper.to_array(tensor).any()
    }
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) == 3 and node.input[2] in zeros:
            del node.input[2]
    used = {name for node in model.graph.node for name in node.input}
    initializers = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(initializers)


def _rename(model: ModelProto) -> None:
    """Give the weights the names of the network's state, without the wrapper's "network."; remove remarks."""
    graph = model.graph
    for named in (*graph.initializer, *graph.value_info):
        named.name = named.name.removeprefix(WRAPPED)
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = name.removeprefix(WRAPPED)
    # What each node was made from: paths of the maker's machine, of no use to the runtime.
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del model.metadata_props[:]
    del graph.metadata_props[:]
