"""Which program on which machine made a result."""

from __future__ import annotations

import platform
import sys


def program() -> dict[str, str]:
    """Version and machine, as every results.json of `medlike evaluate` names them."""
    from medlike import __version__

    return {
        "medlike": __version__,
        "machine": f"{platform.system()} {platform.machine()}, Python {sys.version.split()[0]}",
    }
