"""Codes, receipts and results are those of golden.json, bit for bit.

Only the parts of the outlier verdict are floats of a network's floats: they may differ in the last digits between
processors. On the processor that wrote the file they are equal too (compare with `golden.py` before and after).
"""

import json

import numpy as np
import pytest
from tests.archive.golden import FILE, answers

from medlike.bundle import Bundle, default


def bits(code):
    return np.unpackbits(np.frombuffer(bytes.fromhex(code), np.uint8))


@pytest.mark.slow
def test_codes_receipts_and_results_are_those_of_the_golden_file(tmp_path):
    golden = json.loads(FILE.read_text())
    codes, results = answers(tmp_path / "archive", golden["earlier"])
    # Repeated, they name the bundle in use. Its codes are the same; its verdicts were calibrated anew since.
    in_use = {"bundle": Bundle.load(default()).digest}
    golden["results"] |= {
        f"earlier {name}": {**result, "receipt": result["receipt"] | in_use}
        for name, result in golden["earlier"].items()
    }
    assert codes.keys() == golden["codes"].keys() and results.keys() == golden["results"].keys()
    equal = np.mean([np.mean(bits(code) == bits(golden["codes"][name])) for name, code in codes.items()])
    assert equal >= 0.995, "this processor encodes otherwise than a bundle's golden inputs allow"
    if equal == 1:  # on every processor of one family
        for name, result in results.items():
            assert same(result, golden["results"][name]), name


def same(one, other):
    """Return whether two plain values are equal, floats to six digits."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == pytest.approx(other, rel=1e-6) if isinstance(one, float) else one == other
