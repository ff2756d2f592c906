"""The plain rival of MCMFH."""

import pytest
import torch
from tests.models.test_mcmfh import BOTH, IMAGE, SMALL, TEXT, rows, run
from tests.training.test_mcmfh import WIDTHS, found, parts

from medlike.models.mcmfh import preset
from medlike.training.mcmfh_loop import CrossModalRecipe, fit_crossmodal
from medlike_research.studies.plain_hash import PlainHash

__all__ = ["parts"]  # a fixture


def test_the_plain_rival_averages_its_sides():
    torch.manual_seed(0)
    rival = PlainHash(preset(16, **SMALL)).eval()
    image, sentence = rows()
    alone = [run(rival, image, sentence, view)["u"] for view in (IMAGE, TEXT)]
    torch.testing.assert_close(run(rival, image, sentence, BOTH)["u"], (alone[0] + alone[1]) / 2)


@pytest.mark.slow
def test_the_plain_rival_learns_too(parts):
    recipe = CrossModalRecipe(epochs=6, batch=64, start="random", turned=False)
    fit = fit_crossmodal(parts[0], parts[1], preset(16, **WIDTHS), recipe, 0, PlainHash)
    assert found(fit.network, parts[2], parts[3])[0] > 0.4
