"""Checkpoints on disk, and the check that one belongs to the run that wants to go on from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from medlike.errors import TrainingError
from medlike.files import drafted

# Tensors and plain values by name.
Content = dict[str, Any]


def write_checkpoint(path: Path, content: Content) -> None:
    """Write a checkpoint, whole or not at all. content: tensors and plain values, with an "identity"."""
    with drafted(path) as draft:
        torch.save(dict(content), draft)


def load_checkpoint(path: Path) -> Content:
    """Return the content of a checkpoint, on the CPU. TrainingError for a damaged file and for one of another kind."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # the type depends on the damage, and torch's advice does not fit here
        content = None
    if not isinstance(content, dict) or "identity" not in content:
        raise TrainingError(f"{path} is damaged or no checkpoint of this program; remove it to start again")
    return content


def resumed_checkpoint(path: Path, identity: Content) -> Content | None:
    """Return the checkpoint that a run goes on from, None where there is none yet.

    Args:
        path: The file.
        identity: What decides the run's weights, as plain values by name.

    Raises:
        TrainingError: The checkpoint is damaged, or of a run with another identity; the message names the difference.
    """
    if not path.is_file():
        return None
    content = load_checkpoint(path)
    # Through JSON, which turns tuples into lists, because the checkpoint may have been through it.
    there = json.loads(json.dumps(content["identity"]))
    for name, value in json.loads(json.dumps(dict(identity))).items():
        if there.get(name) != value:
            raise TrainingError(
                f"{path} belongs to another run: its {name} differs; give another --work folder, or start again "
                "without --resume"
            )
    return content
