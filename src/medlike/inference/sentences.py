"""Sentences as vectors, by MiniLM in the light runtime: tokens, graph, mean over tokens, unit length. No torch.

The weights (all-MiniLM-L6-v2, 384 numbers a sentence, English) are installed by `medlike text install`, see
sentence_install. Their graph ships with medlike as sentences.onnx, see sentence_graph.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medlike.bundle import Bundle, graph_files, runtime
from medlike.errors import BundleError, InputError, TextNotInstalled
from medlike.inference.encoder import usable_cores
from medlike.inference.sentence_graph import GRAPH, VERSION
from medlike.inference.sentence_weights import PARTS, TOKENIZER, WEIGHTS, intact_part, text_folder
from medlike.types import F32, I64, Array

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Encoding, Tokenizer

WIDTH = 384
LIMIT = 256  # word pieces, as in the model's sentence_bert_config.json
# Arrays of a text bundle that carries its sentence encoder, and where the graph says that its weights are.
CARRIED_GRAPH, CARRIED_TOKENIZER, CARRIED_WEIGHT = "sentence.graph", "sentence.tokenizer", "sentence.weight."
HANDED_OVER = "handed over"


class SentenceEncoder:
    """A sentence encoder made ready to run; `SentenceEncoder.load()` makes one.

    Every sentence runs alone and on one thread, sentences beside each other on all cores. The object may be used
    from several threads.
    """

    def __init__(
        self, session: InferenceSession, tokenizer: Tokenizer, digest: str, width: int = WIDTH, limit: int = LIMIT
    ) -> None:
        self.width = width
        self.limit = limit
        self.digest = digest
        self._session = session
        self._tokenizer = tokenizer
        self._unknown = tokenizer.token_to_id("[UNK]")
        self._pool = ThreadPoolExecutor(usable_cores(), thread_name_prefix="medlike-sentence")

    @staticmethod
    def load(folder: str | Path | None = None) -> SentenceEncoder:
        """Open the installed sentence encoder.

        Args:
            folder: Where its files are; by default where `medlike text install` puts them.

        Raises:
            TextNotInstalled: The `text` extra or the files are missing.
            BundleError: A file is damaged or cannot be read.
        """
        place = text_folder() if folder is None else Path(folder).expanduser()
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise TextNotInstalled from None
        rules, weights = intact_part(place, TOKENIZER), intact_part(place, WEIGHTS)
        try:
            tokenizer = Tokenizer.from_file(str(rules))
            session = _session(GRAPH.read_bytes(), _weights(weights))
        except Exception as error:  # the readers' exceptions share no base class
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise BundleError(f"the sentence encoder in {place} cannot be opened ({reason})") from None
        tokenizer.no_padding()
        tokenizer.enable_truncation(LIMIT)
        return SentenceEncoder(session, tokenizer, _digest(rules.read_bytes()))

    @staticmethod
    def of(bundle: Bundle) -> SentenceEncoder:
        """Open the sentence encoder of a text bundle: the one that it carries, else the installed one.

        Raises:
            TextNotInstalled: The `text` extra or the files are missing.
            BundleError: What the bundle carries cannot be read.
        """
        if not bundle.carries_sentences:
            return SentenceEncoder.load()
        weights = {
            name.removeprefix(CARRIED_WEIGHT): bundle.array(name)
            for name in bundle.array_names()
            if name.startswith(CARRIED_WEIGHT)
        }
        graph, rules = bundle.array(CARRIED_GRAPH).tobytes(), bundle.array(CARRIED_TOKENIZER).tobytes()
        text = bundle.spec["text"]
        return SentenceEncoder.carried(
            graph, rules.decode(), weights, text["sentence_digest"], text["sentence_width"], text["sentence_limit"]
        )

    @staticmethod
    def carried(
        graph: bytes, rules: str, weights: Mapping[str, Array], digest: str, width: int, limit: int
    ) -> SentenceEncoder:
        """Open a sentence encoder from its parts.

        Args:
            graph: ONNX graph with an input `tokens` int64 [limit] and an output float32 [1, width].
            rules: The tokenizer as JSON; it cuts and pads to `limit`.
            weights: By the names that the graph has for them.
            digest: Names the encoder.
            width: Length of its vectors.
            limit: Tokens that are read of a text.

        Raises:
            TextNotInstalled: The `text` extra is missing.
            BundleError: A part cannot be read, or the graph reads a file.
        """
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise TextNotInstalled from None
        try:
            if others := graph_files.named_files(graph) - {HANDED_OVER}:
                raise ValueError(f"its graph reads the file {min(others)[:80]!r}")
            tokenizer = Tokenizer.from_str(rules)
            session = _session(graph, {name: value.astype(np.float32) for name, value in weights.items()})
        except Exception as error:  # the readers' exceptions share no base class
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise BundleError(f"the sentence encoder of the text bundle cannot be opened ({reason})") from None
        return SentenceEncoder(session, tokenizer, digest, width, limit)

    def encode(self, texts: Sequence[str]) -> F32:
        """Return vectors of unit length, float32 [N, width], in order; the dot product is the similarity.

        What lies beyond `limit` word pieces (256, some 150 words) is not read.

        Raises:
            InputError: Nothing in a text can be read; see `readable`.
        """
        if isinstance(texts, str):
            raise InputError("one text was given where a list is needed; put it in brackets")
        encodings = [self._encoding(text) for text in texts]
        for text, encoding in zip(texts, encodings, strict=True):
            if not self._known(encoding):
                raise InputError(_unreadable(text))
        rows = list(self._pool.map(self._run, [np.array(encoding.ids, np.int64) for encoding in encodings]))
        return np.concatenate(rows) if rows else np.zeros((0, self.width), np.float32)

    def readable(self, text: str) -> bool:
        """Return False for a text without any known word or letter: white space, control characters, emoji."""
        return self._known(self._encoding(text))

    def truncated(self, text: str) -> bool:
        """Return True for a text that is longer than what is read of it."""
        return bool(self._encoding(text).overflowing)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=True)

    def __enter__(self) -> SentenceEncoder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _encoding(self, text: str) -> Encoding:
        if not isinstance(text, str):
            raise InputError(f"a text is of type {type(text).__name__}; give str")
        # Half of a surrogate pair is no character and would stop the tokenizer.
        sound = text.encode("utf-8", "replace").decode("utf-8")
        return self._tokenizer.encode(sound)

    def _known(self, encoding: Encoding) -> bool:
        """True if the text itself has a token that is known; padding and what marks begin and end are none."""
        words = zip(encoding.ids, encoding.special_tokens_mask, strict=True)
        return any(token != self._unknown for token, special in words if not special)

    def _run(self, tokens: I64) -> F32:
        vector: F32 = self._session.run(None, {"tokens": tokens})[0]
        return vector


def _digest(rules: bytes) -> str:
    """Return what names the encoder in text bundles: SHA-256 of weights, tokenizer, limit and graph version."""
    reading = hashlib.sha256(rules + f"\n{LIMIT} {VERSION}".encode()).digest()
    return hashlib.sha256(PARTS[WEIGHTS].sha256.encode() + reading).hexdigest()


def _weights(file: Path) -> dict[str, F32]:
    from safetensors.numpy import load_file

    return {
        name: value.astype(np.float32, copy=False) for name, value in load_file(file).items() if value.dtype.kind == "f"
    }


def _session(graph: bytes, weights: dict[str, F32]) -> InferenceSession:
    onnxruntime = runtime.onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
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
