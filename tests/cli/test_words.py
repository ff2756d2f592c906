"""Words on the command line: alone, with an image, with an id; and texts as the answer."""

import csv
import io
import json
import re
import shutil

import pytest

from medlike import samples

from .conftest import medlike

CAPTIONS = ("Supine chest radiograph.", "Left pleural effusion, upright.", "Effusion seen by Dr. Smith on 2024-02-29.")


@pytest.fixture(scope="module")
def captioned(tmp_path_factory, tiny_bundle):
    """An archive of three samples with captions, and what its making printed."""
    folder = tmp_path_factory.mktemp("captioned")
    images = sorted((samples() / "images").glob("chest-*.jpg"))[:3]
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("path", "text"), *zip(images, CAPTIONS, strict=True)])
    chosen = ("--bundle", tiny_bundle.path, "--text-bundle", "none")
    done = medlike("index", folder / "manifest.csv", "--archive", folder / "archive", *chosen)
    assert done.code == 0, done.err
    return folder / "archive", images, done


def test_index_counts_texts(captioned):
    assert "3 texts stored, 2 passages in them replaced by rule" in captioned[2].out
    assert medlike("info", "--archive", captioned[0], "--format", "json").json["texts"] == 3


def test_index_changes_no_text_bundle(captioned, tmp_path, tiny_text_bundle):
    archive, images = shutil.copytree(captioned[0], tmp_path / "own"), captioned[1]
    refused = medlike("index", images[0], "--archive", archive, "--text-bundle", tiny_text_bundle.path)
    assert refused.code == 1 and "has no text bundle" in refused.err
    assert f"medlike reindex --text-bundle {tiny_text_bundle.path}" in refused.err.replace("\n", "")
    assert medlike("index", images[0], "--archive", archive, "--text-bundle", "none").code == 0


def test_words_alone(captioned):
    done = medlike("search", "--archive", captioned[0], "--text", "pleural effusion")
    assert done.code == 0
    first = next(line for line in done.out.splitlines() if line.lstrip().startswith("1 "))
    assert "pleural, effusion" in first and "words 1" in first
    assert "weights: words 1" in done.out
    told = medlike("search", "-a", captioned[0], "-t", "effusion", "--format", "json").json
    assert [hit["words"] for hit in told["hits"]] == [["effusion"], ["Effusion"]] or len(told["hits"]) == 2
    assert told["weights"] == {"words": 1.0} and "Smith" not in json.dumps(told)
    rows = list(csv.DictReader(io.StringIO(medlike("search", "-a", captioned[0], "-t", "effusion", "-f", "csv").out)))
    assert [row["words"].lower() for row in rows] == ["effusion", "effusion"] and "[" in rows[0]["snippet"]


def test_words_with_an_image_and_with_an_id(captioned, tmp_path):
    archive, images, _ = captioned
    sheet, receipt = tmp_path / "found.png", tmp_path / "receipt.json"
    done = medlike("search", images[0], "-a", archive, "-t", "supine", "--weight", "image=2", "--sheet", sheet,
                   "--receipt", receipt, "-f", "json")  # fmt: skip
    assert done.code == 0 and done.json["weights"] == {"words": 1.0, "image": 2.0}
    assert done.json["hits"][0]["ranks"] == {"words": 1, "image": 1} and sheet.stat().st_size > 1000
    again = medlike("search", "-a", archive, "--receipt", receipt, "-f", "json").json
    assert again["hits"] == done.json["hits"]
    id = done.json["hits"][0]["id"]
    by_id = medlike("search", "-a", archive, "--id", id[:8], "-t", "effusion", "-f", "json").json
    assert id not in [hit["id"] for hit in by_id["hits"]] and len(by_id["hits"]) == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--text", " "], 2, "give at least one word"),
        (["--text", "x", "--weight", "words"], 2, "not a weight"),
        (["--text", "x", "--weight", "reports=1"], 1, "is no ranking"),
        (["--text", "x", "--region", "0,0,9,9"], 2, "a region needs the image it is in"),
        (["--texts"], 2, "nearest to|near to|give one query"),
        (["--text", "x", "--texts"], 1, "no text bundle"),
        ([], 2, "--text"),
    ],
)
def test_what_cannot_be_asked_is_told(captioned, words, code, said):
    done = medlike("search", "--archive", captioned[0], *words)
    assert done.code == code
    assert re.search(said, " ".join(done.err.replace("│", " ").split())), done.err


def test_texts_near_an_image_after_a_text_bundle_was_added(captioned, tmp_path, tiny_text_bundle):
    archive = shutil.copytree(captioned[0], tmp_path / "own")
    done = medlike("reindex", "--archive", archive, "--text-bundle", tiny_text_bundle.path)
    assert done.code == 0, done.err
    assert "3 images and 3 texts encoded under tiny-text-16" in done.out
    receipt = tmp_path / "receipt.json"
    told = medlike("search", captioned[1][0], "-a", archive, "--texts", "-f", "json", "--receipt", receipt).json
    again = medlike("search", "-a", archive, "--receipt", receipt, "-f", "json").json
    assert again["texts"] == told["texts"] and again["outlier"] == told["outlier"] and told["outlier"]["components"]
    rows = list(csv.DictReader(io.StringIO(medlike("search", "-a", archive, "--receipt", receipt, "-f", "csv").out)))
    assert [row["text"] for row in rows] == [hit["text"] for hit in told["texts"]]
    refused = medlike("search", "-a", archive, "--receipt", receipt, "--sheet", tmp_path / "found.png")
    assert refused.code == 1 and "--sheet draws images" in refused.err
    assert sorted(hit["text"] for hit in told["texts"])[0] == "Effusion seen by [name] on [date]."
    assert [hit["rank"] for hit in told["texts"]] == [1, 2, 3]
    assert "Supine chest radiograph." in medlike("search", captioned[1][0], "-a", archive, "--texts").out
    assert medlike("verify", "--archive", archive).code == 0
    assert "tiny-text-16" in medlike("info", "--archive", archive).out
    assert medlike("search", "-a", archive, "-t", "effusion", "-f", "json").json["weights"].keys() == {
        "words", "texts", "pictures"
    }  # fmt: skip
