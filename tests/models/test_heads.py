"""Hash heads and classifiers."""

import pytest
import torch

from medlike.errors import TrainingError
from medlike.models.heads import HashHead, HierarchyHeads


@pytest.mark.parametrize("kind", ["kan", "mlp", "linear"])
def test_every_hash_head_can_start_as_a_projection(kind):
    head = HashHead(10, 4, 16, True, direct=10, kind=kind)
    feature, weight = torch.randn(3, 10), torch.randn(10, 16)
    assert head(feature)[1].shape == (3, head.hidden) == (3, 10 if kind == "linear" else 4)
    head.initialise_from_projection(weight)
    torch.testing.assert_close(head(feature)[0], feature @ weight)
    for parameter in head.leave.parameters():
        torch.nn.init.normal_(parameter)
    assert (head(feature)[0] != feature @ weight).all()
    wider = HashHead(10, 4, 16, True, direct=12, kind=kind)
    parts, weight = torch.randn(3, 12), torch.randn(12, 16)
    wider.initialise_from_projection(weight)
    torch.testing.assert_close(wider(feature, parts)[0], parts @ weight)


def test_hash_heads_that_make_no_sense_are_refused():
    with pytest.raises(TrainingError, match="kan, mlp, linear"):
        HashHead(10, 4, 16, True, kind="tree")
    with pytest.raises(TrainingError, match="linear path"):
        HashHead(10, 4, 16, True).initialise_from_projection(torch.zeros(10, 16))
    with pytest.raises(TrainingError, match="expected"):
        HashHead(10, 4, 16, True, direct=10).initialise_from_projection(torch.zeros(16, 10))


def test_finer_levels_see_the_coarser_ones():
    heads = HierarchyHeads(4, {"modality": 2, "label": 3})
    x = torch.randn(5, 4)
    before = heads(x)
    with torch.no_grad():
        heads.heads["modality"].bias += torch.tensor([3.0, -3.0])
    assert not torch.allclose(before["label"], heads(x)["label"])
    with pytest.raises(TrainingError, match="at least one class"):
        HierarchyHeads(4, {"label": 0})
