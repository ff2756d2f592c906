"""The loading code of BiomedCLIP, on a tiny random model of its architecture in a local folder."""

import json
import sys

import numpy as np
import pytest

from medlike.errors import InputError, MedlikeError
from medlike.models.biomedclip import CONFIG, load_joint_encoder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "left", "pleural", "effusion", "mass", "of", "the", "liver"]


@pytest.fixture(scope="module")
def folder(open_clip, tmp_path_factory):
    """A ViT and a BERT with the projections and poolers of BiomedCLIP, random, saved as open_clip saves them."""
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertTokenizerFast

    place = tmp_path_factory.mktemp("tiny biomedclip")
    (place / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    BertTokenizerFast(str(place / "vocab.txt")).save_pretrained(place)
    BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, initializer_range=1.0,
    ).save_pretrained(place)  # fmt: skip
    settings = {
        "embed_dim": 8,
        "vision_cfg": {
            "timm_model_name": "vit_tiny_patch16_224", "timm_model_pretrained": False, "timm_pool": "",
            "timm_proj": "linear", "image_size": 224,
        },
        "text_cfg": {
            "hf_model_name": str(place), "hf_tokenizer_name": str(place), "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler", "hf_model_pretrained": False, "context_length": 32,
        },
    }  # fmt: skip
    normal = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bicubic"}
    (place / CONFIG).write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": normal}))
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(**settings)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, place / "open_clip_model.safetensors")
    return place


@pytest.fixture(scope="module")
def encoder(folder):
    return load_joint_encoder(folder)


def test_images_are_what_the_model_gives(encoder, folder, open_clip):
    import torch
    from PIL import Image

    model, prepare = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, shape).astype(np.uint8) for shape in ((224, 224), (100, 300))]
    found = encoder.encode_images(pictures)
    assert found.shape == (2, 8) == (2, encoder.width) and found.dtype == np.float32
    with torch.inference_mode():
        batch = torch.stack([prepare(Image.fromarray(picture)) for picture in pictures])
        expected = torch.nn.functional.normalize(model.eval().encode_image(batch), dim=1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_texts_are_told_apart_and_cut_at_the_context(encoder):
    found = encoder.encode_texts(["left pleural effusion", "mass of the liver", "left pleural effusion"])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found[0], found[2], atol=1e-6)
    assert found[0] @ found[1] < 0.9999
    long = encoder.encode_texts(["mass " * 100, "mass " * 200])
    np.testing.assert_allclose(long[0], long[1], atol=1e-6)


def test_nothing_gives_nothing_and_bad_input_is_refused(encoder):
    assert encoder.encode_images([]).shape == encoder.encode_texts([]).shape == (0, 8)
    with pytest.raises(InputError, match=r"shape \[4, 4, 3\] and type uint8; give uint8 \[H, W\]"):
        encoder.encode_images([np.zeros((4, 4, 3), np.uint8)])
    with pytest.raises(InputError, match="a text is empty"):
        encoder.encode_texts([" "])


def test_a_folder_that_is_no_model_is_refused(open_clip, tmp_path):
    with pytest.raises(InputError, match=f"has no {CONFIG}; give a folder"):
        load_joint_encoder(tmp_path)
    (tmp_path / CONFIG).write_text("{}")
    with pytest.raises(InputError, match="holds no weights"):
        load_joint_encoder(tmp_path)
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"cannot be loaded by open_clip: .*model_cfg"):
        load_joint_encoder(tmp_path)


def test_without_open_clip_it_is_said_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MedlikeError, match=r"open_clip cannot be imported .*pip install 'medlike\[biomedclip\]'"):
        load_joint_encoder(tmp_path)
