"""The shipped folder is assembled from whole bundles, byte for byte the same each time."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from medlike.bundle import Bundle, default, rewrite, shipped
from medlike.bundle.bundle import FORMER, SHIPPED
from medlike.errors import BundleError, InputError
from medlike_research.commands.assemble import assemble, main


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_shipped_folder_is_what_the_command_gives(tmp_path, capsys):
    main([str(tmp_path / "out")])
    assert content(tmp_path / "out") == content(SHIPPED)
    assert f"{default()}: 13." in capsys.readouterr().out


@pytest.mark.slow
def test_parts_that_are_no_weights_are_replaced(tmp_path, monkeypatch):
    before = {name: Bundle.load(name, kind=None) for name in shipped(None)}
    save_file({"near.kinds": np.arange(4, dtype=np.float32)}, tmp_path / "near.safetensors")
    (tmp_path / "facts.json").write_text('{"quality": {"how": "again"}}')
    out = tmp_path / "out"
    arrays = [f"{name}={tmp_path / 'near.safetensors'}" for name in ("medlike-hmar-64", "medlike-itq-64")]
    main([str(out), "--arrays", arrays[0], "--arrays", arrays[1], "--facts", f"{default()}={tmp_path / 'facts.json'}"])
    monkeypatch.setattr("medlike.bundle.bundle.SHIPPED", out)
    made = {name: Bundle.load(name, kind=None) for name in shipped(None)}
    assert made.keys() == before.keys()
    changed = {name for name in made if made[name].digest != before[name].digest}
    assert changed == {"medlike-hmar-64", "medlike-itq-64"}
    assert all(made[name].encoder_digest == before[name].encoder_digest for name in made)
    assert made["medlike-itq-64"].array("near.kinds").tolist() == [0, 1, 2, 3]
    assert made[default()].spec["quality"] == {"how": "again"}
    known = json.loads((out / FORMER).read_text())
    assert {before[name].digest for name in changed} <= known.keys()
    assert made["medlike-compact-64"].digest not in known
    assert Bundle.load(before[default()].digest).digest == made[default()].digest
    assert Bundle.load(default(), kind="text").name == "medlike-text-16"


def test_what_does_not_belong_together_is_refused(tiny_bundle, tmp_path):
    text = Bundle.load("medlike-text-16", kind="text")
    with pytest.raises(BundleError, match="other images"):
        assemble(tmp_path / "out", tiny_bundle, text, [])
    images = Bundle.load(default())
    with pytest.raises(BundleError, match="one name"):
        assemble(tmp_path / "out", images, text, [images])
    with pytest.raises(InputError, match="no bundle x"):
        assemble(tmp_path / "out", images, text, [], {"x": ({}, {})})
    with pytest.raises(BundleError, match="bits is fixed"):
        assemble(tmp_path / "out", images, text, [], {images.name: ({}, {"bits": 8})})
    with pytest.raises(InputError, match="exists"):
        assemble(tmp_path, images, text, [])
    assert not (tmp_path / "out").exists()
    assert rewrite(images, tmp_path / "whole").text_part is not None
