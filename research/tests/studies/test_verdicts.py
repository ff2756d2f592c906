"""Study `verdicts`: drawn outliers, verdicts on sources left out, and the bundle that is made of them."""

from dataclasses import replace

import numpy as np
import pytest

from medlike.datasets import Dataset, read_manifest
from medlike.datasets.splits import make_split
from medlike.inference.outlier import OutlierScorer
from medlike.training.drawn_outliers import KINDS
from medlike_research.commands.verdict_part import with_verdict_part
from medlike_research.studies import find_study
from medlike_research.studies.bench import Bench, BenchSettings
from medlike_research.studies.runner import run_study
from medlike_research.studies.verdicts import material


@pytest.fixture(scope="module")
def bench(collection, tiny_bundle, tmp_path_factory):
    read = read_manifest(collection, name="small")
    # A third source: with one left out, the calibration still leaves out another in turn.
    data = Dataset("small", tuple(replace(s, source="east") if n % 3 == 0 and not s.is_ood else s
                                  for n, s in enumerate(read)))  # fmt: skip
    hashes = np.random.default_rng(0).integers(0, 2**63, len(data), dtype=np.uint64)
    settings = BenchSettings(bundle=str(tiny_bundle.path), limit=20)
    bare = Bench(data, data, make_split(data, hashes), tmp_path_factory.mktemp("work"))
    return replace(bare, settings=settings)


@pytest.mark.slow
def test_half_of_each_kind_is_fitted_to(bench):
    found = material(bench)
    kinds = np.array(found.kinds)
    for kind in KINDS:
        assert found.fitting[kinds == kind].mean() == 0.5
    assert len(found.outliers) == len(kinds) == len(found.outlier_predicted)


@pytest.mark.slow
def test_the_study_shows_promised_and_reached_by_source_and_kind(bench, tmp_path):
    summary = run_study(find_study("verdicts"), bench, tmp_path, say=lambda t: None)
    by_modality, by_source, kinds = summary.tables
    assert {row[0] for row in by_modality[2]} == {"as the bundle is", "sources left out in turn"}
    assert all(row[by_modality[1].index("promised")] == 0.03 for row in by_modality[2])
    assert {row[1] for row in by_source[2]} == {s.source for s in bench.wide if not s.is_ood}
    unseen = [row[1] for row in kinds[2] if row[0].endswith("never seen")]
    assert set(unseen) == set(KINDS) | {s.coarse for s in bench.wide if s.is_ood} | {"mean over kinds"}


@pytest.mark.slow
def test_a_bundle_with_the_part_gives_equal_codes_and_other_verdicts(bench, tmp_path):
    made = with_verdict_part(bench, tmp_path / "made")
    former = bench.bundle
    assert made.encoder_digest == former.encoder_digest and made.digest != former.digest
    assert made.spec["outlier"]["components"] == ["contrast"]
    assert "outlier.reference" not in made.array_names() and made.bytes < former.bytes
    np.testing.assert_array_equal(made.golden_bits(), former.golden_bits())
    found = material(bench)
    verdicts = OutlierScorer.of(made).verdicts(found.outliers[found.fitting])
    assert (verdicts.score > OutlierScorer.of(made).verdicts(found.features).score.mean()).mean() > 0.5
