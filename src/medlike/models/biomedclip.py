"""Encoders that put images and texts into one space from the start: BiomedCLIP and its like, through open_clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from medlike.errors import InputError, MedlikeError
from medlike.types import F32, U8

if TYPE_CHECKING:
    from PIL.Image import Image as Pillow
    from torch import Tensor

BIOMEDCLIP = "hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
CONFIG = "open_clip_config.json"
BATCH = 32

class ClipModel(Protocol):
    """A model of open_clip: what OpenClipEncoder uses of it."""

    def eval(self) -> ClipModel:
        """Put the model into evaluation mode and return it."""
        ...

    def encode_image(self, image: Tensor) -> Tensor:
        """Return vectors, float [N, width], of prepared pictures, float [N, 3, H, W]."""
        ...

    def encode_text(self, text: Tensor) -> Tensor:
        """Return vectors, float [N, width], of tokens, int [N, length]."""
        ...


class OpenClipEncoder:
    """Encode images and texts into one space with a model of open_clip, in float32, on the CPU.

    `width` is the length of its vectors.
    """

    def __init__(
        self, model: ClipModel, prepare: Callable[[Pillow], Tensor], tokenizer: Callable[[list[str]], Tensor]
    ) -> None:
        self.model = model.eval()
        self.prepare = prepare
        self.tokenizer = tokenizer
        self.width = self._texts(["width"]).shape[1]

    def encode_images(self, images: Sequence[U8]) -> F32:
        """Return vectors of unit length, float32 [N, width], of grey pictures, uint8 [H, W] of any size.

        Raises:
            InputError: A picture has another shape or type.
        """
        import torch
        from PIL import Image

        for image in images:
            if image.ndim != 2 or image.dtype != np.uint8 or not image.size:
                raise InputError(f"an image of shape {list(image.shape)} and type {image.dtype}; give uint8 [H, W]")
        rows: list[F32] = [np.zeros((0, self.width), np.float32)]
        for start in range(0, len(images), BATCH):
            # The model's own transform makes three equal channels of a grey picture.
            batch = [self.prepare(Image.fromarray(image)) for image in images[start : start + BATCH]]
            with torch.inference_mode():
                rows.append(_unit(self.model.encode_image(torch.stack(batch)).float().numpy()))
        return np.concatenate(rows)

    def encode_texts(self, texts: Sequence[str]) -> F32:
        """Return vectors of unit length, float32 [N, width]; what is beyond the model's context is not read.

        Raises:
            InputError: A text is empty.
        """
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise InputError("a text is empty; give a few words")
        rows: list[F32] = [np.zeros((0, self.width), np.float32)]
        for start in range(0, len(texts), BATCH):
            rows.append(self._texts(list(texts[start : start + BATCH])))
        return np.concatenate(rows)

    def _texts(self, texts: list[str]) -> F32:
        import torch

        with torch.inference_mode():
            return _unit(self.model.encode_text(self.tokenizer(texts)).float().numpy())


def load_joint_encoder(name_or_folder: str | Path = BIOMEDCLIP) -> OpenClipEncoder:
    """Load a joint encoder.

    Without a network the folder's configuration must name its text model by a folder too.

    Args:
        name_or_folder: A hub name (`hf-hub:owner/model`), or a folder with open_clip_config.json and weights.

    Raises:
        MedlikeError: open_clip cannot be imported.
        InputError: There is no such model.
    """
    try:
        import open_clip
    except Exception as error:  # beside another torch, torchvision fails with a RuntimeError
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise MedlikeError(
            f"open_clip cannot be imported ({reason}); install it with the torchvision that belongs to this torch: "
            "pip install 'medlike[biomedclip]'"
        ) from None
    source = str(name_or_folder)
    if not source.startswith("hf-hub:"):
        folder = Path(name_or_folder).expanduser()
        if not (folder / CONFIG).is_file():
            raise InputError(f"{folder} has no {CONFIG}; give a folder of an open_clip model, or hf-hub:OWNER/MODEL")
        if not any(file.suffix in (".safetensors", ".bin", ".pth") for file in folder.iterdir()):
            raise InputError(f"{folder} holds no weights beside {CONFIG}; fetch the model again")
        source = f"local-dir:{folder.resolve()}"
    try:
        model, prepare = open_clip.create_model_from_pretrained(source)
        return OpenClipEncoder(model, prepare, open_clip.get_tokenizer(source))
    except Exception as error:  # open_clip, the hub and torch raise whatever they like
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise InputError(f"{name_or_folder} cannot be loaded by open_clip: {reason}") from error


def _unit(rows: F32) -> F32:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)
