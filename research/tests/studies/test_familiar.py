"""Study `familiar`: images of a source that the archive lacks, before and after some of them are in."""

from dataclasses import replace

import numpy as np
import pytest

from medlike.archive.index.neighbours import NEAREST
from medlike.datasets import Dataset, read_manifest
from medlike.datasets.splits import make_split
from medlike_research.studies import familiar, find_study
from medlike_research.studies.bench import Bench, BenchSettings
from medlike_research.studies.familiar import FIVE_GLOBAL, FORMER, NOW, ONE_LOCAL
from medlike_research.studies.runner import run_study


def test_what_is_far_from_all_is_flagged_until_some_of_it_is_in():
    random = np.random.default_rng(0)
    middles = random.normal(size=(3, 24))
    vectors = np.concatenate([middle + random.normal(0, 0.3, (150, 24)) for middle in middles]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    units, strange = np.arange(450), np.arange(300, 450)
    before = familiar._judged(vectors, units, np.arange(300), strange)
    after = familiar._judged(vectors, units, np.arange(400), strange[100:])
    for rule in (NOW, FIVE_GLOBAL, ONE_LOCAL, FORMER):
        assert before[rule].min() > 0 and (before[rule] <= 0.05).mean() > 0.9
        assert (after[rule] <= 0.05).mean() < 0.2


def test_the_nearest_are_those_of_other_units():
    random = np.random.default_rng(1)
    vectors = random.normal(size=(60, 8)).astype(np.float32)
    units, inside, rows = random.integers(0, 20, 60), np.arange(5, 60), np.arange(7)
    near = familiar._nearest(vectors, units, inside, rows)
    for row in rows:
        others = sorted((float(vectors[row] @ vectors[at]) for at in inside if units[at] != units[row]), reverse=True)
        np.testing.assert_allclose(near[row], others[:NEAREST], rtol=1e-5)


@pytest.mark.slow
def test_the_study_shows_every_rule_and_source(collection, tiny_bundle, tmp_path):
    read = read_manifest(collection, name="small")
    data = Dataset("small", tuple(replace(s, source="east") if n % 3 == 0 and not s.is_ood else s
                                  for n, s in enumerate(read)))  # fmt: skip
    hashes = np.random.default_rng(0).integers(0, 2**63, len(data), dtype=np.uint64)
    settings = BenchSettings(bundle=str(tiny_bundle.path), limit=60)
    bench = replace(Bench(data, data, make_split(data, hashes), tmp_path / "work"), settings=settings)
    summary = run_study(find_study("familiar"), bench, tmp_path, say=lambda t: None)
    pooled, by_source = summary.tables
    assert {row[0] for row in pooled[2]} == {NOW, FIVE_GLOBAL, ONE_LOCAL, FORMER}
    assert {row[2] for row in pooled[2]} >= {0} and all(0 <= row[5] <= 1 for row in pooled[2])
    assert {row[0] for row in by_source[2]} == {s.source for s in data if not s.is_ood}
    assert all(row[2] is not None for row in by_source[2])
