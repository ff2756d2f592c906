import numpy as np
import pytest

from medlike.evaluation.parts import part_figures, parted
from medlike.metrics import bootstrap_interval


def test_a_part_has_its_own_mean_interval_and_counts_and_one_unit_has_no_interval():
    rng = np.random.default_rng(0)
    column, values, units = np.repeat(["a", "b"], 40), rng.random(80), np.arange(80) // 4
    values[0] = np.nan
    units[40:] = 99
    found = part_figures("by_label", parted(column, values, units))
    expected = bootstrap_interval(values[:40], units[:40])
    assert found["by_label"]["a"] == pytest.approx(np.nanmean(values[:40]))
    assert found["by_label_interval"]["a"] == [expected.low, expected.high] and expected.low < expected.high
    assert found["by_label_queries"] == {"a": 39, "b": 40} and found["by_label_units"] == {"a": 10, "b": 1}
    assert np.isnan(found["by_label_interval"]["b"]).all()
