"""Convert the weights of a MobileNetV2 1.0 in a TensorFlow Lite file to safetensors, for `medlike train --stem`.

    python -m medlike_research.development.tflite mobilenet_v2_1.0_224_quant.tflite mobilenet_v2.safetensors

Convolutions are read in the order in which they run, and dequantised.

A flatbuffer is read with the standard library alone: only the few tables that weights need. Layout after the
TensorFlow Lite schema, version 3.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from medlike.errors import BundleError, MedlikeError
from medlike.files import drafted
from medlike.models.mobilenet import MobileNetV2, PaddedConv2d

IDENTIFIER = b"TFL3"
# Fields by their place in the schema's tables.
MODEL_OPERATOR_CODES, MODEL_SUBGRAPHS, MODEL_BUFFERS = 1, 2, 4
CODE_SHORT, CODE_LONG = 0, 3
GRAPH_TENSORS, GRAPH_OPERATORS = 0, 3
OPERATOR_CODE, OPERATOR_INPUTS = 0, 1
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER, TENSOR_NAME, TENSOR_QUANTISATION = 0, 1, 2, 3, 4
QUANTISATION_SCALE, QUANTISATION_ZERO = 2, 3
TYPES = {0: np.float32, 2: np.int32, 3: np.uint8, 9: np.int8}
CONV, DEPTHWISE = 3, 4


@dataclass(frozen=True)
class Convolution:
    """One convolution: weight float32 [outputs, inputs per group, k, k], bias float32 [outputs]."""

    weight: np.ndarray
    bias: np.ndarray
    depthwise: bool


class _Reader:
    """Scalars, vectors and tables of a flatbuffer by position."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def uint(self, at: int) -> int:
        return int(struct.unpack_from("<I", self.data, at)[0])

    def follow(self, at: int) -> int:
        return at + self.uint(at)

    def field(self, table: int, number: int) -> int | None:
        """Where field `number` of a table is stored, or None where it has its default."""
        layout = table - int(struct.unpack_from("<i", self.data, table)[0])
        size = int(struct.unpack_from("<H", self.data, layout)[0])
        place = 4 + 2 * number
        if place >= size:
            return None
        offset = int(struct.unpack_from("<H", self.data, layout + place)[0])
        return table + offset if offset else None

    def scalar(self, table: int, number: int, kind: str) -> int:
        at = self.field(table, number)
        return 0 if at is None else int(struct.unpack_from(f"<{kind}", self.data, at)[0])

    def vector(self, table: int, number: int, dtype: str) -> np.ndarray:
        at = self.field(table, number)
        if at is None:
            return np.zeros(0, dtype)
        start = self.follow(at)
        return np.frombuffer(self.data, dtype, self.uint(start), start + 4)

    def tables(self, table: int, number: int) -> list[int]:
        at = self.field(table, number)
        if at is None:
            return []
        start = self.follow(at)
        return [self.follow(start + 4 + 4 * i) for i in range(self.uint(start))]


def convolutions(path: str | Path) -> list[Convolution]:
    """Every convolution of the file's first graph, in running order, as float32.

    Quantised values become scale x (q - zero point), per tensor or per channel. Depthwise kernels, stored
    [1,k,k,C], become [C,1,k,k]. BundleError for a file that is missing, of another format or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise BundleError(f"no weights at {path}; give a .tflite file")
    data = path.read_bytes()
    if data[4:8] != IDENTIFIER:
        raise BundleError(f"{path} is no TensorFlow Lite file; give a .tflite file of version 3")
    try:
        return _convolutions(_Reader(data))
    except (struct.error, ValueError, IndexError, KeyError, OverflowError) as error:
        raise BundleError(f"{path} is damaged ({error}); copy it again") from error


def _convolutions(reader: _Reader) -> list[Convolution]:
    model = reader.follow(0)
    codes = [
        max(reader.scalar(code, CODE_SHORT, "b"), reader.scalar(code, CODE_LONG, "i"))
        for code in reader.tables(model, MODEL_OPERATOR_CODES)
    ]
    buffers = reader.tables(model, MODEL_BUFFERS)
    graph = reader.tables(model, MODEL_SUBGRAPHS)[0]
    tensors = reader.tables(graph, GRAPH_TENSORS)
    found = []
    for operator in reader.tables(graph, GRAPH_OPERATORS):
        code = codes[reader.scalar(operator, OPERATOR_CODE, "I")]
        if code not in (CONV, DEPTHWISE):
            continue
        _, kernel, bias = reader.vector(operator, OPERATOR_INPUTS, "<i4")[:3]
        depthwise = code == DEPTHWISE
        # Stored [outputs,k,k,inputs], or [1,k,k,channels] for a depthwise one.
        order = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
        axis = 3 if depthwise else 0
        weight = _values(reader, tensors[kernel], buffers, axis).transpose(order)
        found.append(Convolution(np.ascontiguousarray(weight), _values(reader, tensors[bias], buffers, 0), depthwise))
    return found


def _values(reader: _Reader, tensor: int, buffers: list[int], axis: int) -> np.ndarray:
    shape = tuple(int(side) for side in reader.vector(tensor, TENSOR_SHAPE, "<i4"))
    dtype = TYPES[reader.scalar(tensor, TENSOR_TYPE, "b")]
    raw = reader.vector(buffers[reader.scalar(tensor, TENSOR_BUFFER, "I")], 0, "u1")
    stored = raw.view(np.dtype(dtype).newbyteorder("<")).reshape(shape)
    at = reader.field(tensor, TENSOR_QUANTISATION)
    if dtype is np.float32 or at is None:
        return stored.astype(np.float32)
    quantisation = reader.follow(at)
    scale = reader.vector(quantisation, QUANTISATION_SCALE, "<f4").astype(np.float64)
    zero = reader.vector(quantisation, QUANTISATION_ZERO, "<i8").astype(np.float64)
    along = [1] * len(shape)
    along[axis] = -1
    if scale.size > 1:
        scale = scale.reshape(along)
    # One zero point serves all channels where the file gives one, none means zero.
    zero = zero.reshape(along) if zero.size > 1 else zero if zero.size else np.zeros(1)
    return np.asarray(scale * (stored - zero), np.float32)


def convert(path: str | Path, out: str | Path) -> Path:
    """Write the dequantised weights of a MobileNetV2 1.0 as float32 safetensors; returns the file.

    Raises:
        BundleError: The file is missing or damaged, or holds another network.
    """
    network = MobileNetV2()
    load_quantised(network, path)
    with drafted(Path(out)) as draft:
        save_file(network.state_dict(), str(draft))
    return Path(out)


def load_quantised(network: MobileNetV2, path: str | Path) -> None:
    """Fill the network with the dequantised weights of a MobileNetV2 1.0 .tflite file, without head and classifier.

    Raises:
        BundleError: The file is damaged or holds another network.
    """
    layers = [module for module in network.modules() if isinstance(module, PaddedConv2d)]
    convolved = convolutions(path)
    if len(convolved) < len(layers):
        raise BundleError(f"{path} has {len(convolved)} convolutions, MobileNetV2 {len(layers)}; give the 1.0 network")
    for number, (layer, found) in enumerate(zip(layers, convolved, strict=False)):
        if tuple(layer.weight.shape) != found.weight.shape:
            raise BundleError(
                f"{path} does not fit MobileNetV2 1.0: convolution {number} has shape {found.weight.shape}, "
                f"expected {tuple(layer.weight.shape)}"
            )
    with torch.no_grad():
        for layer, found in zip(layers, convolved, strict=False):
            assert layer.bias is not None
            layer.weight.copy_(torch.from_numpy(found.weight))
            layer.bias.copy_(torch.from_numpy(found.bias))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m medlike_research.development.tflite FILE.tflite OUT.safetensors")
    try:
        print(convert(*sys.argv[1:]))
    except MedlikeError as error:
        sys.exit(str(error))
