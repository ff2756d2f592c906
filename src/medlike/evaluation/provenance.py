"""Which program on which machine made a result."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

from medlike.types import JsonObject


def program() -> dict[str, str]:
    """Return version, commit and machine, as every results.json of `medlike evaluate` names them."""
    host = machine()
    return {"medlike": code_version(), "machine": "{system}, {cores} cores, Python {python}".format(**host)}


def code_version() -> str:
    """Return the package's version, and the commit if it runs from a checkout."""
    from medlike import __version__

    here = Path(__file__).resolve()

    def git(*words: str) -> str:
        options: JsonObject = {"capture_output": True, "text": True, "timeout": 10, "check": True}
        return subprocess.run(["git", *words], cwd=here.parent, **options).stdout.strip()

    try:
        # An installation below another checkout is no file of it.
        git("ls-files", "--error-unmatch", here.name)
        return f"{__version__} ({git('describe', '--always', '--dirty', '--abbrev=12')})"
    except (OSError, subprocess.SubprocessError):
        return __version__


def machine() -> JsonObject:
    """Return what a result was measured on: system, cores, Python, and torch with its accelerator if it is loaded."""
    facts: JsonObject = {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)),
        "python": sys.version.split()[0],
    }
    if "torch" in sys.modules:
        import torch

        facts["torch"] = torch.__version__
        facts["accelerator"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return facts
