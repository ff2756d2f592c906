"""Text bundles from pairs of towers: tiny random models of open_clip, carried and searched without it."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from medlike import Archive, Query
from medlike.bundle import Bundle, rewrite
from medlike.cli.app import build as application
from medlike.datasets import prepare_batches, read_collection
from medlike.errors import BundleError, InputError, TrainingError
from medlike.inference import CrossEncoder, Encoder, SentenceEncoder
from medlike.inference.sentence_weights import text_installed
from medlike.training.text_bundle import build_text_bundle
from medlike.training.text_tower import TextTower, open_text_tower, vocabulary
from medlike.training.tower import Pooling, Tower
from medlike.training.tower_bundle import TowerFit, build_bundle

TEXTS = ["Left pleural effusion.", "A 5-mm nodule, RUL", "pleural " * 100, "caf\u00e9 \U0001fac1", "normal chest x-ray"]
NORMAL = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "left", "pleural", "effusion", "nodule", "chest", "normal"]


def saved(model, settings, folder):
    from safetensors.torch import save_file

    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": NORMAL}))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def clip(open_clip, tmp_path_factory):
    """A CLIP with a ViT, a causal transformer and CLIP's own tokenizer, random."""
    import torch

    settings = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": 4, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }
    torch.manual_seed(0)
    return saved(open_clip.CLIP(**settings), settings, tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def bert(open_clip, tmp_path_factory):
    """A CLIP whose text tower is a BERT of transformers, as in BiomedCLIP."""
    import torch
    from transformers import BertConfig, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, initializer_range=1.0,
    ).save_pretrained(folder)  # fmt: skip
    settings = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": 4, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {
            "hf_model_name": str(folder), "hf_tokenizer_name": str(folder), "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler", "hf_model_pretrained": False, "context_length": 32,
        },
    }  # fmt: skip
    torch.manual_seed(0)
    return saved(open_clip.CustomTextCLIP(**settings), settings, folder)


@pytest.fixture(scope="module")
def few(write_phantoms, tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("few") / "phantoms", each=5, strange=2, size=64)


@pytest.fixture(scope="module")
def pair(clip, few, tmp_path_factory):
    """The bundles that the command makes of a pair of towers, and what it said."""
    out = tmp_path_factory.mktemp("pair") / "mine"
    words = ["bundle", "build", "--encoder", f"open_clip:{clip}", "--text-encoder", "--data", few, "--out", out]
    done = CliRunner().invoke(application(), [*map(str, words), "--format", "json"])
    assert done.exit_code == 0, done.stderr
    return Bundle.load(out), Bundle.load(out.with_name("mine-text"), kind="text"), done


def library_vectors(open_clip, folder, texts):
    import torch

    model = open_clip.create_model(f"local-dir:{folder}").eval()
    with torch.inference_mode():
        return model.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(texts), normalize=True).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "bert"])
def test_the_carried_encoder_gives_what_the_library_gives(open_clip, request, kind):
    folder = request.getfixturevalue(kind)
    tower = open_text_tower(f"open_clip:{folder}")
    texts = TEXTS if kind == "clip" else [text for text in TEXTS if "\u00e9" not in text]
    with tower.encoder() as encoder:
        given = encoder.encode(texts)
        assert encoder.truncated(TEXTS[2]) and not encoder.truncated(TEXTS[0])
        assert not encoder.readable(" ") and encoder.readable("effusion")
        with pytest.raises(InputError, match="the text is empty"):
            encoder.encode(["  "])
    np.testing.assert_allclose(given, library_vectors(open_clip, folder, texts), atol=2e-3)
    assert tower.agreement > 0.999 and tower.width == 24


@pytest.mark.slow
def test_similarities_of_the_bundles_are_those_of_the_pair(open_clip, clip, few, pair):
    import torch

    images, text, done = pair
    assert (text.bits, text.carries_sentences, images.content_blocks) == (16, True, (25,))
    assert json.loads(done.stdout)["text_bundle"]["name"] == "mine-text"
    assert "expressions of radiology" in done.stderr
    known = read_collection(few).where(lambda sample: not sample.is_ood)
    files = [sample.file for sample in known][:6]
    with Encoder(images) as encoder, SentenceEncoder.of(text) as sentences:
        encoded = encoder.encode(files)
        crossed = CrossEncoder(text)
        crossed.require_images(images)
        crossed.require_sentences(sentences)
        crossed.require_golden()
        seen = crossed.encode(encoded.content)
        said = crossed.encode(None, sentences.encode(TEXTS))
    model = open_clip.create_model(f"local-dir:{clip}").eval()
    pixels = np.stack([p.pixels for batch in prepare_batches(known, side=64) for p in batch][:6]) / 255
    with torch.inference_mode():
        batch = torch.from_numpy((pixels[:, None].repeat(3, 1) - 0.5) / 0.25).float()
        expected = torch.nn.functional.normalize(model.encode_image(batch), dim=1).numpy()
    similar = expected @ library_vectors(open_clip, clip, TEXTS).T
    np.testing.assert_allclose(seen.embedding @ said.embedding.T, similar, atol=0.02)
    assert seen.code.shape == (6, 2)


@pytest.mark.slow
def test_an_archive_is_searched_by_text_without_the_installed_encoder(pair, few, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "nothing here"))
    assert not text_installed()
    images, text, _ = pair
    with Archive.create(tmp_path / "archive", bundle=images, text_bundle=text) as archive:
        assert archive.add(few).added == 42
        result = archive.search(Query(text="left pleural effusion"))
        for command in ("info", "card"):
            assert CliRunner().invoke(application(), ["bundle", command, str(text.path)]).exit_code == 0
        assert len(result.hits) == 10 and not any("words alone" in warning for warning in result.warnings)


@pytest.mark.slow
def test_a_damaged_encoder_is_refused_and_no_file_is_read(pair, tmp_path):
    _, text, _ = pair
    broken = rewrite(text, tmp_path / "broken", {"sentence.graph": np.frombuffer(b"no graph", np.uint8)})
    with pytest.raises(BundleError, match="the sentence encoder of the text bundle cannot be opened"):
        SentenceEncoder.of(broken)
    graph = text.array("sentence.graph").tobytes().replace(b"handed over", b"/etc/passwd")
    other = rewrite(text, tmp_path / "other", {"sentence.graph": np.frombuffer(graph, np.uint8)})
    with pytest.raises(BundleError, match="its graph reads the file '/etc/passwd'"):
        SentenceEncoder.of(other)


@pytest.mark.slow
def test_what_is_no_pair_is_refused(pair, few, tmp_path):
    with pytest.raises(InputError, match="is an image encoder alone; it goes with open_clip:NAME"):
        open_text_tower("timm:vit")
    maps = Tower("timm:t", tmp_path, 64, 3, "NCHW", "float32", (0,), (1,), "", (Pooling("y", "NCHW", (1, 8, 2, 2)),))
    with pytest.raises(TrainingError, match="ends with NCHW, not with a vector that texts share"):
        build_bundle(maps, read_collection(few), tmp_path / "out", TowerFit(joint=True))
    text = TextTower("open_clip:t", b"", {}, "", 32, 16, 1.0)
    with pytest.raises(TrainingError, match="images have 8 numbers and texts 32: no pair"):
        build_text_bundle(text, pair[0], maps, read_collection(few), tmp_path / "out")


def test_the_vocabulary_has_each_expression_once():
    assert len(vocabulary()) == len(set(vocabulary())) > 100
