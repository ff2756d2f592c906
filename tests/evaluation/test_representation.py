"""Codes and features as the two forms that can be ranked."""

import numpy as np
import pytest

from medlike.errors import QueryError
from medlike.evaluation.representation import Representation, rank
from medlike.metrics import Relevance


def codes(*values: int) -> Representation:
    return Representation(codes=np.array(values, np.uint8)[:, None])


def test_codes_and_features_cannot_be_compared():
    features = Representation(features=np.ones((1, 3)))
    with pytest.raises(QueryError, match="two kinds"):
        rank(codes(0), features, Relevance.of(np.zeros(1), np.zeros(1)))
    with pytest.raises(QueryError, match="either"):
        Representation()
    assert codes(1, 2, 3)[np.array([2])].codes.tolist() == [[3]]
    assert codes(1).bits == 8 and codes(1).bytes_per_image == 1 and features.bits is None
