import csv
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from medlike.cli.app import build
from medlike.errors import InputError
from medlike.evaluation.arrays import evaluate_arrays, load_codes, load_labels
from medlike.evaluation.report import write_arrays_report
from medlike.metrics import Relevance, score_codes


@pytest.fixture
def arrays(tmp_path):
    rng = np.random.default_rng(0)
    labels, wanted = rng.integers(0, 4, 200), rng.integers(0, 4, 40)
    centres = rng.integers(0, 256, (4, 4), dtype=np.uint8)
    noise = np.packbits(rng.random((240, 32)) < 0.25, axis=1)
    codes = centres[np.concatenate([labels, wanted])] ^ noise
    for name, value in (("g", codes[:200]), ("q", codes[200:]), ("gl", labels), ("ql", wanted)):
        np.save(tmp_path / f"{name}.npy", value)
    return tmp_path


def command(folder, *more):
    arguments = ["evaluate", "--format", "json"]
    for option, name in (
        ("--codes", "g"),
        ("--query-codes", "q"),
        ("--labels", "gl"),
        ("--query-labels", "ql"),
    ):
        arguments += [option, str(folder / f"{name}.npy")]
    return CliRunner().invoke(build(), [*arguments, *more])


def brute_force(folder, orders=300):
    g, q, gl, ql = (np.load(folder / f"{n}.npy") for n in ("g", "q", "gl", "ql"))
    rng = np.random.default_rng(1)
    expected, best, worst = [], [], []
    for code, label in zip(q, ql, strict=True):
        distance = np.unpackbits(g ^ code, axis=1).sum(axis=1)
        hit = gl == label
        aps = []
        for tie in [rng.random(len(g)) for _ in range(orders)] + [~hit, hit]:
            ranked = hit[np.lexsort((tie, distance))]
            places = np.flatnonzero(ranked) + 1
            aps.append((np.arange(1, len(places) + 1) / places).mean())
        expected.append(np.mean(aps[:-2]))
        best.append(aps[-2])
        worst.append(aps[-1])
    return np.mean(expected), np.mean(best), np.mean(worst)


def test_the_command_prints_what_random_orders_average_to(arrays):
    result = command(arrays)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    expected, best, worst = brute_force(arrays)
    assert found["map_expected"] == pytest.approx(expected, abs=0.002)
    assert found["map_best"] == pytest.approx(best, abs=1e-9)
    assert found["map_worst"] == pytest.approx(worst, abs=1e-9)
    assert found["queries"] == 40 and found["gallery"] == 200 and found["bits"] == 32 and found["k"] == 100
    assert {"map_at_k", "map_at_k_hits", "ndcg", "precision_within_radius", "recall_gain"} <= set(found)
    low, high = found["map_interval"]
    assert low < found["map_expected"] < high
    assert found["map_interval_resampled_by"] == "query"


def test_the_cut_off_is_the_one_asked_for(arrays):
    small = json.loads(command(arrays, "--k", "5").stdout)
    assert small["k"] == 5
    assert small["map_at_k"] != json.loads(command(arrays).stdout)["map_at_k"]


def test_string_labels_mean_the_same_as_integers(arrays):
    before = json.loads(command(arrays).stdout)
    for name in ("gl", "ql"):
        labels = np.load(arrays / f"{name}.npy")
        np.save(arrays / f"{name}.npy", np.array(["liver", "lung", "brain", "knee"])[labels])
    after = json.loads(command(arrays).stdout)
    assert after["by_label"]["lung"] == before["by_label"]["1"]
    assert {k: v for k, v in after.items() if "by_label" not in k} == {
        k: v for k, v in before.items() if "by_label" not in k
    }


def test_units_widen_the_interval(arrays):
    np.save(arrays / "units.npy", np.arange(40) // 10)
    found = json.loads(command(arrays, "--query-units", str(arrays / "units.npy")).stdout)
    assert found["map_interval_resampled_by"] == "unit"


def test_over_centralised_and_constant_codes_raise_alarms(tmp_path):
    labels = np.arange(120) % 3
    codes = np.array([[0, 0], [0, 255], [255, 0]], np.uint8)[labels]
    for name, value in (("g", codes[20:]), ("q", codes[:20]), ("gl", labels[20:]), ("ql", labels[:20])):
        np.save(tmp_path / f"{name}.npy", value)
    names = [a["name"] for a in json.loads(command(tmp_path).stdout)["alarms"]]
    assert names == ["over-centralisation"]
    np.save(tmp_path / "g.npy", codes[20:] & np.array([0, 255], np.uint8))
    names = [a["name"] for a in json.loads(command(tmp_path).stdout)["alarms"]]
    assert "constant bits" in names


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("q", np.zeros((40, 4)), "packed codes are uint8"),
        ("q", np.full((40, 4), np.nan), "NaN"),
        ("q", np.zeros((40, 8), np.uint8), "one length"),
        ("q", np.zeros(40, np.uint8), "uint8"),
        ("q", np.zeros((0, 4), np.uint8), "uint8"),
        ("ql", np.zeros(39, int), "39 labels, but there are 40"),
        ("ql", np.full(40, np.nan), "NaN"),
        ("ql", np.full(40, 0.5), "fractions"),
        ("ql", np.zeros((40, 2), complex), "integers or strings"),
        ("ql", np.full(40, 99), "nothing can be measured"),
        ("ql", np.zeros((40, 3), bool), "same set of labels"),
        ("ql", np.array([{}] * 40, dtype=object), "no plain npy"),
    ],
)
def test_arrays_that_do_not_fit_end_in_one_line(arrays, name, value, message):
    np.save(arrays / f"{name}.npy", value, allow_pickle=True)
    result = command(arrays)
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_missing_files_and_options_are_named(arrays):
    result = CliRunner().invoke(build(), ["evaluate", "--codes", str(arrays / "g.npy")])
    assert result.exit_code == 1 and "--query-codes" in result.stderr
    (arrays / "g.npy").unlink()
    assert "does not exist" in command(arrays).stderr
    np.savez(arrays / "z.npz", a=np.zeros(3))
    with pytest.raises(InputError, match="archive"):
        load_codes(arrays / "z.npz")
    (arrays / "t.npy").write_text("hello")
    with pytest.raises(InputError, match="npy"):
        load_labels(arrays / "t.npy", 3)


def test_several_labels_an_image(arrays):
    rng = np.random.default_rng(3)
    np.save(arrays / "gl.npy", rng.random((200, 3)) < 0.5)
    np.save(arrays / "ql.npy", (rng.random((40, 3)) < 0.5).astype(int))
    found = evaluate_arrays(*(arrays / f"{n}.npy" for n in ("g", "q", "gl", "ql")))
    assert 0 < found.figures["map_expected"] < 1 and found.scores.queries == 40
    has = np.load(arrays / "ql.npy")[:, 1] == 1
    assert found.figures["by_label"]["1"] == pytest.approx(np.nanmean(found.scores.values["map_expected"][has]))
    page = write_arrays_report(found, arrays / "out").read_text()
    assert "By label" in page and "What the neighbours are" not in page


def test_the_report_of_arrays_has_the_files_of_bundles(arrays):
    out = arrays / "out"
    printed = command(arrays, "--out", str(out))
    assert printed.exit_code == 0, printed.output
    found, results = json.loads(printed.stdout), json.loads((out / "results.json").read_text())
    main = results["methods"]["codes"]
    for name in ("map_expected", "map_worst", "map_best", "map_at_k", "map_at_k_hits", "by_label", "by_label_interval"):
        assert main[name] == found[name]
    assert {p.name for p in out.iterdir()} == {
        "report.html", "results.json", "methods.csv", "methods.tex", "by_label.csv", "by_label.tex"
    }  # fmt: skip
    page = (out / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', page) and not re.search(r"\bnan\b|undefined", page)
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 4 and all(ElementTree.fromstring(d) is not None for d in drawings)
    assert "--codes g.npy --query-codes q.npy --labels gl.npy --query-labels ql.npy --k 100 --out DIR" in page
    assert "each image is a unit of its own" in page and "source-only oracle" not in page
    low, high = main["by_label_interval"]["2"]
    assert low < main["by_label"]["2"] < high and f"{low:.3f} to {high:.3f}" in page
    with (out / "by_label.csv").open() as stream:
        assert [float(row["codes low"]) for row in csv.DictReader(stream)][2] == low


def test_images_of_the_querys_own_unit_are_left_out_where_units_are_given(arrays):
    # Every query is in the gallery as well, under the wrong label; only units can tell.
    queries, codes = np.load(arrays / "q.npy"), np.load(arrays / "g.npy")
    np.save(arrays / "g.npy", np.concatenate([codes, queries]))
    np.save(arrays / "gl.npy", np.concatenate([np.load(arrays / "gl.npy"), (np.load(arrays / "ql.npy") + 1) % 4]))
    names = np.array([f"p{n}" for n in range(40)])
    np.save(arrays / "qu.npy", names)
    np.save(arrays / "gu.npy", np.concatenate([np.full(200, ""), names]))
    units = ("--query-units", str(arrays / "qu.npy"))
    spoiled = json.loads(command(arrays, *units).stdout)
    clean = json.loads(command(arrays, *units, "--units", str(arrays / "gu.npy"), "--out", str(arrays / "o")).stdout)
    g, gl, ql = (np.load(arrays / f"{n}.npy") for n in ("g", "gl", "ql"))
    alone = [np.delete(np.arange(240), 200 + n) for n in range(40)]
    ap = [
        score_codes(queries[n : n + 1], g[kept], Relevance.of(ql[n : n + 1], gl[kept])).mean("map_expected")
        for n, kept in enumerate(alone)
    ]
    assert clean["map_expected"] == pytest.approx(np.mean(ap)) and clean["own_unit_left_out"]
    assert spoiled["map_expected"] < clean["map_expected"] - 0.01
    assert "(--units) are left out" in (arrays / "o" / "report.html").read_text().replace("&#39;", "'")


def test_units_that_do_not_fit_are_named(arrays):
    np.save(arrays / "u.npy", np.arange(200))
    assert "--query-units" in command(arrays, "--units", str(arrays / "u.npy")).stderr
    np.save(arrays / "s.npy", np.array(["a"] * 40))
    answer = command(arrays, "--query-units", str(arrays / "s.npy"), "--units", str(arrays / "u.npy"))
    assert answer.exit_code == 1 and "name units alike" in " ".join(answer.stderr.split())
    np.save(arrays / "s.npy", np.zeros((40, 2), int))
    assert "one unit an image" in " ".join(command(arrays, "--query-units", str(arrays / "s.npy")).stderr.split())
    np.save(arrays / "s.npy", np.zeros(39, int))
    assert "39 units" in command(arrays, "--query-units", str(arrays / "s.npy")).stderr
    alone = CliRunner().invoke(build(), ["evaluate", "--bundle", "b", "--units", str(arrays / "u.npy")])
    assert alone.exit_code == 1 and "--codes" in alone.stderr


def test_unknown_units_are_units_of_their_own(arrays):
    np.save(arrays / "units.npy", np.full(40, -1))
    assert json.loads(command(arrays, "--query-units", str(arrays / "units.npy")).stdout)["units"] == 40


def test_more_labels_than_a_map_can_hold_are_said(arrays):
    np.save(arrays / "gl.npy", np.arange(200) % 80)
    np.save(arrays / "ql.npy", np.arange(40))
    found = evaluate_arrays(*(arrays / f"{n}.npy" for n in ("g", "q", "gl", "ql")))
    page = write_arrays_report(found, arrays / "out").read_text()
    assert "too many labels for a map" in page and "What the neighbours are" not in page


def test_a_missing_extra_is_told_before_anything_is_measured(arrays, tmp_path, monkeypatch):
    monkeypatch.setattr("medlike.cli.exits.find_spec", lambda name: None)
    result = command(arrays, "--out", str(tmp_path / "report"))
    assert result.exit_code == 1 and "medlike[report]" in result.stderr
    assert not (tmp_path / "report").exists()
    assert command(arrays).exit_code == 0  # without a report nothing is drawn
