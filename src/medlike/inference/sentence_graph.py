"""The graph of a BERT sentence encoder, built without torch: one sentence in, one vector of unit length out.

Input `tokens`: int64 [L], word pieces with [CLS] and [SEP]. Output `vector`: float32 [1, H]: the mean of the last
layer over all tokens, of unit length (Reimers and Gurevych 2019, mean pooling). A sentence runs alone, so there is no
padding and no mask, and its vector depends on nothing else. Weights stay outside: initialisers are named as in the
model's safetensors file and handed to the runtime when it opens the graph. The graph ships as sentences.onnx, so only
its makers need onnx: python -m medlike.inference.sentence_graph
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medlike.errors import InputError, MissingExtra
from medlike.types import Json

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

GRAPH = Path(__file__).with_name("sentences.onnx")
# Raised when the same weights would give other vectors.
VERSION = 1
KNOWN = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


def sentence_graph(config: Mapping[str, Json], shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """Return the graph as serialised onnx, a few kilobytes.

    Args:
        config: config.json of the model.
        shapes: Shape of each weight by name.

    Raises:
        InputError: The model is no such BERT.
        MissingExtra: onnx is not installed.
    """
    try:
        from onnx import TensorProto, helper
    except ImportError:
        raise MissingExtra("onnx", "train") from None
    for key, supported in KNOWN.items():
        if config.get(key, supported) != supported:
            raise InputError(f"the sentence encoder's {key} is {config[key]!r}; only {supported!r} can be run")
    built = _Graph(config, shapes)
    vector = built.sentence()
    graph = helper.make_graph(
        built.nodes,
        "sentence",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["L"])],
        [helper.make_tensor_value_info(vector, TensorProto.FLOAT, [1, int(config["hidden_size"])])],
        initializer=[*built.constants.values(), *built.weights.values()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString(deterministic=True))


class _Graph:
    """Nodes and weights as they come together; each method adds nodes and returns the name of its value."""

    def __init__(self, config: Mapping[str, Json], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.config, self.shapes = config, shapes
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.weights: dict[str, TensorProto] = {}
        self.epsilon = float(config.get("layer_norm_eps", 1e-12))

    def sentence(self) -> str:
        width, heads = int(self.config["hidden_size"]), int(self.config["num_attention_heads"])
        zero, one = self.constant("zero", np.array([0])), self.constant("one", np.array([1]))
        length = self.add("Shape", ["tokens"])
        places = self.add("Slice", [self.weight("embeddings.position_embeddings.weight"), zero, length])
        kinds = self.add("Slice", [self.weight("embeddings.token_type_embeddings.weight"), zero, one])
        words = self.add("Gather", [self.weight("embeddings.word_embeddings.weight"), "tokens"], axis=0)
        x = self.norm(self.add("Add", [self.add("Add", [words, places]), kinds]), "embeddings")
        split = self.constant("split", np.array([0, heads, width // heads]))
        joined = self.constant("joined", np.array([0, width]))
        scale = self.constant("scale", np.float32(1 / np.sqrt(width // heads)))
        for layer in range(int(self.config["num_hidden_layers"])):
            x = self.layer(x, f"encoder.layer.{layer}", split, joined, scale)
        mean = self.add("ReduceMean", [x], axes=[0], keepdims=1)
        norm = self.add("ReduceL2", [mean], axes=[1], keepdims=1)
        return self.add("Div", [mean, norm], name="vector")

    def layer(self, x: str, name: str, split: str, joined: str, scale: str) -> str:
        attention = f"{name}.attention"
        query, key, value = (
            self.add("Reshape", [self.linear(x, f"{attention}.self.{part}"), split])
            for part in ("query", "key", "value")
        )
        query, value = (self.add("Transpose", [side], perm=[1, 0, 2]) for side in (query, value))
        scores = self.add("MatMul", [query, self.add("Transpose", [key], perm=[1, 2, 0])])
        share = self.add("Softmax", [self.add("Mul", [scores, scale])], axis=-1)
        seen = self.add("Transpose", [self.add("MatMul", [share, value])], perm=[1, 0, 2])
        mixed = self.linear(self.add("Reshape", [seen, joined]), f"{attention}.output.dense")
        x = self.norm(self.add("Add", [mixed, x]), f"{attention}.output")
        wide = self.gelu(self.linear(x, f"{name}.intermediate.dense"))
        return self.norm(self.add("Add", [self.linear(wide, f"{name}.output.dense"), x]), f"{name}.output")

    def gelu(self, x: str) -> str:
        """x Phi(x), exact."""
        half = self.constant("half", np.float32(0.5))
        unit = self.constant("unit", np.float32(1))
        root = self.constant("root", np.float32(np.sqrt(2)))
        erf = self.add("Erf", [self.add("Div", [x, root])])
        return self.add("Mul", [self.add("Mul", [x, self.add("Add", [erf, unit])]), half])

    def linear(self, x: str, name: str) -> str:
        return self.add("Gemm", [x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias")], transB=1)

    def norm(self, x: str, name: str) -> str:
        scale_and_shift = [self.weight(f"{name}.LayerNorm.{part}") for part in ("weight", "bias")]
        return self.add("LayerNormalization", [x, *scale_and_shift], axis=-1, epsilon=self.epsilon)

    def add(self, kind: str, inputs: list[str], name: str | None = None, **attributes: Json) -> str:
        from onnx import helper

        output = name or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: object) -> str:
        from onnx import numpy_helper

        self.constants.setdefault(name, numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, name: str) -> str:
        """Add a weight that is handed over when the graph is opened: no bytes of it are stored here."""
        from onnx import TensorProto

        if name not in self.shapes:
            raise InputError(f"the sentence encoder's weights lack {name}; give a folder of a BERT model")
        if name not in self.weights:
            tensor = TensorProto(
                name=name, data_type=TensorProto.FLOAT, dims=self.shapes[name], data_location=TensorProto.EXTERNAL
            )
            tensor.external_data.add(key="location", value="handed over")
            self.weights[name] = tensor
        return name


def installed_graph() -> bytes:
    """Return the graph of the installed weights, as it ships."""
    import json

    from safetensors import safe_open

    from medlike.inference.sentence_weights import CONFIG, WEIGHTS, intact_part, text_folder

    config = json.loads(intact_part(text_folder(), CONFIG).read_text(encoding="utf-8"))
    with safe_open(intact_part(text_folder(), WEIGHTS), framework="numpy") as weights:
        shapes = {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    return sentence_graph(config, shapes)


if __name__ == "__main__":
    GRAPH.write_bytes(installed_graph())
