"""Timing that a busy machine distorts as little as it can: rivals take turns, and the median of the rounds counts."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from medlike_research.speed.machine import machine

PAUSE = 0.02  # seconds
Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Times:
    """Seconds of one rival over the rounds. cpu: median seconds of all cores together, of this process alone."""

    median: float
    least: float
    cpu: float

    def over(self, number: float) -> "Times":
        """The same for one of `number` equal parts."""
        return Times(self.median / number, self.least / number, self.cpu / number)


@dataclass(frozen=True)
class Line:
    """One figure of a bench, with the direction that is better."""

    kind: str
    value: float
    better: Better = "lower"


@dataclass
class Figures:
    """What a bench has measured.

    lines: by name, kind "ratio", "seconds", "megabytes" or "bytes"; checks: what must hold, by name; facts: the rest.
    """

    name: str
    settings: dict[str, Any]
    lines: dict[str, Line] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)
    began: dict[str, Any] = field(default_factory=machine)

    def ratio(self, name: str, ours: Times, peer: Times, of: str) -> None:
        """Our time over a peer's: lower is better. of: what the peer is."""
        self.lines[name] = Line("ratio", ours.median / peer.median)
        self.facts[name] = {"ours": asdict(ours), "peer": asdict(peer), "peer_is": of}

    def rate(self, name: str, ours: Times, peer: Times, of: str) -> None:
        """Our rate over a peer's, from the times for the same work: higher is better."""
        self.lines[name] = Line("ratio", peer.median / ours.median, "higher")
        self.facts[name] = {"ours": asdict(ours), "peer": asdict(peer), "peer_is": of}

    def seconds(self, name: str, value: float) -> None:
        """A time without a peer."""
        self.lines[name] = Line("seconds", value)

    def printed(self) -> list[str]:
        """`ratio NAME X` and `seconds NAME X` and which way is better, and `check NAME yes`, as every bench ends."""
        lines = [f"{line.kind} {name} {line.value:.4g} {line.better} is better" for name, line in self.lines.items()]
        return lines + [f"check {name} {'yes' if holds else 'no'}" for name, holds in self.checks.items()]

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the machine; its load stands there as it was before the bench and after it."""
        after = machine()
        loads = {"load": [self.began.get("load"), after.get("load")], "read_gb_s": self.began.get("read_gb_s")}
        found = asdict(self)
        del found["began"]
        return found | {"machine": after | loads}


def rounds(rivals: Mapping[str, Callable[[], Any]], number: int) -> dict[str, Times]:
    """Seconds of each rival; they take turns, after one round that does not count."""
    spent: dict[str, list[float]] = {name: [] for name in rivals}
    worked: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(number + 1):
        for name, run in rivals.items():
            # Threads of the last rival may still be spinning for more work.
            time.sleep(PAUSE)
            began, busy = time.perf_counter(), time.process_time()
            run()
            if turn:
                spent[name].append(time.perf_counter() - began)
                worked[name].append(time.process_time() - busy)
    return {
        name: Times(statistics.median(times), min(times), statistics.median(worked[name]))
        for name, times in spent.items()
    }


def children(run: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall seconds, CPU seconds of the child processes that it waited for, and what it returned."""
    before, began = os.times(), time.perf_counter()
    answer = run()
    wall, after = time.perf_counter() - began, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, cpu, answer
