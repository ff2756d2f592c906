"""Rooms import one way, and `import medlike` stays light."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_rooms_import_one_way():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_import_is_light():
    heavy = ["torch", "numba", "onnxruntime", "numpy", "pydicom", "PIL", "matplotlib"]
    code = f"import medlike, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_the_core_offers_needs_no_package_of_an_extra():
    """scipy, torch, onnx and the like come with extras; searching, evaluating and commissioning run without them."""
    absent = ["scipy", "torch", "onnx", "matplotlib", "tokenizers", "transformers", "cv2", "kornia"]
    rooms = ["archive.archive", "archive.wording", "evaluation.arrays", "evaluation.bundles", "evaluation.report",
             "inference.site", "inference.sentences", "training.commission", "cli.app"]  # fmt: skip
    code = (
        f"import importlib, sys; sys.modules.update(dict.fromkeys({absent}))\n"
        f"for room in {rooms}: importlib.import_module('medlike.' + room)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
