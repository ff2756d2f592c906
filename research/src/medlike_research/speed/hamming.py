"""`medlike bench hamming`: exact search over codes, beside faiss on the same cores in the same run."""

from collections.abc import Callable
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.candidates import Field
from medlike.archive.search.ranking import rank
from medlike.codes import hamming
from medlike.codes.buckets import BucketTable
from medlike.codes.threads import cores
from medlike.errors import MissingExtra
from medlike_research.speed.gallery import KINDS, codes
from medlike_research.speed.machine import read_all
from medlike_research.speed.timing import Figures, Times, rounds

K = 100
QUERIES = 64


def bench(quick: bool = False, images: int | None = None, tell: Callable[[str], None] = print) -> Figures:
    """Run all parts. images: codes of 64 bits (10 M; quick 1 M). Raises MissingExtra without faiss.

    Lines: hamming-1 and hamming-64 (one query, 64 at once; uniform codes) over faiss; the same for clustered
    codes and 128, 256 and 512 bits; hamming-filter-P: from the filter's JSON to the metadata of the hits,
    over the scan without a filter, where P % of the images pass; hamming-content, hamming-ties and hamming-16
    in seconds.
    """
    try:
        import faiss
    except ImportError:
        raise MissingExtra("faiss-cpu", "bench") from None
    number = images or (1_000_000 if quick else 10_000_000)
    times = 7 if quick else 15
    found = Figures("hamming", {"images": number, "k": K, "rounds": times, "quick": quick})
    for bits in (64, 128, 256, 512):
        for kind in KINDS if bits == 64 else KINDS[:1]:
            # Wider codes take as many bytes, not as many rows.
            held = codes(kind, number * 64 // bits, bits)
            name = ("" if bits == 64 else f"-{bits}") + ("" if kind == "uniform" else f"-{kind}")
            tell(f"{len(held):,} {kind} codes of {bits} bits")
            _against_faiss(found, faiss, held, name, times)
    _ordered(found, number, times, tell)
    _sixteen(found, number, times)
    _filtered(found, min(number, 1_000_000) if quick else number, times, tell)
    return found


def _against_faiss(found: Figures, faiss: Any, held: NDArray[np.uint8], name: str, times: int) -> None:
    index = faiss.IndexBinaryFlat(8 * held.shape[1])
    index.add(held)
    queries = held[:: len(held) // QUERIES][:QUERIES].copy()
    queries[:, 0] ^= 5
    near, _ = hamming.nearest(held, queries[0], K)
    if not np.array_equal(near, index.search(queries[:1], K)[0][0]):
        raise AssertionError("faiss finds other distances")

    def peer(threads: int, number: int) -> None:
        faiss.omp_set_num_threads(threads)
        index.search(queries[:number], K)

    def against(name: str, number: int, ours: Callable[[], Any], turns: int) -> dict[str, Times]:
        # One thread is its best on a busy machine, all of them on an idle one: the better counts.
        rivals: dict[str, Callable[[], Any]] = {
            "ours": ours,
            "read": lambda: read_all(held.view(np.uint64).reshape(-1)),
            "faiss-1": partial(peer, 1, number),
        }
        if cores() > 1:
            rivals["faiss-all"] = partial(peer, cores(), number)
        spent = rounds(rivals, turns)
        best = min((value for rival, value in spent.items() if rival.startswith("faiss")), key=lambda each: each.median)
        found.ratio(name, spent["ours"], best, "faiss IndexBinaryFlat, on one core or all, the faster")
        return spent

    spent = against(f"hamming-1{name}", 1, lambda: hamming.nearest(held, queries[0], K), times)
    found.facts[f"bandwidth{name}"] = {
        "read_gb_s": held.nbytes / spent["read"].median / 1e9, "ours_gb_s": held.nbytes / spent["ours"].median / 1e9,
    }  # fmt: skip
    against(f"hamming-{QUERIES}{name}", QUERIES, lambda: hamming.nearest_many(held, queries, K), max(3, times // 4))


def _ordered(found: Figures, number: int, times: int, tell: Callable[[str], None]) -> None:
    """The total order with content, on clustered codes: a usual query, and one whose code a tenth of them have."""
    from medlike.archive.index.index import Part
    from medlike.archive.index.segment import Layout, Segment

    tell(f"content order, {number // 10:,} equal codes")
    random = np.random.default_rng(1)
    held = codes("clustered", number, 64)
    same, counts = np.unique(held[: number // 10].view(np.uint64), return_counts=True)
    crowd = np.array([same[counts.argmax()]]).view(np.uint8)
    content = random.integers(-127, 128, (number, 64), dtype=np.int8)
    arrays: dict[str, NDArray[Any]] = {
        "rows": np.arange(number),
        "ids": random.integers(0, 256, (number, 16), dtype=np.uint8),
        "codes": held,
        "content": content,
    }
    part = Part(Segment(Layout("", 64, 64), -1, 0, arrays, {}), number, np.empty(0, np.int64))
    fields = [Field.of(part, None)]
    far = random.integers(0, 256, 8, dtype=np.uint8)
    rivals: dict[str, Callable[[], Any]] = {
        "content": lambda: rank(fields, far, content[0], K),
        "ties": lambda: rank(fields, crowd, content[0], K),
        "ties-id": lambda: rank(fields, crowd, content[0], K, "hamming"),
    }
    for name, value in rounds(rivals, times).items():
        found.seconds(f"hamming-{name}", value.median)


def _sixteen(found: Figures, number: int, times: int) -> None:
    held = codes("clustered", number, 16)
    table = BucketTable.of(held)
    queries = np.random.default_rng(2).integers(0, 256, (200, 2), dtype=np.uint8)
    spent = rounds({"ours": lambda: [table.nearest(query, K) for query in queries]}, times)
    found.seconds("hamming-16", spent["ours"].median / len(queries))


def _filtered(found: Figures, number: int, times: int, tell: Callable[[str], None]) -> None:
    from medlike_research.speed.population import populated

    tell(f"an archive of {number:,} images for filters")
    shares = {"0.1": 0.001, "10": 0.1, "90": 0.899}
    random = np.random.default_rng(3)
    labels = random.choice(list(shares), number, p=list(shares.values()))
    held = codes("uniform", number, 64)
    with TemporaryDirectory() as folder, populated(folder, held, labels.tolist()) as archive:
        index = archive.index
        part = index.view().parts[0]
        query = archive.stored_id(number // 2)
        scanned = np.asarray(part.segment.array("codes"))
        rivals: dict[str, Callable[[], Any]] = {"scan": lambda: hamming.nearest(scanned, held[number // 2], K)}
        for name in shares:
            rivals[name] = partial(archive.search, query, name)
        spent = rounds(rivals, times)
        for name in shares:
            found.ratio(f"hamming-filter-{name}", spent[name], spent["scan"], "the scan without a filter")
