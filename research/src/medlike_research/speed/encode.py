"""`medlike bench encode`: images a second of the shipped bundles, beside ResNet-50 in torch on the same cores."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from medlike.bundle import Bundle, shipped
from medlike.codes.threads import cores
from medlike.errors import MissingExtra
from medlike_research.speed.timing import Figures, rounds

BATCH = 8  # of the peer
WHOLE = "medlike-compact-64"  # the bundle that codes whole images and nothing else


def bench(quick: bool = False, images: int | None = None, tell: Callable[[str], None] = print) -> Figures:
    """Encode images (32, quick 8) with every shipped image bundle. Raises MissingExtra without torch.

    Lines, images a second over those of ResNet-50: encode (medlike-compact-64), encode-NAME (the others);
    seconds encode-image: one image alone on one core. The peer is torch eager in float32 on as many cores,
    in batches of 8 and one by one, whichever is faster. Codes are compared with those of other batches and
    threads first: AssertionError where a bit differs.
    """
    try:
        import torch

        from medlike.models.resnet import ResNet50
    except ImportError:
        raise MissingExtra("torch", "train") from None
    from medlike.inference import Encoder

    number = images or (BATCH if quick else 4 * BATCH)
    times = 3 if quick else 9
    found = Figures("encode", {"images": number, "rounds": times, "quick": quick})
    pictures = np.random.default_rng(0).integers(0, 256, (number, 224, 224), dtype=np.uint8)
    # One batch a core, each on one thread: on a busy machine threads that share one batch wait for one another.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    network = ResNet50().eval()
    given = torch.rand(BATCH, 3, 224, 224)
    pool = ThreadPoolExecutor(cores())

    def run(size: int) -> None:
        with torch.inference_mode():
            for start in range(0, BATCH, size):
                network(given[start : start + size])

    def peer(size: int) -> None:
        list(pool.map(run, [size] * cores()))

    encoders = {name: Encoder(Bundle.load(name)) for name in shipped()}
    rivals: dict[str, Callable[[], Any]] = {f"torch-{size}": partial(peer, size) for size in (1, BATCH)}
    try:
        for name, encoder in encoders.items():
            tell(f"{name}: {number} images")
            _require_same_codes(encoder, pictures[:7])
            rivals[name] = partial(encoder.encode, list(pictures))
        one = Encoder(Bundle.load(WHOLE), threads=1)
        rivals["one"] = partial(one.encode, list(pictures[:1]))
        spent = rounds(rivals, times)
        one.close()
    finally:
        torch.set_num_threads(threads)
        pool.shutdown()
        for encoder in encoders.values():
            encoder.close()
    done = BATCH * cores()
    rival = min((spent[f"torch-{size}"].over(done) for size in (1, BATCH)), key=lambda each: each.median)
    for name in sorted(encoders, key=lambda each: each != WHOLE):
        line = "encode" if name == WHOLE else f"encode-{name}"
        peer_is = f"ResNet-50, torch eager, float32, {cores()} threads side by side"
        found.rate(line, spent[name].over(number), rival, peer_is)
        found.facts[line] |= {"bundle": name, "images_per_second": number / spent[name].median}
        # On a busy machine cores are lent and taken away; the time they worked tells the networks apart all the same.
        found.facts[line]["ratio_of_core_seconds"] = rival.cpu / spent[name].over(number).cpu
    found.seconds("encode-image", spent["one"].median)
    found.facts["bundle_digests"] = {name: encoder.bundle.digest for name, encoder in encoders.items()}
    return found


def _require_same_codes(encoder: Any, pictures: Any) -> None:
    from medlike.inference import Encoder

    together = encoder.encode(pictures)
    with Encoder(encoder.bundle, threads=1) as alone:
        for i in range(len(pictures)):
            single = alone.encode(pictures[i : i + 1])
            if not (np.array_equal(single.code[0], together.code[i]) and
                    np.array_equal(single.content[0], together.content[i])):  # fmt: skip
                raise AssertionError(f"{encoder.bundle.name}: codes depend on batch or threads")
