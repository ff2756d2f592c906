"""Quality as a bundle states it: the code of each image, whatever file it lies in."""

import numpy as np

from medlike.bundle import Bundle
from medlike.datasets import join, read_collection
from medlike.datasets.splits import make_split
from medlike.inference.encoder import Encoder
from medlike.metrics import Relevance, score_codes
from medlike.training.quality import encode_dataset, measure_bundle


def test_images_of_one_npz_are_told_apart(tiny_bundle, tmp_path):
    data = _npz(tmp_path / "pneumoniamnist.npz", 0)
    split = make_split(data, _random_hashes(len(data)))
    found = measure_bundle(Bundle.load(tiny_bundle.path), data, split)
    parts = {part: split.part(data, part) for part in ("query", "gallery")}
    with Encoder(Bundle.load(tiny_bundle.path)) as encoder:
        codes = {name: encode_dataset(encoder, part).code for name, part in parts.items()}
    relevance = Relevance.of(parts["query"].column("label"), parts["gallery"].column("label"))
    expected = score_codes(codes["query"], codes["gallery"], relevance).mean("map_expected")
    assert len(np.unique(codes["query"], axis=0)) > 2
    assert found["map_expected"] == round(expected, 4)


def test_the_headline_of_joined_collections_is_that_of_the_first(tiny_bundle, tmp_path):
    """Joined collections have other paths than the first alone; its images are found nevertheless."""
    first, second = (_npz(tmp_path / f"{name}mnist.npz", n) for n, name in enumerate(("pneumonia", "breast")))
    data = join(first, second)
    split = make_split(data, _random_hashes(len(data)))
    bundle = Bundle.load(tiny_bundle.path)
    found = measure_bundle(bundle, data, split, first)
    assert found == measure_bundle(bundle, data, split, data.where(lambda sample: sample.collection == first.name))
    assert found["query"] == len(split.part(first, "query")) > 0


def _npz(path, seed):
    """A MedMNIST file of two labels whose images are noise."""
    images = np.random.default_rng(seed).integers(0, 256, (240, 28, 28), dtype=np.uint8)
    labels = np.arange(240)[:, None] % 2
    arrays = {f"{part}_{what}": of[n::3] for n, part in enumerate(("train", "val", "test"))
              for what, of in (("images", images), ("labels", labels))}  # fmt: skip
    np.savez(path, **arrays)
    return read_collection(path)


def _random_hashes(count):
    """Perceptual hashes of images that are no near-duplicates of each other."""
    return np.random.default_rng(0).integers(0, 2**63, count, dtype=np.uint64)
