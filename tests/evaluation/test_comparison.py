"""medlike compare: two bundles on the same images, by patient."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from medlike import bundle as bundles
from medlike.bundle import Bundle
from medlike.cli.app import build as application
from medlike.datasets import Dataset, find_units, hash_samples, read_collection
from medlike.errors import DatasetError
from medlike.evaluation.comparison import compare_bundles
from medlike.inference import Encoder


@pytest.fixture(scope="module")
def collection(write_phantoms, tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("compared") / "phantoms", each=6, strange=2, size=48)


def by_hand(encoder, data, units):
    """mAP, P@1 and P@10 of content vectors, query by query."""
    vectors = encoder.encode([sample.file for sample in data]).content.astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = data.column("label")
    figures = []
    for row in range(len(data)):
        others = np.flatnonzero(units != units[row])
        order = others[np.argsort(-(vectors[others] @ vectors[row]), kind="stable")]
        relevant = labels[order] == labels[row]
        ranks = np.flatnonzero(relevant) + 1
        figures.append((np.mean(np.arange(1, len(ranks) + 1) / ranks), relevant[0], relevant[:10].mean()))
    return np.mean(figures, axis=0)


def test_figures_are_those_of_a_naive_ranking(tiny_bundle, make_tiny_bundle, collection, tmp_path):
    other = make_tiny_bundle(tmp_path / "other", name="other", seed=5)
    outcome = compare_bundles(tiny_bundle, other, read_collection(collection))
    data = read_collection(collection).where(lambda sample: not sample.is_ood)
    units = find_units(data, hash_samples(data))
    assert (outcome["data"]["images"], outcome["units"]) == (48, len(np.unique(units)))
    rows = {(row["of"], row["metric"]): row for row in outcome["rows"]}
    assert list(rows) == [(kind, metric) for kind in ("codes", "content") for metric in ("mAP", "P@1", "P@10")]
    for side, bundle in (("first", tiny_bundle), ("second", other)):
        with Encoder(bundle) as encoder:
            expected = by_hand(encoder, data, units)
        given = [rows["content", metric][side] for metric in ("mAP", "P@1", "P@10")]
        np.testing.assert_allclose(given, expected, atol=1e-6)
    for row in rows.values():
        assert row["difference"] == pytest.approx(row["second"] - row["first"])
        assert row["first_interval"][0] <= row["first"] <= row["first_interval"][1]
        assert 0 < row["p"] <= row["p_holm"] <= 1


def test_a_bundle_equals_itself_and_beats_one_that_knows_nothing(tiny_bundle, tiny_graph, collection, tmp_path):
    data = read_collection(collection)
    alike = compare_bundles(tiny_bundle, tiny_bundle, data)["rows"]
    assert all(row["p"] == 1 and row["difference"] == 0 for row in alike)
    graph = tiny_graph()
    for tensor in graph.graph.initializer:
        if tensor.name in ("to_bits", "to_content"):
            values = np.frombuffer(tensor.raw_data, np.float32).copy()
            values[tensor.dims[1] :] = 0  # it sees one corner, and nothing of that but whether it is bright
            tensor.raw_data = values.tobytes()
    spec = {"name": "blind", "preset": "tiny", "bits": 64, "content_dim": 32}
    blind = bundles.write(tmp_path / "blind", graph, {}, spec)
    worse = compare_bundles(tiny_bundle, blind, data)["rows"]
    assert all(row["difference"] < 0 for row in worse) and worse[3]["p"] < 0.05


def test_images_without_labels_cannot_be_compared(tiny_bundle, collection):
    data = read_collection(collection)
    one = Dataset("one", tuple(sample for sample in data if sample.label == data[0].label))
    with pytest.raises(DatasetError, match="fewer than two labels"):
        compare_bundles(tiny_bundle, tiny_bundle, one)


def test_the_command_prints_a_table_or_json(tiny_bundle, make_tiny_bundle, collection, tmp_path):
    other = make_tiny_bundle(tmp_path / "other", name="other", seed=5)
    words = ["compare", str(tiny_bundle.path), str(other.path), "--data", str(collection)]
    table = CliRunner().invoke(application(), words)
    assert table.exit_code == 0 and "codes mAP" in table.stdout and "content P@10" in table.stdout
    assert "48 queries" in table.stderr
    outcome = json.loads(CliRunner().invoke(application(), [*words, "--format", "json"]).stdout)
    assert outcome["second"] == {
        **outcome["second"], "bundle": "other", "digest": Bundle.load(other.path).digest, "bits": 64,
    }  # fmt: skip
    assert len(outcome["rows"]) == 6
