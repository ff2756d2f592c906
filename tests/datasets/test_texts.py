"""The texts of a collection, without placeholders."""

import numpy as np
from PIL import Image

from medlike.datasets import read_manifest


def picture(file, seed=0):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16)).astype(np.uint8)).save(file)


def test_the_texts_of_a_manifest(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", 1)
    (tmp_path / "manifest.csv").write_text("path,text\na.png,Left  effusion.\nb.png,Replace this text\n")
    assert [s.text for s in read_manifest(tmp_path)] == ["Left effusion.", ""]
