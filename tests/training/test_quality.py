"""Quality as a bundle states it: the code of each image, whatever file it lies in."""

import numpy as np

from medlike.bundle import Bundle
from medlike.datasets import read_collection
from medlike.datasets.splits import make_split
from medlike.inference.encoder import Encoder
from medlike.metrics import Relevance, score_codes
from medlike.training.quality import encode_dataset, measure_bundle


def test_images_of_one_npz_are_told_apart(tiny_bundle, tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (240, 28, 28), dtype=np.uint8)
    labels = np.arange(240)[:, None] % 2
    arrays = {f"{part}_{what}": of[n::3] for n, part in enumerate(("train", "val", "test"))
              for what, of in (("images", images), ("labels", labels))}  # fmt: skip
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays)
    data = read_collection(tmp_path / "pneumoniamnist.npz")
    split = make_split(data, random.integers(0, 2**63, len(data), dtype=np.uint64))
    found = measure_bundle(Bundle.load(tiny_bundle.path), data, split)
    parts = {part: split.part(data, part) for part in ("query", "gallery")}
    with Encoder(Bundle.load(tiny_bundle.path)) as encoder:
        codes = {name: encode_dataset(encoder, part).code for name, part in parts.items()}
    relevance = Relevance.of(parts["query"].column("label"), parts["gallery"].column("label"))
    expected = score_codes(codes["query"], codes["gallery"], relevance).mean("map_expected")
    assert len(np.unique(codes["query"], axis=0)) > 2
    assert found["map_expected"] == round(expected, 4)
