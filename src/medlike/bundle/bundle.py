"""A trained model on disk: a folder of bundle.json, the graph, its weights, and other arrays.

    bundle.json           the specification, the sha256 of each file, and the bundle's digest
    model.onnx            the graph without its weights
    weights.safetensors   the weights: float16 where large, float32 where small; model.onnx points into it
    arrays.safetensors    everything else: outlier reference and calibration, golden inputs and their bits

There are two kinds. An image bundle turns pictures into codes; a text bundle brings the content vectors of one
image bundle and sentences into one space. Each is refused where the other is asked for. An image bundle is joint where
its folder holds the text bundle that goes with it, in `text/`. A view (`bundle.view`) shares tensors with another.

The digest is the sha256 of bundle.json in canonical form without the digest itself; since that holds the
sha256 of each file, it covers every byte. `encoder_digest` covers the graph and its weights only: two bundles
that agree in it give the same codes, whatever their calibration.
"""

from __future__ import annotations

import builtins
import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medlike import strict_json
from medlike.bundle import graph_files, specification
from medlike.bundle.phantoms import SIZE, unpacked_pictures
from medlike.bundle.session import open_session
from medlike.bundle.view import BundleView
from medlike.errors import BundleError
from medlike.types import Array, JsonObject

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FORMAT = 1
SPECIFICATION = "bundle.json"
GRAPH = "model.onnx"
WEIGHTS = "weights.safetensors"
ARRAYS = "arrays.safetensors"
LARGEST = 16 << 20  # bytes of bundle.json
FILES = (GRAPH, WEIGHTS, ARRAYS)
TEXT_PART = "text"  # folder of the text bundle within a joint bundle
FORMER = "former.json"
KINDS = ("image", "text")
DEFAULT = "medlike-hmar-64"
DEFAULT_TEXT = "medlike-text-16"
NUISANCE = "content.nuisance"  # an array that image bundles may have
SHIPPED = Path(__file__).parent / "shipped"


def canonical(spec: JsonObject) -> bytes:
    """Return the bytes of a specification that are digested: sorted keys, no spaces, UTF-8, without "digest"."""
    body = {key: value for key, value in spec.items() if key != "digest"}
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def encoder_digest(files: dict[str, JsonObject]) -> str:
    """Return the SHA-256 over the digests of graph and weights, which determine the codes."""
    return hashlib.sha256((files[GRAPH]["sha256"] + files[WEIGHTS]["sha256"]).encode()).hexdigest()


def require_covered(graph: Path) -> None:
    """Check that a graph reads no file but the bundle's weights; the digest would not cover it.

    Raises:
        BundleError: It is no ONNX graph, or reads another file.
    """
    try:
        names = graph_files.named_files(graph.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{graph} is no ONNX graph ({error}); fetch or export the bundle again") from error
    others = sorted(names - {WEIGHTS})
    if others:
        raise BundleError(
            f"{graph} reads {others[0][:80]!r}, which the bundle's digest does not cover; only {WEIGHTS} may be named: "
            "export the bundle again"
        )


def shipped(kind: str | None = "image") -> list[str]:
    """Return the names of the shipped bundles of a kind; None for both kinds."""
    return [
        name for name, path in _shipped_folders().items() if kind is None or _kind_of(path / SPECIFICATION) == kind
    ]


def former() -> dict[str, dict[str, str]]:
    """Return the digests of shipped bundles of earlier releases whose graph and weights are still shipped.

    Returns:
        By digest, the name and the encoder digest.
    """
    file = SHIPPED / FORMER
    known: dict[str, dict[str, str]] = strict_json.read(file, LARGEST) if file.is_file() else {}
    return known


def default() -> str:
    """Return the name of the image bundle that new archives use by default."""
    return DEFAULT


def default_text() -> str:
    """Return the name of the text bundle of the default image bundle."""
    return DEFAULT_TEXT


def locate(name_or_path: str | Path) -> Path:
    """Return the folder of a bundle.

    Args:
        name_or_path: A folder, the name of a shipped bundle, or a digest that it had in an earlier release.

    Raises:
        BundleError: There is none.
    """
    path = Path(name_or_path).expanduser()
    if (path / SPECIFICATION).is_file():
        return path
    name = str(name_or_path)
    folders = _shipped_folders()
    if name not in folders:
        name = former().get(name, {}).get("name", name)
    if name in folders:
        return folders[name]
    reason = f"{path} is a folder without {SPECIFICATION}" if path.is_dir() else f"no bundle {name!r}"
    names = ", ".join(shipped(None)) or "(none is shipped)"
    raise BundleError(f"{reason}; give a bundle's folder or one of: {names}")


@dataclass(frozen=True)
class Bundle:
    """Hold a trained model on disk. `load` checks every byte against the digest.

    Attributes:
        path: The folder.
        spec: Content of bundle.json.
    """

    path: Path
    spec: JsonObject

    @staticmethod
    def load(name_or_path: str | Path, kind: str | None = "image") -> Bundle:
        """Load a bundle.

        Args:
            name_or_path: The name of a shipped bundle, or a folder.
            kind: "image" or "text"; None accepts both. With "text", a joint bundle gives its text part.

        Returns:
            The bundle, every byte of it checked.

        Raises:
            BundleError: The bundle is missing, damaged, or of another format or kind.
        """
        path = locate(name_or_path)
        file = path / SPECIFICATION
        try:
            spec = strict_json.read(file, LARGEST)
        except (OSError, ValueError) as error:
            raise BundleError(f"{file} cannot be read ({error}); fetch the bundle again") from error
        if not isinstance(spec, dict) or "format" not in spec:
            raise BundleError(f"{file} is not a bundle's specification; fetch the bundle again")
        if spec["format"] != FORMAT:
            raise BundleError(
                f"{path} has bundle format {spec['format']}, this medlike reads format {FORMAT}; "
                "use the medlike that made it, or export the bundle again with this one"
            )
        bundle = Bundle(path=path, spec=spec)
        bundle.verify()
        if kind == "text" and bundle.text_part is not None:
            return Bundle.load(bundle.text_part, kind)
        if kind is not None and bundle.kind != kind:
            names = ", ".join(shipped(kind)) or "(none is shipped)"
            raise BundleError(
                f"{bundle.name} is a bundle of kind {bundle.kind}, one of kind {kind} is needed here; "
                f"give its folder or one of: {names}"
            )
        return bundle

    def verify(self) -> None:
        """Compare every byte with the digest.

        Raises:
            BundleError: A file is missing or differs; the message names it.
        """
        wrong = specification.problem(self.spec, FILES)
        if wrong is not None:
            raise BundleError(f"{self.path / SPECIFICATION}: {wrong}; fetch the bundle again")
        digest = hashlib.sha256(canonical(self.spec)).hexdigest()
        if digest != self.spec.get("digest"):
            raise BundleError(
                f"{self.path / SPECIFICATION} is damaged: digest {digest[:16]}, "
                f"expected {str(self.spec.get('digest'))[:16]}; fetch the bundle again"
            )
        for name in FILES:
            file = self.path / name
            expected = self.spec["files"][name]["sha256"]
            remade = self._remade.get(name)
            if remade is not None:
                if hashlib.sha256(remade).hexdigest() != expected:
                    raise BundleError(
                        f"{name} of {self.path} is damaged: a view of the bundle beside it has another sha256 than "
                        "stated; fetch the bundle again"
                    )
                continue
            if not file.is_file():
                raise BundleError(f"{file} is missing; fetch the bundle again")
            if file.stat().st_size != self.spec["files"][name]["bytes"]:
                raise BundleError(f"{file} is damaged: another size than stated; fetch the bundle again")
            if file_digest(file) != expected:
                raise BundleError(f"{file} is damaged: another sha256 than stated; fetch the bundle again")
        require_covered(self.graph)

    @property
    def name(self) -> str:
        """Return the name."""
        return str(self.spec["name"])

    @property
    def kind(self) -> str:
        """Return "image" (pictures to codes) or "text" (content vectors and sentences to codes of one space)."""
        return _kind(self.spec)

    @property
    def preset(self) -> str:
        """Return the name of the network's preset."""
        return str(self.spec["preset"])

    @property
    def digest(self) -> str:
        """Return the SHA-256 of everything in the bundle, in hex."""
        return str(self.spec["digest"])

    @property
    def encoder_digest(self) -> str:
        """Return the SHA-256 of graph and weights, in hex; bundles that agree in it give equal codes."""
        return encoder_digest(self.spec["files"])

    @property
    def bits(self) -> int:
        """Return the length of a code in bits."""
        return int(self.spec["bits"])

    @property
    def content_dim(self) -> int:
        """Return the length of the content vector that an image bundle gives and a text bundle takes."""
        return int(self.spec["content_dim"])

    @property
    def content_blocks(self) -> tuple[int, ...]:
        """Return the widths of the parts of a content vector, which say different things and may be weighed apart.

        They are stated. Of bundles before that they follow from the network: its learned, its linear and its
        discriminant part. Else it is one.
        """
        network = self.spec.get("network")
        settings = network.get("settings") if isinstance(network, dict) else None
        blocks = self.spec.get("content_blocks")
        try:
            if blocks is None and isinstance(settings, dict):
                depths = settings["depth_members"] * settings["depth_outputs"]
                learned = 2 * settings["branch_width"] + settings["fusion_outputs"] + depths
                blocks = [learned, settings["linear"], settings["discriminant"]]
            widths = tuple(int(width) for width in blocks or () if width)
        except (KeyError, TypeError, ValueError):
            widths = ()  # a network of another kind
        stated = min(widths, default=0) > 0 and sum(widths) == self.content_dim
        return widths if stated else (self.content_dim,)

    @property
    def nuisance(self) -> Array | None:
        """Return the factor N of the scatter N N' between an image and its altered copies; None if it is not known.

        Float [content_dim, R], of content vectors whose blocks have unit length. By it a fit tells the
        original of an altered copy.

        Raises:
            BundleError: It is of another width, or holds what is no number.
        """
        if NUISANCE not in self._arrays:
            return None
        factor = self._arrays[NUISANCE]
        if factor.ndim != 2 or len(factor) != self.content_dim or not np.isfinite(factor.astype(np.float64)).all():
            raise BundleError(f"{NUISANCE} of {self.path} is no [{self.content_dim}, R] of numbers; fetch it again")
        return factor

    @property
    def image_size(self) -> int:
        """Return the side, in pixels, of the square picture that an image bundle takes."""
        return int((self.spec.get("preprocessing") or {}).get("size", SIZE))

    @property
    def local_bits(self) -> int | None:
        """Return the length of a local code in bits, None if the bundle has no regional expert."""
        value = self.spec.get("local_bits")
        return None if value is None else int(value)

    @property
    def carries_sentences(self) -> bool:
        """Return True for a text bundle with a sentence encoder of its own; others use the installed one."""
        return self.kind == "text" and self.spec["text"].get("sentence_limit") is not None

    @property
    def modalities(self) -> list[str]:
        """Return the names of the columns of output "modality"; empty if the bundle predicts none."""
        return list(self.spec.get("modalities") or [])

    @property
    def outputs(self) -> list[str]:
        """Return the names of the graph's outputs."""
        return list(self.spec["outputs"])

    @property
    def graph(self) -> Path:
        """Return the path of the ONNX graph. The weights of a view do not lie beside it: `rewrite` puts them there."""
        return self.path / GRAPH

    @property
    def text_part(self) -> Path | None:
        """Return the folder of the text bundle that an image bundle holds, None where it holds none."""
        part = self.path / TEXT_PART
        # Where the folder is closed to this user, there is none.
        there = os.path.isfile(part / SPECIFICATION)  # noqa: PTH113
        return part if self.kind == "image" and there else None

    @property
    def is_shipped(self) -> bool:
        """Return True for a bundle in the place where medlike ships one of this name."""
        return _shipped_folders().get(self.name) == self.path.absolute()

    @property
    def bytes(self) -> int:
        """Return the size of its files in bytes, a view's with what it shares."""
        stated = sum(int(self.spec["files"][name]["bytes"]) for name in FILES)
        return stated + (self.path / SPECIFICATION).stat().st_size

    def file(self, name: str) -> builtins.bytes:
        """Return the content of a file of the bundle, also where a view shares it.

        Args:
            name: bundle.json, model.onnx, weights.safetensors or arrays.safetensors.
        """
        remade = self._remade.get(name)
        return (self.path / name).read_bytes() if remade is None else remade

    def session(self) -> InferenceSession:
        """Return a session of the runtime on the graph; calls may run in parallel.

        Raises:
            BundleError: The runtime refuses the graph.
        """
        return open_session(self.graph, self.weights() if self._remade else None)

    @cached_property
    def _remade(self) -> dict[str, builtins.bytes]:
        """The files of a view that are not in its folder, none of another bundle."""
        view = BundleView.at(self.path)
        if view is None:
            return {}
        beside = self.path.parent / view.of
        place = beside if (beside / SPECIFICATION).is_file() else locate(view.of)
        if BundleView.at(place) is not None:
            raise BundleError(f"{self.path} is a view of {place}, which is a view itself; fetch the bundle again")
        source = Bundle.load(place, kind=None)
        return view.files({WEIGHTS: source.weights(), ARRAYS: source._arrays})

    @cached_property
    def _arrays(self) -> dict[str, Array]:
        return self._loaded(ARRAYS)

    def array_names(self) -> list[str]:
        """Return the names of the arrays beside the network's weights."""
        return sorted(self._arrays)

    def array(self, name: str) -> Array:
        """Return an array of the bundle.

        Args:
            name: One of `array_names`.

        Raises:
            BundleError: The bundle has no array of this name.
        """
        try:
            return self._arrays[name]
        except KeyError:
            raise BundleError(
                f"bundle {self.name} has no array {name!r}; it has: {', '.join(self.array_names())}"
            ) from None

    def weights(self) -> dict[str, Array]:
        """Return the network's weights by name, as stored: float16 or float32."""
        return self._loaded(WEIGHTS)

    def _loaded(self, name: str) -> dict[str, Array]:
        """Return the arrays of a safetensors file. BundleError where it is none, whatever digest is stated of it."""
        from safetensors import SafetensorError
        from safetensors.numpy import load, load_file

        remade = self._remade.get(name)
        try:
            return load_file(self.path / name) if remade is None else load(remade)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise BundleError(f"{self.path / name} cannot be read ({error}); fetch the bundle again") from error

    def golden_inputs(self) -> npt.NDArray[np.uint8]:
        """Return the golden inputs of an image bundle: uint8 [N, S, S], S the image size.

        Raises:
            BundleError: They are damaged.
        """
        try:
            return unpacked_pictures(self.array("golden.inputs"), int(self.spec["golden"]["count"]), self.image_size)
        except ValueError as error:
            raise BundleError(f"the golden inputs of {self.path} are damaged ({error}); fetch it again") from None

    def golden_bits(self) -> npt.NDArray[np.bool_]:
        """Return the bits that the bundle's maker computed for the golden inputs: bool [N, K].

        Raises:
            BundleError: They are damaged.
        """
        code = self.array("golden.code")
        if code.dtype != np.uint8 or code.ndim != 2 or code.shape[1] * 8 != self.bits:
            raise BundleError(f"the golden code of {self.path} is {code.dtype} {code.shape}; fetch it again")
        return np.unpackbits(code, axis=1).astype(bool)


def _shipped_folders() -> dict[str, Path]:
    """Return the folders of the shipped bundles by name, in order; a text bundle may lie in its image bundle's."""
    folders = {file.parent.name: file.parent for file in SHIPPED.glob(f"*/{SPECIFICATION}")}
    for file in SHIPPED.glob(f"*/{TEXT_PART}/{SPECIFICATION}"):
        try:
            folders[str(strict_json.read(file, LARGEST)["name"])] = file.parent
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it is damaged, and has no name
    return dict(sorted(folders.items()))


def _kind(spec: JsonObject) -> str:
    return str(spec.get("kind", KINDS[0]))


def _kind_of(file: Path) -> str | None:
    try:
        return _kind(strict_json.read(file, LARGEST))
    except (OSError, ValueError, AttributeError):
        return None
