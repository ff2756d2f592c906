"""From torch to the runtime: the same bits from the same weights."""

import numpy as np
import pytest
import torch

from medlike import bundle
from medlike.bundle.phantoms import phantoms
from medlike.bundle.session import code_values, open_session
from medlike.errors import BundleError
from medlike.inference.torch_runtime import equal_bits, load_network, torch_outputs
from medlike.models.export import OUTPUTS, as_network_input, export_graph, round_weights
from medlike.models.rotation import RotationNetwork


@pytest.fixture(scope="module")
def network():
    """The untrained network with random weights and batch statistics that are not the trivial ones."""
    torch.manual_seed(0)
    made = RotationNetwork("efficientnet_lite0", 64, 48, 32, 3)
    for layer in made.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            layer.weight.data.uniform_(0.8, 1.6)
    made.eval()
    with torch.no_grad():
        pooled = made.pooling(made.stem(as_network_input(torch.from_numpy(phantoms(8)))))
    made.pooling.mean.copy_(pooled.mean(dim=0))
    made.pooling.std.copy_(pooled.std(dim=0) + 1e-3)
    return round_weights(made)


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    spec = {
        "name": "random-64",
        "preset": "itq",
        "network": {
            "stem": "efficientnet_lite0", "bits": 64, "content": 48, "features": 32, "modalities": 3,
        },
        "bits": 64,
        "content_dim": 48,
        "modalities": ["CT", "MR", "XR"],
    }  # fmt: skip
    return bundle.write(tmp_path_factory.mktemp("bundles") / "random", export_graph(network), {}, spec)


def test_all_outputs_are_exported_in_their_order(exported):
    assert exported.outputs == [name for name in OUTPUTS if name in exported.outputs]
    assert set(exported.outputs) == {"bits", "content", "modality", "outlier_features"}


def test_weights_keep_their_names_and_values(exported, network):
    weights = exported.weights()
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert set(weights) == set(state)
    for name, value in state.items():
        np.testing.assert_array_equal(weights[name].astype(np.float32), value.numpy())


def test_the_runtime_gives_the_values_of_torch(exported, network):
    pictures = phantoms(12)
    found = code_values(open_session(exported.graph), pictures)
    with torch.inference_mode():
        expected = network(as_network_input(torch.from_numpy(pictures)))["bits"].numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    assert equal_bits(exported, pictures) >= 0.995


def test_a_bundle_makes_its_network_again(exported, network):
    again = load_network(exported)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), network.parameters(), strict=True))
    assert torch_outputs(exported, phantoms(1), ("content",))["content"].shape == (1, 48)


def test_rounding_touches_what_a_bundle_stores_as_halves_only():
    layer = torch.nn.Linear(64, 64)
    before = layer.bias.clone()
    round_weights(layer)
    assert torch.equal(layer.weight, layer.weight.half().float())
    assert torch.equal(layer.bias, before)


def test_the_runtime_merges_batch_norms_and_casts(exported, tmp_path):
    import onnx

    from medlike.bundle import runtime

    onnxruntime = runtime.onnxruntime()
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "seen.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(str(exported.graph), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(tmp_path / "seen.onnx", load_external_data=False).graph
    kinds = [node.op_type for node in graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Cast") == 1  # the picture's, from uint8


def test_nothing_of_the_makers_machine_is_in_the_graph(exported):
    import onnx

    model = onnx.load(exported.graph, load_external_data=False)
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert b"site-packages" not in exported.graph.read_bytes()


def test_an_output_that_is_not_given_is_refused(network):
    with pytest.raises(BundleError, match="output 'cells' is not given; the network gives: bits"):
        export_graph(network, ("bits", "content", "cells"))


def test_a_bundle_of_another_network_is_refused(exported, tmp_path):
    from dataclasses import replace

    other = replace(exported, spec=exported.spec | {"preset": "acir", "network": {}})
    with pytest.raises(BundleError, match="does not say how its network is built"):
        load_network(other)
