"""Hash losses by name: medlike's own, and those of other packages."""

import pytest
import torch

from medlike.errors import PluginError, TrainingError
from medlike.training.objective import hash_loss

U, LABELS = torch.tensor([[0.5, -1.0], [1.0, 2.0], [0.1, 0.2]]), torch.tensor([0, 1, 1])


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A distribution on the path with two losses: one that works and one that cannot be imported."""
    source = "def build(classes, bits):\n    return lambda u, labels: u.sum() * classes + bits + labels.sum()\n"
    (tmp_path / "their_losses.py").write_text(source)
    facts = tmp_path / "theirs-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[medlike.losses]\nplain = their_losses:build\nbroken = none_such:build\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_loss_of_another_package_is_made_for_the_classes_and_bits(packaged):
    value, histogram = hash_loss("plain", 2, [5, 5, 5], True)(U, LABELS, None)
    assert float(value) == pytest.approx(3 * float(U.sum()) + 2 + 2) and histogram is None
    with pytest.raises(PluginError, match=r"broken of the package theirs cannot be loaded .*none_such.*install theirs"):
        hash_loss("broken", 2, [5], True)
    with pytest.raises(TrainingError, match=r"'triplet' is unknown; known: sch, .*plain"):
        hash_loss("triplet", 2, [5], True)


def test_an_unknown_loss_names_the_package_of_other_methods(monkeypatch):
    monkeypatch.setattr("medlike.plugins.entry_points", lambda group: ())
    with pytest.raises(TrainingError, match=r"'csq' is unknown; known: sch, .*come with medlike-research"):
        hash_loss("csq", 2, [5], True)
