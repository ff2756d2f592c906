"""The graph of a bundle around a vision tower: grey pixels in, tower, pooling, linear maps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from medlike.bundle.session import INPUT
from medlike.training.tower import Pooling, Tower, load_graph
from medlike.types import F64, Array

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

PREFIX = "tower."
SMALL = 8  # numbers of a tensor that may be a setting of an operation, such as the scales of a Resize


@dataclass
class _Nodes:
    """Nodes and constants of a graph in the making."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def add(self, operation: str, *inputs: str | Array, output: str = "", **attributes: int | list[int]) -> str:
        """Add a node, an array being a constant, and return the name of what it gives."""
        from onnx import helper, numpy_helper

        output = output or f"medlike.{len(self.nodes)}"
        names = []
        for place, value in enumerate(inputs):
            if not isinstance(value, str):
                self.constants.append(numpy_helper.from_array(value, f"{output}.{place}"))
                value = self.constants[-1].name
            names.append(value)
        node = helper.make_node(operation, names, [output], name=f"{output}.node")
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        self.nodes.append(node)
        return output


def tower_graph(
    tower: Tower, mean: F64, deviation: F64, maps: Mapping[str, F64], offsets: Mapping[str, F64]
) -> ModelProto:
    """Return the graph for `bundle.write`.

    Args:
        tower: The tower; its file is read again.
        mean: float64 [P], taken off the pooled features.
        deviation: float64 [P], that they are divided by.
        maps: A matrix float64 [P, outputs] for the name of each output.
        offsets: A vector float64 [outputs] for the outputs that have one.
    """
    from onnx import TensorProto, compose, helper

    model = load_graph(tower.file)
    compose.add_prefix(model, PREFIX, inplace=True)
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    pixels = next(value.name for value in graph.input if value.name not in constants)
    before, after = _Nodes(), _Nodes()
    _prepared(before, tower, pixels)
    # Names are counted on, so that none is given twice.
    after.nodes = list(before.nodes)
    parts = [part for pooling in tower.poolings for part in _pooled(after, pooling)]
    pooled = after.add("Concat", *parts, axis=1)
    standard = after.add("Div", after.add("Sub", pooled, mean.astype(np.float32)), deviation.astype(np.float32))
    for name, matrix in maps.items():
        weights = np.ascontiguousarray(matrix.astype(np.float32))
        if name in offsets:
            after.add("Add", after.add("MatMul", standard, weights), offsets[name].astype(np.float32), output=name)
        else:
            after.add("MatMul", standard, weights, output=name)
    # A bundle's weights lie outside of the graph, where the runtime looks for no setting of an operation.
    inside = [tensor for tensor in graph.initializer if math.prod(tensor.dims) <= SMALL]
    body = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in inside] + list(graph.node)
    outside = [tensor for tensor in graph.initializer if math.prod(tensor.dims) > SMALL]
    del graph.initializer[:]
    graph.initializer.extend(outside)
    del graph.node[:], graph.input[:], graph.output[:], model.metadata_props[:]
    graph.node.extend([*before.nodes, *body, *after.nodes[len(before.nodes) :]])
    graph.initializer.extend([*before.constants, *after.constants])
    shape = [1, tower.size, tower.size]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, shape))
    for name, matrix in maps.items():
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, matrix.shape[1]]))
    return model


def _prepared(graph: _Nodes, tower: Tower, output: str) -> None:
    """Add what makes the tower's input of a grey picture."""
    from onnx import helper

    axis = 1 if tower.layout == "NCHW" else 3
    plane = [1, tower.size, tower.size]
    plane.insert(axis, 1)
    across = [1, 1, 1, 1]
    across[axis] = tower.channels
    factor, offset = (values.reshape(across) for values in tower.scale())
    grey = graph.add("Cast", INPUT, to=helper.np_dtype_to_tensor_dtype(np.dtype("float32")))
    grey = graph.add("Reshape", grey, np.asarray(plane, np.int64))
    value = graph.add("Add", graph.add("Mul", grey, factor), offset)
    if tower.kind == "uint8":
        value = graph.add("Round", value)
    graph.add("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(tower.kind)), output=output)


def _pooled(graph: _Nodes, pooling: Pooling) -> list[str]:
    """Add the pooling of an output, and return the names of what it gives, float32 [1, width] each."""
    from onnx import helper

    value = graph.add("Cast", PREFIX + pooling.output, to=helper.np_dtype_to_tensor_dtype(np.dtype("float32")))
    flat = np.asarray([1, pooling.widths[0]], np.int64)
    if pooling.layout == "vector":
        return [graph.add("Reshape", value, flat)]
    parts = []
    if pooling.layout == "tokens":
        bounds = [np.asarray([number], np.int64) for number in (pooling.prefix, pooling.shape[1], 1)]
        if pooling.prefix:
            parts.append(graph.add("Gather", value, np.asarray(0, np.int64), axis=1))
        value = graph.add("Transpose", graph.add("Slice", value, *bounds), perm=[0, 2, 1])
    elif pooling.layout == "NHWC":
        value = graph.add("Transpose", value, perm=[0, 3, 1, 2])
    return [*parts, graph.add("Reshape", graph.add("GlobalAveragePool", value), flat)]
