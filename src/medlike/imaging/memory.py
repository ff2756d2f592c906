"""How much memory decoding may take: what this machine has to spare, and what a picture needs, before it is decoded.

`reserve` is called with what a file or a picture is about to need. In the process of the caller the sum is compared
with the budget; a decoding worker replaces that comparison by a question to its parent, which keeps one budget for all.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from medlike.errors import ImageError

#: What is reserved: the content of a file, and one picture of it while it is decoded.
Part = Literal["file", "picture"]
#: Called with the bytes needed in all; returns the limit if they are too many, else None.
Ask = Callable[[int], int | None]

#: Decoding may take this share of the available memory, within these bounds.
_SHARE = 3
_LEAST, _MOST = 256 << 20, 4 << 30

_MEMINFO, _CGROUPS = Path("/proc/meminfo"), Path("/sys/fs/cgroup")

_reserved = threading.local()
_ask: Ask | None = None


def decoding_budget() -> int:
    """Return how many bytes all decoding together may take: a third of the available memory, 256 MiB to 4 GiB."""
    return min(max(available_memory() // _SHARE, _LEAST), _MOST)


def available_memory() -> int:
    """Return the bytes that this process can still allocate: what the machine has, within the limit of its cgroup."""
    spare = [_machine(), *map(_left_in_cgroup, _cgroups())]
    return max(0, min(spare))


def begin() -> None:
    """Forget what the last file of this thread reserved."""
    _reserved.parts = {}


def reserve(part: Part, size: int, what: str) -> None:
    """Reserve memory for a part of the file that this thread reads; a later call replaces the part.

    Args:
        part: What the memory is for.
        size: Bytes.
        what: The subject of the refusal, such as "the picture is 100 x 100".

    Raises:
        ImageError: All decoding together may not take so much.
    """
    parts = getattr(_reserved, "parts", None)
    if parts is None:
        parts = _reserved.parts = {}
    parts[part] = size
    limit = (_ask or _compare)(sum(parts.values()))
    if limit is not None:
        raise ImageError(
            f"{what}: decoding it takes about {sum(parts.values()) / 1e6:.0f} MB of memory, the limit here is "
            f"{limit / 1e6:.0f} MB; cut it into tiles, scale it down, or use a machine with more free memory"
        )


def ask_instead(ask: Ask) -> None:
    """Make `reserve` ask somebody else, such as the parent of a worker."""
    global _ask
    _ask = ask


def _compare(size: int) -> int | None:
    # Looking at the machine takes longer than to decode what is smaller than this.
    if size <= _LEAST // 4:
        return None
    budget = decoding_budget()
    return None if size <= budget else budget


def _machine() -> int:
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines() if ":" in line)
        return int(lines["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _cgroups() -> list[tuple[Path, str, str]]:
    """Return the cgroups that limit this process: their folder, and the names of their limit and their usage."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    groups = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root = _CGROUPS / controllers
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        folder = root / place.lstrip("/")
        # Inside a container the path may be the one outside; its root is then what limits it.
        groups += [(one, *names) for one in {root, folder, *folder.parents} if one.is_relative_to(root)]
    return groups


def _left_in_cgroup(group: tuple[Path, str, str]) -> int:
    folder, limit, usage = group
    try:
        most, used = int((folder / limit).read_text()), int((folder / usage).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        # The page cache is given back under pressure.
        return most - used + int(stat.get("inactive_file", 0))
    except (OSError, ValueError):
        return _MOST * _SHARE  # no limit, or none that can be read
