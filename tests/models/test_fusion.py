"""Fusion of two depths, against its formula."""

import math

import pytest
import torch
import torch.nn.functional as F

from medlike.errors import TrainingError
from medlike.models.fusion import AdaptivePool, DepthFusion


@pytest.mark.parametrize("query", ["shallow", "deep"])
def test_fusion_is_cross_attention_between_depths(query):
    torch.manual_seed(0)
    fusion = DepthFusion(4, 6, outputs=5, heads=2, head_width=3, query=query).double()
    shallow, deep = torch.randn(2, 4, 7, 7).double(), torch.randn(2, 6, 7, 7).double()
    asking, asked = (shallow, deep) if query == "shallow" else (deep, shallow)

    def split(conv, x):
        return F.conv2d(x, conv.weight).flatten(2).unflatten(1, (2, 3))

    q, k, v = split(fusion.query, asking), split(fusion.key, asked), split(fusion.value, asked)
    share = (torch.einsum("nhdi,nhdj->nhij", q, k) / math.sqrt(3)).softmax(dim=-1)
    mixed = torch.einsum("nhij,nhdj->nhdi", share, v).flatten(1, 2).mean(dim=2)
    expected = mixed @ fusion.output.weight[:, :, 0, 0].T + fusion.output.bias
    torch.testing.assert_close(fusion(shallow, deep), expected)


def test_the_fusion_refuses_another_direction():
    with pytest.raises(TrainingError, match="shallow, deep"):
        DepthFusion(4, 6, query="both")


def test_maps_are_pooled_to_seven_cells_a_side():
    pool = AdaptivePool(3).eval()
    x = torch.randn(2, 3, 28, 28)
    expected = (x / math.sqrt(1 + 1e-5)).relu().unflatten(3, (7, 4)).unflatten(2, (7, 4)).mean(dim=(3, 5))
    torch.testing.assert_close(pool(x), expected)
