"""MiniLM in the runtime gives what transformers gives, the same in any company, and says what it cannot read."""

import shutil
import sys

import numpy as np
import pytest

from medlike.errors import BundleError, InputError, TextNotInstalled
from medlike.inference import SentenceEncoder
from medlike.inference.sentence_graph import GRAPH, installed_graph
from medlike.inference.sentence_weights import TOKENIZER, WEIGHTS, text_folder

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
def encoder():
    with SentenceEncoder.load() as loaded:
        yield loaded


def test_vectors_are_those_of_transformers(encoder):
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = text_folder()
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    for text in SENTENCES[:-1]:
        given = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            mean = model(**given).last_hidden_state[0].mean(dim=0).numpy()
        np.testing.assert_allclose(encoder.encode([text])[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_vectors_are_of_unit_length_and_alike_where_sentences_are(encoder):
    found = encoder.encode(["fluid around the lung", "pleural effusion", "fracture of the ankle"])
    assert found.dtype == np.float32 and found.shape == (3, encoder.width) == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert found[0] @ found[1] > found[0] @ found[2]


def test_a_sentence_is_the_same_in_any_company_and_after_loading_again(encoder):
    whole = encoder.encode(SENTENCES)
    with SentenceEncoder.load() as again:
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


def test_the_shipped_graph_is_that_of_the_weights():
    assert installed_graph() == GRAPH.read_bytes()


def test_the_shipped_text_bundle_goes_with_the_encoder(encoder):
    from medlike.bundle import Bundle
    from medlike.inference import CrossEncoder

    CrossEncoder(Bundle.load("medlike-text-16", kind="text")).require_sentences(encoder)


def test_a_missing_text_part_is_named_with_what_to_run(monkeypatch, tmp_path):
    with pytest.raises(TextNotInstalled, match=r"pip install 'medlike\[text\]' && medlike text install"):
        SentenceEncoder.load(tmp_path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(TextNotInstalled, match="medlike text install"):
        SentenceEncoder.load()


def test_damaged_files_are_refused(tmp_path):
    for name in (TOKENIZER, WEIGHTS):
        shutil.copyfile(text_folder() / name, tmp_path / name)
    for name in (WEIGHTS, TOKENIZER):
        with (tmp_path / name).open("r+b") as file:
            file.seek(-1, 2)
            last = file.read(1)[0]
            file.seek(-1, 2)
            file.write(bytes([last ^ 1]))
        with pytest.raises(BundleError, match=rf"{name} is damaged.*medlike text install"):
            SentenceEncoder.load(tmp_path)


def test_no_torch_takes_part():
    import subprocess

    program = (
        "import sys; from medlike.inference import SentenceEncoder\n"
        "SentenceEncoder.load().encode(['effusion'])\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'onnx', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
