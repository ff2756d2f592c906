"""Views: bundles that share tensors with another bundle, so that no tensor lies on disk twice.

The folder of a view has bundle.json and model.onnx as any bundle. In place of its other files lie

    view.json          the bundle that it shares with, and by file, for each shared tensor, the tensor's name there
    own.safetensors    its other tensors, and the headers of the files

Its files are made again in memory, byte for byte. bundle.json states their SHA-256, so its digests cover every byte
that is used, wherever it lies.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medlike import strict_json
from medlike.errors import BundleError
from medlike.types import Array, JsonObject

FORMAT = 1
FILE = "view.json"
OWN = "own.safetensors"
LARGEST = 4 << 20  # bytes of view.json
HEADER, NEGATIVE = "header", "negative_zeros"

#: Tensors by name, of each file.
Tensors = Mapping[str, Mapping[str, Array]]


@dataclass(frozen=True)
class BundleView:
    """What the folder of a view says and holds.

    Attributes:
        of: Name of the bundle that it shares tensors with.
        shared: By file, the name in that bundle of each shared tensor.
        own: Its other tensors, as FILE/NAME. FILE/header is the header of a file, uint8; FILE/negative_zeros says
            which zeros of its shared tensors have a minus sign, uint8, a bit each.
    """

    of: str
    shared: dict[str, dict[str, str]]
    own: dict[str, Array]

    @classmethod
    def at(cls, folder: Path) -> BundleView | None:
        """Return the view in a folder, None where a bundle lies that holds its own files.

        Raises:
            BundleError: It cannot be read.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not os.path.isfile(folder / FILE):  # noqa: PTH113, it is no error where the folder is closed
            return None
        try:
            facts = strict_json.read(folder / FILE, LARGEST)
            if facts["format"] != FORMAT:
                raise ValueError(f"it has format {facts['format']}, not {FORMAT}")
            of = facts["of"]
            if not isinstance(of, str) or Path(of).name != of:
                raise ValueError(f"of is {of!r:.60}, not the name of a bundle")
            shared = {str(file): {str(k): str(v) for k, v in names.items()} for file, names in facts["shared"].items()}
            return cls(of, shared, load_file(folder / OWN))
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"the view in {folder} cannot be read ({error}); fetch the bundle again") from error

    def files(self, source: Tensors) -> dict[str, bytes]:
        """Return the bytes of the files that are not in the view's folder, by name.

        Args:
            source: The tensors of the other bundle.

        Raises:
            BundleError: A tensor is missing.
        """
        try:
            return {file: self._file(file, source[file]) for file in self.shared}
        except (KeyError, ValueError, TypeError) as error:
            raise BundleError(
                f"{FILE} and {OWN} do not go with bundle {self.of} ({error}); fetch the bundle again"
            ) from error

    def _file(self, file: str, source: Mapping[str, Array]) -> bytes:
        header = self.own[f"{file}/{HEADER}"].tobytes()
        names = self.shared[file]
        signs = np.unpackbits(self.own.get(f"{file}/{NEGATIVE}", np.zeros(0, np.uint8))).astype(bool)
        parts, at = [header], 0
        for name in _in_order(header):
            if name not in names:
                parts.append(self.own[f"{file}/{name}"].tobytes())
                continue
            value = _unsigned_zeros(source[names[name]])
            if len(signs):
                zeros = np.flatnonzero(value == 0)
                if value.dtype.kind == "f":
                    value.flat[zeros[signs[at : at + len(zeros)]]] *= -1
                at += len(zeros)
            parts.append(value.tobytes())
        return b"".join(parts)


def divide(files: Mapping[str, bytes], of: str, source: Tensors) -> BundleView:
    """Return a view: files divided into what another bundle holds too, and the rest.

    Tensors are shared where they are equal in type, shape and value; zeros of either sign are equal.

    Args:
        files: Content of safetensors files, by name.
        of: Name of the other bundle.
        source: Its tensors.

    Raises:
        BundleError: The files would not come out byte for byte.
    """
    from safetensors.numpy import load

    shared: dict[str, dict[str, str]] = {}
    own: dict[str, Array] = {}
    for file, data in files.items():
        header = data[: 8 + int.from_bytes(data[:8], "little")]
        tensors = load(data)
        known: dict[object, list[str]] = {}
        for name, value in sorted(source[file].items()):
            known.setdefault(_value(value), []).append(name)
        names: dict[str, str] = {}
        signs: list[Array] = []
        for name in _in_order(header):
            value = tensors[name]
            alike = known.get(_value(value))
            if alike is None:
                own[f"{file}/{name}"] = value
            else:
                names[name] = next((other for other in alike if other.endswith(name)), alike[0])
                signs.append(np.signbit(value[value == 0].astype(np.float32)))
        shared[file] = names
        own[f"{file}/{HEADER}"] = np.frombuffer(header, np.uint8)
        negative = np.concatenate([np.zeros(0, bool), *signs])
        if negative.any():
            own[f"{file}/{NEGATIVE}"] = np.packbits(negative)
    view = BundleView(of, shared, own)
    if view.files(source) != dict(files):
        raise BundleError(f"a view of {of} would not give {', '.join(files)} byte for byte; keep the files")
    return view


def save_view(folder: Path, view: BundleView) -> None:
    """Write view.json and own.safetensors into a folder."""
    from safetensors.numpy import save

    facts: JsonObject = {"format": FORMAT, "of": view.of, "shared": view.shared}
    (folder / FILE).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (folder / OWN).write_bytes(save({name: np.ascontiguousarray(value) for name, value in view.own.items()}))


def _in_order(header: bytes) -> list[str]:
    """Return the names of the tensors of a safetensors file in the order of their bytes."""
    facts = json.loads(header[8:])
    facts.pop("__metadata__", None)
    return sorted(facts, key=lambda name: (facts[name]["data_offsets"], name))


def _unsigned_zeros(value: Array) -> Array:
    """Return a copy of a tensor whose zeros have no minus sign."""
    return value + value.dtype.type(0) if value.dtype.kind == "f" else value.copy()


def _value(value: Array) -> tuple[str, tuple[int, ...], bytes]:
    return value.dtype.str, value.shape, _unsigned_zeros(value).tobytes()
