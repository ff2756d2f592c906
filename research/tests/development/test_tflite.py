"""MobileNetV2 from a quantised TensorFlow Lite file, here written by the test itself."""

import flatbuffers
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medlike.errors import BundleError
from medlike.models.mobilenet import MobileNetV2, PaddedConv2d
from medlike.models.stems import Stem
from medlike_research.development.tflite import convert, convolutions, load_quantised

FLOAT, INT32, UINT8, INT8 = 0, 2, 3, 9


class Writer:
    """A TensorFlow Lite file of convolutions alone, by the numbers of the schema's fields."""

    def __init__(self):
        self.builder = flatbuffers.Builder(1024)
        self.buffers = [self.table(1, {})]
        self.tensors = []
        self.operators = []

    def table(self, size, offsets, scalars=()):
        self.builder.StartObject(size)
        for slot, offset in offsets.items():
            self.builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        for slot, kind, value in scalars:
            getattr(self.builder, f"Prepend{kind}Slot")(slot, value, 0)
        return self.builder.EndObject()

    def offsets(self, items):
        self.builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            self.builder.PrependUOffsetTRelative(item)
        return self.builder.EndVector()

    def vector(self, values, dtype):
        return self.builder.CreateNumpyVector(np.asarray(values, dtype))

    def tensor(self, stored, scale=None, zero=None):
        kind = {"float32": FLOAT, "int32": INT32, "uint8": UINT8, "int8": INT8}[stored.dtype.name]
        self.buffers.append(self.table(1, {0: self.vector(stored.ravel().view(np.uint8), np.uint8)}))
        offsets = {0: self.vector(stored.shape, np.int32)}
        if scale is not None:
            scale = self.vector(scale, np.float32)
            zero = self.vector(zero, np.int64)
            offsets[4] = self.table(4, {2: scale, 3: zero})
        self.tensors.append(self.table(5, offsets, [(1, "Int8", kind), (2, "Uint32", len(self.buffers) - 1)]))
        return len(self.tensors) - 1

    def operator(self, code, *inputs):
        self.operators.append(self.table(2, {1: self.vector(inputs, np.int32)}, [(0, "Uint32", code)]))

    def bytes(self):
        codes = [self.table(4, {}, [(0, "Int8", code), (3, "Int32", code)]) for code in (3, 4, 22)]
        graph = self.table(4, {0: self.offsets(self.tensors), 3: self.offsets(self.operators)})
        offsets = {1: self.offsets(codes), 2: self.offsets([graph]), 4: self.offsets(self.buffers)}
        self.builder.Finish(self.table(5, offsets, [(0, "Uint32", 3)]), b"TFL3")
        return bytes(self.builder.Output())


@pytest.fixture
def numbers():
    return np.random.default_rng(0)


def test_quantised_convolutions_are_read_in_running_order(tmp_path, numbers):
    writer = Writer()
    image = writer.tensor(np.zeros((1, 4, 4, 3), np.uint8))
    plain = numbers.integers(0, 256, (5, 3, 3, 2), dtype=np.uint8)
    bias = numbers.integers(-999, 999, 5, dtype=np.int32)
    depth = numbers.integers(-127, 128, (1, 3, 3, 4), dtype=np.int8)
    scales = np.array([0.5, 0.25, 0.1, 2.0], np.float32)
    point = numbers.random((2, 1, 1, 4), dtype=np.float32)
    names = [
        writer.tensor(plain, [0.02], [131]),
        writer.tensor(bias, [0.001], [0]),
        writer.tensor(depth, scales, [0, 0, 0, 0]),
        writer.tensor(np.arange(4, dtype=np.int32), scales, [0, 0, 0, 0]),
        writer.tensor(point),
        writer.tensor(np.ones(2, np.float32)),
    ]
    writer.operator(0, image, names[0], names[1])
    # An operator of another kind in between is passed over.
    writer.operator(2, image)
    writer.operator(1, image, names[2], names[3])
    writer.operator(0, image, names[4], names[5])
    path = tmp_path / "small.tflite"
    path.write_bytes(writer.bytes())
    first, second, third = convolutions(path)
    assert (first.depthwise, second.depthwise, third.depthwise) == (False, True, False)
    np.testing.assert_allclose(first.weight, 0.02 * (plain.transpose(0, 3, 1, 2) - 131.0), rtol=1e-5)
    np.testing.assert_allclose(first.bias, 0.001 * bias, rtol=1e-5)
    np.testing.assert_allclose(second.weight, (scales * depth).transpose(3, 0, 1, 2), rtol=1e-6)
    np.testing.assert_allclose(second.bias, scales * np.arange(4))
    np.testing.assert_array_equal(third.weight, point.transpose(0, 3, 1, 2))


def whole(network, change=None):
    """The network's own convolutions as a file, quantised to int8 by channel."""
    writer = Writer()
    image = writer.tensor(np.zeros((1, 4, 4, 3), np.uint8))
    layers = [layer for layer in network.modules() if isinstance(layer, PaddedConv2d)]
    for number, layer in enumerate(layers):
        if change == "short" and number == 20:
            break
        depthwise = layer.groups > 1
        weight = layer.weight.detach().numpy()
        if change == "shape" and number == 7:
            weight = weight[:-1]
        scale = np.abs(weight).max(axis=(1, 2, 3)) / 127
        stored = np.round(weight / scale[:, None, None, None]).astype(np.int8)
        stored = stored.transpose(1, 2, 3, 0) if depthwise else stored.transpose(0, 2, 3, 1)
        kernel = writer.tensor(np.ascontiguousarray(stored), scale, np.zeros(len(scale)))
        writer.operator(int(depthwise), image, kernel, writer.tensor(layer.bias.detach().numpy()))
    return writer.bytes()


def test_a_whole_network_loads_by_the_stem(tmp_path):
    torch.manual_seed(0)
    network = MobileNetV2().eval()
    path = tmp_path / "mobilenet.tflite"
    path.write_bytes(whole(network))
    stem = Stem("mobilenet_v2").eval()
    with pytest.raises(BundleError, match="convert it once with medlike-research"):
        stem.load(path)
    stem.load(convert(path, tmp_path / "mobilenet.safetensors"))
    step = network.first.weight.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
    assert ((stem.body.first.weight - network.first.weight).abs() <= step * 0.51).all()
    assert torch.equal(stem.body.stages[6][0].project.bias, network.stages[6][0].project.bias)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        maps, expected = stem(x), network.forward_features(x)
    assert [m.shape[1] for m in maps] == [16, 24, 32, 64, 96, 160, 320]
    assert [64 // m.shape[2] for m in maps] == [2, 4, 8, 16, 16, 32, 32]
    assert F.cosine_similarity(maps[-1].flatten(1), expected[-1].flatten(1)) > 0.99


def test_files_that_do_not_fit_are_refused(tmp_path):
    network = MobileNetV2()
    for change, words in (("short", "20 convolutions"), ("shape", "convolution 7 has shape")):
        path = tmp_path / f"{change}.tflite"
        path.write_bytes(whole(network, change))
        with pytest.raises(BundleError, match=words):
            load_quantised(network, path)
    good = whole(network)
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(good[: len(good) // 2])
    with pytest.raises(BundleError, match="damaged"):
        load_quantised(network, damaged)
    other = tmp_path / "other.tflite"
    other.write_bytes(b"not a model at all")
    with pytest.raises(BundleError, match="no TensorFlow Lite"):
        load_quantised(network, other)
    with pytest.raises(BundleError, match="no weights at"):
        load_quantised(network, tmp_path / "absent.tflite")
