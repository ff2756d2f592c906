"""Training MCMFH: it learns what pairs share and nothing from shuffled ones, the same each time."""

import numpy as np
import pytest
import torch

from medlike import bundle
from medlike.bundle.text_bundle import BOTH, IMAGE, TEXT
from medlike.datasets import Dataset, Sample
from medlike.errors import TrainingError
from medlike.metrics import Relevance, score_codes, score_features
from medlike.models.mcmfh import CrossModalNetwork, preset
from medlike.training.mcmfh_loop import CrossModalRecipe, crossed, fit_crossmodal, loss_terms, positives
from medlike.training.pair_quality import measure_pairs
from medlike.training.pairs import Pairs, cases_of

WIDTHS = {"image_width": 24, "sentence_width": 20, "width": 16, "hash_hidden": 16}
TOPICS = 5


def made_up(count=300, seed=0, topics=TOPICS):
    """Pairs of one topic each: images and sentences are noisy views of it through maps of their own."""
    maps = np.random.default_rng(99)
    to_image, to_text = maps.normal(size=(topics, 24)), maps.normal(size=(topics, 20))
    random = np.random.default_rng(seed)
    topic = random.integers(0, topics, count)
    images = to_image[topic] + random.normal(size=(count, 24))
    images -= images.mean(axis=1, keepdims=True)
    content = np.rint(images / np.abs(images).max(axis=1, keepdims=True) * 127).astype(np.int8)
    texts = to_text[topic] + random.normal(size=(count, 20))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    samples = tuple(
        Sample(path=f"{seed}-{n}", file=None, label=f"topic {topic[n]}", text=f"text {seed} {n}", group=f"{seed} {n}")
        for n in range(count)
    )
    rows = np.arange(count, dtype=np.int64)
    return Pairs(content, texts.astype(np.float32), rows, rows + 10_000 * seed, Dataset("made up", samples))


def found(network, query, gallery, view=TEXT, other=IMAGE, k=20):
    a, b = crossed(network, query, view), crossed(network, gallery, other)
    relevance = Relevance.of(query.samples.column("label"), gallery.samples.column("label"))
    return (
        score_codes(a[1], b[1], relevance, k).mean("map_expected"),
        score_features(a[0], b[0], relevance, k).mean("map_expected"),
    )


@pytest.fixture(scope="module")
def parts():
    return made_up(300, 1), made_up(80, 2), made_up(100, 3), made_up(200, 4)


@pytest.fixture(scope="module")
def trained(parts):
    return fit_crossmodal(parts[0], parts[1], preset(16, **WIDTHS), CrossModalRecipe(epochs=6, batch=64))


def test_images_and_texts_of_one_topic_meet(trained, parts):
    for view, other in ((TEXT, IMAGE), (IMAGE, TEXT)):
        codes, floats = found(trained.network, parts[2], parts[3], view, other)
        assert codes > 0.6 and floats > 0.6


@pytest.mark.slow
def test_shuffled_pairs_teach_nothing(parts):
    train, validation = (part.shuffled(1) for part in parts[:2])
    fit = fit_crossmodal(train, validation, preset(16, **WIDTHS), CrossModalRecipe(epochs=6, batch=64))
    chance = 1 / TOPICS
    for view, other in ((TEXT, IMAGE), (IMAGE, TEXT)):
        for value in found(fit.network, parts[2], parts[3], view, other):
            assert abs(value - chance) < 0.12


def test_the_same_seed_gives_the_same_codes(trained, parts):
    again = fit_crossmodal(parts[0], parts[1], preset(16, **WIDTHS), CrossModalRecipe(epochs=6, batch=64))
    other = fit_crossmodal(parts[0], parts[1], preset(16, seed=1, **WIDTHS), CrossModalRecipe(epochs=6, batch=64), 1)
    assert again.history == trained.history
    for view in (IMAGE, TEXT, BOTH):
        codes = crossed(trained.network, parts[2], view)[1]
        np.testing.assert_array_equal(crossed(again.network, parts[2], view)[1], codes)
        assert not np.array_equal(crossed(other.network, parts[2], view)[1], codes)


@pytest.mark.slow
def test_interrupted_and_resumed_is_as_never_interrupted(parts, tmp_path):
    def stop(line):
        if line.startswith("text, epoch 10 of"):
            raise InterruptedError

    given = (parts[0], parts[1], preset(16, **WIDTHS), CrossModalRecipe(epochs=12, batch=64))
    with pytest.raises(InterruptedError):
        fit_crossmodal(*given, say=stop, folder=tmp_path)
    lines = []
    resumed = fit_crossmodal(*given, say=lines.append, folder=tmp_path, resume=True)
    whole = fit_crossmodal(*given)
    assert lines[0] == "text, going on after epoch 10 of 12"
    assert resumed.history == whole.history and resumed.best_epoch == whole.best_epoch
    state = resumed.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in whole.network.state_dict().items())
    with pytest.raises(TrainingError, match="belongs to another run: its seed differs"):
        fit_crossmodal(*given, 1, folder=tmp_path, resume=True)


def test_the_best_epoch_is_kept(trained, parts):
    values = [row["validation"] for row in trained.history]
    assert len(values) == 7 and values[trained.best_epoch] == max(values)
    start = fit_crossmodal(parts[0], parts[1], preset(16, **WIDTHS), CrossModalRecipe(epochs=0))
    assert start.best_epoch == 0 and start.history[0]["validation"] == pytest.approx(values[0])


def test_the_code_ends_as_a_rotation_of_the_trained_embeddings(trained, parts):
    def head(network):
        return network.straight.weight.detach().numpy().astype(np.float64), network.bent.weight

    turned, bent = head(trained.network)
    assert not bent.any()
    gram = turned @ turned.T  # orthogonal, and all as long
    np.testing.assert_allclose(gram, np.eye(16) * gram[0, 0], atol=1e-4 * gram[0, 0])
    as_trained = fit_crossmodal(
        parts[0], parts[1], preset(16, **WIDTHS), CrossModalRecipe(epochs=6, batch=64, turned=False)
    )
    assert as_trained.history == trained.history and head(as_trained.network)[1].any()
    for view in (IMAGE, TEXT):  # only the code is turned
        embeddings, codes = crossed(trained.network, parts[2], view)
        other, own = crossed(as_trained.network, parts[2], view)
        np.testing.assert_array_equal(embeddings, other)
        assert not np.array_equal(codes, own)


@pytest.mark.parametrize("turned", [False, True])
def test_the_validation_figure_is_of_the_network_that_is_returned(parts, turned):
    fit = fit_crossmodal(parts[0], parts[1], preset(16, **WIDTHS), CrossModalRecipe(epochs=2, batch=64, turned=turned))
    judged = [crossed(fit.network, parts[1], view) for view in (IMAGE, TEXT)]
    relevance = parts[1].relevance()
    values = [
        score(a[kind], b[kind], relevance, 50).mean("map_at_k")
        for a, b in (judged, judged[::-1])
        for kind, score in ((0, score_features), (1, score_codes))
    ]
    assert fit.validation == pytest.approx(np.mean(values))
    assert (round(fit.validation, 6) == fit.history[fit.best_epoch]["validation"]) != turned


def test_frozen_parts_stay_as_they_were_drawn(trained):
    drawn = CrossModalNetwork(preset(16, **WIDTHS))
    for side in ("image_voting", "sentence_voting"):
        for name in ("first", "second", "masks"):
            torch.testing.assert_close(
                getattr(getattr(trained.network, side), name), getattr(getattr(drawn, side), name), rtol=0, atol=0
            )


def test_the_loss_is_the_sum_of_its_terms_over_three_views():
    torch.manual_seed(0)
    network = CrossModalNetwork(preset(16, dropout=0.0, **WIDTHS)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    image, text = torch.randn(6, 24), torch.randn(6, 20)
    positive = torch.eye(6)
    recipe = CrossModalRecipe()
    terms = loss_terms(network, image, text, positive, torch.zeros(2), recipe)
    assert set(terms) == {"contrast", "contrast of codes", "quantisation", "balance", "gating"}
    views = [network(image, text, torch.tensor([view]).expand(6, 2)) for view in (IMAGE, TEXT, BOTH)]

    def contrast(rows):
        def one(a, b):
            scores = a @ b.T
            return -(scores.log_softmax(1).diagonal().mean() + scores.T.log_softmax(1).diagonal().mean()) / 2

        return one(rows[0], rows[1]) + 0.5 * (one(rows[0], rows[2]) + one(rows[1], rows[2]))

    torch.testing.assert_close(terms["contrast"], contrast([view["embedding"] for view in views]))
    hashes = [torch.nn.functional.normalize(torch.tanh(view["u"]), dim=1) for view in views]
    torch.testing.assert_close(terms["contrast of codes"], 0.5 * contrast(hashes))
    assert "gating" not in loss_terms(network, image, text, positive, torch.zeros(2), recipe.with_changes(gating=0.0))


def test_positives_are_cases_and_what_looks_alike():
    cases = torch.tensor([0, 0, 1])
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    hard = positives(cases, images, CrossModalRecipe(soft=0.0))
    torch.testing.assert_close(hard, torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1.0]]))
    soft = positives(cases, images, CrossModalRecipe(soft=1.0, affinity=0.5))
    share = np.exp(2) / (2 * np.exp(2) + 1)
    torch.testing.assert_close(soft[0], torch.tensor([share, 1 - 2 * share, share]).float())
    torch.testing.assert_close(positives(cases, images, CrossModalRecipe()).sum(dim=1), torch.ones(3))


@pytest.mark.parametrize("changes", [{"masked": False}, {"start": "random", "projections": 1.0}])
def test_ablations_train(parts, changes):
    recipe = CrossModalRecipe(epochs=1, batch=64).with_changes(**changes)
    fit = fit_crossmodal(parts[0], parts[1], preset(16, experts=1, votes=False, **WIDTHS), recipe)
    assert len(fit.history) == 2 and np.isfinite(fit.history[1]["loss"])


def test_a_paired_query_sees_its_other_half(trained, parts):
    def cross(pairs, image, text):
        return crossed(trained.network, pairs, (float(image), float(text)))

    measured = measure_pairs(cross, parts[2], parts[3])
    single, paired = (measured[p, "text to image"].codes.mean("map_expected") for p in ("single", "paired"))
    assert single == pytest.approx(found(trained.network, parts[2], parts[3])[0])
    assert paired > single


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ({"start": "late"}, "start is 'late'; give linear or random"),
        ({"colour": 1}, "recipe setting .colour. is unknown; known: "),
    ],
)
def test_senseless_recipes_are_refused(parts, recipe, reason):
    with pytest.raises(TrainingError, match=reason):
        fit_crossmodal(parts[0], parts[1], preset(16, **WIDTHS), CrossModalRecipe().with_changes(**recipe))


def test_too_few_pairs_are_refused(parts):
    with pytest.raises(TrainingError, match="3 pairs of image and text to train on; give 8 or more"):
        fit_crossmodal(parts[0][np.arange(3)], parts[1], preset(16, **WIDTHS))


def test_cases_are_groups_joined_by_equal_texts():
    def sample(n, group, text):
        return Sample(path=str(n), file=None, source="s", group=group, text=text)

    rows = [("a", "x"), ("a", "y"), ("b", "y"), ("", "z"), ("", "w"), ("c", "v")]
    cases = cases_of(Dataset("d", tuple(sample(n, *row) for n, row in enumerate(rows))))
    assert cases[0] == cases[1] == cases[2]
    assert len(set(cases[2:].tolist())) == 4


def test_texts_count_once_a_label():
    samples = tuple(
        Sample(path=str(n), file=None, label=label, text=text)
        for n, (label, text) in enumerate([("a", "x"), ("a", "x"), ("b", "x"), ("b", "y")])
    )
    rows = np.arange(4, dtype=np.int64)
    pairs = Pairs(np.zeros((4, 2), np.int8), np.zeros((4, 3), np.float32), rows, rows, Dataset("d", samples))
    assert [s.path for s in pairs.texts().samples] == ["0", "2", "3"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory, tiny_pictures):
    """Forty-eight pictures with texts, two labels, and the same as a manifest."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("captioned")
    lines = ["path,label,source,group,modality,text,licence"]
    words = ("effusion of the left lung", "fracture of the tibia")
    for n, picture in enumerate(tiny_pictures(48, seed=5)):
        Image.fromarray(picture).save(folder / f"{n}.png")
        terms = "CC BY-NC 4.0" if n == 47 else "CC0"
        lines.append(f'{n}.png,{"ab"[n % 2]},s,g{n},CT,"{words[n % 2]}, case {n}",{terms}')
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.mark.slow
def test_the_command_makes_a_bundle_that_runs(collection, tiny_bundle, tmp_path):
    from typer.testing import CliRunner

    from medlike.cli.app import build
    from medlike.inference import CrossEncoder, SentenceEncoder

    out = tmp_path / "texts"
    command = [
        "train", "mcmfh", "--data", str(collection), "--image-bundle", str(tiny_bundle.path), "--out", str(out),
        "--set", "epochs=2", "--set", "width=16",
    ]  # fmt: skip
    result = CliRunner().invoke(build(), command)
    assert result.exit_code == 0, result.output
    made = bundle.Bundle.load(out, kind="text")
    assert (made.name, made.bits, made.preset) == ("medlike-text-16", 16, "mcmfh")
    assert made.spec["training"]["sources"]["s"]["terms"] == ["CC0"]
    assert made.spec["training"]["recipe"]["epochs"] == 2
    cross_encoder = CrossEncoder(made)
    cross_encoder.require_images(tiny_bundle)
    cross_encoder.require_golden()
    with SentenceEncoder.load() as encoder:
        cross_encoder.require_sentences(encoder)
        assert cross_encoder.encode(sentences=encoder.encode(["effusion"])).code.shape == (1, 2)
    # Embeddings are kept by what they were made from: a second run computes none.
    again = CliRunner().invoke(build(), [*command, "--replace"])
    assert again.exit_code == 0 and "encoding" not in again.output
    assert bundle.Bundle.load(out, kind="text").encoder_digest == made.encoder_digest
    text = CliRunner().invoke(build(), ["bundle", "card", str(out)]).output
    assert "Gives images and texts codes of 16 bits" in text and "tiny-64" in text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--bits", "24"], "no preset of 24 bits"),
        (["--set", "colour=1"], "setting 'colour' is unknown; known: affinity"),
        (["--image-bundle", "nothing"], "no bundle 'nothing'"),
    ],
)
def test_the_command_says_what_is_wrong(collection, tmp_path, options, reason):
    from typer.testing import CliRunner

    from medlike.cli.app import build

    command = ["train", "mcmfh", "--data", str(collection), "--out", str(tmp_path / "t"), *options]
    result = CliRunner().invoke(build(), command)
    assert result.exit_code == 1 and reason in result.output
    assert not (tmp_path / "t").exists()


def test_a_collection_without_texts_is_refused(collection, tmp_path, tiny_bundle):
    from medlike.datasets import read_manifest
    from medlike.training.mcmfh import train_mcmfh

    bare = tmp_path / "manifest.csv"
    bare.write_text(f"path,label\n{collection / '0.png'},a\n", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"no image of .* has a text; give a manifest with a column `text`"):
        train_mcmfh([read_manifest(bare)], tmp_path / "t", image_bundle=tiny_bundle.path)
