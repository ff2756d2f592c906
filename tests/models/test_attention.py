"""Attention in windows and over pixels, against plain loops."""

import math

import pytest
import torch

from medlike.errors import TrainingError
from medlike.models.attention import ConvMSA, PixelTransformer, relative_index, unwindows, windows


def test_windows_are_cut_and_joined():
    x = torch.arange(2 * 3 * 14 * 21.0).reshape(2, 3, 14, 21)
    cut = windows(x)
    assert cut.shape == (2 * 6, 49, 3)
    # The second window of the first image: rows 0 to 6, columns 7 to 13; its cell 8 is row 1, column 1.
    assert torch.equal(cut[1, 8], x[0, :, 1, 8])
    assert torch.equal(unwindows(cut, 14, 21), x)


def test_relative_positions_depend_on_the_offset_alone():
    index = relative_index(7)
    assert len(index.unique()) == 169
    assert index[0, 8] == index[8, 16] == index[40, 48]
    assert index[8, 0] != index[0, 8]


def test_window_attention_is_that_of_a_loop():
    torch.manual_seed(0)
    layer = ConvMSA(5, heads=2, head_width=3).double()
    torch.nn.init.normal_(layer.position)
    x = torch.randn(1, 5, 7, 14, dtype=torch.float64)
    found = layer(x)
    expected = torch.empty_like(x)
    table = layer.position.reshape(13, 13)
    weight = layer.query_key_value.weight[:, :, 0, 0]
    for left in (0, 7):
        cells = [(r, c) for r in range(7) for c in range(left, left + 7)]
        for r, c in cells:
            mixed = []
            for head in range(2):
                rows = slice(3 * head, 3 * head + 3)
                q = (weight[0:6] @ x[0, :, r, c])[rows]
                scores, values = [], []
                for a, b in cells:
                    k = (weight[6:12] @ x[0, :, a, b])[rows]
                    values.append((weight[12:18] @ x[0, :, a, b])[rows])
                    scores.append(q @ k / math.sqrt(3) + table[r - a + 6, c - b + 6])
                mixed.append(torch.stack(scores).softmax(0) @ torch.stack(values))
            out = layer.output.weight[:, :, 0, 0] @ torch.cat(mixed) + layer.output.bias
            expected[0, :, r, c] = x[0, :, r, c] + out
    torch.testing.assert_close(found, expected)


def test_maps_that_windows_do_not_tile_are_refused():
    with pytest.raises(TrainingError, match="10x14"):
        ConvMSA(4, 1, 4)(torch.zeros(1, 4, 10, 14))


def test_the_pixel_transformer_keeps_every_layer_and_knows_positions():
    torch.manual_seed(0)
    network = PixelTransformer(6, width=8, depth=3, heads=2, hidden=16).eval()
    x = torch.randn(2, 6, 7, 7)
    outputs = network(x)
    assert [tuple(y.shape) for y in outputs] == [(2, 50, 8)] * 3
    turned = network(x.flip(3))[-1][:, 0]
    assert not torch.allclose(outputs[-1][:, 0], turned, atol=1e-4)
    with pytest.raises(TrainingError, match="64 pixels"):
        network(torch.zeros(1, 6, 8, 8))


def test_dropout_acts_in_training_alone():
    network = PixelTransformer(6, width=8, depth=1, heads=2, hidden=16, dropout=0.5)
    x = torch.randn(1, 6, 7, 7)
    assert not torch.equal(network(x)[0], network(x)[0])
    network.eval()
    assert torch.equal(network(x)[0], network(x)[0])
