"""A folder per class."""

import numpy as np
import pytest
from PIL import Image

from medlike.datasets import read_collection
from medlike.datasets.folders import read_folders
from medlike.errors import DatasetError


def picture(file, value=7, size=(6, 5)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(file)


def test_a_folder_per_class(tmp_path):
    for name in ("cat/b.png", "cat/deep/a.jpg", "dog/c.PNG", "loose.png", "dog/.hidden.png", "dog/notes.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("x")
        else:
            picture(tmp_path / name)
    data = read_folders(tmp_path, "pets")
    assert [(s.path, s.label) for s in data] == [
        ("cat/b.png", "cat"),
        ("cat/deep/a.jpg", "cat"),
        ("dog/c.PNG", "dog"),
    ]
    assert [s.path for s in read_collection(tmp_path)] == [s.path for s in data]
    with pytest.raises(DatasetError, match="no image"):
        (tmp_path / "empty").mkdir()
        read_folders(tmp_path / "empty")
    with pytest.raises(DatasetError, match="does not exist"):
        read_collection(tmp_path / "none")
