"""Rooms import one way, and `import medlike` stays light."""

import subprocess
import sys
from pathlib import Path

import grimp

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
    rooms = ["archive.archive", "archive.search.text_query", "evaluation.arrays", "evaluation.bundles",
             "evaluation.report", "inference.sentences", "commissioning.commission", "commissioning.site",
             "cli.app"]  # fmt: skip
    code = (
        f"import importlib, sys; sys.modules.update(dict.fromkeys({absent}))\n"
        f"for room in {rooms}: importlib.import_module('medlike.' + room)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_there_is_no_circle_anywhere():
    graph = grimp.build_graph("medlike", cache_dir=None)  # lazy and TYPE_CHECKING imports are counted
    # The root hands the public names on; everything may ask it for the version.
    modules = sorted(graph.modules - {"medlike"})
    imported = {name: graph.find_modules_directly_imported_by(name) - {"medlike"} for name in modules}
    # Take away what imports nothing that is left, until nothing more can be taken: what remains is in circles.
    left = set(modules)
    while free := {name for name in left if not imported[name] & left}:
        left -= free
    circles = {name: sorted(imported[name] & left) for name in sorted(left)}
    assert not circles
