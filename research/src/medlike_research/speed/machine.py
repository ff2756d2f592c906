"""What a figure depends on: processor, cores, memory and how fast it is read, load."""

import itertools
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlike.codes.threads import cores, share

_STEP = 1 << 18  # words that a thread reads at a time
_WORDS = 1 << 24  # 128 MB: beyond the caches


def machine() -> dict[str, Any]:
    """processor, cores, memory_gb, system, python, load (of the last minute), read_gb_s."""
    facts: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "cores": cores(),
        "system": platform.system(),
        "python": platform.python_version(),
    }
    for path, key, name in (("/proc/cpuinfo", "model name", "processor"), ("/proc/meminfo", "MemTotal", "memory_gb")):
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            continue
        found = next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), None)
        if found:
            facts[name] = round(int(found.split()[0]) / 1e6, 1) if name == "memory_gb" else found
    if hasattr(os, "getloadavg"):
        facts["load"] = round(os.getloadavg()[0], 2)
    facts["read_gb_s"] = round(bandwidth(), 1)
    return facts


def bandwidth(rounds: int = 5) -> float:
    """How fast memory is read on all cores, in GB/s: the best of some rounds over 128 MB."""
    words = np.ones(_WORDS, np.uint64)
    best = 0.0
    for _ in range(rounds):
        began = time.perf_counter()
        read_all(words)
        best = max(best, words.nbytes / (time.perf_counter() - began) / 1e9)
    return best


def read_all(words: NDArray[np.uint64]) -> int:
    """Read every word once, on all cores."""

    def worker(counter: "itertools.count[int]") -> int:
        total = 0
        while (start := next(counter) * _STEP) < len(words):
            total ^= int(np.bitwise_xor.reduce(words[start : start + _STEP]))
        return total

    return share(-(-len(words) // _STEP), worker)[0]
