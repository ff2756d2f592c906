"""Which program on which machine made a result."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

from medlike.types import JsonObject


def program() -> dict[str, str]:
    """Version, commit and machine, as every results.json of `medlike evaluate` names them."""
    host = machine()
    said = f"{host['system']}, {host['cores']} cores, Python {host['python']}"
    return {"medlike": code_version(), "machine": said}


def code_version() -> str:
    """The package's version, and the commit where it runs from a checkout."""
    from medlike import __version__

    here = Path(__file__).resolve()

    def git(*words: str) -> str:
        options: JsonObject = {"capture_output": True, "text": True, "timeout": 10, "check": True}
        return subprocess.run(["git", *words], cwd=here.parent, **options).stdout.strip()

    try:
        # Installed below somebody's checkout, the program is none of its files.
        git("ls-files", "--error-unmatch", here.name)
        return f"{__version__} ({git('describe', '--always', '--dirty', '--abbrev=12')})"
    except (OSError, subprocess.SubprocessError):
        return __version__


def machine() -> JsonObject:
    """What a result was made on."""
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
