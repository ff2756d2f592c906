"""Fixtures that every room shares."""

import csv
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from PIL import Image

# Examples are judged by what they find, never by how long a busy machine takes to draw them.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

TINY_BITS = 64
TINY_CONTENT = 32
TINY_FEATURES = 16
TINY_LOCAL = 64
TINY_MODALITIES = ["CT", "MR", "XR"]
TINY_EMBEDDING = 8
SENTENCE_WIDTH = 384


def tiny_graph(seed=0, regional=False):
    """A random network of one pooling and a few products, as an onnx graph: quick to make and to run."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(seed)

    def constant(name, value):
        return numpy_helper.from_array(np.asarray(value), name)

    weights = [
        constant("scale", np.float32(255)),
        constant("axis", np.array([1], np.int64)),
        constant("rows", np.array([0, 196], np.int64)),
        constant("to_bits", random.normal(size=(196, TINY_BITS)).astype(np.float32)),
        constant("to_content", random.normal(size=(196, TINY_CONTENT)).astype(np.float32)),
        constant("to_features", random.normal(size=(196, TINY_FEATURES)).astype(np.float32)),
        constant("to_modality", random.normal(size=(196, len(TINY_MODALITIES))).astype(np.float32)),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["wide", "scale"], ["unit"]),
        helper.make_node("Unsqueeze", ["unit", "axis"], ["planes"]),
        helper.make_node("AveragePool", ["planes"], ["pooled"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Reshape", ["pooled", "rows"], ["raw"]),
        helper.make_node("ReduceMean", ["raw"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["raw", "mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "to_bits"], ["bits"]),
        helper.make_node("MatMul", ["flat", "to_content"], ["content"]),
        helper.make_node("MatMul", ["flat", "to_features"], ["outlier_features"]),
        helper.make_node("MatMul", ["flat", "to_modality"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["modality"], axis=1),
    ]
    shapes = {
        "bits": ["N", TINY_BITS],
        "content": ["N", TINY_CONTENT],
        "outlier_features": ["N", TINY_FEATURES],
        "modality": ["N", len(TINY_MODALITIES)],
    }
    if regional:
        weights += [
            constant(
                "to_cells",
                random.normal(size=(9, TINY_LOCAL))
                .astype(np.float32)
                .reshape(9, -1)
                .T.reshape(TINY_LOCAL, 1, 3, 3),
            ),
        ]
        nodes += [
            helper.make_node("Sub", ["pooled", "half"], ["centred"]),
            helper.make_node("Conv", ["centred", "to_cells"], ["maps"], pads=[1, 1, 1, 1]),
            helper.make_node("Transpose", ["maps"], ["cells"], perm=[0, 2, 3, 1]),
        ]
        weights.append(constant("half", np.float32(0.3)))
        shapes["cells"] = ["N", 14, 14, TINY_LOCAL]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 224, 224])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        initializer=weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def tiny_pictures(count, seed=0):
    """Smooth random pictures with a body and a dark surround, uint8 [count, 224, 224]."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, size=(count, 8, 8)).astype(np.uint8)
    pictures = coarse.repeat(28, axis=1).repeat(28, axis=2)
    y, x = np.mgrid[0:224, 0:224] - 111.5
    pictures[:, np.hypot(y, x) > 105] = 0
    return pictures


def make_tiny_bundle(path, name="tiny-64", seed=0, regional=False):
    """Write a random bundle with an outlier part; returns it loaded."""
    from medlike import bundle
    from medlike.inference import Encoder, fit_outlier

    spec = {
        "name": name,
        "preset": "tiny",
        "bits": TINY_BITS,
        "content_dim": TINY_CONTENT,
        "local_bits": TINY_LOCAL if regional else None,
        "modalities": TINY_MODALITIES,
        "terms": "random numbers",
    }
    bare = bundle.write(path, tiny_graph(seed, regional), {}, spec)
    with Encoder(bare, threads=1) as encoder:
        features = encoder.features(list(tiny_pictures(120, seed=1)), "outlier_features")
    arrays, facts = fit_outlier(features[:60], features[60:], ["CT"] * 60)
    return bundle.rewrite(bare, path, arrays, {"outlier": facts}, replace=True)


def tiny_text_graph(content_dim, bits, seed=0):
    """A random network that adds what it makes of image and sentence, as the onnx graph of a text bundle."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(seed)

    def weight(name, *shape):
        return numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name)

    nodes = []
    for side in ("content", "sentence"):
        nodes += [
            helper.make_node("ReduceL2", [side], [f"{side}.norm"], axes=[1]),
            helper.make_node("Max", [f"{side}.norm", "floor"], [f"{side}.safe"]),
            helper.make_node("Div", [side, f"{side}.safe"], [f"{side}.unit"]),
            helper.make_node("MatMul", [f"{side}.unit", f"to.{side}"], [f"{side}.seen"]),
        ]
    nodes += [
        helper.make_node("MatMul", ["present", "masks"], ["masked"]),
        helper.make_node("Sum", ["content.seen", "sentence.seen", "masked"], ["raw"]),
        helper.make_node("ReduceL2", ["raw"], ["norm"], axes=[1]),
        helper.make_node("Div", ["raw", "norm"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "to.bits"], ["bits"]),
    ]
    weights = [
        weight("to.content", content_dim, TINY_EMBEDDING),
        weight("to.sentence", SENTENCE_WIDTH, TINY_EMBEDDING),
        weight("masks", 2, TINY_EMBEDDING),
        weight("to.bits", TINY_EMBEDDING, bits),
        numpy_helper.from_array(np.float32(1e-6), "floor"),
    ]
    inputs = {"content": content_dim, "sentence": SENTENCE_WIDTH, "present": 2}
    outputs = {"bits": bits, "embedding": TINY_EMBEDDING}
    told = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width]) for name, width in part.items()]
        for part in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "tiny text", *told, initializer=weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def make_tiny_text_bundle(path, image_bundle, bits=16, seed=0, name="tiny-text-16", sentence_digest=""):
    """Write a random text bundle that goes with an image bundle; returns it loaded. "": any sentence encoder."""
    from medlike import bundle

    spec = {
        "name": name,
        "kind": "text",
        "preset": "tiny",
        "bits": bits,
        "content_dim": image_bundle.content_dim,
        "text": {
            "image_encoder_digest": image_bundle.encoder_digest,
            "image_bundle": image_bundle.name,
            "sentence_digest": sentence_digest,
            "sentence_width": SENTENCE_WIDTH,
            "embedding_dim": TINY_EMBEDDING,
        },
        "terms": "random numbers",
    }
    return bundle.write(path, tiny_text_graph(image_bundle.content_dim, bits, seed), {}, spec)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory):
    """A bundle of 64 random bits, 32 content values and an outlier part: made in a second, quick to run."""
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny-64")


@pytest.fixture(scope="session")
def tiny_regional_bundle(tmp_path_factory):
    """As tiny_bundle, with 64 local bits a cell."""
    return make_tiny_bundle(
        tmp_path_factory.mktemp("bundles") / "tiny-regional-64", "tiny-regional-64", 0, True
    )


@pytest.fixture(scope="session")
def tiny_text_bundle(tmp_path_factory, tiny_bundle):
    """A random text bundle of 16 bits and 8 numbers that goes with tiny_bundle."""
    return make_tiny_text_bundle(tmp_path_factory.mktemp("bundles") / "tiny-text-16", tiny_bundle)


@pytest.fixture(scope="session")
def collections():
    """Folder of the development collections (MEDLIKE_DEV); the test is skipped where they are absent."""
    import os

    folder = Path(os.environ.get("MEDLIKE_DEV", "")).expanduser()
    if not os.environ.get("MEDLIKE_DEV") or not (folder / "dev" / "manifest.csv").is_file():
        pytest.skip("the development collections are absent: MEDLIKE_DEV does not point at them")
    return folder


@pytest.fixture(name="make_tiny_bundle", scope="session")
def _make_tiny_bundle():
    """make_tiny_bundle(path, name=, seed=, regional=): another tiny bundle."""
    return make_tiny_bundle


@pytest.fixture(name="make_tiny_text_bundle", scope="session")
def _make_tiny_text_bundle():
    """make_tiny_text_bundle(path, image_bundle, bits=, seed=, name=, sentence_digest=): another one."""
    return make_tiny_text_bundle


@pytest.fixture(name="tiny_graph", scope="session")
def _tiny_graph():
    """tiny_graph(seed=, regional=): the onnx graph of a tiny bundle."""
    return tiny_graph


@pytest.fixture(name="tiny_pictures", scope="session")
def _tiny_pictures():
    """tiny_pictures(count, seed=): smooth random pictures, uint8 [count, 224, 224]."""
    return tiny_pictures


def write_phantoms(folder, each=12, strange=0, size=96, first=0):
    """A manifest of drawn images under `folder`: 8 labels (kind, with or without lesion), `each` of a label.

    Every image is one patient's, turned and moved about, so that no two are near-duplicates. strange: pictures of
    two kinds that are no radiological image.
    """
    from medlike.datasets.phantoms import KINDS, draw
    from medlike.imaging import from_array, render

    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for kind in KINDS:
        for lesion in (False, True):
            for number in range(each):
                seed = first + 1000 * lesion + number
                drawn = draw(kind, seed, lesion, size)
                random = np.random.default_rng((seed, len(rows)))
                grey = render(from_array(drawn.pixels))
                grey = np.rot90(grey, int(random.integers(4)))
                shift = random.integers(-size // 5, size // 5 + 1, 2)
                grey = np.roll(grey, tuple(int(v) for v in shift), (0, 1))
                name = f"{kind}-{int(lesion)}-{number}.png"
                Image.fromarray(np.ascontiguousarray(grey)).save(folder / name)
                label = f"{drawn.modality}_{drawn.region}_{'lesion' if lesion else 'normal'}"
                rows.append({
                    "path": name, "class": f"{drawn.modality}_{drawn.region}", "source": f"phantom-{drawn.modality}",
                    "group": f"{kind}-{int(lesion)}-{number}", "modality": drawn.modality, "region": drawn.region,
                    "label": label, "licence": "CC0",
                })  # fmt: skip
    for number in range(strange):
        kind = ("checks", "stripes")[number % 2]
        random = np.random.default_rng((first + number, 99))
        cell = int(random.integers(3, 9))
        y, x = np.mgrid[0:size, 0:size] // cell
        pattern = (x + y) % 2 if kind == "checks" else x % 2
        grey = (pattern * random.integers(120, 256) + random.integers(0, 40, (size, size))).clip(0, 255)
        Image.fromarray(grey.astype(np.uint8)).save(folder / f"{kind}-{number}.png")
        rows.append({
            "path": f"{kind}-{number}.png", "class": f"OOD_{kind}", "source": kind, "group": f"{kind}-{number}",
            "label": f"OOD_{kind}", "licence": "CC0",
        })  # fmt: skip
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return folder


@pytest.fixture(name="write_phantoms", scope="session")
def _write_phantoms():
    """write_phantoms(folder, each=, strange=, size=): a manifest of drawn images."""
    return write_phantoms


@pytest.fixture(scope="module")
def open_clip():
    """open_clip, imported from the folder of its own that the Makefile puts it in.

    Beside a CPU build of torch the operators that torchvision brings compiled are missing: they are declared first,
    and nothing here calls them.
    """
    import torch

    apart = str(Path(sys.prefix) / "open-clip")
    sys.path.append(apart)
    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401
    import open_clip

    yield open_clip
    sys.path.remove(apart)
