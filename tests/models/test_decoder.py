"""The decoder gives images."""

import torch

from medlike.models.decoder import Decoder


def test_the_decoder_gives_an_image():
    decoder = Decoder(8, ((8, 8), (4, 4), (4, 4)))
    assert decoder(torch.randn(1, 8, 7, 7)).shape == (1, 3, 224, 224)
