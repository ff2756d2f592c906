"""The real command line in processes of its own, and an archive of some samples made by it."""

import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from medlike import samples

MEDLIKE = Path(sys.executable).with_name("medlike")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def medlike(*words: object, folder: Path | None = None, **environment: str) -> Ended:
    """Run `medlike WORDS...` and wait for its end."""
    known = {**os.environ, "COLUMNS": "120", **environment}
    done = subprocess.run(
        [str(MEDLIKE), *map(str, words)], cwd=folder, env=known, capture_output=True, text=True, timeout=120
    )
    assert "Traceback" not in done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)


def processor_seconds() -> float:
    """Processor time of the commands so far; time on the clock says as much of what else the machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> Path:
    """Some twenty samples of several kinds in a folder of their own."""
    folder = tmp_path_factory.mktemp("sources")
    for pattern, most in (
        ("images/chest-*.jpg", 6), ("images/fetal-*.jpg", 4), ("images/head-*.jpg", 3),
        ("phantoms/ct-*.dcm", 10), ("phantoms/us-*.png", 2),
    ):  # fmt: skip
        for file in sorted(samples().glob(pattern))[:most]:
            shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="session")
def indexed(sources, tmp_path_factory) -> Path:
    """An archive of them. Tests only read it."""
    archive = tmp_path_factory.mktemp("archives") / "archive"
    done = medlike("index", sources, "--archive", archive)
    assert done.code == 0, done.err
    return archive


@pytest.fixture
def own(indexed, tmp_path) -> Path:
    """A copy of that archive that a test may change."""
    return Path(shutil.copytree(indexed, tmp_path / "own"))
