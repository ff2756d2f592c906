"""A text tower of open_clip as the sentence encoder of a text bundle: graph, weights and tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from medlike.bundle.write import HALF_FROM, HALF_LIMIT
from medlike.errors import InputError, TrainingError
from medlike.imaging.paraphrases import meanings
from medlike.inference.sentences import CARRIED_GRAPH, CARRIED_TOKENIZER, CARRIED_WEIGHT, HANDED_OVER, SentenceEncoder
from medlike.models.export import served_graph
from medlike.training.tower_export import clip_model, library, offline
from medlike.types import F32, Array

if TYPE_CHECKING:
    from onnx import ModelProto
    from tokenizers import Tokenizer

KIND = "open_clip:"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # of CLIP's tokenizer
LEAST_COSINE = 0.99


@dataclass(frozen=True, eq=False)
class TextTower:
    """A text tower, ready to be carried by a text bundle.

    Attributes:
        source: What was asked for.
        graph: ONNX graph, its weights apart.
        weights: By the names that the graph has for them; float16 where large.
        rules: The tokenizer as JSON.
        width: Length of its vectors.
        limit: Tokens that are read of a text.
        agreement: Smallest cosine with the vectors of the library itself.
    """

    source: str
    graph: bytes
    weights: dict[str, Array]
    rules: str
    width: int
    limit: int
    agreement: float

    @property
    def digest(self) -> str:
        """Return a sha256 over graph, tokenizer and weights."""
        digest = hashlib.sha256(self.graph + self.rules.encode())
        for name, value in sorted(self.weights.items()):
            digest.update(name.encode() + value.tobytes())
        return digest.hexdigest()

    def arrays(self) -> dict[str, Array]:
        """Return the arrays by which a text bundle carries it."""
        parts = {CARRIED_GRAPH: self.graph, CARRIED_TOKENIZER: self.rules.encode()}
        return {name: np.frombuffer(part, np.uint8) for name, part in parts.items()} | {
            CARRIED_WEIGHT + name: value for name, value in self.weights.items()
        }

    def encoder(self) -> SentenceEncoder:
        """Open it as search will."""
        return SentenceEncoder.carried(self.graph, self.rules, self.weights, self.digest, self.width, self.limit)


def open_text_tower(encoder: str, weights: Path | None = None) -> TextTower:
    """Return the text tower of a model of open_clip; nothing is fetched.

    Args:
        encoder: open_clip:NAME.
        weights: Checkpoint, as for the vision tower.

    Raises:
        InputError: The encoder is of another library.
        TrainingError: The model is not on this machine, or its text tower cannot be exported as it is.
    """
    if not encoder.startswith(KIND):
        raise InputError(f"--text-encoder: {encoder} is an image encoder alone; it goes with open_clip:NAME")
    with offline():
        model, _, name = clip_model(encoder.removeprefix(KIND), weights)
        try:
            tokenizer = library("open_clip", "").get_tokenizer(name)
        except Exception as error:  # open_clip and transformers raise whatever they like
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise TrainingError(f"the tokenizer of {encoder} cannot be loaded ({reason})") from error
    limit = int(tokenizer.context_length)
    sentences = vocabulary()
    try:
        expected = _reference(model, tokenizer, sentences)
        graph, arrays = _apart(served_graph(_Tower(model), {"tokens": tokenizer(sentences[:1])[0]}, ["vector"]))
    except Exception as error:  # torch's exporter raises whatever it likes
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise TrainingError(f"the text tower of {encoder} cannot be exported ({reason})") from error
    rules = _rules(tokenizer, limit, sentences, encoder)
    tower = TextTower(encoder, graph, arrays, rules, expected.shape[1], limit, 0.0)
    with tower.encoder() as made:
        readable = [row for row, sentence in enumerate(sentences) if made.readable(sentence)]
        given = made.encode([sentences[row] for row in readable])
    agreement = float((given * expected[readable]).sum(axis=1).min(initial=1.0))
    if not agreement >= LEAST_COSINE:
        raise TrainingError(
            f"the exported text tower does not give what {encoder} gives: cosine {agreement:.3f}, {LEAST_COSINE} needed"
        )
    return TextTower(**{**vars(tower), "agreement": agreement})


def vocabulary() -> list[str]:
    """Return expressions of radiology, each once, by which a text tower is checked and centred."""
    return list(dict.fromkeys(meaning.says[0] for meaning in meanings()))


class _Tower(nn.Module):
    """Give the vector of one text, float [1, W] of unit length, for its tokens, int64 [L]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> tuple[Tensor]:
        """Return a tuple, as `served_graph` wants it."""
        encode: Callable[..., Tensor] = self.network.encode_text  # type: ignore[assignment]
        return (encode(tokens[None], normalize=True),)


@torch.inference_mode()
def _reference(model: Any, tokenizer: Any, sentences: Sequence[str]) -> F32:
    vectors: Tensor = model.encode_text(tokenizer(list(sentences)), normalize=True)
    return vectors.float().numpy()


def _apart(model: ModelProto) -> tuple[bytes, dict[str, Array]]:
    """Take the weights out of a graph, to be handed over when it is opened; large ones become float16."""
    from onnx import TensorProto, numpy_helper

    weights: dict[str, Array] = {}
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        value = numpy_helper.to_array(tensor)
        if value.size == 1:  # a constant of some operation, no weight
            continue
        large = value.ndim >= 2 and value.size >= HALF_FROM and np.abs(value).max() < HALF_LIMIT
        weights[tensor.name] = value.astype(np.float16) if large else value
        handed = TensorProto(
            name=tensor.name, data_type=TensorProto.FLOAT, dims=tensor.dims, data_location=TensorProto.EXTERNAL
        )
        handed.external_data.add(key="location", value=HANDED_OVER)
        tensor.CopyFrom(handed)
    return bytes(model.SerializeToString(deterministic=True)), weights


def _rules(tokenizer: Any, limit: int, sentences: Sequence[str], encoder: str) -> str:
    """Return a tokenizer of open_clip as JSON of the package tokenizers, checked on some sentences."""
    from tokenizers import Tokenizer

    fast = getattr(getattr(tokenizer, "tokenizer", None), "backend_tokenizer", None)
    padding = 0
    if hasattr(tokenizer, "bpe_ranks"):
        made = _byte_pairs(tokenizer)
    elif fast is not None:
        made, padding = Tokenizer.from_str(fast.to_str()), int(tokenizer.tokenizer.pad_token_id)
    else:
        raise TrainingError(f"the tokenizer of {encoder} is a {type(tokenizer).__name__}, which cannot be carried")
    made.enable_truncation(limit)
    made.enable_padding(length=limit, pad_id=padding, pad_token=made.id_to_token(padding))
    texts = [*sentences, *(text.upper() for text in sentences[:50]), " ".join(sentences[:200]), "A 5-mm nodule, (RUL)."]
    if [made.encode(text).ids for text in texts] != tokenizer(texts).tolist():
        raise TrainingError(f"the tokenizer of {encoder} reads texts in a way that cannot be carried")
    return str(made.to_str())


def _byte_pairs(tokenizer: Any) -> Tokenizer:
    """Return CLIP's tokenizer, as transformers converts it."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    made = Tokenizer(
        models.BPE(vocab=tokenizer.encoder, merges=list(tokenizer.bpe_ranks), end_of_word_suffix="</w>")
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    made.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    ends = [(tokenizer.decoder[number], number) for number in (tokenizer.sot_token_id, tokenizer.eot_token_id)]
    made.post_processor = processors.TemplateProcessing(
        single=f"{ends[0][0]} $A {ends[1][0]}", special_tokens=ends
    )
    return made
