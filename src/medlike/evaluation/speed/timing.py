"""Timing that a busy machine distorts as little as it can: rivals take turns, and the median of the rounds counts."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medlike.codes.threads import cores

PAUSE = 0.02  # seconds


@dataclass
class Figures:
    """What a bench has measured. lines: name -> (kind, value), kind "ratio" or "seconds"; facts: anything else."""

    name: str
    settings: dict[str, Any]
    lines: dict[str, tuple[str, float]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def ratio(self, name: str, ours: float, peer: float, of: str) -> None:
        """Our time over a peer's: lower is better. of: what the peer is."""
        self.lines[name] = ("ratio", ours / peer)
        self.facts[name] = {"ours": ours, "peer": peer, "peer_is": of}

    def seconds(self, name: str, value: float) -> None:
        """A time without a peer."""
        self.lines[name] = ("seconds", value)

    def printed(self) -> list[str]:
        """`ratio NAME X` and `seconds NAME X`, as every bench ends."""
        return [f"{kind} {name} {value:.4g}" for name, (kind, value) in self.lines.items()]

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the machine."""
        lines = {name: {"kind": kind, "value": value} for name, (kind, value) in self.lines.items()}
        return asdict(self) | {"lines": lines, "machine": machine()}


def rounds(rivals: Mapping[str, Callable[[], Any]], number: int) -> dict[str, float]:
    """Median seconds of each rival; they take turns, after one round that does not count."""
    spent: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(number + 1):
        for name, run in rivals.items():
            # Threads of the last rival may still be spinning for more work.
            time.sleep(PAUSE)
            began = time.perf_counter()
            run()
            if turn:
                spent[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in spent.items()}


def machine() -> dict[str, Any]:
    """Processor, cores, memory and load: what a figure depends on."""
    facts: dict[str, Any] = {"processor": platform.processor() or platform.machine(), "cores": cores()}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                facts["processor"] = line.partition(":")[2].strip()
                break
        facts["load"] = float(Path("/proc/loadavg").read_text().split()[0])
    except (OSError, ValueError):
        pass
    return facts
