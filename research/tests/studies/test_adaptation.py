"""Ways to search that `adaptation` compares, and what its tables are made of."""

from types import SimpleNamespace

import numpy as np
import pytest

from medlike_research.studies import adaptation, search_orders
from medlike_research.studies.adaptation import DEFAULT, METRICS, STRANGE, WITHIN

GALLERY = np.arange(4)


def fixed(*rows):
    return lambda queries, gallery: np.array(rows, np.float32)[np.ix_(queries, gallery)]


def test_equal_distances_are_put_in_the_second_order():
    found = search_orders.tied(fixed([2, 1, 2, 0]), fixed([0.1, 0.5, -0.9, 0.9]))(np.array([0]), GALLERY)
    assert found.tolist() == [[3, 1, 2, 0]]


def test_a_shortlist_is_in_the_second_order_and_the_rest_keeps_the_first(monkeypatch):
    monkeypatch.setattr(search_orders, "SHORTLIST_IMAGES", 2)
    found = search_orders.shortlist(fixed([0, 1, 2, 3]), fixed([0.5, -0.5, -0.9, -1.0]))(np.array([0]), GALLERY)
    assert found.tolist() == [[1, 0, 2, 3]]


def test_neighbours_of_neighbours_come_first_and_the_query_is_none_of_them():
    angles = np.radians([0, 70, 45, 20, 160, -80])
    vectors = np.rint(127 * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.int8)
    by_angle = search_orders.cosine((vectors / 127).astype(np.float32))
    queries, gallery = np.array([0]), np.arange(6)
    found = search_orders.neighbours(search_orders.shortlist(by_angle, by_angle), vectors)(queries, gallery)
    order = np.argsort(found[0], kind="stable")
    assert sorted(found[0]) == sorted(range(6)) and order[0] in (0, 3)
    # Through 20 and 45 degrees the image at 70 is nearer than the one at -80, which is alone.
    assert found[0, 1] < found[0, 5]


def test_codes_of_a_fit_are_made_of_the_gallery_alone():
    random = np.random.default_rng(0)
    content = random.integers(-127, 128, (60, 24)).astype(np.int8)
    pairs = np.random.default_rng(1).normal(size=(2, 20, 24)).astype(np.float32)
    fold = SimpleNamespace(before=pairs[0], altered=pairs[1], copied=np.repeat(["one", "two"], 10))
    held = adaptation._Held(
        fold, content, content, (12, 8, 4), np.arange(60), np.arange(60), None, None, np.arange(60) < 40, ()
    )
    fit = held.fit(16, directions=16)
    content[40:] = 1
    assert held.fit(16, directions=16).digest == fit.digest
    assert held.fit(16, images=30, directions=16).digest != fit.digest
    assert held.fit(16, directions=16, nuisance=None).digest != fit.digest


def result(fold, source, values):
    def found(value):
        return {
            "values": {metric: [value] * 4 for metric in METRICS}, "units": [0, 1, 2, 3], "sources": [source] * 4
        }  # fmt: skip

    protocols = ("everything", STRANGE, "unknown alone", f"{WITHIN} {source}")
    methods = {p: {name: found(value) for name, value in values.items()} for p in protocols}
    return {"fold": f"{fold}", "seed": 0, "left_out": [source], "protocols": methods}


def test_tables_compare_with_the_default_and_put_the_worst_source_first():
    done = {
        "a": result(0, "easy", {adaptation.TRAINED: 0.5, DEFAULT: 0.9}),
        "b": result(1, "hard", {adaptation.TRAINED: 0.4, DEFAULT: 0.2}),
    }
    ways, compared, worst = adaptation.summarise(None, done).tables
    rows = {row[0]: row[1:] for row in ways[2]}
    assert rows[DEFAULT][0] == pytest.approx(0.55) and rows[adaptation.TRAINED][0] == pytest.approx(0.45)
    assert compared[2][0][2] == pytest.approx(-0.1)
    assert [row[0] for row in worst[2]] == ["hard", "easy"] and worst[2][0][1:] == [0.4, 0.2]


def test_kinds_of_scanner_left_out_have_a_table_of_their_own():
    done = {
        "a": result("fold-0", "easy", {DEFAULT: 0.9}),
        "b": result("without-CT", "hard", {DEFAULT: 0.1}),
    }
    summary = adaptation.summarise(None, done)
    titles = [title for title, _, _ in summary.tables]
    usual, harder = (
        summary.tables[0],
        summary.tables[titles.index("Ways to search, no image of that kind of scanner ever trained on")],
    )
    assert usual[2][0][1] == pytest.approx(0.9) and harder[2][0][1] == pytest.approx(0.1)
    assert "without-CT: hard" in summary.notes[0]
