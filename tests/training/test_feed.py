"""Batches are prepared ahead and stay what they were; stems find their weights; devices and splits are chosen."""

import threading

import numpy as np
import pytest
import torch

from medlike.bundle import Bundle
from medlike.datasets import read_collection
from medlike.errors import TrainingError
from medlike.models.networks import build, rebuild, record
from medlike.training.feed import ahead, computes_in, has_bfloat16, mixed_precision
from medlike.training.material import find_split
from medlike.training.plan import TrainingPlan
from medlike.training.train import choose_device
from medlike.training.weights import load_stem


def test_the_next_item_is_made_while_the_last_is_used():
    made: list[int] = []
    names = set()
    more = threading.Condition()

    def items():
        for number in range(4):
            names.add(threading.current_thread().name)
            with more:
                made.append(number)
                more.notify()
            yield number

    seen = []
    for number in ahead(items()):
        with more:
            assert more.wait_for(lambda number=number: len(made) == min(number + 2, 4), timeout=60), made
        seen.append(number)
    assert seen == [0, 1, 2, 3]
    assert all(name.startswith("medlike-feed") for name in names)


def test_what_goes_wrong_ahead_is_raised_here():
    def items():
        yield 1
        raise TrainingError("no more")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(TrainingError, match="no more"):
        next(found)


def test_a_cpu_computes_in_float32_unless_asked():
    cpu = torch.device("cpu")
    assert [computes_in(cpu, name) for name in ("auto", "float32", "bfloat16")] == ["float32", "float32", "bfloat16"]
    assert computes_in(torch.device("cuda"), "auto") == "bfloat16" and has_bfloat16(torch.device("cuda"))
    assert isinstance(has_bfloat16(cpu), bool)
    with pytest.raises(TrainingError, match="precision 'half' is unknown; known: auto, float32, bfloat16"):
        computes_in(cpu, "half")
    for precision, kind in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
        with mixed_precision(cpu, precision):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == kind


def test_the_shipped_stem_is_the_start():
    network = build("compact", 64, 3)
    assert not torch.equal(network.stem.body._conv_stem.weight, _shipped_stem())
    origin = load_stem(network, None)
    assert torch.equal(network.stem.body._conv_stem.weight, _shipped_stem())
    assert origin.origin == "medlike-itq-64" and "ImageNet, Apache-2.0" in origin.terms
    assert load_stem(network, "none").origin == "random"


def _shipped_stem():
    weights = Bundle.load("medlike-itq-64").weights()["stem.body._conv_stem.weight"]
    return torch.from_numpy(weights.astype(np.float32))


def test_a_network_is_built_again_whatever_json_does_to_its_classes():
    import json

    first = build("compact", 16, {"modality": 2, "region": 3, "label": 5})
    for kept in (record(first), {**record(first), "classes": {"label": 5, "modality": 2, "region": 3}}):
        again = rebuild(json.loads(json.dumps(kept, sort_keys=True)))
        again.load_state_dict(first.state_dict())
        assert list(again.classes) == ["modality", "region", "label"]


def test_what_the_recipe_decides_of_the_network_stands_in_its_settings():
    settings, recipe = TrainingPlan("compact", changes={"share": 1.25, "query": "deep", "epochs": 3}).settings()
    assert (settings.share, settings.query, recipe.share, recipe.epochs) == (1.25, "deep", 1.25, 3)
    assert float(build(settings, 16, 3).share) == 1.25


def test_without_a_gpu_auto_is_the_cpu():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(TrainingError, match=r"device 'sofa' cannot be used.*--device cpu"):
        choose_device("sofa")


def test_a_split_is_made_once_and_kept(phantom_collection, tmp_path):
    dataset = read_collection(phantom_collection)
    said = []
    made = find_split(dataset, tmp_path, said.append)
    assert (tmp_path / "split.json").is_file() and "near-duplicates" in said[0]
    assert find_split(dataset, tmp_path).digest == made.digest
