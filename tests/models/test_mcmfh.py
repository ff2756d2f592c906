"""The parts of MCMFH do what they say; the exported graph is the network."""

import numpy as np
import pytest
import torch

from medlike.errors import TrainingError
from medlike.models.mcmfh import BITS, CrossModalNetwork, export_crossmodal, preset
from medlike.models.mcmfh_parts import DropoutVoting, ExpertLayer, FusionBlock, chosen_weights, unit

SMALL = {"image_width": 12, "sentence_width": 10, "width": 8, "heads": 2, "hash_hidden": 6}
IMAGE, TEXT, BOTH = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)


def network(seed=0, **changes):
    """A small network in which nothing is zero any more."""
    torch.manual_seed(seed)
    made = CrossModalNetwork(preset(16, **(SMALL | changes))).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return made


def rows(count=5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 12, generator=generator), torch.randn(count, 10, generator=generator)


def run(made, image, sentence, view):
    with torch.no_grad():
        return made(*made.voted(image, sentence), torch.tensor([view]).expand(len(image), 2))


def test_dropout_voting_is_the_mean_of_masked_voices():
    voting = DropoutVoting(6, voters=3, silent=0.4, seed=7)
    v = unit(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)))
    for row in v:
        said = torch.zeros(6)
        for mask in voting.masks:
            voice = voting.second @ (torch.relu(voting.first @ row) * mask)
            said += voice / voice.norm() / 3
        expected = (row + said) / (row + said).norm()
        torch.testing.assert_close(voting(row[None])[0], expected)
    assert not list(voting.parameters())
    assert set((voting.masks == 0).float().mean(dim=1).gt(0).tolist()) == {True}


def test_votes_are_fixed_by_their_seed_and_can_be_left_out():
    v = unit(torch.randn(3, 6))
    torch.testing.assert_close(DropoutVoting(6, seed=3)(v), DropoutVoting(6, seed=3)(v), rtol=0, atol=0)
    assert not torch.allclose(DropoutVoting(6, seed=3)(v), DropoutVoting(6, seed=4)(v))
    assert torch.equal(DropoutVoting(6, votes=False)(v), v)


def test_a_token_gets_its_two_best_experts():
    torch.manual_seed(0)
    layer = ExpertLayer(6, experts=4, chosen=2)
    tokens = torch.randn(3, 2, 6)
    given, logits = layer(tokens)
    for n in range(3):
        for t in range(2):
            best = logits[n, t].topk(2).indices.tolist()
            weights = logits[n, t, best].softmax(dim=0)
            expected = torch.zeros(6)
            for weight, e in zip(weights, best, strict=True):
                hidden = torch.nn.functional.gelu(tokens[n, t] @ layer.first[e] + layer.first_bias[e, 0])
                expected = expected + weight * (hidden @ layer.second[e] + layer.second_bias[e, 0])
            torch.testing.assert_close(given[n, t], expected, rtol=1e-4, atol=1e-5)
    assert (chosen_weights(logits, 2) > 0).sum(dim=-1).eq(2).all()


def test_fusion_starts_from_the_tokens_and_never_looks_at_other_rows():
    torch.manual_seed(0)
    block = FusionBlock(8, 2, 4, 2, 0.0).eval()
    tokens = torch.randn(4, 2, 8)
    assert torch.equal(block(tokens)[0], tokens)
    torch.nn.init.normal_(block.scales)
    whole = block(tokens)[0]
    assert not torch.allclose(whole, tokens)
    torch.testing.assert_close(block(tokens[1:2])[0][0], whole[1])


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    block = FusionBlock(8, 2, 1, 1, 0.0).eval()
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(block.ask.weight), theirs.in_proj_bias.copy_(block.ask.bias)
        theirs.out_proj.weight.copy_(block.mix.weight), theirs.out_proj.bias.copy_(block.mix.bias)
    tokens = torch.randn(3, 2, 8)
    torch.testing.assert_close(block.attend(tokens), theirs(tokens, tokens, tokens)[0], rtol=1e-4, atol=1e-5)


def test_an_absent_side_says_nothing():
    made = network()
    image, sentence = rows()
    other = rows(seed=9)
    for view, changed in ((IMAGE, (image, other[1])), (TEXT, (other[0], sentence))):
        first, second = run(made, image, sentence, view), run(made, *changed, view)
        torch.testing.assert_close(first["u"], second["u"], rtol=0, atol=0)
    assert not torch.allclose(run(made, image, sentence, BOTH)["u"], run(made, image, other[1], BOTH)["u"])


def test_codes_are_deterministic_and_embeddings_of_unit_length():
    made = network()
    image, sentence = rows()
    for view in (IMAGE, TEXT, BOTH):
        found, again = run(made, image, sentence, view), run(network(), image, sentence, view)
        assert torch.equal(found["u"], again["u"]) and found["u"].shape == (5, 16)
        torch.testing.assert_close(found["embedding"].norm(dim=1), torch.ones(5))


def test_zeros_are_harmless():
    found = run(network(), torch.zeros(2, 12), torch.zeros(2, 10), BOTH)
    assert torch.isfinite(found["u"]).all() and torch.isfinite(found["embedding"]).all()


@pytest.mark.parametrize("changes", [{}, {"experts": 1}, {"experts": 2}, {"votes": False}, {"layers": 0}])
def test_the_graph_gives_what_the_network_gives(tmp_path, changes, tiny_bundle):
    from medlike import bundle
    from medlike.inference import CrossEncoder
    from medlike.models.export import round_weights

    made = round_weights(network(**changes), 1)
    text = {
        "image_encoder_digest": tiny_bundle.encoder_digest, "image_bundle": "tiny-64", "sentence_digest": "",
        "sentence_width": 10, "embedding_dim": 8,
    }  # fmt: skip
    spec = {"name": "t", "kind": "text", "preset": "mcmfh", "bits": 16, "content_dim": 12, "text": text}
    crossing = CrossEncoder(bundle.write(tmp_path / "t", export_crossmodal(made), {}, spec))
    random = np.random.default_rng(0)
    content = random.integers(-127, 128, (6, 12)).astype(np.int8)
    sentences = random.normal(size=(6, 10)).astype(np.float32)
    centred = torch.from_numpy(content.astype(np.float32))
    centred = centred - centred.mean(dim=1, keepdim=True)
    for view, given in ((IMAGE, (content, None)), (TEXT, (None, sentences)), (BOTH, (content, sentences))):
        expected = run(made, centred, torch.from_numpy(sentences), view)
        found = crossing.encode(*given)
        np.testing.assert_allclose(found.embedding, expected["embedding"], atol=1e-5)
        sure = expected["u"].abs().numpy() > 1e-4
        bits = np.unpackbits(found.code, axis=1).astype(bool)
        np.testing.assert_array_equal(bits[sure], (expected["u"].numpy() > 0)[sure])


def test_presets_are_by_length_and_unknown_settings_are_listed():
    assert [preset(bits).bits for bits in BITS] == [16, 32, 64, 128]
    with pytest.raises(TrainingError, match="no preset of 24 bits; give one of 16, 32, 64, 128"):
        preset(24)
    with pytest.raises(TrainingError, match="setting 'colour' is unknown; known: bits, "):
        preset(16, colour=1)
    with pytest.raises(TrainingError, match="width 10 cannot be shared by 4 heads"):
        preset(16, width=10)
    with pytest.raises(TrainingError, match="experts and chosen must be at least 1"):
        preset(16, experts=0)
