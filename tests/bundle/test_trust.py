"""A bundle may come from anybody: its digest covers all that it reads, and its specification stays within bounds."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from medlike.bundle import Bundle, shipped
from medlike.bundle.bundle import ARRAYS, GRAPH, SPECIFICATION, WEIGHTS, canonical, file_digest
from medlike.bundle.graph_files import named_files
from medlike.bundle.phantoms import packed_pictures, unpacked_pictures
from medlike.errors import BundleError
from medlike.inference.encoder import Encoder

DIGESTS = {
    "medlike-compact-64": "791ab5bc3948418111b8ffa8135e304cd1ad6bc964e305bfeb6f215632b669d8",
    "medlike-hmar-64": "9b296c695e5d99b148783eeea74711e8b2afc8f72cb3e24ad1903f72e9a0a679",
    "medlike-itq-64": "dd5a390fc204b34661f77721fdb76b5d814a811ebf88fc3f5d3bffd537a94678",
    "medlike-text-16": "04091c7adb7b1be3bf5cb66487b1e15b099b99274eafe8d85237782c67d6f734",
}


@pytest.fixture
def copy(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle.path, tmp_path / "copy")


def forge(folder, **changes):
    """Change a specification, or what it says of the files, and make its digest right again."""
    spec = json.loads((folder / SPECIFICATION).read_text())
    for name in spec["files"]:
        spec["files"][name] = {"bytes": (folder / name).stat().st_size, "sha256": file_digest(folder / name)}
    spec |= changes
    spec["digest"] = hashlib.sha256(canonical(spec)).hexdigest()
    (folder / SPECIFICATION).write_text(json.dumps(spec))


def test_shipped_bundles_name_their_weights_alone_and_keep_their_digests():
    assert {name: Bundle.load(name, kind=None).digest for name in shipped(None)} == DIGESTS
    for name in DIGESTS:
        assert named_files(Bundle.load(name, kind=None).graph.read_bytes()) == {WEIGHTS}


@pytest.mark.parametrize("place", ["other.bin", "../secret", "/etc/passwd", "sub/weights.safetensors", "", "a\0b"])
@pytest.mark.parametrize("where", ["initialiser", "constant", "branch", "sparse", "function"])
def test_a_graph_may_name_no_other_file(copy, place, where):
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(str(copy / GRAPH), load_external_data=False)
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=place)
    tensor.external_data.add(key="offset", value="0")
    constant = helper.make_node("Constant", [], ["t"])
    constant.attribute.append(onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=tensor))
    if where == "initialiser":
        model.graph.initializer.append(tensor)
    elif where == "sparse":
        model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=tensor, dims=[1]))
    elif where == "constant":
        model.graph.node.append(constant)
    elif where == "branch":
        inner = helper.make_graph([constant], "inner", [], [])
        model.graph.node.append(helper.make_node("If", ["c"], ["o"], then_branch=inner, else_branch=inner))
    else:
        opsets = [helper.make_opsetid("", 17)]
        model.functions.append(helper.make_function("own", "f", [], ["t"], [constant], opsets))
    (copy / GRAPH).write_bytes(model.SerializeToString())
    forge(copy)
    with pytest.raises(BundleError, match="the bundle's digest does not cover"):
        Bundle.load(copy)


@pytest.mark.parametrize("data", [b"\xff" * 50, b"\x3a\xff\xff\xff\xff\x0f", b"\x38\x01", b"\x3a\x02\x2a\x7f"])
def test_a_graph_that_is_none_is_refused(copy, data):
    (copy / GRAPH).write_bytes(data)
    forge(copy)
    with pytest.raises(BundleError, match="is no ONNX graph"):
        Bundle.load(copy)


def test_endless_branches_are_refused():
    data = b""
    for _ in range(3000):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # graph in attribute in node in graph
            size, length = len(data), b""
            while size > 127:
                length, size = length + bytes([size & 127 | 128]), size >> 7
            data = tag + length + bytes([size]) + data
    with pytest.raises(ValueError, match="nested deeper"):
        named_files(b"\x3a" + _length(data) + data)


def _length(data):
    size, length = len(data), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return length + bytes([size])


OUTLIER = {"k": 5, "threshold": 0.03, "least_units": 200, "normalise": True, "components": ["a"], "modalities": []}
WRONG = [
    {"bits": 0}, {"bits": 7}, {"bits": 10**9}, {"bits": 10**30}, {"bits": "64"}, {"bits": True}, {"bits": None},
    {"bits": -64}, {"bits": 64.0}, {"content_dim": 0}, {"content_dim": 10**12}, {"local_bits": 63},
    {"local_bits": 4096}, {"outputs": "bits"}, {"outputs": [1]}, {"outputs": ["x"] * 100}, {"golden": {"count": 0}},
    {"golden": {"count": 10**9}}, {"golden": 7}, {"name": "a/b"}, {"name": ".."}, {"name": "a\x1b[31m"},
    {"name": "x" * 300}, {"name": 7}, {"modalities": ["CT"] * 300}, {"modalities": {"a": 1}}, {"labels": [1]},
    {"files": []}, {"files": {}}, {"kind": "video"}, {"outlier": [1]},
    *({"outlier": {**OUTLIER, key: value}} for key, value in (
        ("k", 0), ("k", 10**9), ("threshold", 0), ("threshold", 1.5), ("threshold", "0.03"), ("threshold", None),
        ("least_units", -1), ("normalise", 1), ("components", []), ("components", "ab"), ("modalities", [None]),
    )),
]  # fmt: skip


@pytest.mark.parametrize("change", WRONG)
def test_a_specification_beyond_bounds_is_refused(copy, change):
    forge(copy, **change)
    (key,) = change
    with pytest.raises(BundleError, match=key):
        Bundle.load(copy)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "9" * 400, "1e999", "[" * 3000])
def test_a_specification_that_is_beyond_json_is_refused(copy, text):
    (copy / SPECIFICATION).write_text(f'{{"format": 1, "bits": {text}}}')
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.load(copy)


@pytest.mark.parametrize("data", [b"", b"\xff" * 64, b"short"])
def test_arrays_that_are_none_are_refused_whatever_their_digest(copy, data):
    (copy / ARRAYS).write_bytes(data)
    forge(copy)
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.load(copy).array("golden.inputs")


def test_content_of_another_size_than_stated_is_refused_before_it_is_stored(copy):
    forge(copy, content_dim=Bundle.load(copy).content_dim + 1)
    with Encoder(Bundle.load(copy)) as encoder, pytest.raises(BundleError, match="content of shape"):
        encoder.encode([np.zeros((224, 224), np.uint8)])


def test_files_beside_the_stated_ones_are_no_part_of_a_bundle(copy):
    spec = json.loads((copy / SPECIFICATION).read_text())
    (copy / "extra.bin").write_bytes(b"x")
    stated = {"bytes": 1, "sha256": file_digest(copy / "extra.bin")}
    forge(copy, files=spec["files"] | {"../x": stated})
    with pytest.raises(BundleError, match="files names"):
        Bundle.load(copy)


def test_golden_inputs_unpack_to_their_own_size_only():
    bomb = packed_pictures(np.zeros((64, 224, 224), np.uint8))
    with pytest.raises(ValueError, match="bytes or more"):
        unpacked_pictures(bomb, 1)
    with pytest.raises(ValueError):
        unpacked_pictures(np.frombuffer(b"no stream", np.uint8), 1)
