"""The whole-image networks: published counts, what forward returns, the linear start, bad settings."""

import math
from dataclasses import replace

import pytest
import torch

from medlike.errors import TrainingError
from medlike.models.counts import counts
from medlike.models.networks import build
from medlike.models.pooling import depth_statistics
from medlike.models.presets import PRESETS, preset

SIZES = {"modality": 3, "region": 4, "label": 6}


@pytest.fixture(scope="module")
def compact():
    torch.manual_seed(0)
    return build("compact", 16, SIZES, decoder=True).eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 224, 224, generator=torch.Generator().manual_seed(1))


def test_acir_has_the_published_counts():
    found = counts("acir", 128, 16)
    assert found["parameters"] == pytest.approx(156.5e6, rel=2e-3)
    assert found["parameters_with_decoder"] == pytest.approx(170.5e6, rel=2e-3)
    assert found["gmacs"] == pytest.approx(10.29, abs=0.005)
    assert found["gmacs_with_decoder"] == pytest.approx(12.46, abs=0.005)


@pytest.mark.parametrize("bits", [64, 128])
def test_compact_is_small(bits):
    found = counts("compact", bits, {"modality": 8, "region": 16, "label": 80})
    assert found["parameters"] <= 4e6
    assert found["gmacs"] <= 0.45


def test_forward_returns_every_part(compact, images):
    with torch.no_grad():
        found = compact(images, reconstruct=True)
    assert found["u"].shape == (3, 16)
    assert found["feature"].shape == (3, compact.feature_width)
    assert found["pooled"].shape == (3, compact.pooled_width) == (3, sum(compact.stem.channels))
    assert found["shallow"].shape == (3, 112, 14, 14)
    assert found["deep"].shape == (3, 320, 7, 7)
    assert found["reconstruction"].shape == images.shape
    assert {level: logits.shape[1] for level, logits in found["logits"].items()} == SIZES
    assert all(torch.isfinite(value).all() for name, value in found.items() if name != "logits")


def test_an_image_is_coded_alone_as_in_a_batch(compact, images):
    with torch.no_grad():
        together, alone = compact(images)["u"], compact(images[1:2])["u"]
    torch.testing.assert_close(together[1:2], alone, atol=1e-3, rtol=1e-3)


def test_every_parameter_is_trained(compact, images):
    found = compact(images[:1], reconstruct=True)
    loss = found["u"].sum() + found["reconstruction"].sum() + found["feature"].sum()
    loss = loss + sum(logits.sum() for logits in found["logits"].values())
    gradients = torch.autograd.grad(loss, list(compact.parameters()), allow_unused=True)
    unused = [name for (name, _), g in zip(compact.named_parameters(), gradients, strict=True) if g is None]
    assert not unused


def test_the_linear_part_is_the_projection_it_was_given(images):
    network = build("compact", 24, 5).eval()
    width, linear, told = network.pooled_width, network.settings.linear, network.linear_width
    with torch.no_grad():
        pooled = network(images)["pooled"]
        mean, std = pooled.mean(dim=0), torch.full((width,), 0.7)
        projection = torch.randn(width, linear) / 9
        network.initialise_linear(mean, std, projection)
        weight, offset = torch.randn(network.code_width, 24), torch.randn(24)
        network.hash_head.initialise_from_projection(weight, offset)
        found = network(images)
    torch.testing.assert_close(found["u"], found["code_parts"] @ weight + offset, atol=2e-3, rtol=1e-3)
    kept = torch.nn.functional.normalize((pooled - mean) / 0.7 @ projection, dim=1)
    torch.testing.assert_close(found["feature"][:, -told : linear - told], kept, atol=1e-4, rtol=1e-4)
    beside = torch.nn.functional.normalize(network.discriminant(kept), dim=1)
    torch.testing.assert_close(found["feature"][:, linear - told :], beside, atol=1e-4, rtol=1e-4)
    learned = found["feature"][:, :-told]
    torch.testing.assert_close(learned.norm(dim=1), network.share.expand(len(learned)), atol=1e-4, rtol=1e-4)
    with torch.no_grad():  # an image at middle + width * log 3 is a quarter typical: so long is its learned part
        far = network.typicality.distance(kept).amin() - math.log(3)
        network.typicality.middle.copy_(far)
        distance = network.typicality.distance(kept)
        torch.testing.assert_close(distance, kept.norm(dim=1, keepdim=True))
        found = network(images)
    feature, parts = found["feature"], found["code_parts"]
    learned = feature[:, :-told]
    # What the code reads: the feature, its linear part times the typicality, and the typicality.
    torch.testing.assert_close(parts[:, : network.feature_width], feature)
    torch.testing.assert_close(parts[:, -1], learned.norm(dim=1) / network.share)
    torch.testing.assert_close(parts[:, network.feature_width : -1], feature[:, -told:] * parts[:, -1:])
    expected = network.share / (1 + torch.exp(distance[:, 0] - far))
    torch.testing.assert_close(learned.norm(dim=1), expected, atol=1e-4, rtol=1e-4)
    assert float(expected.max()) == pytest.approx(float(network.share) / 4, rel=1e-3)
    with pytest.raises(TrainingError, match="projection"):
        network.initialise_linear(mean, std, projection[:, :-1])
    with pytest.raises(TrainingError, match="above zero"):
        network.initialise_linear(mean, std * 0, projection)


def test_members_of_the_depth_branch_are_judged_alone(compact):
    pooled = torch.rand(6, compact.pooled_width, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        alone = compact.members(pooled)
        together = compact.encode(None, None, pooled)["feature"][:, : compact.learned_width]
    count, width = compact.settings.depth_members, compact.settings.depth_outputs
    assert len(alone) == count > 1
    start = compact.learned_width - count * width
    for member, found in enumerate(alone):
        own = slice(start + member * width, start + (member + 1) * width)
        feature = found["feature"]
        torch.testing.assert_close(feature.norm(dim=1), torch.ones(6))
        torch.testing.assert_close(feature[:, own].norm(dim=1), torch.ones(6))
        # Of the whole learned part, each member gives its own columns, up to the common length.
        cosine = torch.nn.functional.cosine_similarity(feature[:, own], together[:, own])
        torch.testing.assert_close(cosine, torch.ones(6))
        assert {level: logits.shape[1] for level, logits in found["logits"].items()} == SIZES


def test_only_a_network_with_a_depth_branch_has_members():
    with pytest.raises(TrainingError, match="depth branch"):
        build(replace(preset("compact"), depth_outputs=0), 16, SIZES).members(torch.rand(2, 1808))


def test_without_the_linear_branch_the_feature_is_the_published_one(images):
    network = build(preset("compact", linear=0), 16, 5).eval()
    settings = network.settings
    assert network.feature_width == 2 * settings.branch_width + settings.fusion_outputs
    with torch.no_grad():
        assert network(images[:1])["feature"].shape == (1, network.feature_width)
    width = network.pooled_width
    with pytest.raises(TrainingError, match="linear"):
        network.initialise_linear(torch.zeros(width), torch.ones(width), torch.zeros(width, 8))


def test_the_fusion_can_be_left_out(images):
    network = build(preset("compact", fusion_outputs=0, hash_kind="linear"), 16, 5).eval()
    with torch.no_grad():
        assert network(images[:1])["feature"].shape == (1, network.feature_width)
    assert network.feature_width == build("compact", 16, 5).feature_width - 96


def test_training_from_cached_maps_is_the_same(compact, images):
    with torch.no_grad():
        found = compact(images)
        again = compact.encode(found["shallow"], found["deep"], found["pooled"])
    assert torch.equal(found["u"], again["u"])


def test_the_fusion_asks_either_way():
    shallow, deep = (counts(preset("acir", query=query), 128)["parameters"] for query in ("shallow", "deep"))
    assert shallow - deep == 12 * 128 * (2048 - 512)


def test_mixed_precision_and_channels_last_agree_with_plain(compact, images):
    other = images.to(memory_format=torch.channels_last)
    with torch.no_grad():
        plain = compact(images)["feature"]
        with torch.autocast("cpu", torch.bfloat16):
            mixed = compact(other)["feature"]
    assert mixed.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(plain, mixed).min() > 0.98


def test_statistics_weigh_every_depth_alike():
    pooled = torch.randn(50, 12) * torch.linspace(0.01, 9, 12) + 4
    pooled[:, 3] = 2.5
    mean, std = depth_statistics(pooled, (2, 4, 6))
    standard = (pooled - mean) / std
    squares = standard.square().mean(dim=0)
    for columns, constant in ((slice(0, 2), 0), (slice(2, 6), 1), (slice(6, 12), 0)):
        width = columns.stop - columns.start
        assert float(squares[columns].sum()) == pytest.approx((width - constant) / width / 3, rel=1e-4)


@pytest.mark.parametrize("bits", [0, 4, 12, 520])
def test_lengths_that_cannot_be_packed_are_refused(bits):
    with pytest.raises(TrainingError, match="multiple of 8"):
        build("compact", bits, 3)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(
        TrainingError, match="acir, acir-released, compact, compact-mobilenet, hmar, hmar-compact"
    ):
        preset("acri")
    with pytest.raises(TrainingError, match="pixel_depth"):
        preset("acir", depth=3)
    with pytest.raises(TrainingError, match="resnet50"):
        build(replace(PRESETS["compact"], stem="vgg"), 8, 3)
    with pytest.raises(TrainingError, match="stride 64"):
        build(replace(PRESETS["compact"], deep_stride=64), 8, 3)
    with pytest.raises(TrainingError, match="decoder"):
        build("compact", 8, 3).reconstruct(torch.zeros(1, 320, 7, 7))


def test_images_of_another_size_are_refused(compact):
    with pytest.raises(TrainingError, match="224"):
        compact(torch.zeros(1, 3, 160, 160))


@pytest.mark.slow
def test_the_exported_network_gives_the_same_code(compact):
    import numpy as np

    from medlike.bundle import runtime
    from medlike.models.export import as_network_input, export_graph

    def served(network, images):
        found = network(images)
        return {"bits": found["u"], "content": found["feature"]}

    model = export_graph(compact, ["bits", "content"], served)
    session = runtime.onnxruntime().InferenceSession(model.SerializeToString())
    image = np.random.default_rng(0).integers(0, 256, (1, 224, 224), dtype=np.uint8)
    code, content = session.run(None, {"image": image})
    with torch.no_grad():
        expected = served(compact, as_network_input(torch.from_numpy(image)))
    np.testing.assert_allclose(code, expected["bits"], atol=1e-4)
    np.testing.assert_allclose(content, expected["content"], atol=1e-5)
