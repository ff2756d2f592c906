"""Training the regional expert: pairs of cells, its start, stages that resume, the bundle that comes out."""

import json

import numpy as np
import pytest
import torch

from medlike.datasets import prepare_samples
from medlike.errors import TrainingError
from medlike.inference import Encoder
from medlike.models.experts import CellExpert
from medlike.training.augmentation import AUGMENTATIONS
from medlike.training.cells import CellViews, Copies, content_cells, drawn_maps, partners, transformed
from medlike.training.cells_start import PRIOR_IMAGES, modality_means, start_cells
from medlike.training.cells_training import bit_entropy
from medlike.training.plan import TrainingPlan
from medlike.training.train import train_network

CELLS = {
    "cell_epochs": 2, "cell_steps": 6, "cell_images": 12, "cell_samples": 8, "cell_copies": 1, "gate_queries": 16,
    "gate_candidates": 12, "gate_steps": 20, "head_steps": 20, "cell_hidden": 16, "cell_width": 12, "weight_width": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def regional(phantom_data, small, trained, tmp_path_factory):
    """A small joint bundle that starts from the run of `trained`; its run is beside it."""
    dataset, split, cache = phantom_data
    out = tmp_path_factory.mktemp("regional") / "joint"
    start = trained.path.with_name(trained.path.name + ".run")
    plan = TrainingPlan("hmar-compact", 32, changes=small | CELLS, device="cpu", start=start)
    return train_network([dataset], out, plan, split=split, cache=cache)


def test_a_cell_and_its_partner_show_the_same_place():
    """A marked cell, transformed, lies in the cell that is said to be its partner."""
    settings = Copies(rotation=8.0, scale=(0.8, 1.25), photometry=AUGMENTATIONS["none"])
    maps = drawn_maps(64, settings, torch.Generator().manual_seed(0))
    partner = partners(maps)
    seen = 0
    for number, cell in enumerate(np.random.default_rng(1).integers(0, 196, 64)):
        row, column = divmod(int(cell), 14)
        picture = torch.zeros(1, 1, 224, 224)
        picture[..., row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] = 1
        shown = transformed(picture, maps[number : number + 1])[0, 0]
        if partner[number, cell] < 0:
            continue
        weight = shown.reshape(14, 16, 14, 16).sum(dim=(1, 3))
        place = divmod(int(partner[number, cell]), 14)
        # A cell turned or enlarged spreads over its neighbours; its middle stays in its partner.
        assert weight[place] >= 0.6 * weight.max()
        seen += 1
    assert seen > 30


def test_every_turn_and_reflection_is_drawn():
    maps = drawn_maps(400, Copies(rotation=0.0, scale=(1.0, 1.0)), torch.Generator().manual_seed(2))
    assert len({tuple(each.round().int().flatten().tolist()) for each in maps}) == 8


def test_air_is_no_content():
    pixels = np.zeros((1, 224, 224), np.uint8)
    pixels[0, 32:48, 64:80] = np.random.default_rng(0).integers(0, 256, (16, 16))
    assert np.flatnonzero(content_cells(pixels)[0]).tolist() == [2 * 14 + 4]


def test_means_of_modalities_count_weights_and_shares_and_trust_few_pictures_little():
    cells = np.array([[1.0], [3.0], [5.0], [-4.0]])
    shares = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], np.float32)
    found = modality_means(cells, np.array([2.0, 1, 1, 1]), np.array([0, 0, 1, 2]), shares)
    first = (2 * 1 + 3 + 0.5 * 5) / 3.5 * 1.5 / (1.5 + PRIOR_IMAGES)
    second = (0.5 * 5 - 4) / 1.5 * 1.5 / (1.5 + PRIOR_IMAGES)
    np.testing.assert_allclose(found, [[first], [second]])


@pytest.mark.slow
def test_bits_do_not_say_what_all_cells_of_a_modality_share():
    """Pictures of two modalities, each with an offset of its own: once it is taken off, no bit tells them apart."""
    random = np.random.default_rng(0)
    number, channels = 400, 24
    modality = np.eye(2, dtype=np.float32)[np.arange(number) % 2]
    offset = 6 * random.normal(size=(2, channels))
    cells = random.normal(size=(number, 196, channels)) + (modality @ offset)[:, None]
    content = np.ones((number, 196), bool)
    views = CellViews([cells.astype(np.float16)], [], content, np.zeros((number, 196, 64), np.uint8))
    told = {}
    for name, modalities, shares in (("off", 2, modality), ("left", 0, None)):
        expert = CellExpert([channels], [0], 8, 8, 64, modalities, linear=True)
        start_cells(expert, [channels], views, shares, ["s"] * number, 0.0, 0)
        given = None if shares is None else torch.from_numpy(shares)
        with torch.no_grad():
            u, _ = expert.encode(torch.from_numpy(cells).float().reshape(number, 14, 14, channels), given)
        bits = (u > 0).numpy().mean(axis=(1, 2))
        told[name] = np.abs(bits[::2].mean(axis=0) - bits[1::2].mean(axis=0)).mean()
    assert told["off"] < 0.1 < 0.3 < told["left"]


def test_a_constant_bit_has_no_entropy():
    bits = np.zeros((8, 3), bool)
    bits[:4, 1] = True
    bits[0, 2] = True
    found = bit_entropy(bits)
    assert found[0] < 1e-9 and found[1] == pytest.approx(1) and 0 < found[2] < 1


def test_the_joint_bundle_gives_global_and_local_codes_in_one_pass(regional, trained, phantom_data):
    dataset, split, _ = phantom_data
    assert regional.local_bits == 64 and {"cells", "cell_weight"} <= set(regional.outputs)
    pictures = [p.pixels for p in prepare_samples(split.part(dataset, "query"))]
    with Encoder(regional) as encoder, Encoder(trained) as before:
        found, expected = encoder.encode(pictures), before.encode(pictures)
    assert found.cells.shape == (len(pictures), 14, 14, 1)
    np.testing.assert_array_equal(found.code, expected.code, "the whole-image code was to stay as it was")


def test_interrupted_cells_resumed_are_as_never_interrupted(regional, phantom_data, small, trained, tmp_path):
    dataset, split, cache = phantom_data

    def stop(line):
        if line.startswith("cells, epoch 1 of"):
            raise InterruptedError

    start = trained.path.with_name(trained.path.name + ".run")
    plan = TrainingPlan("hmar-compact", 32, changes=small | CELLS, device="cpu", start=start)
    given = ([dataset], tmp_path / "joint", plan)
    with pytest.raises(InterruptedError):
        train_network(*given, split=split, cache=cache, say=stop)
    lines = []
    made = train_network(*given, split=split, cache=cache, resume=True, say=lines.append)
    assert "cells, going on after epoch 1 of 2" in lines
    assert made.encoder_digest == regional.encoder_digest


def test_the_record_holds_entropies_curves_and_the_gate(regional):
    kept = regional.spec["training"]["regional"]
    assert 0 <= kept["entropy"]["worst"] <= kept["entropy"]["mean"] <= 1
    assert [row["epoch"] for row in kept["cells"]] == [0, 1, 2]
    for name in ("with_crop", "without_crop"):
        assert 0 < kept["gate"][name]["local_share"] < 1
        assert 0 <= kept["gate"][name]["map_hard"] <= 1
    work = regional.path.with_name(regional.path.name + ".run")
    assert (work / "cells-history.csv").is_file() and (work / "cells-curves.png").is_file()


def test_the_gate_learns(regional):
    shares = {name: regional.spec["training"]["regional"]["gate"][name]["local_share"] for name in
              ("with_crop", "without_crop")}  # fmt: skip
    assert any(abs(share - 0.5) > 1e-3 for share in shares.values())


def test_a_stage_goes_on_from_the_one_before(regional, small, trained, phantom_data, tmp_path):
    dataset, split, cache = phantom_data
    start = trained.path.with_name(trained.path.name + ".run")
    work = regional.path.with_name(regional.path.name + ".run")
    given = {"split": split, "cache": cache}
    plan = TrainingPlan("hmar-compact", 32, changes=small | CELLS, device="cpu", stage=2, start=start)
    with pytest.raises(TrainingError, match=r"stage 2 goes on from .*run stage 1 first"):
        train_network([dataset], tmp_path / "none", plan, **given)
    again = train_network([dataset], tmp_path / "again", plan, work=work, name=regional.name, **given)
    assert again.encoder_digest == regional.encoder_digest


def test_a_start_of_other_settings_is_refused(small, trained, phantom_data, tmp_path):
    dataset, split, cache = phantom_data
    start = trained.path.with_name(trained.path.name + ".run")
    changes = small | CELLS | {"depth_hidden": 48}
    plan = TrainingPlan("hmar-compact", 32, changes=changes, device="cpu", start=start)
    with pytest.raises(TrainingError, match="depth_hidden 32, not 48"):
        train_network([dataset], tmp_path / "out", plan, split=split, cache=cache)
    with pytest.raises(TrainingError, match="there is no run at"):
        train_network(
            [dataset], tmp_path / "out",
            TrainingPlan("hmar-compact", 32, changes=small | CELLS, start=tmp_path / "nowhere"),
            split=split, cache=cache,
        )  # fmt: skip
    with pytest.raises(TrainingError, match="has no regional expert"):
        train_network([dataset], tmp_path / "out", TrainingPlan("compact", 32, start=start), split=split, cache=cache)


@pytest.mark.slow
def test_without_a_start_the_whole_image_side_is_trained_first(small, phantom_data, tmp_path):
    dataset, split, cache = phantom_data
    plan = TrainingPlan("hmar-compact", 32, changes=small | CELLS, device="cpu")
    made = train_network([dataset], tmp_path / "joint", plan, split=split, cache=cache)
    assert made.local_bits == 64
    assert json.loads((tmp_path / "joint.run" / "training.json").read_text())["validation_map"] > 0
