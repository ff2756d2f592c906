"""The machinery of studies: estimates, subsets, resuming after a kill, reports."""

import csv
import json
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from medlike.datasets import read_manifest
from medlike.datasets.splits import make_split
from medlike.errors import QueryError
from medlike.evaluation.report import plain
from medlike.evaluation.representation import Representation
from medlike.metrics import bootstrap_interval
from medlike_research.studies import NAMES, find_study
from medlike_research.studies.bench import Bench, BenchSettings
from medlike_research.studies.measured import measure
from medlike_research.studies.runner import run_study
from medlike_research.studies.study import Cell, Study, Summary


@pytest.fixture(scope="module")
def bench(collection, tiny_bundle, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    data = read_manifest(collection, name="small")
    data = data.where(lambda s: True)

    # Headline labels need 40 images: both sources share theirs, so 50 each.
    hashes = np.random.default_rng(0).integers(0, 2**63, len(data), dtype=np.uint64)
    split = make_split(data, hashes)
    settings = BenchSettings(bundle=str(tiny_bundle.path), bits=(16,), seeds=(0,), folds=0)
    return replace(Bench(data, data, split, work), settings=settings)


def toy(log, fail=()):
    def cell(name):
        def run():
            if name in fail:
                raise KeyboardInterrupt
            log.append(name)
            return {"value": len(name), "nothing": float("nan")}

        return Cell(name, run, 3600.0)

    def summarise(bench, done):
        return Summary([("Values", ("cell", "value"), [[n, r["value"]] for n, r in done.items()])])

    return Study("toy", "What is it?", lambda bench: [cell(n) for n in ("a-1", "a-2", "b-1")], summarise)


def test_hours_come_first_and_finished_cells_are_not_run_again(bench, tmp_path):
    log, said = [], []
    with pytest.raises(KeyboardInterrupt):
        run_study(toy(log, fail=("b-1",)), bench, tmp_path, say=said.append)
    assert said[0] == "toy: 3 of 3 cells to run, about 3.0 hours on two cores"
    assert log == ["a-1", "a-2"]
    said.clear()
    run_study(toy(log), bench, tmp_path, say=said.append)
    assert log == ["a-1", "a-2", "b-1"]
    # Two cells were timed by now: the third is expected to take as long as they did.
    assert said[0] == "toy: 1 of 3 cells to run, about 0.0 hours on two cores"


def test_a_subset_is_run_and_reported(bench, tmp_path):
    log = []
    run_study(toy(log), bench, tmp_path, only=["a-*"], say=lambda t: None)
    assert log == ["a-1", "a-2"]
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["cells_done"] == 2 and results["cells"] == 3
    assert results["configuration"]["split"]["digest"] == bench.split.digest
    assert results["tables"][0]["rows"] == [["a-1", 3], ["a-2", 3]]
    assert json.loads((tmp_path / "cells" / "a-1.json").read_text())["result"]["nothing"] is None
    assert "Not all cells have been run" in (tmp_path / "report.html").read_text()
    with (tmp_path / "table-1.csv").open() as stream:
        assert list(csv.reader(stream))[1] == ["a-1", "3"]
    with pytest.raises(QueryError, match="matches"):
        run_study(toy(log), bench, tmp_path, only=["z*"], say=lambda t: None)


def test_a_dry_run_runs_nothing(bench, tmp_path):
    log, said = [], []
    assert run_study(toy(log), bench, tmp_path, dry=True, say=said.append) is None
    assert log == [] and any("a-1: 3600 s" in line for line in said)
    assert not list(tmp_path.iterdir())  # the folder is still free for other settings


def test_results_of_other_settings_are_not_mixed_in(bench, tmp_path):

    run_study(toy([]), bench, tmp_path, say=lambda t: None)
    other = replace(bench, settings=replace(bench.settings, epochs=1))
    with pytest.raises(QueryError, match="other settings"):
        run_study(toy([]), other, tmp_path, say=lambda t: None)
    # The device does not matter to what is measured, and other seeds and lengths are cells of other names.
    for change in ({"device": "cuda"}, {"seeds": (0, 1)}, {"bits": (8,)}):
        log = []
        run_study(toy(log), replace(bench, settings=replace(bench.settings, **change)), tmp_path, say=lambda t: None)
        assert log == []


def test_results_on_other_collections_are_not_mixed_in(bench, tmp_path):

    more = replace(bench, wide=bench.wide.where(lambda s: s.source != bench.wide[0].source))
    assert len(more.wide) < len(bench.wide) and more.digest != bench.digest


def test_results_of_another_bundle_of_the_same_name_are_not_mixed_in(bench, tiny_regional_bundle, tmp_path):

    from medlike.bundle import Bundle

    plain = toy([])
    cells = [replace(c, of_bundle=c.name != "b-1") for c in plain.cells(bench)]
    study = replace(plain, cells=lambda bench: cells, of_bundle=True)
    run_study(study, bench, tmp_path, say=lambda t: None)
    other = replace(bench)
    other.__dict__["bundle"] = Bundle.load(tiny_regional_bundle.path)
    assert other.bundle.digest != bench.bundle.digest
    other.__dict__["digest"] = bench.digest  # as where no bundle is named and the default one changes
    with pytest.raises(QueryError, match="was measured with a bundle"):
        run_study(study, other, tmp_path, say=lambda t: None)
    for name in ("a-1", "a-2"):
        (tmp_path / "cells" / f"{name}.json").unlink()
    run_study(study, other, tmp_path, say=lambda t: None)


def test_a_report_names_only_what_has_a_part_in_it(bench, tmp_path):

    stemmed = replace(bench, settings=replace(bench.settings, stem=__file__, epochs=1))
    run_study(replace(toy([]), trains=False), stemmed, tmp_path / "a", say=lambda t: None)
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    page = (tmp_path / "a" / "report.html").read_text()
    assert "medlike study toy --out DIR --bundle" in page
    assert not any(word in page for word in ("--stem", "--epochs", "--seeds", "Intervals are", "paired permutation"))
    assert results["configuration"]["stem_sha256"] is None
    run_study(toy([]), stemmed, tmp_path / "b", say=lambda t: None)
    assert "--stem test_studies.py" in (tmp_path / "b" / "report.html").read_text()


def test_a_killed_study_goes_on_where_it_was(collection, tmp_path):
    script = f"""
import sys
from pathlib import Path
from medlike.datasets import read_manifest
from medlike.datasets.splits import make_split
from medlike_research.studies.bench import Bench
from medlike_research.studies.runner import run_study
from medlike_research.studies.study import Cell, Study, Summary
import numpy as np
data = read_manifest({str(collection)!r})
split = make_split(data, np.arange(len(data), dtype=np.uint64) << np.uint64(20))
bench = Bench(data, data, split, Path({str(tmp_path)!r}))
def cell(n):
    def run():
        print("ran", n, flush=True)
        sys.stdin.readline()  # go on
        return {{"value": n}}
    return Cell(str(n), run, 1.0)
study = Study("slow", "?", lambda b: [cell(n) for n in range(6)], lambda b, d: Summary([("t", ("n",), [[len(d)]])]))
run_study(study, bench, Path({str(tmp_path / "out")!r}), say=lambda t: None)
"""
    begun = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    for line in begun.stdout:
        if line.startswith("ran 2"):
            begun.send_signal(signal.SIGKILL)
            break
        begun.stdin.write("\n")
    begun.wait()
    kept = sorted(p.name for p in (tmp_path / "out" / "cells").glob("*.json"))
    assert kept == ["0.json", "1.json"]
    again = subprocess.run(
        [sys.executable, "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    assert [line.split()[1] for line in again.stdout.splitlines()] == ["2", "3", "4", "5"]
    assert json.loads((tmp_path / "out" / "results.json").read_text())["cells_done"] == 6


@pytest.mark.parametrize("name", NAMES)
def test_every_study_has_a_question_and_cells_with_names_fit_for_files(bench, name):
    found = find_study(name)
    assert found.name == name and found.question.endswith((".", "?"))
    cells = found.cells(replace(bench, settings=replace(bench.settings, folds=2)) if name == "adaptation" else bench)
    names = [c.name for c in cells]
    assert cells and len(set(names)) == len(names)
    assert all(c.seconds > 0 and not set(c.name) & set("/\\ ()") for c in cells)


def test_an_unknown_study_lists_the_known_ones():
    with pytest.raises(QueryError, match="robustness"):
        find_study("speeed")


@pytest.mark.parametrize("name", ["bits", "ood", "known-item", "robustness", "perception", "cross-domain"])
def test_studies_of_a_bundle_run_on_a_small_collection(bench, name, tmp_path, monkeypatch):
    from medlike_research.studies import bits, perception, robustness

    monkeypatch.setattr(bits, "ARCHIVE", 2000)
    monkeypatch.setattr(bits, "LENGTHS", (8, 16))
    monkeypatch.setattr(robustness, "SAMPLES", 12)
    monkeypatch.setattr(perception, "QUERIES", 4)
    monkeypatch.setattr(perception, "CANDIDATES", 12)
    only = {
        "robustness": ["change-jpeg*", "change-inversion"],
        "known-item": ["half-size", "mirrored"],
        "bits": ["float-*", "*-8", "*-16"],
        "ood": ["thresholds", "known", "kinds-*", "shifts*"],
    }.get(name, ["*"])
    summary = run_study(find_study(name), bench, tmp_path, only=only, say=lambda t: None)
    assert summary.tables and all(rows for _, _, rows in summary.tables)
    compared = [head for title, head, _ in summary.tables if title.startswith("Compared with")]
    assert all("p (Holm)" in head for head in compared) and (len(compared) == 2) == (name == "cross-domain")
    page = (tmp_path / "report.html").read_text()
    assert find_study(name).question[:20] in page and "nan" not in page.replace("discriminant", "")
    json.loads((tmp_path / "results.json").read_text(), parse_constant=lambda c: pytest.fail(c))


@pytest.mark.slow
def test_attacks_turn_codes_and_local_codes_of_the_shipped_bundle(bench, tmp_path, monkeypatch):
    from medlike_research.studies import robustness

    monkeypatch.setattr(robustness, "SAMPLES", 4)
    found = replace(bench, settings=replace(bench.settings, bundle="medlike-hmar-64"))
    summary = run_study(find_study("robustness"), found, tmp_path, only=["fgsm-*-2"], say=lambda t: None)
    title, head, rows = summary.tables[0]
    assert title.startswith("Attacks") and head[-2:] == ("local bits flipped", "95 %")
    flipped, local = ({row[0].removeprefix("FGSM against "): row[i] for row in rows} for i in (2, 7))
    assert set(local) == {"code", "code and detector", "cells"} == set(flipped)
    assert local["cells"] > max(local["code"], local["code and detector"])
    assert [t[0].split(",")[0] for t in summary.tables[1:]] == ["Of the first ten hits kept", "Bits flipped", "Flagged"]


def test_known_images_flagged_by_mistake_are_shown_worst_first_over_all_collections(bench, tmp_path):

    # The second hospital belongs to another collection only; a bundle says what it was trained on.
    north = bench.data.where(lambda s: s.source != "south")
    found = replace(bench, data=north)
    found.bundle.spec.setdefault("training", {})["sources"] = {"north": {"images": 7}}
    summary = run_study(find_study("ood"), found, tmp_path, only=["known"], say=lambda t: None)
    by_modality, by_source = summary.tables
    assert by_modality[0].endswith("by modality") and [row[0] for row in by_modality[2]] == ["CT"]
    rows = {row[0]: row for row in by_source[2]}
    assert {name: row[1:3] for name, row in rows.items()} == {"north": ["CT", 7], "south": ["CT", 0]}
    rates = [row[by_source[1].index("flagged at p 0.03")] for row in by_source[2]]
    assert rates == sorted(rates, reverse=True)
    queries = found.split.part(found.wide, "query").where(lambda s: s.source == "north")
    flagged = found.encode(queries).p <= 0.03
    expected = bootstrap_interval(flagged.astype(float), found.split.units(queries))
    assert rows["north"][3:] == [
        len(queries), expected.units, flagged.mean(), f"{expected.low:.3f} to {expected.high:.3f}"
    ]  # fmt: skip
    page = (tmp_path / "report.html").read_text()
    assert page.index("radiological query images of all collections") < page.index("<svg") < page.index("<table>")


def test_the_sentence_names_what_is_flagged_too_often():
    from medlike_research.studies.detection import _mistaken

    part = {"false_alarms_by_modality": {"MG": 0.84, "CT": 0.02}, "false_alarms_by_source": {"mias": 0.84, "one": 1.0}}
    known = {
        **part,
        "false_alarms_by_modality_interval": {"MG": [0.7, 0.95], "CT": [0.0, 0.05]},
        "false_alarms_by_source_interval": {"mias": [0.7, 0.95], "one": [None, None]},
        **{f"{key}_{what}": dict.fromkeys(found, 9) for key, found in part.items() for what in ("queries", "units")},
        "threshold": 0.03, "all": {"images": 40, "mean": 0.3, "low": 0.2, "high": 0.4},
        "modalities_of": {"mias": ["MG"], "one": ["CT"]},
        "trained": {"one": 3},
    }  # fmt: skip
    tables, drawn, said = _mistaken(known)
    assert said.startswith("Of 40 radiological query images of all collections 30.0% are flagged (20.0% to 40.0%).")
    assert "modality MG 84% (70% to 95% of 9 images); source mias 84%" in said and "CT" not in said
    assert "source one" not in said and "0 training images" in said
    assert [row[0] for row in tables[1][2]] == ["one", "mias"] and tables[1][2][0][-1] == ""
    assert len(drawn) == 2 and all("promised: 3%" in svg for _, svg in drawn)


def made_up(bench, seed, **facts):
    """A finished cell with random codes of 64 bits, or features where `stored` says so."""
    rng = np.random.default_rng(seed)
    size = len(bench.arena.queries), len(bench.arena.gallery)
    if "stored" in facts:
        pair = [Representation(features=rng.normal(size=(n, 4)).astype(np.float32)) for n in size]
    else:
        pair = [Representation(codes=rng.integers(0, 256, (n, 8), dtype=np.uint8)) for n in size]
    return plain(measure(bench, *pair, seed=seed, **facts))


@pytest.mark.parametrize(
    ("study", "names"),
    [
        ("ablation", ("SCH corrected, KAN, DaRF", "linear head")),
        ("pretraining", ("ImageNet", "random")),
        ("methods", ("ours (SCH corrected, full recipe)", "csq")),
    ],
)
def test_studies_that_train_draw_every_setting_with_its_interval(bench, study, names):
    facts = {"length": 64, "histogram": [[1.0] * 20, [0.0] * 19 + [5.0]]}
    done = {f"{n}-{seed}": made_up(bench, 10 * k + seed, method=n, **facts)
            for k, n in enumerate(names) for seed in (0, 1)}  # fmt: skip
    if study == "methods":
        done = {name: {"parts": [result]} for name, result in done.items()}
    summary = find_study(study).summarise(bench, done)
    title, drawn = summary.plots[0]
    assert title.startswith("mAP") and all(n in drawn for n in names) and "knowing the source only" in drawn
    heads = [head for _, head, _ in summary.tables]
    assert "95 %" in heads[0] and "p (Holm)" in heads[1]
    (by_source,) = [(head, rows) for title, head, rows in summary.tables if title.startswith("mAP within each source")]
    assert set(by_source[0][1:]) <= set(bench.data.column("source")) and [row[0] for row in by_source[1]] == list(names)
    if study == "ablation":
        (rows,) = [rows for title, _, rows in summary.tables if "share of pairs" in title]
        assert rows[0][1:] == [0.3, 0.0]
        assert any("H is how alike" in note for note in summary.notes)


def test_bits_stand_by_family_and_length_and_seeds_share_one_interval(bench):
    cells = {
        "float": made_up(bench, 1, method="features as int8", family="floats", stored="int8", search_ms=1.0),
        **{f"t-{n}": made_up(bench, n, method="trained, 64 bits", family="trained", search_ms=2.0) for n in (2, 3)},
        "itq": made_up(bench, 4, method="ITQ, 64 bits", family="ITQ", search_ms=3.0),
        "short": {**made_up(bench, 5, method="ITQ, 8 bits", family="ITQ", search_ms=3.0), "bytes_per_image": 1},
    }
    (_, head, rows), (_, _, speed) = find_study("bits").summarise(bench, cells).tables
    assert [r[0] for r in rows[:-1]] == ["features as int8", "trained, 64 bits", "ITQ, 8 bits", "ITQ, 64 bits"]
    assert [r[0] for r in speed] == [r[0] for r in rows[:-1]]
    assert rows[0][head.index("bits")] == "int8" and rows[1][head.index("seeds")] == 2
