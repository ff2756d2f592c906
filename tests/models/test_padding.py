"""Convolutions pad as TensorFlow does."""

import torch
import torch.nn.functional as F

from medlike.models.padding import PaddedConv2d


def test_padding_is_that_of_tensorflow():
    layer = PaddedConv2d(2, 3, 3, stride=2)
    x = torch.randn(1, 2, 8, 8)
    # An even side and stride 2: nothing before, one row and column after.
    expected = F.conv2d(F.pad(x, (0, 1, 0, 1)), layer.weight, layer.bias, 2)
    torch.testing.assert_close(layer(x), expected)
