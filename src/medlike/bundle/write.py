"""Writing a bundle: weights beside the graph, golden bits, digests; all of it or nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medlike.bundle import bundle as folder
from medlike.bundle.phantoms import COUNT, packed_pictures, phantoms
from medlike.bundle.session import HALF, code_values, open_session
from medlike.bundle.text_bundle import golden_rows, golden_values
from medlike.errors import BundleError, MissingExtra
from medlike.files import drafted_folder
from medlike.types import Array, Json, JsonObject

if TYPE_CHECKING:
    from onnx import ModelProto

# Smaller tensors (batch statistics, biases, scales) stay float32: they cost little and carry much.
HALF_FROM = 1024
HALF_LIMIT = 6.0e4

REQUIRED = ("name", "preset", "bits", "content_dim")
# What `rewrite` may not change.
FIXED = (
    "format", "kind", "bits", "content_dim", "local_bits", "outputs", "preset", "precision", "text", "golden",
    "files", "preprocessing",
)  # fmt: skip
EITHER: JsonObject = {
    "labels": {},
    "network": {},
    "precision": "float32",
    "training": {},
    "quality": {},
    "terms": "",
}
DEFAULTS: dict[str, JsonObject] = {
    "image": {
        **EITHER,
        "local_bits": None,
        "modalities": [],
        "preprocessing": {"size": 224, "fit": "letterbox", "padding": 0, "range": "uint8"},
        "outlier": None,
        "content_blocks": None,
    },
    "text": {**EITHER, "kind": "text", "text": {}},
}
OUTPUTS = {"image": ("bits", "content"), "text": ("bits", "embedding")}
# What a text bundle must say of the two encoders it goes with.
TEXT_REQUIRED = ("image_encoder_digest", "image_bundle", "sentence_digest", "sentence_width", "embedding_dim")


def write(
    path: str | Path,
    graph: ModelProto,
    arrays: Mapping[str, Array],
    spec: Mapping[str, Json],
    *,
    replace: bool = False,
) -> folder.Bundle:
    """Write a bundle and return it, loaded.

    The golden inputs are encoded by the graph as written.

    Args:
        path: A folder.
        graph: For an image bundle a graph with input "image" uint8 [N, S, S], S being
            `preprocessing.size` (224), and outputs "bits" and "content" at
            least; for a text bundle inputs as in `bundle.text_bundle` and outputs "bits" and "embedding". Its large
            float32 initialisers are stored as float16.
        arrays: Every other array, by name.
        spec: name, preset, bits, content_dim, and anything of DEFAULTS; a measured `quality` and `terms` should be
            among it. A text bundle has `"kind": "text"`, and TEXT_REQUIRED under "text".
        replace: Take the place of a bundle at `path`.

    Raises:
        BundleError: The specification or the graph is wrong, or `path` is taken.
        MissingExtra: onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtra("onnx", "train") from None
    complete = _complete(spec, [output.name for output in graph.graph.output])
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    with _beside(Path(path), replace) as draft:
        weights = _externalised(model)
        _save_arrays(draft / folder.WEIGHTS, weights)
        _point_into(model, draft / folder.WEIGHTS)
        (draft / folder.GRAPH).write_bytes(model.SerializeToString(deterministic=True))
        folder.require_covered(draft / folder.GRAPH)
        values, golden = _golden(draft, complete)
        if values.shape[1] != complete["bits"]:
            raise BundleError(f"the graph gives {values.shape[1]} bits, not the {complete['bits']} specified")
        complete["golden"] = {"count": COUNT}
        _save_arrays(draft / folder.ARRAYS, {**arrays, **golden})
        _seal(draft, complete)
    return folder.Bundle.load(path, kind=None)


def rewrite(
    bundle: folder.Bundle,
    path: str | Path,
    arrays: Mapping[str, Array] | None = None,
    spec: Mapping[str, Json] | None = None,
    *,
    replace: bool = False,
) -> folder.Bundle:
    """Copy a bundle to `path` with the same network, some arrays and some of the specification replaced.

    The copy of a view holds all of its files; that of a joint bundle has its text part.

    Args:
        bundle: The bundle to copy.
        path: A folder.
        arrays: New arrays by name; an empty one removes the array.
        spec: New values by key. What fixes the codes (bits, ...) cannot be changed.
        replace: Take the place of a bundle at `path`.

    Raises:
        BundleError: The network fixes a key of `spec`, or `path` is taken.
    """
    changed = dict(bundle.spec)
    for key, value in (spec or {}).items():
        if key in FIXED and value != bundle.spec.get(key):
            raise BundleError(f"{key} is fixed by the network; export another bundle to change it")
        changed[key] = value
    combined = {name: bundle.array(name) for name in bundle.array_names()} | dict(arrays or {})
    with _beside(Path(path), replace) as draft:
        for name in (folder.GRAPH, folder.WEIGHTS):
            (draft / name).write_bytes(bundle.file(name))
        if bundle.text_part is not None:
            shutil.copytree(bundle.text_part, draft / folder.TEXT_PART)
        _save_arrays(draft / folder.ARRAYS, {name: value for name, value in combined.items() if value.size})
        _seal(draft, changed)
    return folder.Bundle.load(path, kind=None)


def _golden(draft: Path, spec: Mapping[str, Json]) -> tuple[Array, dict[str, Array]]:
    """Return the values that the graph in `draft` gives of the golden inputs, and arrays of these and their bits."""
    session = open_session(draft / folder.GRAPH)
    if spec.get("kind") == "text":
        content, sentences = golden_rows(spec["content_dim"], spec["text"]["sentence_width"])
        values = golden_values(session, content, sentences)
        inputs: dict[str, Array] = {"golden.content": content, "golden.sentences": sentences}
    else:
        pictures = phantoms(COUNT, spec["preprocessing"]["size"])
        values = code_values(session, pictures)
        inputs = {"golden.inputs": packed_pictures(pictures)}
    return values, inputs | {"golden.code": np.packbits(values > 0, axis=1)}


def _complete(spec: Mapping[str, Json], outputs: list[str]) -> JsonObject:
    missing = [key for key in REQUIRED if key not in spec]
    if missing:
        raise BundleError(f"the specification lacks {', '.join(missing)}")
    kind = str(spec.get("kind", "image"))
    if kind not in DEFAULTS:
        raise BundleError(f"unknown kind of bundle: {kind}; known: {', '.join(DEFAULTS)}")
    unknown = sorted(set(spec) - set(REQUIRED) - set(DEFAULTS[kind]))
    if unknown:
        known = ", ".join((*REQUIRED, *DEFAULTS[kind]))
        raise BundleError(f"unknown in the specification: {', '.join(unknown)}; known: {known}")
    if kind == "text":
        lacking = [key for key in TEXT_REQUIRED if key not in spec.get("text", {})]
        if lacking:
            raise BundleError(f"the specification lacks text.{', text.'.join(lacking)}")
    bits = int(spec["bits"])
    if bits % 8 or not 8 <= bits <= 1024:
        raise BundleError(f"{bits} bits; a code has a multiple of 8, from 8 to 1024")
    blocks = spec.get("content_blocks")
    if blocks is not None and sum(blocks) != spec["content_dim"]:
        raise BundleError(f"content_blocks {blocks} do not sum to content_dim {spec['content_dim']}")
    for name in OUTPUTS[kind]:
        if name not in outputs:
            raise BundleError(f"the graph has no output {name!r}; it has: {', '.join(outputs)}")
    return {**DEFAULTS[kind], **spec, "format": folder.FORMAT, "outputs": outputs}


def _externalised(model: ModelProto) -> dict[str, Array]:
    """Take the float initialisers out of the graph; large ones become float16 followed by a Cast."""
    from onnx import TensorProto, helper, numpy_helper

    weights: dict[str, Array] = {}
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            continue
        name = tensor.name
        value = numpy_helper.to_array(tensor)
        if value.size == 1:  # a constant of some operation, no weight
            continue
        large = value.dtype == np.float32 and value.size >= HALF_FROM and value.ndim >= 2
        if large and np.abs(value).max(initial=0) < HALF_LIMIT:
            value = value.astype(np.float16)
            tensor.name = f"{name}{HALF}"
            tensor.data_type = TensorProto.FLOAT16
            cast = helper.make_node("Cast", [tensor.name], [name], name=f"cast.{name}", to=TensorProto.FLOAT)
            casts.append(cast)
        weights[name] = value
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(casts + nodes)
    return weights


def _point_into(model: ModelProto, weights: Path) -> None:
    """Make each float initialiser of the graph point at its bytes inside the safetensors file."""
    from onnx import TensorProto

    raw = weights.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    for tensor in model.graph.initializer:
        name = tensor.name.removesuffix(HALF)
        if name not in header or tensor.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            continue
        begin, end = header[name]["data_offsets"]
        place = {"location": weights.name, "offset": str(8 + length + begin), "length": str(end - begin)}
        for field in ("raw_data", "float_data", "int32_data"):
            tensor.ClearField(field)
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)


def _save_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    from safetensors.numpy import save

    path.write_bytes(save({name: np.ascontiguousarray(value) for name, value in arrays.items()}))


def _seal(draft: Path, spec: JsonObject) -> None:
    spec["files"] = {
        name: {"bytes": (draft / name).stat().st_size, "sha256": folder.file_digest(draft / name)}
        for name in folder.FILES
    }
    spec["digest"] = hashlib.sha256(folder.canonical(spec)).hexdigest()
    text = json.dumps(spec, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    (draft / folder.SPECIFICATION).write_text(text, encoding="utf-8")
    for name in (folder.SPECIFICATION, *folder.FILES):
        (draft / name).chmod(0o644)


@contextmanager
def _beside(path: Path, replace: bool) -> Iterator[Path]:
    """Yield a draft folder that becomes the bundle at `path` on success and vanishes on failure."""
    if path.exists() and not (path / folder.SPECIFICATION).is_file():
        raise BundleError(f"{path} exists and is not a bundle; choose another path")
    if path.exists() and not replace:
        raise BundleError(f"a bundle is already at {path}; choose another path or ask to replace it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with drafted_folder(path, 0o700, replace=True) as draft:
        yield draft
        draft.chmod(0o755)
