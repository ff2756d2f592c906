"""Results of golden checks, kept in the user's cache folder: one small file for each bundle and processor.

A check depends on the bundle (its digest), on the runtime, and on which instructions the processor has: the runtime
chooses its kernels by them. Only checks that allow writing are kept; a failed one is run again each time.
"""

import contextlib
import hashlib
import json
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path

from medlike import files as durable
from medlike import strict_json
from medlike.errors import MedlikeError

FOLDER = "golden"
LARGEST = 4096  # bytes of a file


def cached_share(digest: str, measure: Callable[[], float], enough: float) -> float:
    """Return the share of golden bits of a bundle that come out on this host, 0 to 1.

    A cache that cannot be read or written costs the time of the check and nothing else.

    Args:
        digest: Of the bundle.
        measure: Runs the check.
        enough: Smallest share that is kept.
    """
    from platformdirs import user_cache_path

    facts = {"bundle": digest, "processor": processor()}
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    file = Path(user_cache_path("medlike")) / FOLDER / f"{name}.json"
    share = _read(file, facts)
    if share is None or not enough <= share <= 1:
        share = measure()
        if share >= enough:
            with contextlib.suppress(OSError, MedlikeError):
                file.parent.mkdir(parents=True, exist_ok=True)
                # A rename: whoever reads meanwhile sees a whole file or none.
                durable.write(file, json.dumps(facts | {"share": share}).encode(), durable.PRIVATE)
    return share


@cache
def processor() -> str:
    """Return a digest of what decides how this host computes: instructions, runtime, operating system."""
    from importlib.metadata import version

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))]
    if not features:
        features = [platform.processor()]  # runs a program
    host = [platform.system(), platform.machine(), version("onnxruntime")]
    return hashlib.sha256("\n".join([*host, *sorted(set(features))]).encode()).hexdigest()


def _read(file: Path, facts: dict[str, str]) -> float | None:
    try:
        stored = strict_json.loads(durable.read(file, LARGEST))
        share = stored.pop("share")
        return float(share) if stored == facts else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, MedlikeError):
        return None
