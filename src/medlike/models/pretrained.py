"""Weights from a file into a network: reading, key prefixes, and a list of what does not fit."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from medlike.errors import BundleError

# Wrappers that training scripts leave in front of every key.
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.", "encoder_q.", "resnet.", "net.", "stem.")
# Entries under which checkpoints keep their state dict.
HOLDERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
# Children of a ResNet that was turned into a Sequential, by their place.
SEQUENTIAL_RESNET = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
LISTED = 12


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors, .pt, .pth or .bin file, by key, floating ones as float32.

    Pickled files are read with weights_only: nothing in them is run.

    Raises:
        BundleError: The file is missing, damaged, of another format or without tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise BundleError(f"no weights at {path}; give a .safetensors, .pt or .pth file")
    if path.suffix == ".safetensors":
        try:
            content: object = load_file(str(path))
        except (SafetensorError, OSError, ValueError) as error:
            raise BundleError(f"{path} is not a readable safetensors file ({error}); copy it again") from error
    elif path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".tar"):
        try:
            content = torch.load(str(path), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, zipfile.BadZipFile) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BundleError(
                f"{path} cannot be read as plain weights ({reason}); save its state_dict() alone, "
                "or convert it to safetensors"
            ) from error
    elif path.suffix == ".tflite":
        raise BundleError(
            f"{path} is a TensorFlow Lite file; convert it once with medlike-research, `python -m "
            f"medlike_research.development.tflite {path} {path.with_suffix('.safetensors').name}`, and give that file"
        )
    else:
        raise BundleError(f"{path} ends in {path.suffix!r}; known: .safetensors, .pt, .pth, .bin, .ckpt, .tar")
    tensors = _tensors(content)
    if not tensors:
        raise BundleError(f"{path} holds no tensors by name; save the network's state_dict()")
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


def _tensors(content: object) -> dict[str, Tensor]:
    """Return the tensors of a mapping, or of the first state dict in it."""
    if not isinstance(content, Mapping):
        return {}
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    holder = next((name for name in HOLDERS if name in content), None)
    return tensors if tensors or holder is None else _tensors(content[holder])


def bare_keys(state: Mapping[str, Tensor], known: set[str]) -> dict[str, Tensor]:
    """Return the state with keys that fit those `known` best: prefixes stripped, a Sequential ResNet's places named."""
    candidates = [dict(state)]
    trial = dict(state)
    for _ in range(4):
        prefix = next((p for p in PREFIXES if any(key.startswith(p) for key in trial)), None)
        if prefix is None:
            break
        # Keys without the prefix belong to another part of the checkpoint (a head, a queue).
        trial = {key.removeprefix(prefix): value for key, value in trial.items() if key.startswith(prefix)}
        candidates += [trial, _named_places(trial)]
    candidates.append(_named_places(state))
    return max(candidates, key=lambda candidate: len(known & set(candidate)))  # the first of equal ones


def _named_places(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        place, dot, rest = key.partition(".")
        renamed[SEQUENTIAL_RESNET.get(place, place) + dot + rest] = value
    return renamed


def fit(
    network: nn.Module,
    state: Mapping[str, Tensor],
    name: str,
    path: str | Path,
    ignored: tuple[str, ...] = (),
) -> None:
    """Load a state into a network, every parameter and statistic of it.

    Args:
        network: Unchanged when this raises.
        state: Tensors by key.
        name: What the error calls the network.
        path: Where the state comes from, for the error.
        ignored: How keys begin that are no part of the network.

    Raises:
        BundleError: Keys, shapes or values do not fit; the message lists some.
    """
    expected = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    loaded = {
        key: value
        for key, value in bare_keys(state, set(expected)).items()
        if not key.endswith("num_batches_tracked") and not key.startswith(ignored)
    }
    wrong = [f"{key}: missing" for key in expected if key not in loaded]
    wrong += [f"{key}: not part of {name}" for key in loaded if key not in expected]
    wrong += [
        f"{key}: shape {list(loaded[key].shape)}, expected {list(value.shape)}"
        for key, value in expected.items()
        if key in loaded and loaded[key].shape != value.shape
    ]
    if wrong:
        shown = "; ".join(sorted(wrong)[:LISTED])
        more = f"; and {len(wrong) - LISTED} more" if len(wrong) > LISTED else ""
        raise BundleError(f"{path} does not fit {name}, {len(wrong)} keys differ: {shown}{more}")
    bad = [key for key, value in loaded.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        raise BundleError(f"{path} has values that are not finite in {', '.join(bad[:LISTED])}; copy it again")
    network.load_state_dict(loaded, strict=False)
