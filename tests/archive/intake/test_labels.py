"""Fits with labels: when they help, when they are refused, and what becomes of them at refits, erasures and kills."""

import json
import os
import signal
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from typer.testing import CliRunner

from medlike import Archive, Query
from medlike.archive.intake import fitting, labels
from medlike.archive.storage import fits
from medlike.cli.app import build
from medlike.errors import QueryError, UnknownField

KINDS = ("mass", "nodule", "cyst")


def contents(kinds, sources, width, signal, seed=0):
    """Content vectors whose largest scatter, in four directions, has nothing to do with kind or source."""
    random = np.random.default_rng(seed)
    basis = np.linalg.qr(np.random.default_rng(7).normal(size=(width, width)))[0]
    rows = signal * basis[kinds] + random.normal(size=(len(kinds), 4)) @ basis[8:12]
    rows += 0.2 * basis[4 + sources] + 0.03 * random.normal(size=(len(kinds), width))
    return list(np.clip(np.rint(40 * rows), -127, 127).astype(np.int8))


def filled(population, number=240, signal=0.3, seed=0, by_source=False, first=0, **columns):
    """Images of two from each patient, of three kinds from three sources; `by_source`: each kind has its source."""
    random = np.random.default_rng(seed)
    patient = np.arange(number) // 2
    kinds, sources = random.integers(3, size=number // 2)[patient], random.integers(3, size=number // 2)[patient]
    if by_source:
        sources = kinds
    rows = contents(kinds, sources, population.bundle.content_dim, signal, seed)
    values = {
        "label": [KINDS[kind] for kind in kinds],
        "source": [f"hospital {source}" for source in sources],
        "patient": [f"{first + each:032x}" for each in patient],
    }
    return population.add(number, contents=rows, **(values | columns))


@pytest.fixture(autouse=True)
def few_queries(monkeypatch):
    monkeypatch.setattr(labels, "MOST_QUERIES", 60)


@pytest.fixture
def helped(population):
    """An archive that labels help."""
    filled(population)
    return population.archive


@pytest.mark.slow
def test_labels_that_help_are_used_and_the_figures_are_kept(helped, population):
    plain = helped.fit(bits=16)
    assert plain.labels is None and helped.info()["fit"]["labels"] is None
    report = helped.fit(labels="label")
    trial = report.labels
    assert trial.used and not trial.reason and report.digest != plain.digest and report.recoded == 240
    assert (trial.field, trial.labels, trial.patients, trial.queries) == ("label", 3, 120, 60)
    assert 0 < trial.map_without < trial.map_with < 1 and trial.gain[0] > trial.gain[1] > 0
    assert 0 < trial.precision_without < trial.precision_with < 1 and trial.left_out == ()
    stored = fits.get(population.store, report.digest)
    assert stored.facts["labels"] == json.loads(json.dumps(trial.facts())) == helped.info()["fit"]["labels"]
    assert not any(kind in json.dumps(stored.facts) for kind in KINDS)  # counts and figures, no names
    assert type(stored.fit) is type(fits.get(population.store, plain.digest).fit)
    assert [str(problem) for problem in helped.verify() if problem.part != "private"] == []
    result = helped.search(Query(id=helped.ids()[0]))
    assert result.receipt["fit"] == report.digest
    with_labels = share(helped, population)
    helped.fit(labels="none")
    assert helped.info()["fit"]["digest"] == plain.digest and with_labels > share(helped, population) + 0.05
    assert helped.repeat(result.receipt).receipt["answer"] == result.receipt["answer"]


def share(archive, population):
    """Return how many of the first ten hits have the label of the query."""
    alike = []
    for id in archive.ids()[:30]:
        label = population.rows[id]["metadata"]["label"]
        alike += [hit.metadata["label"] == label for hit in archive.search(Query(id=id), k=10)]
    return np.mean(alike)


def test_labels_that_do_not_help_leave_the_fit_as_it_is(population):
    filled(population, signal=0.0)  # nothing shows the kind
    archive = population.archive
    plain = archive.fit(bits=16)
    report = archive.fit(labels="label")
    trial = report.labels
    assert not trial.used and "not found better" in trial.reason and report.digest == plain.digest
    assert report.recoded == 0 and trial.map_with is not None and trial.map_without is not None
    assert trial.gain[0] < labels.LEAST_GAIN and archive.info()["fit"]["labels"]["used"] is False
    assert archive.fit().labels.field == "label"  # a later fit tries again
    assert archive.fit(labels="none").labels is None and archive.fit().labels is None


def test_labels_that_give_away_the_source_are_refused_by_name(population):
    filled(population, by_source=True)
    archive = population.archive
    with pytest.raises(QueryError, match=r"label gives away the source.*cyst, mass, nodule"):
        archive.fit(labels="label")
    assert archive._folder.fit is None and fits.kept(population.store) == []


@pytest.mark.parametrize("named", [False, True])
def test_scanners_stand_for_sources_where_none_are_named(population, named):
    scanner = {"manufacturer": ["A", "B"] * 120, "model": "M"} if named else {}
    filled(population, source=None, **scanner)
    if named:
        assert population.archive.fit(bits=16, labels="label").labels.labels == 3
    else:
        with pytest.raises(QueryError, match="gives away the source"):
            population.archive.fit(labels="label")


def test_a_label_of_one_source_is_left_out_and_named(population):
    filled(population)
    filled(population, 60, seed=3, first=500, label="fracture", source="hospital 0")
    filled(population, 10, seed=4, first=900, label="rare")
    trial = population.archive.fit(bits=16, labels="label").labels
    assert trial.labels == 3 and trial.left_out == ("fracture",)


def test_labels_of_too_few_patients_and_wrong_fields_are_refused(population):
    archive = population.archive
    filled(population, 60, label=["mass"] * 40 + ["cyst"] * 20, extra={"grade": 3, "finding": "seen"})
    with pytest.raises(QueryError, match="fewer than two labels of label have 20 patients"):
        archive.fit(labels="label")
    for field in ("patient", "source", "study", "model"):
        with pytest.raises(QueryError, match=f"^{field} says who or where"):
            archive.fit(labels=field)
    with pytest.raises(UnknownField, match=r"text in the field labl\. Fields of the images: finding.*label"):
        archive.fit(labels="labl")
    with pytest.raises(UnknownField, match="text in the field grade"):
        archive.fit(labels="grade")
    with pytest.raises(QueryError, match="fewer than two labels of finding"):
        archive.fit(labels="finding")
    assert archive._folder.fit is None


def test_a_field_without_a_column_has_labels_too(population):
    filled(population, label=None, extra=None, body_part="x")
    other = population
    store = other.store.connection
    for row, kind in zip(sorted(each["row"] for each in other.rows.values()), kinds_again(), strict=True):
        text = json.dumps({'my "kind"': kind})
        store.execute("UPDATE images SET metadata = ?, digest = NULL WHERE row = ?", (text, row))
    assert other.archive.fit(bits=16, labels='my "kind"').labels.used


def kinds_again(number=240, seed=0):
    """The kinds that `filled` draws."""
    return [KINDS[kind] for kind in np.random.default_rng(seed).integers(3, size=number // 2)[np.arange(number) // 2]]


@pytest.mark.slow
def test_later_fits_keep_the_field_as_long_as_it_can_be_used(helped, population, monkeypatch):
    helped.fit(bits=16, labels="label")
    filled(population, seed=5, first=1000)
    again = helped.fit()
    assert again.labels.used and again.labels.patients == 240 and again.bits == 16
    # An erasure that leaves too few of a kind fits without labels, says so, and remembers the field.
    doomed = [id for id, row in population.rows.items() if row["metadata"]["label"] != "mass"]
    report = helped.remove(doomed, erase=True).fit
    assert report.reason == "erasure" and report.digest and not report.labels.used
    assert "fewer than two labels" in report.labels.reason and "aggregate" in report.note
    assert fits.kept(population.store) == [report.digest] and helped.info()["fit"]["labels"]["field"] == "label"
    filled(population, seed=6, first=2000)
    assert helped.fit().labels.used


@pytest.mark.slow
def test_an_erasure_that_leaves_enough_fits_with_the_labels_again(helped, population):
    first = helped.fit(bits=16, labels="label")
    report = helped.remove(list(population.rows)[:20], erase=True).fit
    assert report.labels.used and report.labels.patients == 110 and report.digest != first.digest
    assert fits.kept(population.store) == [report.digest]


@pytest.mark.slow
@pytest.mark.parametrize("step", ["trial", "put", "use"])
def test_a_fit_with_labels_that_is_killed_leaves_the_archive_as_it_was(helped, step):
    helped.fit(bits=16)
    former = helped._folder.fit
    child = os.fork()
    if not child:
        owner, name = {
            "trial": (labels, "by_neighbours"),
            "put": (fitting.fits, "put"),
            "use": (fitting.Bundles, "use"),
        }[step]
        done = getattr(owner, name)

        def dies(*arguments):
            if step == "put":
                done(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(owner, name, dies)
        try:
            Archive.open(helped.path).fit(labels="label")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with Archive.open(helped.path) as other:
        assert other._folder.fit == former and other.info()["fit"]["labels"] is None
        assert other.fit(labels="label").labels.used


def test_patients_are_never_on_both_sides_of_the_trial(helped, population, monkeypatch):
    sides = []
    sample = fitting.drawn(population.store, population.bundle.digest)
    used = labels.usable(labels.read(population.store, "label", sample.rows), sample.owners)

    def learns(mask, labelled):
        sides.append(mask)
        return fitting.learned(sample.content[mask], sample.weights[mask], (sample.content.shape[1],), 16, (1.0,))

    trial = labels.trial("label", used, sample.content, sample.owners, learns)
    assert len(sides) == 2 * labels.FOLDS and not trial.used and trial.gain == (0.0, 0.0, 0.0)
    for mask in sides:
        assert not set(sample.owners[mask]) & set(sample.owners[~mask])
    assert sum(int((~mask).sum()) for mask in sides[::2]) == 240  # each held out once


@pytest.mark.parametrize(
    ("gains", "reason"),
    [
        (((0.1, 0.05, 0.15), (-0.01, -0.02, 0.01)), ""),
        (((0.1, 0.05, 0.15), (-0.01, -0.02, -0.01)), "the first ten images found hold fewer"),
        (((0.1, -0.05, 0.25), (0.0, 0.0, 0.0)), "not found better"),
        (((0.009, 0.005, 0.015), (0.0, 0.0, 0.0)), "not found better"),
    ],
)
def test_labels_must_help_surely_and_leave_the_first_ten_as_good(population, monkeypatch, gains, reason):
    filled(population, 180)
    monkeypatch.setattr(labels, "MOST_QUERIES", 6)
    rest = iter(gains)
    monkeypatch.setattr(labels, "_by_patient", lambda values, owners: next(rest))
    trial = population.archive.fit(bits=16, labels="label").labels
    assert trial.used == (not reason) and reason in trial.reason and trial.gain == gains[0]


@pytest.mark.slow
def test_the_command_says_what_labels_did(helped, population, tmp_path):
    folder = str(helped.path)

    def run(*arguments):
        return CliRunner().invoke(build(), list(arguments), env={"COLUMNS": "300"})

    done = run("fit", "-a", folder, "--bits", "16", "--labels", "label")
    assert done.exit_code == 0, done.output
    assert "fitted with labels (3 values of label, 120 patients; patients held out: mAP 0." in done.output
    assert "and 3 values of label" in run("info", "-a", folder).output
    report = json.loads(run("fit", "-a", folder, "-f", "json").stdout)
    assert report["labels"]["used"] and report["labels"]["map_with"] > report["labels"]["map_without"]
    wrong = run("fit", "-a", folder, "--labels", "labl")
    assert wrong.exit_code == 2 and "no image has text in the field labl. Fields of the images: " in wrong.output
    refused = run("fit", "-a", folder, "--labels", "source")
    assert refused.exit_code == 1 and "not what it shows" in refused.output
    with closing(sqlite3.connect(helped._folder.store, isolation_level=None)) as other:
        other.execute("UPDATE images SET label = 'mass', digest = NULL")
    plain = run("fit", "-a", folder)
    assert "without labels: fewer than two labels of label" in plain.output
    assert "values of label" not in run("info", "-a", folder).output
