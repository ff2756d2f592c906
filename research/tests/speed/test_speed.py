"""The benches measure, agree with their peers, and print what they promise."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medlike_research.docs import benchmarks as page
from medlike_research.speed import encode, fit, gallery, growth, hamming, ingest, memory, regions, startup, timing
from medlike_research.speed.drawn import write_files
from medlike_research.speed.population import populated

# Each runs a bench: `make check` leaves them to `make test`.
pytestmark = pytest.mark.slow


def names(found):
    return [" ".join(line.split()[:2]) for line in found.printed()]


def test_hamming_prints_its_lines():
    pytest.importorskip("faiss")
    found = hamming.bench(quick=True, images=9000, tell=lambda text: None)
    assert {"ratio hamming-1", "ratio hamming-64", "ratio hamming-filter-0.1", "ratio hamming-filter-10",
            "ratio hamming-filter-90", "seconds hamming-content", "seconds hamming-ties", "seconds hamming-16",
            "ratio hamming-1-128", "ratio hamming-1-256", "ratio hamming-1-512"} <= set(names(found))  # fmt: skip
    assert all(line.value > 0 for line in found.lines.values())
    assert found.as_dict()["machine"]["cores"] >= 1
    assert found.facts["bandwidth"]["read_gb_s"] > 0


def test_fit_prints_its_lines():
    found = fit.bench(quick=True, images=3000, tell=lambda text: None)
    assert {"seconds fit-learn", "seconds fit-recode-3000", "seconds fit-recode-10M", "seconds fit-index-3000",
            "seconds fit-index-10M"} == set(names(found))  # fmt: skip
    assert all(line.value > 0 for line in found.lines.values())


def test_regions_prints_its_lines_and_finds_the_region_it_took():
    found = regions.bench(quick=True, images=3000, tell=lambda text: None)
    assert {"seconds regions-1", "seconds regions-8", "seconds regions-24", "seconds regions-encoded",
            "ratio regions-numpy"} <= set(names(found))  # fmt: skip


@pytest.mark.parametrize("kind", gallery.KINDS)
def test_nearest_regions_equal_a_full_sort(kind, monkeypatch):
    monkeypatch.setattr(regions, "FIRST", 64)
    held = gallery.cells(kind, 700)
    masks = np.full((700, 25), 255, np.uint8)
    template = regions.Template.of(held[350, 4:7, 6:10])
    every = regions.match(held, masks, template, engine="numpy")
    expected = sorted(zip(every.distance.tolist(), every.rows.tolist(), strict=True))[:50]
    assert regions.nearest(held, masks, template) == expected
    assert expected[0] == (0.0, 350)


def test_clustered_codes_collide_and_uniform_ones_do_not():
    clustered, uniform = (gallery.codes(kind, 20_000, 64).view(np.uint64)[:, 0] for kind in ("clustered", "uniform"))
    counts = np.unique(clustered, return_counts=True)[1]
    assert counts.max() >= 2000
    assert len(np.unique(uniform)) == 20_000


def test_a_populated_archive_answers_like_any_other(tmp_path):
    codes = gallery.codes("clustered", 500, 64)
    with populated(tmp_path, codes, ["a", "b"] * 250) as archive:
        result = archive.search(archive.stored_id(8), "a", 20)
        assert len(result) == 20
        assert all(hit.metadata["label"] == "a" for hit in result)
        near = np.bitwise_count(codes[8] ^ codes[::2]).sum(axis=1)
        near[4] = 99
        assert [hit.distance for hit in result] == sorted(near.tolist())[:20]
        assert not list(archive.archive.verify())


def test_rivals_take_turns():
    order = []
    spent = timing.rounds({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 4
    assert set(spent) == {"a", "b"}


def test_figures_say_what_they_are_compared_with():
    quick, slow = timing.Times(1.0, 1.0, 2.0), timing.Times(4.0, 3.0, 4.0)
    found = timing.Figures("x", {})
    found.ratio("r", quick, slow, "peer")
    found.rate("q", quick, slow, "peer")
    found.seconds("s", 0.5)
    assert found.printed() == [
        "ratio r 0.25 lower is better", "ratio q 4 higher is better", "seconds s 0.5 lower is better",
    ]  # fmt: skip
    told = found.as_dict()
    assert told["facts"]["r"]["peer_is"] == "peer"
    assert told["lines"]["q"] == {"kind": "ratio", "value": 4.0, "better": "higher"}
    assert len(told["machine"]["load"]) == 2 and told["machine"]["read_gb_s"] > 0


def quiet(text):
    return None


def test_encode_compares_codes_and_prints_a_rate(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(encode, "BATCH", 1)
    found = encode.bench(quick=True, images=2, tell=quiet)
    assert {"ratio encode", "ratio encode-medlike-itq-64", "seconds encode-image"} <= set(names(found))
    assert found.lines["encode"].better == "higher" and found.lines["encode"].value > 1
    assert found.facts["encode"]["bundle"] == "medlike-compact-64"
    assert "ratio encode-medlike-hmar-64" in names(found)


def test_encode_refuses_codes_that_depend_on_the_batch():
    from medlike.bundle import Bundle
    from medlike.inference import Encoder

    class Shaken(Encoder):
        def encode(self, images):
            given = super().encode(images)
            return replace(given, code=given.code ^ np.uint8(len(images) > 1))

    with Shaken(Bundle.load("medlike-itq-64")) as shaken, pytest.raises(AssertionError, match="depend on batch"):
        encode._require_same_codes(shaken, np.zeros((2, 224, 224), np.uint8))


def test_ingest_measures_stages_and_acknowledgement():
    found = ingest.bench(quick=True, images=8, tell=quiet)
    assert {"ratio ingest", "ratio ingest-workers", "ratio ingest-acknowledge", "seconds ingest-decode",
            "seconds ingest-encode",
            "seconds ingest-preview", "seconds ingest-commit"} <= set(names(found))  # fmt: skip
    assert 0 < found.lines["ingest"].value <= 1.05
    shares = found.facts["ingest"]["share_of_core_seconds"]
    assert shares["encode"] > 0 and shares["decode"] > 0


def test_drawn_files_differ_and_some_are_compressed(tmp_path):
    from medlike.imaging import read

    files = write_files(tmp_path / "files", 8)
    images = [next(iter(read(path))) for path in files]
    assert len({image.digest for image in images}) == 8
    assert {image.pixels.shape for image in images} == {(512, 512)}
    assert files[7].stat().st_size < files[0].stat().st_size


def test_startup_loads_neither_runtime_nor_compiler_by_id(monkeypatch):
    monkeypatch.setattr(startup, "SMALL", 4)
    found = startup.bench(quick=True, images=1000, tell=quiet)
    assert {"seconds startup-import", "seconds startup-first", "seconds startup-second", "seconds startup-id",
            "seconds startup-open", "ratio startup-import-over-numpy"} <= set(names(found))  # fmt: skip
    assert found.facts["startup-id"]["loaded"] == []
    assert found.facts["startup-second"]["loaded"] == ["onnxruntime"]


def test_memory_counts_what_processes_hold():
    pytest.importorskip("faiss")
    found = memory.bench(quick=True, images=3000, tell=quiet)
    assert {"megabytes memory-open", "megabytes memory-search", "ratio memory-peak", "megabytes memory-low-64",
            "megabytes memory-low-16", "bytes memory-image"} <= set(names(found))  # fmt: skip
    assert 10 < found.lines["memory-open"].value < 512
    assert 5 < found.lines["memory-search-own"].value < 300
    assert found.facts["memory-low-64"]["limited_by"] in ("a control group", "a limit on data")
    assert found.facts["memory-image"]["index"] > 8 + 64 + 16


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_limit_of_memory_is_one(tmp_path):
    greedy = "import sys; held = bytearray(300_000_000); held[::4096] = b'1' * len(held[::4096]); print('{}')"
    with memory._limited(100_000_000) as (environment, _), pytest.raises(RuntimeError):
        memory._python(greedy, environment=environment)
    with memory._limited(600_000_000) as (environment, _):
        assert memory._python(greedy, environment=environment) == {}


def test_growth_goes_up_by_sizes_and_verifies(monkeypatch):
    monkeypatch.setattr(growth, "SIZES", (1000, 2000))
    found = growth.bench(quick=False, tell=quiet)
    assert {f"seconds growth-{task}-{size}" for task in growth.TASKS for size in (1000, 2000)} <= set(names(found))
    assert {f"ratio growth-{task}" for task in growth.TASKS} <= set(names(found))
    few = growth.bench(images=1500, tell=quiet)
    assert {f"seconds growth-{task}-{size}" for task in growth.TASKS for size in (1000, 1500)} <= set(names(few))


def test_a_page_of_benches_says_what_was_measured():
    times = timing.Times(1.0, 1.0, 2.0)
    found = timing.Figures("encode", {"images": 1000, "quick": True})
    found.rate("encode", times, timing.Times(4.0, 3.0, 4.0), "ResNet-50")
    found.seconds("encode-image", 0.25)
    text = page.bench_markdown({"encode": found.as_dict()}, "benchmarks")
    assert "| encode | 4 | higher | over ResNet-50; ours 1 s (CPU 2 s); peer 4 s (CPU 4 s) |" in text
    assert "| encode-image | 0.25 s | lower |  |" in text
    assert "images 1,000, quick yes." in text and "GB/s on all cores" in text


def test_the_page_of_benches_is_what_their_results_say():
    docs = Path(__file__).parents[3] / "docs" / "results"
    results = page.read_results(docs / "benchmarks")
    assert results, "docs/results/benchmarks holds no results"
    written = (docs / "benchmarks.md").read_text(encoding="utf-8")
    assert written == page.bench_markdown(results, "benchmarks"), "run: make docs"
