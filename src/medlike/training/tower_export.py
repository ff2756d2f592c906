"""Vision towers of timm, transformers and open_clip as ONNX files. Weights come from disk; nothing is fetched.

No code comes with a model: architectures are those of the installed libraries, checkpoints are safetensors or are
loaded with `weights_only=True`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from medlike import strict_json
from medlike.errors import InputError, MissingExtra, TrainingError
from medlike.models.export import served_graph
from medlike.training.tower import Tower, TowerFacts, card_licences, preprocessor_facts, read_tower
from medlike.types import JsonObject

OFFLINE = "HF_HUB_OFFLINE"
DEPTHS = 4  # at which a tower of many equal blocks is pooled
FETCH = "docs/encoders.md says how to fetch it elsewhere and bring it here"
# A tower runs as network(pictures float [1, C, S, S]) -> what is pooled.
Run = Callable[[nn.Module, Tensor], Sequence[Tensor]]


def open_tower(
    encoder: str,
    folder: Path,
    weights: Path | None = None,
    size: int | None = None,
    outputs: Sequence[str] = (),
    normalise: str | None = None,
) -> Tower:
    """Return the tower that an encoder's name stands for.

    Args:
        encoder: onnx:FILE, timm:NAME, hf:NAME or open_clip:NAME; a NAME of the last two may be a folder.
        folder: Where the graph goes if it has to be exported; it must last as long as the tower.
        weights: Checkpoint for timm and open_clip.
        size: Side of the pictures, where the tower takes several.
        outputs: Names of the outputs to use; all by default.
        normalise: See `read_tower`.

    Raises:
        TrainingError: There is no such encoder on this machine, or it cannot be exported.
        MissingExtra: Its library is not installed.
    """
    kind, colon, name = encoder.partition(":")
    exporters: Mapping[str, Callable[..., tuple[nn.Module, Run, TowerFacts]]] = {
        "timm": _timm, "hf": _transformers, "open_clip": _open_clip,
    }  # fmt: skip
    if kind == "onnx" and name:
        if weights is not None:
            raise InputError("an ONNX file holds its weights: --weights has no use")
        return read_tower(encoder, Path(name).expanduser(), TowerFacts(size), outputs, normalise)
    if kind not in exporters or not colon or not name:
        raise InputError(f"--encoder {encoder}: give onnx:FILE, timm:NAME, hf:NAME or open_clip:NAME")
    with offline():
        network, run, facts = exporters[kind](name, weights, size)
        file = _exported(network, run, facts, folder, encoder)
    return read_tower(encoder, file, facts, outputs, normalise)


@contextmanager
def offline() -> Iterator[None]:
    """Make it an error if a library would fetch something, whether the hub's client is imported already or not."""
    before = os.environ.get(OFFLINE)
    os.environ[OFFLINE] = "1"
    try:
        constants: Any = import_module("huggingface_hub.constants")
    except ImportError:
        constants = SimpleNamespace()
    stated = getattr(constants, OFFLINE, None)
    setattr(constants, OFFLINE, True)
    try:
        yield
    finally:
        setattr(constants, OFFLINE, stated)
        if before is None:
            del os.environ[OFFLINE]
        else:
            os.environ[OFFLINE] = before


class TappedTower(nn.Module):
    """Run a network and return what is pooled, as a tuple."""

    def __init__(self, network: nn.Module, run: Run) -> None:
        super().__init__()
        self.network = network
        self.run = run

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of one picture, float [1, C, S, S]."""
        return tuple(self.run(self.network, pixels))


def _exported(network: nn.Module, run: Run, facts: TowerFacts, folder: Path, encoder: str) -> Path:
    """Write a network as an ONNX file with its weights beside it."""
    import onnx

    assert facts.size is not None
    channels = len(facts.mean or (0, 0, 0))
    pixels = torch.zeros(1, channels, facts.size, facts.size)
    network = network.eval().float().requires_grad_(False)
    try:
        with torch.inference_mode():
            values = run(network, pixels)
        kept = [place for place, value in enumerate(values) if not _repeated(value, values[:place])]

        def distinct(network: nn.Module, pixels: Tensor) -> Sequence[Tensor]:
            given = run(network, pixels)
            return [given[place] for place in kept]

        names = [f"depth{place}" for place in range(len(kept))]
        graph = served_graph(TappedTower(network, distinct), {"pixels": pixels}, names)
    except Exception as error:  # torch's exporter and the libraries raise whatever they like
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise TrainingError(f"{encoder} cannot be exported ({reason}); export it to ONNX and give onnx:FILE") from error
    onnx.save_model(graph, folder / "tower.onnx", save_as_external_data=True, location="tower.weights")
    return folder / "tower.onnx"


def _repeated(value: Tensor, earlier: Iterable[Tensor]) -> bool:
    return any(value.shape == other.shape and torch.equal(value, other) for other in earlier)


def _timm(name: str, weights: Path | None, size: int | None) -> tuple[nn.Module, Run, TowerFacts]:
    timm = library("timm", "pip install timm")
    if not timm.is_model(name):
        raise TrainingError(f"timm {timm.__version__} knows no model {name!r}; timm.list_models() lists them")
    network = timm.create_model(name, pretrained=False, num_classes=0)
    config: Mapping[str, Any] = network.pretrained_cfg
    file = weights or _cached(str(config.get("hf_hub_id") or ""), ("model.safetensors", "pytorch_model.bin"))
    if file is None:
        where = f"(huggingface.co/{config['hf_hub_id']}) " if config.get("hf_hub_id") else ""
        raise TrainingError(f"the weights of timm:{name} {where}are not on this machine; give --weights FILE; {FETCH}")
    _fill(network, file)
    own = int(config["input_size"][-1])
    if size is not None and size != own and hasattr(network, "set_input_size"):
        network.set_input_size(img_size=size)
    depths = len(getattr(network, "feature_info", ()))

    def run(network: nn.Module, pixels: Tensor) -> Sequence[Tensor]:
        if not depths or not hasattr(network, "forward_intermediates"):
            return [network.forward_features(pixels)]  # type: ignore[operator]
        last, maps = network.forward_intermediates(pixels, indices=_spread(depths))  # type: ignore[operator]
        return [*maps, last]

    facts = TowerFacts(size or own, tuple(config["mean"]), tuple(config["std"]), config.get("license"))
    return network, run, facts


def _transformers(name: str, weights: Path | None, size: int | None) -> tuple[nn.Module, Run, TowerFacts]:
    transformers = library("transformers", "pip install transformers")
    if weights is not None:
        raise InputError(f"hf:{name} brings its weights: give the folder that holds them, without --weights")
    folder = _folder(name)
    config = _config(folder / "config.json")
    if config.get("auto_map"):
        raise TrainingError(f"{name} needs code of its own, which is never run; export it to ONNX and give onnx:FILE")
    try:
        model = transformers.AutoModel.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers and torch raise whatever they like
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise TrainingError(f"hf:{name} cannot be loaded ({reason}); {FETCH}") from error
    joint = hasattr(model, "vision_model")
    network = model.vision_model if joint else model

    def run(network: nn.Module, pixels: Tensor) -> Sequence[Tensor]:
        given = network(pixel_values=pixels, output_hidden_states=True)
        # The first is what the blocks begin with.
        states = given.hidden_states[1:]
        last = [given.last_hidden_state]
        # Of a joint model the pooled vector is trained; elsewhere it often is not.
        if joint and given.pooler_output is not None:
            last.append(given.pooler_output)
        return [*(states[place] for place in _spread(len(states))), *last]

    stated = preprocessor_facts(_config(folder / "preprocessor_config.json", needed=False))
    own = getattr(network.config, "image_size", None)
    known = size or stated.size or (own if isinstance(own, int) else None)
    if known is None:
        raise TrainingError(f"hf:{name} does not say how large its pictures are; give --size, such as --size 224")
    return network, run, replace(stated, size=known, licence=_licence(folder))


def _open_clip(name: str, weights: Path | None, size: int | None) -> tuple[nn.Module, Run, TowerFacts]:
    model, folder, _ = clip_model(name, weights, size)
    network = model.visual
    side = network.image_size
    facts = TowerFacts(
        int(side[0] if isinstance(side, tuple | list) else side),
        tuple(network.image_mean), tuple(network.image_std), None if folder is None else _licence(folder),
    )  # fmt: skip

    def run(network: nn.Module, pixels: Tensor) -> Sequence[Tensor]:
        if not hasattr(network, "forward_intermediates"):
            value = network(pixels)
            return list(value) if isinstance(value, tuple | list) else [value]
        given = network.forward_intermediates(pixels, indices=DEPTHS)  # type: ignore[operator]
        return [*given["image_intermediates"], given["image_features"]]

    return network, run, facts


def clip_model(name: str, weights: Path | None, size: int | None = None) -> tuple[Any, Path | None, str]:
    """Load a model of open_clip, without fetching anything.

    Args:
        name: A folder, a name of the hub whose folder is in its cache, or a model of open_clip.
        weights: Checkpoint for a model of open_clip.
        size: Side of the pictures, where the model takes several.

    Returns:
        The model, its folder if it has one, and its name as open_clip knows it.

    Raises:
        TrainingError: There is no such model on this machine.
        InputError: The weights do not go with the name.
    """
    open_clip = library("open_clip", "pip install 'medlike[biomedclip]'")
    folder = None
    if weights is None or Path(name).is_dir():
        folder = _folder(name)
        source: dict[str, Any] = {"model_name": f"local-dir:{folder}"}
    else:
        source = {"model_name": name, "pretrained": str(weights)}
    if weights is not None and (folder is not None or not weights.is_file()):
        raise InputError(f"--weights {weights} is no file, or has no use beside a folder")
    try:
        model = open_clip.create_model(**source, force_image_size=size, pretrained_text=False, weights_only=True)
    except Exception as error:  # open_clip and torch raise whatever they like
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise TrainingError(f"open_clip:{name} cannot be loaded ({reason}); {FETCH}") from error
    return model.eval().float().requires_grad_(False), folder, source["model_name"]


def library(name: str, install: str) -> ModuleType:
    """Import a library by name. TrainingError with the command that installs it where it cannot be imported."""
    try:
        return import_module(name)
    except Exception as error:  # beside another torch, torchvision fails with a RuntimeError
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise TrainingError(f"{name} cannot be imported ({reason}); install it: {install}") from error


def _spread(count: int) -> list[int]:
    """Return which of so many depths are pooled: all of a few stages, else DEPTHS at equal steps, the last included."""
    if count <= DEPTHS + 2:
        return list(range(count))
    return [(step + 1) * count // DEPTHS - 1 for step in range(DEPTHS)]


def _cached(repository: str, names: Sequence[str]) -> Path | None:
    """Return a file of a repository that is in the hub's cache on this machine."""
    if not repository:
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    files = (try_to_load_from_cache(repository, name) for name in names)
    return next((Path(file) for file in files if isinstance(file, str)), None)


def _folder(name: str) -> Path:
    """Return a model's folder: the one named, or that of the hub's cache on this machine."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, local_files_only=True))
    except ImportError:
        raise MissingExtra("huggingface_hub", "biomedclip") from None
    except Exception:  # not cached, or no name of a repository
        raise TrainingError(f"{name} is no folder and not in the hub's cache on this machine; {FETCH}") from None


def _config(file: Path, needed: bool = True) -> JsonObject:
    if not needed and not file.is_file():
        return {}
    try:
        return dict(strict_json.read(file))
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(f"{file} cannot be read ({error}); fetch the model again") from error


def _licence(folder: Path) -> str | None:
    card = folder / "README.md"
    return next(card_licences(card), None) if card.is_file() else None


def _fill(network: nn.Module, file: Path) -> None:
    """Load a checkpoint; heads that the network lacks are left out, anything that it has must be there."""
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: dict[str, Any] = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
        for key in ("state_dict", "model"):
            state = state.get(key, state)
        missing, _ = network.load_state_dict(state, strict=False)
    except Exception as error:  # safetensors, pickle and torch share no base class
        reason = (str(error).splitlines() or [type(error).__name__])[-1][:200]
        raise TrainingError(f"{file} cannot be loaded as weights ({reason.strip()}); fetch it again") from error
    if missing:
        raise TrainingError(f"{file} lacks {len(missing)} weights of the model, such as {missing[0]}")
