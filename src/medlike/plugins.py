"""Parts that other packages add to medlike, found through their entry points.

| group | an entry point names |
|---|---|
| `medlike.commands` | a typer.Typer: a command, or a group of commands, of the entry point's name |
| `medlike.losses` | a function of (classes, bits) that returns a loss of (u, labels), as in medlike.training.losses |

Nothing is loaded until somebody uses it, and a plug-in never replaces a part of medlike's own.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from medlike.errors import PluginError

COMMANDS = "medlike.commands"
LOSSES = "medlike.losses"


def plugins(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, sorted, without loading them."""
    return {entry.name: entry for entry in sorted(entry_points(group=group), key=lambda entry: entry.name)}


def load(entry: EntryPoint) -> Any:
    """Return what an entry point names.

    Raises:
        PluginError: The package cannot be imported, or lacks the name.
    """
    package = entry.dist.name if entry.dist is not None else entry.module
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise PluginError(
            f"{entry.name} of the package {package} cannot be loaded ({reason}); install {package} again, or remove it"
        ) from error
