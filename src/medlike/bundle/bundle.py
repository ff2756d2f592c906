"""A trained model on disk: a folder of bundle.json, the graph, its weights, and other arrays.

    bundle.json           the specification, the sha256 of each file, and the bundle's digest
    model.onnx            the graph without its weights
    weights.safetensors   the weights: float16 where large, float32 where small; model.onnx points into it
    arrays.safetensors    everything else: outlier reference and calibration, golden inputs and their bits

There are two kinds. An image bundle turns pictures into codes; a text bundle brings the content vectors of one
image bundle and sentences into one space. Each is refused where the other is asked for.

The digest is the sha256 of bundle.json in canonical form without the digest itself; since that holds the
sha256 of each file, it covers every byte. `encoder_digest` covers the graph and its weights only: two bundles
that agree in it give the same codes, whatever their calibration.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medlike import strict_json
from medlike.bundle import graph_files, specification
from medlike.bundle.phantoms import SIZE, unpacked_pictures
from medlike.errors import BundleError
from medlike.types import Array, JsonObject

FORMAT = 1
SPECIFICATION = "bundle.json"
GRAPH = "model.onnx"
WEIGHTS = "weights.safetensors"
ARRAYS = "arrays.safetensors"
LARGEST = 16 << 20  # bytes of bundle.json
FILES = (GRAPH, WEIGHTS, ARRAYS)
KINDS = ("image", "text")
DEFAULT = "medlike-hmar-64"
DEFAULT_TEXT = "medlike-text-16"
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
    files = sorted(SHIPPED.glob(f"*/{SPECIFICATION}"))
    return [file.parent.name for file in files if kind is None or _kind_of(file) == kind]


def default() -> str:
    """Return the name of the image bundle that new archives use by default."""
    return DEFAULT


def default_text() -> str:
    """Return the name of the text bundle of the default image bundle."""
    return DEFAULT_TEXT


def locate(name_or_path: str | Path) -> Path:
    """Return the folder of a bundle.

    Args:
        name_or_path: A folder, or the name of a shipped bundle.

    Raises:
        BundleError: There is none.
    """
    path = Path(name_or_path).expanduser()
    if (path / SPECIFICATION).is_file():
        return path
    name = str(name_or_path)
    if name in shipped(None):
        return SHIPPED / name
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
            kind: "image" or "text"; None accepts both.

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
        """Return the path of the ONNX graph."""
        return self.path / GRAPH

    @property
    def bytes(self) -> int:
        """Return the size of the folder's files in bytes."""
        return sum((self.path / name).stat().st_size for name in (SPECIFICATION, *FILES))

    @cached_property
    def _arrays(self) -> dict[str, Array]:
        return _loaded(self.path / ARRAYS)

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
        return _loaded(self.path / WEIGHTS)

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


def _loaded(file: Path) -> dict[str, Array]:
    """Return the arrays of a safetensors file. BundleError where it is none, whatever digest is stated of it."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise BundleError(f"{file} cannot be read ({error}); fetch the bundle again") from error


def _kind(spec: JsonObject) -> str:
    return str(spec.get("kind", KINDS[0]))


def _kind_of(file: Path) -> str | None:
    try:
        return _kind(strict_json.read(file, LARGEST))
    except (OSError, ValueError, AttributeError):
        return None
