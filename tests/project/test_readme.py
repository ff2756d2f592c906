"""The README runs, shows a real picture, and its sections come in their order."""

import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_lines_run(tmp_path):
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.strip().splitlines()) <= 12
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("197 images")
    assert len(lines) == 6 and "XR_chest" in lines[1], "a chest radiograph finds chest radiographs"


def test_its_pictures_are_there_and_small():
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert pictures
    for name in pictures:
        assert (ROOT / name).stat().st_size < 500_000
        with Image.open(ROOT / name) as picture:
            picture.verify()


def test_its_sections_are_in_order():
    heads = re.findall(r"^## (.+)$", README, re.MULTILINE)
    assert heads == ["Install", "Use", "Results", "Comparison", "Limits", "Develop"]


def test_its_links_lead_somewhere():
    for name in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / name).exists(), name
