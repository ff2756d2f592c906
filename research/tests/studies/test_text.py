"""The study of texts: BM25 as the formula says, and a run from pictures and captions to tables."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from medlike.datasets import Dataset, read_manifest
from medlike.datasets.splits import make_split
from medlike.errors import DatasetError
from medlike.metrics import Relevance, score_codes
from medlike_research.studies import find_study
from medlike_research.studies.bench import Bench, BenchSettings
from medlike_research.studies.runner import run_study
from medlike_research.studies.text_methods import Material, bm25, measured, permuted

WORDS = {"disc": "a filled round mass", "ring": "rim enhancement of a cavity", "bars": "parallel linear opacities"}


@pytest.fixture(scope="module")
def bench(collection, tiny_bundle, tmp_path_factory):
    """The small collection with a caption for each image, 150 images of three labels."""
    data = read_manifest(collection, name="small")
    told = tuple(replace(s, text=f"{WORDS[s.label]}, case {s.group}" if not s.is_ood else "noise") for s in data)
    data = Dataset("small", told)
    hashes = np.random.default_rng(0).integers(0, 2**63, len(data), dtype=np.uint64)
    settings = BenchSettings(bundle=str(tiny_bundle.path), bits=(16,), seeds=(0,), epochs=1)
    work = tmp_path_factory.mktemp("work")
    return Bench(data, data, make_split(data, hashes), work, settings=settings)


def test_bm25_is_that_of_the_formula():
    texts = ["left pleural effusion", "right effusion effusion", "brain mass in the left lobe", "mass"]
    found = bm25(["Effusion, left!", "nothing here", '"; DROP TABLE texts; --'], texts)
    words = [text.split() for text in texts]
    mean = sum(map(len, words)) / len(words)

    def expected(query, own):
        total = 0.0
        for term in query:
            n = sum(term in other for other in words)
            idf = max(math.log((len(words) - n + 0.5) / (n + 0.5)), 1e-6)
            f = own.count(term)
            total += idf * f * 2.2 / (f + 1.2 * (0.25 + 0.75 * len(own) / mean))
        return total

    np.testing.assert_allclose(found[0], [expected(["effusion", "left"], own) for own in words], atol=1e-9)
    assert not found[1:].any()
    # Words are cut as the table's are: a hyphen parts them.
    assert bm25(["T2-weighted"], ["axial t2-weighted scan", "a scan", "another"])[0, 0] > 0


def test_material_holds_headline_pairs_apart_from_training_pairs(bench):
    material = Material(bench)
    assert len(material.query) and len(material.gallery) and len(material.train)
    for pairs in (material.query, material.gallery):
        assert not set(pairs.units.tolist()) & set(material.train.units.tolist())
        assert not any(sample.is_ood for sample in pairs.samples)
    assert material.inside is not None
    assert len({sample.source for sample in material.inside[0].samples}) == 1


def test_a_collection_without_texts_is_refused(bench):
    bare = Dataset("bare", tuple(replace(sample, text="") for sample in bench.data))
    with pytest.raises(DatasetError, match="no image of bare has a text; give a manifest with a column `text`"):
        Material(replace(bench, data=bare)).everything  # noqa: B018


def coded(pairs):
    """A code that says the label and nothing else, uint8 [N, 1]; no two labels are as far apart as two others."""
    return np.array([{"disc": 0, "ring": 1, "bars": 127}[label] for label in pairs.samples.column("label")], np.uint8)[
        :, None
    ]


def test_permuted_queries_keep_what_a_ranking_owes_to_the_gallery_alone(bench):
    material = Material(bench)

    def blind(pairs, image, text):
        # Images are told apart, texts are all alike: text to image puts discs first whatever is asked.
        codes = coded(pairs) if image else np.zeros((len(pairs), 1), np.uint8)
        return codes.astype(np.float32) + 1, codes

    own, null = measured(material, blind)[0], permuted(material, blind, seed=0)
    view = "single, text to image"
    np.testing.assert_allclose(null[view]["at"], own[view]["at"])
    np.testing.assert_allclose(null[view]["full"], own[view]["full"])
    assert null["within"][view] == pytest.approx(own["within"][view])
    assert null[view]["units"] == own[view]["units"]


def test_permuted_queries_take_away_what_a_ranking_owes_to_its_query(bench):
    material = Material(bench)

    def knowing(pairs, image, text):
        return coded(pairs).astype(np.float32) + 1, coded(pairs)

    own, null = measured(material, knowing)[0], permuted(material, knowing, seed=0)
    asked, items = material.query, material.gallery.texts()
    relevance = Relevance.of(asked.samples.column("label"), items.samples.column("label"))
    # Every other query's ranking, one by one.
    shifts = [
        score_codes(np.roll(coded(asked), shift, axis=0), coded(items), relevance, 50).mean("map_at_k")
        for shift in range(1, len(asked))
    ]
    view = "single, image to text"
    assert np.mean(own[view]["at"]) == 1
    assert np.mean(null[view]["at"]) == pytest.approx(np.mean(shifts), abs=0.03) and np.mean(shifts) < 0.7


@pytest.mark.slow
def test_a_run_fills_every_table(bench, tmp_path):
    study = find_study("text")
    summary = run_study(study, bench, tmp_path, say=lambda text: None)
    titles = {title: rows for title, _, rows in summary.tables}
    main = {row[0]: row for row in titles["mAP@50, one side seen, 16 bits"]}
    names = {"mcmfh", "plain MLP hash", "ITQ on the embeddings", "mcmfh, own float vector", "chance"}
    assert names <= set(main)
    # Captions name the label: whatever learned from them is far above chance.
    assert main["mcmfh"][7] > main["chance"][7] + 0.2
    assert main["mcmfh on shuffled pairs"][7] < main["mcmfh"][7]
    assert main["mcmfh, queries permuted"][7] < main["mcmfh"][7] - 0.2
    gap = main["mcmfh on shuffled pairs"][7] - main["mcmfh on shuffled pairs, queries permuted"][7]
    assert abs(gap) < main["mcmfh"][7] - main["mcmfh, queries permuted"][7]
    ablation = [row[0] for row in titles["What each part is worth, 16 bits"]]
    wanted = {"1 expert", "2 experts", "without dropout voting", "without gating loss", "without mask training"}
    assert wanted < set(ablation)
    assert next(row[0] for row in titles["Text to text"]) == "BM25"
    shares = titles["Codes against the model's own float vector, share of its mAP@50"]
    assert shares[0][0] == "16" and all(str(cell).endswith("%") for cell in shares[0][1:])
    results = json.loads((tmp_path / "results.json").read_text())
    assert (
        results["cells_done"] == results["cells"]
        and sum(
            "trained on shuffled pairs" in note and "with its queries permuted" in note for note in results["notes"]
        )
        == 2
    )


@pytest.mark.slow
def test_a_subset_makes_do(bench, tmp_path):
    summary = run_study(find_study("text"), bench, tmp_path, only=["chance", "itq-*"], say=lambda text: None)
    assert next(row[0] for row in summary.tables[0][2]) == "ITQ on the embeddings"
