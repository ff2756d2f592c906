"""The losses of other methods as `medlike train --loss` finds them."""

import pytest
import torch

from medlike.training.objective import hash_loss
from medlike_research.losses.csq import csq, hash_centres
from medlike_research.losses.dch import dch
from medlike_research.losses.dpsh import dpsh
from medlike_research.losses.dsh import dsh
from medlike_research.losses.hashnet import hashnet

U = torch.randn(6, 16, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("loss", [dch, dpsh, dsh, hashnet], ids=lambda loss: loss.__name__)
def test_pairwise_losses_are_found_by_name(loss):
    value, histogram = hash_loss(loss.__name__, 16, [2, 2, 2], True)(U, LABELS, None)
    assert value == loss(U, LABELS) and histogram is None


def test_csq_has_a_centre_for_each_class():
    value, _ = hash_loss("csq", 16, [2, 2, 2], True)(U, LABELS, None)
    assert value == csq(U, LABELS, hash_centres(3, 16))
