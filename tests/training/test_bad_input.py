"""What cannot be trained is refused before hours are spent on it, with what to do about it."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import save_file

from medlike.datasets import Dataset, Sample, Split, join, make_split, read_collection
from medlike.errors import BundleError, DatasetError, TrainingError
from medlike.models.presets import preset
from medlike.models.stems import Stem
from medlike.training.material import find_split
from medlike.training.plan import TrainingPlan
from medlike.training.recipe import recipe
from medlike.training.requirements import require_directions, require_positives
from medlike.training.train import train_network


def parts(dataset, *names):
    """A split that deals every sample to the named parts in turn."""
    part_of = {s.path: names[i % len(names)] for i, s in enumerate(dataset)}
    return Split("test", part_of, {s.path: i for i, s in enumerate(dataset)}, {})


ALL = ("train", "train", "validation", "calibration", "gallery", "query")


def relabelled(dataset, label):
    """Labels by a function of the position."""
    samples = tuple(replace(s, label=label(i), coarse="") for i, s in enumerate(dataset) if not s.is_ood)
    return Dataset("test", samples)


def refused(dataset, tmp_path, match, split=None, plan=None, **options):
    plan = plan or TrainingPlan("compact", 32, device="cpu")
    with pytest.raises((TrainingError, DatasetError, BundleError), match=match):
        train_network([dataset], tmp_path / "out", plan, split=split or parts(dataset, *ALL), **options)
    assert not (tmp_path / "out").exists()


def test_one_class_only(phantom_data, tmp_path):
    refused(relabelled(phantom_data[0], lambda i: "only"), tmp_path, r"has 1 labels; at least 2 are needed")


def test_classes_with_one_image(phantom_data, tmp_path):
    alone = relabelled(phantom_data[0], lambda i: f"label {i}")
    refused(alone, tmp_path, r"has a single image; at least 2 images a label.*coarser labels")


def test_a_validation_part_of_unknown_labels(phantom_data, tmp_path):
    dataset = relabelled(phantom_data[0], lambda i: "ab"[i % 2])
    split = parts(dataset, *ALL)
    odd = Dataset(
        "test",
        tuple(replace(s, label="never trained") if split.part_of[s.path] == "validation" else s for s in dataset),
    )
    refused(odd, tmp_path, "no label of the validation part occurs in the training part", split)


def test_labels_missing_from_the_gallery(phantom_data, tmp_path):
    dataset = relabelled(phantom_data[0], lambda i: "ab"[i % 2])
    split = parts(dataset, *ALL)
    odd = Dataset(
        "test", tuple(replace(s, label="queried only") if split.part_of[s.path] == "query" else s for s in dataset)
    )
    refused(odd, tmp_path, r"none of the 1 labels of the query part occurs in the gallery \(\d labels\)", split)


@pytest.mark.parametrize("missing", ["train", "validation"])
def test_an_empty_part(phantom_data, tmp_path, missing):
    dataset = relabelled(phantom_data[0], lambda i: "ab"[i % 2])
    split = parts(dataset, *(name for name in ALL if name != missing))
    refused(dataset, tmp_path, "0 labels|no label of the validation part|is empty", split)


def drawn(labels):
    samples = tuple(Sample(path=str(n), file=None, label=str(label)) for n, label in enumerate(labels))
    return Dataset("drawn", samples), np.asarray(labels)


def test_batches_without_positives():
    # 100 labels of 2 images: a batch of 4 holds 6 pairs, one in 100 of them of one label.
    few = recipe("ours", batch=4, sampling="uniform")
    with pytest.raises(TrainingError, match=r"holds 0.06 pairs of the same label on average.*raise --set batch"):
        require_positives(*drawn(np.repeat(np.arange(100), 2)), few)
    assert require_positives(*drawn(np.repeat(np.arange(2), 100)), few) == pytest.approx(3)


def test_fewer_pictures_than_a_batch():
    for batch in (64, 0):
        with pytest.raises(TrainingError, match=rf"batches of {batch} from 20 training pictures.*--set batch=5"):
            require_positives(*drawn([0, 1] * 10), recipe("ours", batch=batch, sampling="uniform"))


def test_fewer_pictures_than_directions():
    with pytest.raises(TrainingError, match=r"20 training images carry fewer than the 128 directions.*--set linear=10"):
        require_directions(drawn([0, 1] * 10)[0], preset("compact"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch": "banana"}, "recipe setting batch is 'banana', which is no whole number; it is 256 by default"),
        ({"epochs": 2.5}, "recipe setting epochs is 2.5, which is no whole number"),
        ({"rate": True}, "recipe setting rate is True, which is no number"),
        ({"cell_strides": 16}, r"setting cell_strides is 16, which is no list"),
        ({"cell_epochs": "two"}, "setting cell_epochs is 'two', which is no whole number"),
        ({"loss": "triplet"}, "loss 'triplet' is unknown; known: "),
    ],
)
def test_settings_of_another_kind_are_refused_before_anything_is_read(changes, said, phantom_data, tmp_path):
    refused(phantom_data[0], tmp_path, said, plan=TrainingPlan("hmar-compact", changes=changes, device="cpu"))


def test_a_device_that_is_not_there_is_refused_before_anything_is_read(phantom_data, tmp_path):
    refused(phantom_data[0], tmp_path, "device 'banana' cannot be used", plan=TrainingPlan("compact", device="banana"))


@pytest.mark.parametrize("bits", [0, 4, 12, 63, 520])
def test_codes_that_cannot_be_packed(phantom_data, tmp_path, bits):
    refused(
        phantom_data[0], tmp_path, rf"{bits} bits cannot be packed; choose a multiple of 8 from 8 to 512",
        plan=TrainingPlan("compact", bits),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("plan", "match"),
    [
        (TrainingPlan("resnet"), "preset 'resnet' is unknown; known: acir"),
        (TrainingPlan("compact", recipe="theirs"), "recipe 'theirs' is unknown; known: ours, paper"),
        (TrainingPlan("compact", changes={"epoch": 3}), "setting 'epoch' is unknown; known: .*epochs"),
        (TrainingPlan("compact", changes={"augmentation": "wild"}), "unknown augmentation 'wild'"),
        (TrainingPlan("compact", stage=3), "stage 3 is unknown; known: 1, 2"),
        (TrainingPlan("hmar-compact", stage=4), "stage 4 is unknown; known: 1, 2, 3"),
        (TrainingPlan("hmar-compact", changes={"cell_strides": [32]}), "have 16 among --set cell_strides"),
    ],
)
def test_plans_that_make_no_sense(phantom_data, tmp_path, plan, match):
    refused(phantom_data[0], tmp_path, match, plan=plan)


def test_a_device_that_is_not_there(phantom_data, tmp_path):
    plan = TrainingPlan("compact", device="cuda:77")
    refused(phantom_data[0], tmp_path, "device 'cuda:77' cannot be used.*--device cpu", plan=plan)


def test_a_stem_without_weights(phantom_data, tmp_path):
    refused(
        phantom_data[0], tmp_path, "no shipped bundle carries weights of mobilenet_v2_blocks; give a file",
        plan=TrainingPlan("compact-mobilenet", device="cpu"),
    )  # fmt: skip
    refused(
        phantom_data[0], tmp_path, r"no weights at .*nowhere\.safetensors",
        plan=TrainingPlan("compact", stem=tmp_path / "nowhere.safetensors", device="cpu"),
    )  # fmt: skip


def test_a_checkpoint_of_another_preset(trained, phantom_data, small, tmp_path):
    """--resume in the folder of another run: refused, and the checkpoint there stays."""
    dataset, split, cache = phantom_data
    work = trained.path.with_name(trained.path.name + ".run")
    before = (work / "checkpoint.pt").read_bytes()
    first, *others = split.part(dataset, "train")
    second = next(sample for sample in others if sample.label != first.label)
    swapped = {first.path: second, second.path: first}
    mended = replace(dataset, samples=tuple(replace(swapped.get(s.path, s), path=s.path, file=s.file) for s in dataset))
    fewer = dataset.where(lambda sample: sample.path != split.part(dataset, "train")[0].path)
    stem = tmp_path / "stem.safetensors"
    save_file(Stem("efficientnet_lite0_blocks").body.state_dict(), str(stem))
    for data, changes, start, what in (
        (dataset, small | {"branch_width": 24}, None, "network"),
        (dataset, small | {"rate": 1e-3}, None, "recipe"),
        (fewer, small, None, "images"),
        (mended, small, None, "labels"),
        (dataset, small, stem, "stem"),
    ):
        refused(
            data, tmp_path, rf"belongs to another run: its {what} differs; give another --work folder",
            split, TrainingPlan("compact", 32, stem=start, changes=changes, device="cpu"),
            cache=cache, work=work, resume=True,
        )  # fmt: skip
    assert (work / "checkpoint.pt").read_bytes() == before


def test_the_first_collection_left_out(phantom_data, tmp_path):
    """Without sources of their own, joined images have their collection's name: nothing is left to measure."""
    dataset = replace(phantom_data[0], samples=tuple(replace(s, source="") for s in phantom_data[0]))
    first, second = (replace(dataset, name=name, samples=dataset.samples[n::2]) for n, name in enumerate("ab"))
    with pytest.raises(TrainingError, match="none of the 0 labels of the query part occurs in the gallery"):
        train_network(
            [first, second], tmp_path / "out", TrainingPlan("compact", 32, device="cpu", leave_out=("a",)),
            split=parts(join(first, second), *ALL),
        )  # fmt: skip


@pytest.mark.slow
def test_a_damaged_checkpoint(phantom_data, small, tmp_path):
    dataset, split, cache = phantom_data
    (tmp_path / "out.run").mkdir()
    (tmp_path / "out.run" / "checkpoint.pt").write_bytes(b"no checkpoint")
    plan = TrainingPlan("compact", 32, changes=small, device="cpu")
    refused(dataset, tmp_path, r"checkpoint\.pt is damaged.*remove it to start again", split, plan, cache=cache,
            resume=True)  # fmt: skip


def test_a_bundle_that_is_there_is_kept(trained, phantom_data):
    dataset, split, _ = phantom_data
    digest = trained.digest
    with pytest.raises(TrainingError, match=r"exists; choose another --out, or --replace it"):
        train_network([dataset], trained.path, TrainingPlan("compact", 32), split=split)
    assert trained.digest == digest


def test_missing_files_and_duplicate_paths(phantom_data, tmp_path):
    folder = phantom_data[0][0].file.parent
    lines = (folder / "manifest.csv").read_text().splitlines()
    (tmp_path / "manifest.csv").write_text("\n".join([*lines[:3], lines[2].replace("ct_abdomen", "no_such", 1)]))
    with pytest.raises(DatasetError, match=r"no_such|missing|do(es)? not exist"):
        read_collection(tmp_path)
    twice = folder.parent / "twice"
    twice.mkdir()
    rows = [line if i == 0 else f"{folder}/{line}" for i, line in enumerate(lines[:3])]
    (twice / "manifest.csv").write_text("\n".join([*rows, rows[-1]]))
    with pytest.raises(DatasetError, match=r"both name .*every path may occur once|twice|duplicate"):
        read_collection(twice)


def test_a_split_of_other_data_is_refused(phantom_data, tmp_path):
    dataset = phantom_data[0]
    other = make_split(dataset.where(lambda s: "ct" in s.path), np.arange(40, dtype=np.uint64) * 977)
    other.save(tmp_path / "split.json")
    with pytest.raises(DatasetError, match=r"samples are not in split"):
        find_split(dataset, tmp_path)
