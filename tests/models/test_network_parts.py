"""The parts against slow references: window attention, pixel transformer, fusion, splines, decoder."""

import math

import pytest
import torch
import torch.nn.functional as F

from medlike.errors import TrainingError
from medlike.models.attention import ConvMSA, PixelTransformer, relative_index, unwindows, windows
from medlike.models.decoder import Decoder
from medlike.models.fusion import AdaptivePool, DepthFusion
from medlike.models.heads import HashHead, HierarchyHeads
from medlike.models.kan import KANLayer, spline_bases


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


def cox_de_boor(x, knots, k, degree):
    if degree == 0:
        return 1.0 if knots[k] <= x < knots[k + 1] else 0.0
    left = (x - knots[k]) / (knots[k + degree] - knots[k]) * cox_de_boor(x, knots, k, degree - 1)
    right = (knots[k + degree + 1] - x) / (knots[k + degree + 1] - knots[k + 1])
    return left + right * cox_de_boor(x, knots, k + 1, degree - 1)


def test_bases_are_the_recursion_of_cox_and_de_boor():
    knots = [-1 + 0.4 * (i - 3) for i in range(12)]
    x = torch.linspace(-2.5, 2.5, 101, dtype=torch.float64) + 1e-9
    expected = torch.tensor([[cox_de_boor(float(v), knots, k, 3) for k in range(8)] for v in x])
    torch.testing.assert_close(spline_bases(x), expected.double(), atol=1e-6, rtol=1e-6)
    inside = x.abs() <= 1
    torch.testing.assert_close(spline_bases(x)[inside].sum(1), torch.ones(int(inside.sum())).double())


def test_a_layer_is_the_sum_of_base_and_splines():
    torch.manual_seed(0)
    layer = KANLayer(3, 2, normalise=False)
    x = torch.rand(4, 3) * 2 - 1
    bases = spline_bases(x)
    expected = torch.zeros(4, 2)
    for n in range(4):
        for o in range(2):
            for i in range(3):
                expected[n, o] += layer.base_weight[o, i] * F.silu(x[n, i])
                for k in range(8):
                    expected[n, o] += layer.spline_weight[o, i, k] * layer.spline_scale[o, i] * bases[n, i, k]
    torch.testing.assert_close(layer(x), expected)


def test_raw_inputs_outside_the_grid_lose_their_splines_and_ours_do_not():
    x = torch.tensor([[5.0, -7.0, 30.0, 4.0]])
    for normalise, silent in ((False, True), (True, False)):
        layer = KANLayer(4, 3, normalise)
        layer(x).sum().backward()
        assert bool((layer.spline_weight.grad == 0).all()) is silent


def test_a_silenced_layer_gives_zero_and_still_learns():
    layer = KANLayer(6, 3)
    layer.silence()
    y = layer(torch.randn(5, 6))
    assert torch.equal(y, torch.zeros(5, 3))
    y.sum().backward()
    assert layer.base_weight.grad.abs().max() > 0
    assert layer.spline_weight.grad.abs().max() > 0


@pytest.mark.parametrize("kind", ["kan", "mlp", "linear"])
def test_every_hash_head_can_start_as_a_projection(kind):
    head = HashHead(10, 4, 16, True, direct=10, kind=kind)
    feature, weight = torch.randn(3, 10), torch.randn(10, 16)
    assert head(feature)[1].shape == (3, head.hidden) == (3, 10 if kind == "linear" else 4)
    head.initialise_from_projection(weight)
    torch.testing.assert_close(head(feature)[0], feature @ weight)
    for parameter in head.leave.parameters():
        torch.nn.init.normal_(parameter)
    assert (head(feature)[0] != feature @ weight).all()
    wider = HashHead(10, 4, 16, True, direct=12, kind=kind)
    parts, weight = torch.randn(3, 12), torch.randn(12, 16)
    wider.initialise_from_projection(weight)
    torch.testing.assert_close(wider(feature, parts)[0], parts @ weight)


def test_hash_heads_that_make_no_sense_are_refused():
    with pytest.raises(TrainingError, match="kan, mlp, linear"):
        HashHead(10, 4, 16, True, kind="tree")
    with pytest.raises(TrainingError, match="linear path"):
        HashHead(10, 4, 16, True).initialise_from_projection(torch.zeros(10, 16))
    with pytest.raises(TrainingError, match="expected"):
        HashHead(10, 4, 16, True, direct=10).initialise_from_projection(torch.zeros(16, 10))


def test_the_decoder_gives_an_image():
    decoder = Decoder(8, ((8, 8), (4, 4), (4, 4)))
    assert decoder(torch.randn(1, 8, 7, 7)).shape == (1, 3, 224, 224)


def test_finer_levels_see_the_coarser_ones():
    heads = HierarchyHeads(4, {"modality": 2, "label": 3})
    x = torch.randn(5, 4)
    before = heads(x)
    with torch.no_grad():
        heads.heads["modality"].bias += torch.tensor([3.0, -3.0])
    assert not torch.allclose(before["label"], heads(x)["label"])
    with pytest.raises(TrainingError, match="at least one class"):
        HierarchyHeads(4, {"label": 0})
