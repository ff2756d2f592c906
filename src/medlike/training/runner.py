"""Run a stage of training: steps and their schedule, checkpoints, history, the best epoch, early stop."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medlike.errors import TrainingError
from medlike.files import write_text
from medlike.training.checkpoints import Content, resumed_checkpoint, write_checkpoint
from medlike.training.curves import keep_history
from medlike.types import Progress


class RunningMean:
    """Exponential running mean of a network's floating tensors, buffers included."""

    def __init__(self, network: torch.nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: torch.nn.Module) -> None:
        """Move the mean towards the network's tensors; the first steps count more than the decay says."""
        self.steps += 1
        decay = min(self.decay, (self.steps + 1) / (self.steps + 10)) if self.decay else 0.0
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)


@dataclass
class Run:
    """How far a stage has come.

    history: a row an epoch; best: its epoch, figure and state of the network, None before one; parts: values of the
    loss at the last step; mean: of the weights, where the stage averages them.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best: Content = field(default_factory=lambda: {"epoch": -1, "state": None})
    parts: dict[str, float] = field(default_factory=dict)
    mean: RunningMean | None = None

    @property
    def epochs(self) -> int:
        """Number of epochs that are finished."""
        return int(self.history[-1]["epoch"]) if self.history else 0


@dataclass
class Stage:
    """What the runner needs to know of a stage. Epochs and steps count from 0 in what it calls, from 1 in histories.

    name: in messages and before the names of files, "" for the first stage. network: what is trained, validated and
    kept. batches: epoch -> batches, one a step; it owns the random numbers, so that a resumed run draws what an
    uninterrupted one would have drawn. loss: batch -> scalar to descend, and values for the history. rate: (epoch,
    step) -> learning rate, multiplied by the `scale` of a parameter group; None leaves it alone. clip: largest norm
    of the gradient. validate: epoch -> figures; figure: the one by which the best epoch is chosen, "" keeps the last
    epoch; lower: less of it is better. starts_judged: the start is validated as epoch 0. average: decay of a running
    mean of the weights, which is what is validated and kept. patience: epochs without a better figure before it
    stops. identity: see checkpoints. prepare: before the first epoch of a run that is not resumed. begin: before
    each epoch. stepped: after each step. state, restore: more for the checkpoint, and back. describe: what nan.json
    says of a batch. advice: what to lower where the loss is not finite. report: a line each so many steps or, where
    a figure is measured, each so many epochs.
    """

    name: str
    network: torch.nn.Module
    optimiser: torch.optim.Optimizer
    batches: Callable[[int], Iterator[Any]]
    loss: Callable[[Any], tuple[Tensor, dict[str, float]]]
    steps: int
    epochs: int = 1
    rate: Callable[[int, int], float] | None = None
    clip: float | None = None
    validate: Callable[[int], dict[str, float]] | None = None
    figure: str = ""
    lower: bool = False
    starts_judged: bool = False
    average: float | None = None
    patience: int | None = None
    identity: Content = field(default_factory=dict)
    prepare: Callable[[], None] = lambda: None
    begin: Callable[[int, Run], None] = lambda epoch, run: None
    stepped: Callable[[], None] = lambda: None
    state: Callable[[], Content] = dict
    restore: Callable[[Content], None] = lambda content: None
    describe: Callable[[Any], Content] = lambda batch: {}
    advice: str = "the rate"
    report: int = 1

    @property
    def checkpoint(self) -> str:
        """Name of the stage's checkpoint in the folder of a run."""
        return f"{self.name or 'checkpoint'}.pt"

    @property
    def title(self) -> str:
        """What progress lines begin with."""
        return f"{self.name}, " if self.name else ""


def run_stage(
    stage: Stage, folder: Path | None = None, *, resume: bool = False, say: Progress[str] = lambda line: None
) -> Run:
    """Train a stage to its end and leave its best epoch, else its last one, in the network.

    Args:
        stage: What to train, and how.
        folder: Where checkpoint, history and curves are kept after each epoch; None keeps none.
        resume: Go on from the checkpoint in `folder`, where there is one.
        say: Takes lines of progress.

    Returns:
        The history, the best epoch and the loss of the last step.

    Raises:
        TrainingError: The checkpoint is damaged or of another run; no epoch was run; or the loss is not finite. Then
            the last good checkpoint stays, and nan.json in `folder` names the batch.
    """
    run = Run()
    content = resumed_checkpoint(folder / stage.checkpoint, stage.identity) if resume and folder else None
    if content is None:
        stage.prepare()
        run.mean = None if stage.average is None else RunningMean(stage.network, stage.average)
        if stage.starts_judged:
            _finish_epoch(stage, run, 0, {})
    else:
        _restore(stage, run, content)
        say(f"{stage.title}going on after epoch {run.epochs} of {stage.epochs}")
    for epoch in range(run.epochs, stage.epochs):
        # Checked before an epoch, so that resuming a run that had stopped does not continue it.
        unjudged = sum(stage.figure not in row for row in run.history)
        if stage.patience is not None and epoch - max(run.best["epoch"], unjudged) >= stage.patience:
            say(f"no better {stage.figure} for {stage.patience} epochs: stopped")
            break
        stage.begin(epoch, run)
        figures = _finish_epoch(stage, run, epoch + 1, _train_epoch(stage, run, epoch, folder, say))
        if folder:
            write_checkpoint(folder / stage.checkpoint, _content(stage, run))
            keep_history(run.history, folder, stage.name, tuple(figures))
        if figures and ((epoch + 1) % stage.report == 0 or epoch + 1 == stage.epochs):
            shown = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in figures.items())
            speed = stage.steps / max(run.history[-1]["seconds"], 1e-6)
            say(f"{stage.title}epoch {epoch + 1} of {stage.epochs}: {shown}, {speed:.2f} steps/s")
    if stage.figure:
        if run.best["state"] is None:
            raise TrainingError(f"{stage.title}no epoch was run; set epochs to at least 1")
        stage.network.load_state_dict(run.best["state"])
    return run


def descend(
    optimiser: torch.optim.Optimizer, total: Tensor, network: torch.nn.Module, clip: float | None = None
) -> None:
    """Take one step of an optimiser down a loss. clip: largest norm of the network's gradient."""
    optimiser.zero_grad(set_to_none=True)
    total.backward()
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
    optimiser.step()


def _train_epoch(stage: Stage, run: Run, epoch: int, folder: Path | None, say: Progress[str]) -> dict[str, float]:
    """Return the means of the loss' values over the steps of an epoch, its seconds, and the share spent waiting."""
    started, waiting, sums = time.perf_counter(), 0.0, dict[str, float]()
    batches = stage.batches(epoch)
    for step in range(stage.steps):
        if stage.rate is not None:
            for group in stage.optimiser.param_groups:
                group["lr"] = stage.rate(epoch, step) * group.get("scale", 1.0)
        begun = time.perf_counter()
        batch = next(batches)
        waiting += time.perf_counter() - begun
        total, run.parts = stage.loss(batch)
        if not math.isfinite(float(total.detach())):
            _refuse(stage, epoch, step, run.parts, stage.describe(batch), folder)
        descend(stage.optimiser, total, stage.network, stage.clip)
        stage.stepped()
        if run.mean is not None:
            run.mean.update(stage.network)
        for name, value in run.parts.items():
            sums[name] = sums.get(name, 0.0) + value
        if stage.validate is None and (step + 1) % stage.report == 0:
            shown = ", ".join(f"{name} {value:.3f}" for name, value in run.parts.items())
            say(f"{stage.title}step {step + 1} of {stage.steps}: {shown}")
    seconds = time.perf_counter() - started
    means = {name: value / stage.steps for name, value in sums.items()}
    means |= {"seconds": seconds, "waiting": waiting / max(seconds, 1e-9)}
    return means if stage.rate is None else means | {"rate": stage.rate(epoch + 1, 0)}


def _finish_epoch(stage: Stage, run: Run, epoch: int, trained: dict[str, float]) -> dict[str, float]:
    """Validate, add a row to the history, keep the state where it is the best; returns the figures."""
    weights = None
    if run.mean is not None:
        weights = {name: value.clone() for name, value in stage.network.state_dict().items()}
        stage.network.load_state_dict(run.mean.state)
    figures = {} if stage.validate is None else stage.validate(epoch - 1)
    if stage.figure in figures and _better(stage, figures[stage.figure], run.best.get(stage.figure)):
        state = {name: value.detach().cpu().clone() for name, value in stage.network.state_dict().items()}
        run.best = {stage.figure: figures[stage.figure], "epoch": epoch, "state": state}
    if weights is not None:
        stage.network.load_state_dict(weights)
    rounded = {name: round(float(value), 6) for name, value in (trained | figures).items()}
    run.history.append({"epoch": epoch, **rounded})
    return figures


def _better(stage: Stage, value: float, best: float | None) -> bool:
    """True if a figure is a number and beats the best one so far."""
    if best is None:
        return not math.isnan(value)
    return value < best if stage.lower else value > best


def _refuse(stage: Stage, epoch: int, step: int, parts: dict[str, float], batch: Content, folder: Path | None) -> None:
    terms = ", ".join(f"{name} {value:g}" for name, value in parts.items())
    message = f"{stage.title}the loss of epoch {epoch + 1}, step {step + 1} is not finite ({terms})"
    if folder is None:
        raise TrainingError(f"{message}; lower {stage.advice}")
    note = {"epoch": epoch + 1, "step": step + 1, "parts": parts, **batch}
    write_text(folder / "nan.json", json.dumps(note, indent=1), mode=0o600)
    raise TrainingError(
        f"{message}; the batch is in {folder / 'nan.json'}, the last good epoch in {folder / stage.checkpoint}: "
        f"lower {stage.advice} and --resume"
    )


def _content(stage: Stage, run: Run) -> Content:
    """Return what a checkpoint holds."""
    return {
        "identity": dict(stage.identity),
        "network": stage.network.state_dict(),
        "optimiser": stage.optimiser.state_dict(),
        "mean": None if run.mean is None else run.mean.state,
        "mean_steps": 0 if run.mean is None else run.mean.steps,
        "history": run.history,
        "best": run.best,
        **stage.state(),
    }


def _restore(stage: Stage, run: Run, content: Content) -> None:
    """Put a checkpoint's content back."""
    stage.network.load_state_dict(content["network"])
    stage.optimiser.load_state_dict(content["optimiser"])
    if stage.average is not None:
        run.mean = RunningMean(stage.network, stage.average)
        run.mean.state = {name: content["mean"][name].to(value.device) for name, value in run.mean.state.items()}
        run.mean.steps = content["mean_steps"]
    run.history, run.best = content["history"], content["best"]
    stage.restore(content)
