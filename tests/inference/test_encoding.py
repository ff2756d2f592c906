"""Content vectors: quantised, compared, kept whole."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medlike.inference import Encodings, quantised, similarity


def test_similarity_is_the_correlation_of_the_float_vectors():
    random = np.random.default_rng(0)
    content = (random.normal(size=(50, 128)) + random.normal(size=(50, 1))).astype(np.float32)
    whole = quantised(content)
    expected = np.corrcoef(content)
    for row in range(5):
        np.testing.assert_allclose(similarity(whole[row], whole), expected[row], atol=0.01)


def test_quantised_rows_use_the_whole_range_and_ignore_shift_and_scale():
    random = np.random.default_rng(1)
    content = random.normal(size=(9, 40)).astype(np.float32)
    whole = quantised(content)
    assert (np.abs(whole).max(axis=1) == 127).all()
    moved = quantised(content * 7 + 3)
    assert np.abs(whole.astype(int) - moved.astype(int)).max() <= 1


def test_a_constant_row_is_similar_to_nothing():
    rows = quantised(np.vstack([np.full(16, 5.1), np.arange(16)]).astype(np.float32))
    assert not rows[0].any()
    np.testing.assert_array_equal(similarity(rows[0], rows), [0, 0])
    np.testing.assert_array_equal(similarity(rows[1], rows), [0, 1])


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, (4, 12), elements=st.floats(-1e6, 1e6, width=32)))
def test_similarity_stays_in_range_and_is_symmetric(content):
    whole = quantised(content)
    table = np.stack([similarity(row, whole) for row in whole])
    assert (np.abs(table) <= 1 + 1e-6).all()
    np.testing.assert_array_equal(table, table.T)


def test_joining_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing to concatenate"):
        Encodings.concatenate([])


def test_encodings_come_without_the_runtime():
    code = (
        "import sys; from medlike.inference.encoding import Encodings; from medlike.inference import Outlier;"
        "print([m for m in ('onnxruntime', 'torch', 'numba', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
