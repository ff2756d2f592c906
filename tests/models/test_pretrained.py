"""Weights from files: common layouts load, and what does not fit is listed."""

import pytest
import torch
from safetensors.torch import save_file

from medlike.errors import BundleError, TrainingError
from medlike.models.resnet import ResNet50, ResNetSettings, load_resnet
from medlike.models.stems import STEMS, Stem

PLACES = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return ResNet50().eval()


@pytest.fixture(scope="module")
def state(network):
    return {**network.state_dict(), "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}


def sequential(state):
    renamed = {}
    for key, value in state.items():
        first, _, rest = key.partition(".")
        if first in PLACES:
            renamed[f"backbone.{PLACES[first]}.{rest}"] = value
    return renamed


LAYOUTS = {
    "plain": lambda state: state,
    "parallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "checkpoint": lambda state: {
        "epoch": 3,
        "state_dict": {f"module.backbone.{k}": v for k, v in state.items()},
    },
    "sequential": sequential,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_usual_layouts_load(tmp_path, network, state, layout):
    path = tmp_path / "weights.pth"
    torch.save(LAYOUTS[layout](state), path)
    loaded = load_resnet(path)
    assert torch.equal(loaded.layer4[2].conv3.weight, network.layer4[2].conv3.weight)
    assert torch.equal(loaded.conv1.weight, network.conv1.weight)


def test_half_precision_safetensors_load(tmp_path, network, state):
    path = tmp_path / "weights.safetensors"
    save_file({k: v.half() for k, v in state.items() if v.is_floating_point()}, path)
    loaded = load_resnet(path)
    assert loaded.conv1.weight.dtype == torch.float32
    torch.testing.assert_close(loaded.conv1.weight, network.conv1.weight, atol=1e-3, rtol=1e-3)


def test_what_does_not_fit_is_listed(tmp_path, state):
    wrong = dict(state)
    wrong["layer1.0.conv1.weight"] = torch.zeros(64, 3, 1, 1)
    wrong["layer9.extra"] = torch.zeros(2)
    del wrong["bn1.bias"]
    path = tmp_path / "weights.pt"
    torch.save(wrong, path)
    with pytest.raises(BundleError) as caught:
        load_resnet(path)
    message = str(caught.value)
    assert "3 keys differ" in message
    assert "bn1.bias: missing" in message
    assert "layer9.extra: not part of" in message
    assert "layer1.0.conv1.weight: shape [64, 3, 1, 1], expected [64, 64, 1, 1]" in message


def test_files_without_weights_are_refused(tmp_path, state):
    with pytest.raises(BundleError, match="no weights at"):
        load_resnet(tmp_path / "absent.pt")
    empty = tmp_path / "empty.pt"
    torch.save({"epoch": 1}, empty)
    with pytest.raises(BundleError, match="no tensors"):
        load_resnet(empty)
    for name in ("broken.pt", "broken.safetensors"):
        broken = tmp_path / name
        broken.write_bytes(b"nothing of the kind")
        with pytest.raises(BundleError, match="broken"):
            load_resnet(broken)
    other = tmp_path / "weights.h5"
    other.write_bytes(b"x")
    with pytest.raises(BundleError, match=r"\.h5"):
        load_resnet(other)
    bad = dict(state)
    bad["conv1.weight"] = torch.full((64, 3, 7, 7), float("nan"))
    torch.save(bad, tmp_path / "nan.pt")
    with pytest.raises(BundleError, match=r"conv1\.weight"):
        load_resnet(tmp_path / "nan.pt")


class Payload:
    """Would write a file if unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_pickled_code_is_not_run(tmp_path):
    path = tmp_path / "evil.pt"
    torch.save({"weights": Payload(tmp_path / "ran")}, path)
    with pytest.raises(BundleError, match="plain weights"):
        load_resnet(path)
    assert not (tmp_path / "ran").exists()


def test_the_place_of_the_stride_changes_features_but_no_parameter(network):
    other = ResNet50(ResNetSettings(stride="v1.5")).eval()
    other.load_state_dict(network.state_dict())
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        a, b = network(x), other(x)
    assert a.shape == b.shape == (1, 2048, 2, 2)
    assert not torch.allclose(a, b)


def test_normalisation_is_inside(network):
    other = ResNet50(ResNetSettings(normalisation="none")).eval()
    other.load_state_dict(network.state_dict())
    x = torch.rand(1, 3, 64, 64)
    mean = torch.tensor([0.4850, 0.4576, 0.4076]).reshape(1, 3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(network(x), other(x - mean))


def test_unknown_settings_list_the_known_ones():
    with pytest.raises(TrainingError, match="imagenet"):
        ResNet50(ResNetSettings(normalisation="mine"))
    with pytest.raises(TrainingError, match=r"v1\.5"):
        ResNet50(ResNetSettings(stride="v2"))


@pytest.mark.slow
def test_the_stem_loads_by_name_and_gives_its_maps(tmp_path):
    stem = Stem("efficientnet_lite0").eval()
    path = tmp_path / "lite.safetensors"
    state = {k: v for k, v in stem.body.state_dict().items() if v.is_floating_point()}
    save_file({**state, "_conv_head.weight": torch.zeros(1280, 320, 1, 1)}, path)
    other = Stem("efficientnet_lite0").eval()
    other.load(path)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        maps, again = stem(x), other(x)
    assert [m.shape[1] for m in maps] == [16, 24, 40, 80, 112, 192, 320]
    assert [64 // m.shape[2] for m in maps] == [2, 4, 8, 16, 16, 32, 32]
    assert torch.equal(maps[-1], again[-1])
    assert stem.at(16) == 4


@pytest.mark.parametrize("name", STEMS)
def test_every_stem_says_what_its_maps_are(name):
    stem = Stem(name).eval()
    with torch.no_grad():
        maps = stem(torch.rand(1, 3, 64, 64))
    assert tuple(m.shape[1] for m in maps) == stem.channels
    assert tuple(64 // m.shape[2] for m in maps) == stem.kind.strides
    assert stem.at(16) == max(i for i, m in enumerate(maps) if m.shape[2] == 4)
