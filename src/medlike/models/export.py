"""From a torch network to the runtime's graph: what is served, and how it is exported."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medlike.errors import BundleError, MissingExtra
from medlike.models.rotation import RotationNetwork

SIZE = 224
OPSET = 18
# What a graph may give, in the order in which it gives them.
OUTPUTS = (
    "bits",
    "content",
    "cells",
    "cell_weight",
    "modality",
    "outlier_features",
    "reconstruction_error",
)
# What ServedNetwork puts before the name of each weight.
WRAPPED = "network."
Served = Callable[[nn.Module, Tensor], dict[str, Tensor]]


def served_outputs(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What a network of any preset gives at search time, by the names of OUTPUTS.

    images: float [N,3,224,224] in [0,1]. bits: u; content: the blended feature; outlier_features: the same,
    or what the network's `outlier_map` makes of it and the pooled depths; with a regional expert cells
    [N,14,14,L] and cell_weight; modality where it is predicted; with a decoder reconstruction_error [N], the
    mean squared error on [0,1] images.
    """
    if isinstance(network, RotationNetwork):
        return network(images)
    decodes = getattr(network, "decoder", None) is not None
    found = network(images, reconstruct=True) if decodes else network(images)
    outputs = {"bits": found["u"], "content": found["feature"]}
    outputs |= {name: found[name] for name in ("cells", "cell_weight", "modality") if name in found}
    outlier_map = getattr(network, "outlier_map", None)
    outputs["outlier_features"] = (
        found["feature"] if outlier_map is None else outlier_map(found["pooled"], found["feature"])
    )
    if decodes:
        outputs["reconstruction_error"] = ((found["reconstruction"] - images) ** 2).mean(dim=(1, 2, 3))
    return outputs


class ServedNetwork(nn.Module):
    """A network as it is served: uint8 [1,224,224] grey in, the named outputs as a tuple out."""

    def __init__(self, network: nn.Module, outputs: Sequence[str], served: Served | None = None) -> None:
        super().__init__()
        self.network = network
        self.outputs = tuple(outputs)
        self.served = served

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        images = as_network_input(image)
        found = self.network(images) if self.served is None else self.served(self.network, images)
        return tuple(found[name] for name in self.outputs)


def as_network_input(image: Tensor) -> Tensor:
    """Grey pictures uint8 [N,224,224] as the networks take them: float32 [N,3,224,224] in [0,1]."""
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


def export_graph(network: nn.Module, outputs: Sequence[str] | None = None, served: Served = served_outputs) -> Any:
    """The network as an onnx.ModelProto for `medlike.bundle.write`: see `trace`.

    outputs: which of those that `served` gives, "bits" and "content" among them; all by default. Round the
    weights first (`round_weights`), so that torch agrees with what is shipped. Raises BundleError for an
    output that is unknown or not given.
    """
    network = network.eval().float().cpu()
    with torch.no_grad():
        given = served(network, as_network_input(torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)))
    names = [name for name in OUTPUTS if name in given] if outputs is None else list(outputs)
    for name in names:
        if name not in OUTPUTS or name not in given:
            raise BundleError(f"output {name!r} is not given; the network gives: {', '.join(given)}")
    return trace(network, names, served)


def trace(network: nn.Module, outputs: Sequence[str], served: Served | None = None) -> Any:
    """The network as an onnx.ModelProto; its weights keep their names.

    network: takes float [N,3,224,224] in [0,1] and returns a dictionary, or does so through
    `served(network, images)`. outputs: the names to export. Exported in evaluation mode, float32, one image
    a run. Raises MissingExtra without onnx.
    """
    wrapped = ServedNetwork(network, outputs, served)
    return served_graph(wrapped, {"image": torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)}, outputs)


def served_graph(wrapped: nn.Module, example: Mapping[str, Tensor], outputs: Sequence[str]) -> Any:
    """A wrapper as an onnx.ModelProto; the weights of its member `network` get that network's own names.

    example: an input by name, in the order of `wrapped.forward`. Raises MissingExtra without onnx.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtra(str(error.name), "train") from None
    wrapped = wrapped.eval().float().cpu()
    model = _folded(_quietly(wrapped, example, list(outputs)))
    _rename(model)
    own = {name.removeprefix(WRAPPED) for name in wrapped.state_dict()}
    _drop_zero_biases(model, own)
    return model


def _quietly(wrapped: nn.Module, example: Mapping[str, Tensor], names: list[str]) -> Any:
    """torch's exporter, without the progress it prints."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        # Unoptimised: that would merge batch norms into weights, which then were not the network's own.
        return torch.onnx.export(
            wrapped,
            tuple(example.values()),
            input_names=list(example),
            output_names=names,
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
        )


def _folded(program: Any) -> Any:
    """Compute what depends on no weight: shapes, casts that do nothing.

    Left as the exporter makes them, they keep the runtime from merging batch norms: three times slower. Weights stay
    as they are, however small, so that the bundle holds them under their own names.
    """
    import onnx_ir
    from onnxscript import optimizer

    weights = {name for name in program.model.graph.initializers if name.startswith(WRAPPED)}

    def free_of_weights(node: Any) -> bool | None:
        return False if any(value is not None and value.name in weights for value in node.inputs) else None

    optimizer.fold_constants(program.model, input_size_limit=256, output_size_limit=4096, should_fold=free_of_weights)
    optimizer.remove_unused_nodes(program.model)
    return onnx_ir.to_proto(program.model)


def _drop_zero_biases(model: Any, known: set[str]) -> None:
    """Take off the zeros that the exporter adds to a convolution that has no bias."""
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
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _rename(model: Any) -> None:
    """Give the weights the names of the network's own state: without the wrapper's "network."."""
    names = {
        tensor.name: tensor.name.removeprefix(WRAPPED)
        for tensor in model.graph.initializer
        if tensor.name.startswith(WRAPPED)
    }
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
    for value in model.graph.value_info:
        value.name = names.get(value.name, value.name)
    # What each node was made from: paths of the maker's machine, of no use to the runtime.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
