"""The runner of all stages: an interrupted and resumed run is the uninterrupted one, the best epoch, early stop."""

import json
import math

import numpy as np
import pytest
import torch

from medlike.errors import TrainingError
from medlike.training.runner import Stage, run_stage

EPOCHS = 5


class Interrupted(Exception):
    """Raised in place of a kill."""


def stopper(line):
    """A `say` that interrupts when a line of progress begins so."""

    def say(text):
        if text.startswith(line):
            raise Interrupted

    return say


def fitted(folder, say=print, resume=False, epochs=EPOCHS, **settings):
    """A linear map learned from random batches by a stage with every part that a checkpoint must hold."""
    torch.manual_seed(3)
    network = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Dropout(0.2), torch.nn.Linear(4, 1))
    source = torch.Generator().manual_seed(0)

    def batches(epoch):
        random = np.random.default_rng((1, epoch))
        return (torch.from_numpy(random.normal(size=(8, 6))).float() for _ in range(4))

    def loss(batch):
        noise = torch.randn(8, 1, generator=source)
        error = (network(batch) - batch.sum(dim=1, keepdim=True) + 0.1 * noise).square().mean()
        return error, {"error": float(error.detach())}

    def begin(epoch, run):
        torch.manual_seed(epoch)
        network.train()

    def validate(epoch):
        network.eval()
        return {"score": float(-network(torch.ones(1, 6)).detach().sub(6).abs())}

    given = {
        "rate": lambda epoch, step: 0.05 / (1 + epoch + step / 4), "clip": 1.0, "validate": validate, "figure": "score",
        "starts_judged": True, "average": 0.9, "identity": {"seed": 0}, "begin": begin,
        "state": lambda: {"source": source.get_state()},
        "restore": lambda content: source.set_state(content["source"]),
    }  # fmt: skip
    optimiser = torch.optim.AdamW(network.parameters(), lr=1.0)
    stage = Stage("toy", network, optimiser, batches, loss, 4, epochs, **given | settings)
    return network, run_stage(stage, folder, resume=resume, say=say)


def untimed(history):
    return [{name: value for name, value in row.items() if name not in ("seconds", "waiting")} for row in history]


def same(one, other):
    state = other.state_dict()
    return all(torch.equal(value, state[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("after", range(1, EPOCHS))
def test_interrupted_and_resumed_is_as_never_interrupted(tmp_path, after):
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    network, run = fitted(tmp_path / "whole")
    with pytest.raises(Interrupted):
        fitted(tmp_path / "parts", stopper(f"toy, epoch {after} of"))
    again, resumed = fitted(tmp_path / "parts", resume=True)
    assert same(network, again) and untimed(run.history) == untimed(resumed.history)
    assert len(run.history) == EPOCHS + 1
    assert resumed.best["epoch"] == run.best["epoch"]


def test_the_best_epoch_is_left_in_the_network(tmp_path):
    scores = iter([0.1, 0.5, math.nan, 0.4, 0.2, 0.3])
    states = []
    network, run = fitted(
        None, validate=lambda epoch: {"score": next(scores)}, begin=lambda epoch, run: states.append(run.best["epoch"])
    )
    assert run.best["epoch"] == 1 and run.best["score"] == 0.5 and states == [0, 1, 1, 1, 1]
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in run.best["state"].items())


def test_it_stops_when_the_figure_does_not_improve_and_stays_stopped(tmp_path):
    lines = []
    scores = {-1: 0.0, 0: 0.3, 1: 0.2, 2: 0.1, 3: 0.9}
    settings = {"validate": lambda epoch: {"score": scores[epoch]}, "patience": 2}
    _, run = fitted(tmp_path, lines.append, **settings)
    assert run.epochs == 3 and run.best["epoch"] == 1 and lines[-1] == "no better score for 2 epochs: stopped"
    _, again = fitted(tmp_path, lines.append, resume=True, **settings)
    assert again.history == run.history


def test_less_can_be_better():
    scores = iter([3.0, 2.0, 1.0, 2.0, 4.0, 5.0])
    _, run = fitted(None, validate=lambda epoch: {"score": next(scores)}, lower=True)
    assert run.best["epoch"] == 2


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    fitted(tmp_path, epochs=1)
    before = (tmp_path / "toy.pt").read_bytes()
    with pytest.raises(TrainingError, match=r"toy\.pt belongs to another run: its seed differs"):
        fitted(tmp_path, resume=True, identity={"seed": 1})
    assert (tmp_path / "toy.pt").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_before_the_step(tmp_path):
    network = torch.nn.Linear(1, 1)
    before = network.weight.detach().clone()
    optimiser = torch.optim.SGD(network.parameters(), lr=1.0)

    def loss(batch):
        return network(torch.ones(1, 1)).sum() * math.inf, {"error": math.inf}

    stage = Stage("", network, optimiser, lambda epoch: iter([None]), loss, 1, describe=lambda batch: {"paths": ["a"]})
    with pytest.raises(TrainingError, match=r"step 1 is not finite \(error inf\).*lower the rate and --resume"):
        run_stage(stage, tmp_path)
    assert json.loads((tmp_path / "nan.json").read_text())["paths"] == ["a"]
    assert torch.equal(network.weight, before)
