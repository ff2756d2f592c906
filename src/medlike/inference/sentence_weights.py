"""The files of the sentence encoder (all-MiniLM-L6-v2, Apache-2.0): where they are on this machine, and their digests.

`medlike text install` puts them there, see sentence_install.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from medlike.errors import BundleError, TextNotInstalled

WEIGHTS, TOKENIZER, CONFIG = "model.safetensors", "tokenizer.json", "config.json"


class WeightFile(NamedTuple):
    """One file of the model: its size in bytes and its SHA-256."""

    size: int
    sha256: str


PARTS = {
    WEIGHTS: WeightFile(90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    TOKENIZER: WeightFile(466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
    CONFIG: WeightFile(612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
}


def text_folder() -> Path:
    """Return the folder of the installed weights, inside the user's data folder; it need not exist."""
    from platformdirs import user_data_path

    return user_data_path("medlike", appauthor=False) / "all-MiniLM-L6-v2"


def text_installed() -> bool:
    """Return whether sentences can be encoded here: the `text` extra and the weights are there."""
    folder = text_folder()
    try:
        whole = all((folder / name).stat().st_size == part.size for name, part in PARTS.items())
    except OSError:  # missing, or in a folder that this user may not look into
        return False
    return whole and find_spec("tokenizers") is not None


def intact_part(folder: Path, name: str) -> Path:
    """Return the path of one file of the model, its SHA-256 checked.

    Raises:
        TextNotInstalled: The file is not there.
        BundleError: It has other bytes than the published one, or cannot be read.
    """
    path = folder / name
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        raise TextNotInstalled from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror or error}); check its permissions") from None
    if found != PARTS[name].sha256:
        raise BundleError(f"{path} is damaged: its SHA-256 differs; run `medlike text install` again")
    return path


def text_intact() -> bool:
    """Return whether every file is there with the bytes that were published."""
    try:
        for name in PARTS:
            intact_part(text_folder(), name)
    except (TextNotInstalled, BundleError):
        return False
    return True
