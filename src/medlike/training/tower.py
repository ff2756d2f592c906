"""A vision tower as an ONNX file: what it takes, what it gives, and its pooled features."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medlike import strict_json
from medlike.bundle.phantoms import phantoms
from medlike.bundle.session import open_session
from medlike.errors import BundleError, MissingExtra, TrainingError
from medlike.types import F32, U8, Array, Json

if TYPE_CHECKING:
    from onnx import ModelProto

# Means and deviations of pixels in 0 to 1, by name.
NORMALISATIONS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5,), (0.5,)),
    "unit": ((0.0,), (1.0,)),
    "bytes": ((0.0,), (1 / 255,)),
}
LEAST_OPSET = 13
MOST_PREFIX = 16  # class and register tokens before those of the patches
UNKNOWN_LICENCE = "unknown: check it"


@dataclass(frozen=True)
class TowerFacts:
    """What is known of a tower besides its graph; None where it is to be found out.

    Attributes:
        size: Side of the square picture, pixels.
        mean: Mean that is taken off each channel of pixels in 0 to 1.
        std: Deviation that each channel is divided by.
        licence: Of the weights.
    """

    size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    licence: str | None = None


@dataclass(frozen=True)
class Pooling:
    """How one output becomes features.

    Attributes:
        output: Name of the output.
        layout: "NCHW" or "NHWC" maps, "tokens", or a "vector".
        shape: Of the output for one picture.
        prefix: Tokens before those of the patches.
    """

    output: str
    layout: str
    shape: tuple[int, ...]
    prefix: int = 0

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the numbers of features: of the class token and the mean over patches, or of the one vector."""
        width = self.shape[1] if self.layout == "NCHW" else self.shape[-1]
        return (width, width) if self.prefix else (width,)

    def pooled(self, value: Array) -> F32:
        """Return the features of an output, float32 [sum of widths]."""
        value = value.astype(np.float32)
        if self.layout == "tokens":
            parts = [value[0, 0]] if self.prefix else []
            return np.concatenate([*parts, value[0, self.prefix :].mean(axis=0)])
        axes = {"NCHW": (2, 3), "NHWC": (1, 2), "vector": ()}[self.layout]
        return np.asarray(value.mean(axis=axes)).ravel()


@dataclass(frozen=True, eq=False)
class Tower:
    """A vision tower that can be run as its makers meant it.

    Attributes:
        source: What was asked for, such as onnx:FILE.
        file: The ONNX file.
        size: Side of the square picture, pixels.
        channels: 1 or 3; three are equal, since pictures are grey.
        layout: "NCHW" or "NHWC" of its input.
        kind: NumPy type of its input: float32, float16 or uint8.
        mean: Of each channel, for pixels in 0 to 1.
        std: Of each channel.
        licence: Of the weights.
        poolings: How each output becomes features.
    """

    source: str
    file: Path
    size: int
    channels: int
    layout: str
    kind: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str
    poolings: tuple[Pooling, ...]

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the numbers of features of each depth."""
        return tuple(width for pooling in self.poolings for width in pooling.widths)

    def scale(self) -> tuple[F32, F32]:
        """Return factor and offset of each channel, float32 [C]: input = grey value * factor + offset."""
        std = np.asarray(self.std)
        return (1 / (255 * std)).astype(np.float32), (-np.asarray(self.mean) / std).astype(np.float32)

    def taken(self, picture: U8) -> Array:
        """Return a grey picture, uint8 [S, S], as the tower takes it: one picture of `kind` and `layout`."""
        return _taken(picture, self.channels, self.layout, self.kind, *self.scale())

    def runner(self) -> TowerRunner:
        """Open the graph."""
        return TowerRunner(self)


class TowerRunner:
    """Run a tower's graph itself, one picture at a time; calls may run in parallel."""

    def __init__(self, tower: Tower) -> None:
        self.tower = tower
        self._session = open_session(tower.file)
        self._input = self._session.get_inputs()[0].name

    def pooled(self, picture: U8) -> F32:
        """Return the features of a picture, uint8 [S, S]: float32 [P]."""
        poolings = self.tower.poolings
        values = self._session.run([p.output for p in poolings], {self._input: self.tower.taken(picture)})
        return np.concatenate([pooling.pooled(value) for pooling, value in zip(poolings, values, strict=True)])


def read_tower(
    source: str, file: Path, facts: TowerFacts = TowerFacts(), outputs: Sequence[str] = (), normalise: str | None = None
) -> Tower:
    """Read a tower from an ONNX file.

    Size, layout and channels are those of the graph's input. What it does not state is read from the file's metadata,
    or from preprocessor_config.json and README.md beside it or one folder above.

    Args:
        source: What was asked for.
        file: The ONNX file; tensors outside of it lie beside it.
        facts: What is known already; it comes first.
        outputs: Names of the outputs to use; all by default.
        normalise: A name of `NORMALISATIONS`, or means and deviations such as 0.5,0.5,0.5/0.2,0.2,0.2.

    Raises:
        TrainingError: The graph is no vision tower, or something that decides its input is not known.
    """
    model = load_graph(file)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < LEAST_OPSET:
        raise TrainingError(f"{file} has opset {opset}; export it again with opset {LEAST_OPSET} or later")
    shape, kind = _input(model, file)
    layout, channels = _layout(shape, file)
    sides = shape[2:] if layout == "NCHW" else shape[1:3]
    stated = _stated(model, file)
    size = _size(file, sides, facts.size, stated.size)
    mean, std = _normalisation(file, channels, kind, normalise, facts, stated)
    plain = Tower(
        source, file, size, channels, layout, kind, mean, std,
        facts.licence or stated.licence or UNKNOWN_LICENCE, (),
    )  # fmt: skip
    return Tower(**{**vars(plain), "poolings": _poolings(plain, outputs)})


def load_graph(file: Path) -> ModelProto:
    """Return an ONNX file with the tensors that lie beside it. Raises TrainingError where it is none."""
    try:
        import onnx
    except ImportError:
        raise MissingExtra("onnx", "train") from None
    if not file.is_file():
        raise TrainingError(f"{file} does not exist; give the ONNX file of a vision tower")
    try:
        return onnx.load(file)
    except Exception as error:  # protobuf's and onnx's own share no base class
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise TrainingError(
            f"{file} cannot be read as ONNX ({reason}); files that it names must lie beside it"
        ) from error


def _input(model: ModelProto, file: Path) -> tuple[list[int], str]:
    """Return shape and type of a graph's one input; 0 is an open dimension."""
    from onnx import helper

    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise TrainingError(f"{file} takes {len(inputs)} inputs ({names}); export the vision tower alone")
    tensor = inputs[0].type.tensor_type
    shape = [dimension.dim_value for dimension in tensor.shape.dim]
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
    if len(shape) != 4 or kind not in ("float32", "float16", "uint8") or shape[0] not in (0, 1):
        raise TrainingError(
            f"{file} takes {kind} {shape}; one picture of float32, float16 or uint8 [1, 3, H, W] is read"
        )
    return shape, kind


def _layout(shape: Sequence[int], file: Path) -> tuple[str, int]:
    if shape[1] in (1, 3):
        return "NCHW", shape[1]
    if shape[3] in (1, 3):
        return "NHWC", shape[3]
    if shape[1] == 0:
        return "NCHW", 3
    raise TrainingError(f"{file} takes pictures of shape {list(shape)}; 1 or 3 channels are read")


def _size(file: Path, sides: Sequence[int], *known: int | None) -> int:
    fixed = {side for side in sides if side}
    stated = next((size for size in known if size), None)
    if len(fixed) > 1 or (known[0] and fixed - {known[0]}):
        raise TrainingError(f"{file} takes pictures of {sides[0]} x {sides[1]} pixels; a square of this size is needed")
    size = fixed.pop() if fixed else stated
    if size is None:
        raise TrainingError(f"{file} does not say how large its pictures are; give --size, such as --size 224")
    return size


def _normalisation(
    file: Path, channels: int, kind: str, named: str | None, facts: TowerFacts, stated: TowerFacts
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if kind == "uint8":
        named = "bytes"
    if named is not None:
        mean, std = NORMALISATIONS[named] if named in NORMALISATIONS else _typed(named)
    else:
        known = next((each for each in (facts, stated) if each.mean and each.std), None)
        if known is None or known.mean is None or known.std is None:
            names = ", ".join(NORMALISATIONS)
            raise TrainingError(
                f"nothing says how {file} wants its pixels; give --normalise with one of {names}, or MEAN/STD "
                "such as 0.5,0.5,0.5/0.2,0.2,0.2"
            )
        mean, std = known.mean, known.std
    mean, std = (values * channels if len(values) == 1 else values for values in (mean, std))
    usable = all(map(math.isfinite, (*mean, *std))) and min(std) > 0
    if channels == 1 and usable:
        # Of grey pictures, what the mean over equal channels would be.
        return (sum(mean) / len(mean),), (sum(std) / len(std),)
    if len(mean) != channels or len(std) != channels or not usable:
        raise TrainingError(f"mean {mean} and deviation {std} do not fit {channels} channels; see --normalise")
    return mean, std


def _typed(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    try:
        mean, std = (tuple(float(number) for number in part.split(",")) for part in text.split("/"))
    except ValueError:
        names = ", ".join(NORMALISATIONS)
        raise TrainingError(f"--normalise {text} is neither one of {names} nor MEAN/STD") from None
    return mean, std


def _stated(model: ModelProto, file: Path) -> TowerFacts:
    """Return what the file's metadata say, or the files that come with models of the hub."""
    inside = {entry.key: entry.value for entry in model.metadata_props}
    beside: dict[str, Json] = {}
    folders = (file.parent, file.parent.parent)
    for path in (folder / "preprocessor_config.json" for folder in folders):
        if path.is_file():
            try:
                beside = strict_json.read(path)
            except (OSError, ValueError) as error:
                raise TrainingError(f"{path} cannot be read ({error}); fetch it again") from error
            break
    read = preprocessor_facts(beside)
    return TowerFacts(
        size=read.size,
        mean=_numbers(inside.get("mean")) or read.mean,
        std=_numbers(inside.get("std")) or read.std,
        licence=inside.get("license") or next(_card_licences(folders), None),
    )


def preprocessor_facts(config: Mapping[str, Json]) -> TowerFacts:
    """Return what a preprocessor_config.json says of size and normalisation."""
    size = config.get("crop_size") or config.get("size")
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    mean, std = _numbers(config.get("image_mean")), _numbers(config.get("image_std"))
    if config.get("do_normalize") is False:
        mean, std = NORMALISATIONS["unit"]
    return TowerFacts(size if isinstance(size, int) else None, mean, std)


def _numbers(value: Json) -> tuple[float, ...] | None:
    try:
        numbers = json.loads(value) if isinstance(value, str) else value
        return tuple(float(number) for number in numbers) or None
    except (ValueError, TypeError):
        return None


def _card_licences(folders: Sequence[Path]) -> Iterator[str]:
    """Yield what the heads of README.md files name as the licence."""
    for folder in folders:
        card = folder / "README.md"
        if card.is_file():
            yield from card_licences(card)


def card_licences(card: Path) -> Iterator[str]:
    """Yield what the head of a model card, README.md, names as the licence."""
    lines = card.read_text("utf-8", errors="replace")[:20_000].splitlines()
    if lines[:1] != ["---"]:
        return
    for line in lines[1:]:
        if line == "---":
            return
        key, colon, value = line.partition(":")
        if colon and key == "license" and value.strip():
            yield value.strip()[:100]


def _poolings(tower: Tower, outputs: Sequence[str]) -> tuple[Pooling, ...]:
    """Run the graph on a picture, and return how its outputs become features."""
    session = open_session(tower.file)
    names = [output.name for output in session.get_outputs() if output.type in ("tensor(float)", "tensor(float16)")]
    unknown = [name for name in outputs if name not in names]
    if unknown or not names:
        raise TrainingError(
            f"{tower.file} has no output {', '.join(unknown) or 'of floats'}; it has: {', '.join(names)}"
        )
    chosen = list(outputs) or names
    picture = tower.taken(phantoms(1, tower.size)[0])
    try:
        values = session.run(chosen, {session.get_inputs()[0].name: picture})
    except Exception as error:  # the runtime's exceptions share no base class
        reason = str(error).splitlines()[0][:200]
        sides = f"{tower.size} x {tower.size}"
        raise BundleError(f"the runtime cannot run {tower.file} on {sides} pixels: {reason}") from error
    return tuple(_pooling(tower, name, value.shape) for name, value in zip(chosen, values, strict=True))


def _pooling(tower: Tower, name: str, shape: tuple[int, ...]) -> Pooling:
    if shape[:1] != (1,) or len(shape) not in (2, 3, 4) or 0 in shape:
        raise TrainingError(
            f"output {name} of {tower.file} is {list(shape)}; maps, tokens and vectors of one picture are pooled: "
            "choose others with --output"
        )
    if len(shape) == 2:
        return Pooling(name, "vector", shape)
    if len(shape) == 3:
        prefix = shape[1] - math.isqrt(shape[1]) ** 2
        return Pooling(name, "tokens", shape, prefix if prefix <= MOST_PREFIX else 0)
    square_first, square_last = shape[1] == shape[2], shape[2] == shape[3]
    last = (square_first and not square_last) or (square_first == square_last and tower.layout == "NHWC")
    return Pooling(name, "NHWC" if last else "NCHW", shape)


def _taken(picture: U8, channels: int, layout: str, kind: str, factor: F32, offset: F32) -> Array:
    pixels = picture.astype(np.float32)[:, :, None] * factor + offset
    value = np.broadcast_to(pixels, (*picture.shape, channels))[None]
    if layout == "NCHW":
        value = value.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(np.rint(value) if kind == "uint8" else value).astype(kind)
