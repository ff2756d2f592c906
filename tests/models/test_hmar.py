"""The regional expert: cells are coded alone, geometry follows the image, weights and gate are what they
say."""

import pytest
import torch

from medlike.errors import TrainingError
from medlike.models.counts import counts
from medlike.models.experts import CellExpert, CellWeight, Gate, to_grid
from medlike.models.film import ModalityAffine
from medlike.models.networks import build, rebuild, record
from medlike.models.presets import preset

SIZES = {"modality": 3, "region": 4, "label": 6}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build("hmar-compact", 16, SIZES).eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))


def test_hmar_compact_is_small():
    found = counts("hmar-compact", 128, {"modality": 8, "region": 16, "label": 80})
    assert found["parameters"] <= 5e6
    assert found["gmacs"] <= 0.6


def test_forward_returns_every_part(network, images):
    valid = torch.ones(2, 14, 14, dtype=torch.bool)
    valid[0, :4] = False
    with torch.no_grad():
        found = network(images, valid=valid)
    assert found["u"].shape == (2, 16)
    assert found["cells"].shape == (2, 14, 14, 64)
    assert found["z"].shape == (2, 14, 14, 64)
    assert found["modality"].shape == (2, 3)
    torch.testing.assert_close(found["modality"].sum(1), torch.ones(2))
    assert set(found["tap_logits"]) == {"shallow", "deep"}
    assert found["tap_logits"]["deep"]["label"].shape == (2, 6)
    weight = found["cell_weight"]
    assert not weight[0, :4].any()
    assert float(weight[0, 4:].mean()) == pytest.approx(1, rel=1e-5)
    assert float(weight[1].mean()) == pytest.approx(1, rel=1e-5)
    torch.testing.assert_close(found["gate"], torch.full((2, 2), 0.5))


def test_stages_train_disjoint_parts_that_are_together_everything(network):
    parts = [{id(p) for p in network.stage_parameters(stage)} for stage in (1, 2, 3)]
    assert sum(map(len, parts)) == len(parts[0] | parts[1] | parts[2])
    assert parts[0] | parts[1] | parts[2] == {id(p) for p in network.parameters()}
    with pytest.raises(TrainingError, match="1, 2, 3"):
        next(network.stage_parameters(4))


def test_every_parameter_is_reached_by_a_loss(network, images):
    found = network(images)
    loss = found["u"].sum() + found["feature"].sum() + found["cells"].sum() + found["gate"][:, 0].sum()
    loss = loss + found["attended_logits"].sum()
    for logits in (found["logits"], *found["tap_logits"].values()):
        loss = loss + sum(value.sum() for value in logits.values())
    gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    unused = [name for (name, _), g in zip(network.named_parameters(), gradients, strict=True) if g is None]
    assert not unused


def expert(linear=True, modalities=0):
    torch.manual_seed(1)
    return CellExpert((3, 4, 5), (0, 1, 2), 12, 10, 64, modalities, linear).eval()


def maps(images=2):
    generator = torch.Generator().manual_seed(4)
    shapes = ((3, 28), (4, 14), (5, 7))
    return [torch.randn(images, channels, side, side, generator=generator) for channels, side in shapes]


def test_cells_are_coded_alone():
    network, given = expert(), [m.clone() for m in maps()]
    before, _ = network(given)
    # Cell (3, 5) of the map at stride 16 changes: no other cell may.
    given[1][:, :, 3, 5] += 1
    after, _ = network(given)
    changed = (before != after).any(dim=3)
    assert changed[:, 3, 5].all()
    assert changed.sum() == 2


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_codes_turn_with_the_maps(turns):
    network = expert()
    straight, _ = network(maps())
    turned, _ = network([torch.rot90(m, turns, (2, 3)) for m in maps()])
    torch.testing.assert_close(turned, torch.rot90(straight, turns, (1, 2)), atol=1e-5, rtol=1e-5)


def test_maps_come_to_the_grid_of_cells():
    fine = torch.arange(28.0).reshape(1, 1, 1, 28).expand(1, 1, 28, 28)
    torch.testing.assert_close(to_grid(fine)[0, 0, 0], torch.arange(14.0) * 2 + 0.5)
    assert to_grid(torch.ones(1, 2, 7, 7)).eq(1).all()


def test_cell_codes_start_as_a_projection():
    network = expert()
    mean, std, weight, offset = torch.randn(12), torch.rand(12) + 0.5, torch.randn(12, 64), torch.randn(64)
    network.initialise_from_projection(mean, std, weight, offset)
    u, _ = network(maps())
    expected = (network.gather(maps()) - mean) / std @ weight + offset
    torch.testing.assert_close(u, expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(TrainingError, match="cell_linear"):
        expert(linear=False).initialise_from_projection(mean, std, weight)
    with pytest.raises(TrainingError, match="do not fit"):
        network.initialise_from_projection(mean, std, weight[:, :8])
    with pytest.raises(TrainingError, match="above zero"):
        network.initialise_from_projection(mean, std * 0, weight)


def test_modality_conditions_the_cells_once_trained():
    network = expert(modalities=2)
    one, two = torch.tensor([[1.0, 0.0]]).expand(2, 2), torch.tensor([[0.0, 1.0]]).expand(2, 2)
    assert torch.equal(network(maps(), one)[0], network(maps(), two)[0])
    torch.nn.init.normal_(network.film.affine.weight)
    assert not torch.equal(network(maps(), one)[0], network(maps(), two)[0])
    with pytest.raises(TrainingError, match="modality"):
        network(maps())


def test_the_modality_affine_starts_as_identity_and_stops_gradients():
    film = ModalityAffine(3, 5)
    x = torch.randn(2, 5)
    scores = torch.randn(2, 3, requires_grad=True)
    y = film(x, scores.softmax(dim=1))
    assert torch.equal(y, x)
    y.sum().backward()
    assert scores.grad is None
    assert film.affine.weight.grad.abs().sum() > 0


def test_cells_that_answer_the_global_query_weigh_more():
    torch.manual_seed(2)
    head = CellWeight(6, 4, 8, 3)
    cells = torch.randn(1, 4, 14, 14)
    cls = torch.randn(1, 6)
    weight, logits = head(cls, cells)
    share = (
        torch.einsum("d,dij->ij", head.query(cls)[0], head.key(cells)[0]).flatten().mul(8**-0.5).softmax(0)
    )
    torch.testing.assert_close(weight.flatten(), share * 196)
    expected = head.attended((cells.flatten(2) * share).sum(dim=2))
    torch.testing.assert_close(logits, expected)
    none, _ = head(cls, cells, torch.zeros(1, 14, 14, dtype=torch.bool))
    assert torch.isfinite(none).all()
    assert not none.any()


def test_the_gate_follows_what_it_is_told():
    gate = Gate(4, 2)
    standard, modality = torch.randn(3, 4), torch.rand(3, 2)
    torch.testing.assert_close(gate(standard, modality, torch.zeros(3)), torch.full((3, 2), 0.5))
    with torch.no_grad():
        gate.linear.weight[1, -1] = 5.0
    boxed = gate(standard, modality, torch.tensor([0.0, 1.0, 1.0])).detach()
    assert boxed[0, 1] == pytest.approx(0.5)
    assert boxed[1, 1] > 0.9
    with pytest.raises(TrainingError, match="modality"):
        gate(standard, None, torch.zeros(3))


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(TrainingError, match=r"\(64, 128\)"):
        build(preset("hmar-compact", local_bits=96), 16, SIZES)
    with pytest.raises(TrainingError, match="modality"):
        build("hmar-compact", 16, {"label": 4})


def test_a_network_is_built_again_from_its_record():
    import json

    for name in ("compact", "hmar-compact"):
        first = build(preset(name, query="deep"), 24, SIZES, decoder=True)
        again = rebuild(json.loads(json.dumps(record(first))))
        assert again.settings == first.settings
        again.load_state_dict(first.state_dict())
    with pytest.raises(TrainingError, match="bits"):
        rebuild({"settings": {}})
    with pytest.raises(TrainingError, match="colour"):
        rebuild({"settings": {"colour": 1}, "bits": 8, "classes": {"label": 2}})
