"""medlike list, removal of a patient, waiting for a writer, pages, and progress without a terminal."""

import csv
import io
import shutil
import time

import pydicom
import pytest

from medlike import Archive, Hit, Result, samples
from medlike.cli import answers, screen

from .conftest import medlike


@pytest.mark.slow
def test_a_list_has_pages_and_filters(indexed):
    first = medlike("list", "-a", indexed, "--limit", "10", "-f", "json").json
    second = medlike("list", "-a", indexed, "--limit", "20", "--offset", "10", "-f", "json").json
    ids = [image["id"] for image in first["images"] + second["images"]]
    assert first["total"] == second["total"] == len(ids) == len(set(ids)) == 25
    with Archive.open(indexed) as archive:
        assert ids == archive.ids()
        assert first["images"][0]["source"] == archive.source(ids[0])
    done = medlike("list", "-a", indexed, "--where", "modality=CT", "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert len(rows) == 10 and {row["modality"] for row in rows} == {"CT"} and rows[0]["source"].endswith(".dcm")
    shown = medlike("list", "-a", indexed, "-n", "2", "--where", "modality=CT", COLUMNS="250")
    assert rows[0]["id"] in shown.out and rows[2]["id"] not in shown.out and "1 to 2 of 10 images" in shown.err
    assert medlike("list", "-a", indexed, "--where", "modalty=CT").code == 2
    none = medlike("list", "-a", indexed, "--where", "modality=XX")
    assert none.code == 0 and none.out.strip() == "no images"
    behind = medlike("list", "-a", indexed, "--offset", "25")
    assert behind.code == 0 and behind.out.strip() == "no images after the first 25"
    assert "none of 25 images; others with --limit and --offset" in behind.err
    last = medlike("list", "-a", indexed, "--offset", "24")
    assert "25 to 25 of 25 images" in last.err


@pytest.fixture(scope="module")
def of_patients(tmp_path_factory):
    """An archive of two images of patient P-1 in two studies, and one of P-2; and the UIDs of the studies."""
    folder = tmp_path_factory.mktemp("patients")
    for number, patient in enumerate(("P-1", "P-1", "P-2")):
        data = pydicom.dcmread(samples() / "queries/ct-4-3.dcm")
        data.PatientID, data.StudyInstanceUID, data.SeriesInstanceUID = patient, f"1.2.{number}", f"1.2.{number}.1"
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.{number}.1.1"
        data.save_as(folder / f"{number}.dcm")
    assert medlike("index", folder, "--archive", folder / "archive").code == 0
    return folder / "archive"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "left"),
    [(("--patient", "P-1"), 1), (("--series", "1.2.2.1", "--study", "1.2.2"), 2)],
)
def test_a_patient_a_study_or_a_series_is_removed(of_patients, tmp_path, given, left):
    archive = shutil.copytree(of_patients, tmp_path / "archive")
    done = medlike("remove", *given, "-a", archive)
    assert done.code == 0 and f"{'1 image' if left == 2 else '2 images'} removed" in done.out
    with Archive.open(archive) as opened:
        assert len(opened) == left and not opened.ids_of(**{given[0][2:]: given[1]})
    # What was removed is erased with the rest of a patient.
    unasked = medlike("remove", *given, "--erase", "-a", archive)
    assert unasked.code == 1 and f"Erase {'1 image' if left == 2 else '2 images'} for good" in unasked.err
    assert medlike("remove", *given, "--erase", "--yes", "-a", archive).code == 0
    again = medlike("remove", *given, "--erase", "--yes", "-a", archive)
    assert again.code == 3 and given[1] in again.err
    with Archive.open(archive) as opened:
        assert len(opened.ids()) == left == opened._store.number("SELECT count(*) FROM images")


def test_one_is_counted_as_one():
    assert [screen.counted(count, "image") for count in (0, 1, 2)] == ["0 images", "1 image", "2 images"]


def test_a_similarity_near_zero_has_no_sign(capsys):
    answers.show(Result([Hit(1, "0" * 32, 12, -0.001), Hit(2, "1" * 32, 13, -0.5)]))
    shown = capsys.readouterr().out
    assert " 0.00 " in shown and "-0.00" not in shown and "-0.50" in shown


def test_the_table_says_how_many_patients_have_a_label(capsys):
    hits = [Hit(at, f"{at:032x}", 12, 0.5, metadata={"label": "cyst"}, patient=at) for at in range(1, 5)]
    answers.show(Result(hits))
    shown = " ".join(capsys.readouterr().out.split())
    assert "Of the 4 patients nearest with a label here, 4 have cyst (interval 51 to 100 %)" in shown


def test_ids_or_an_owner_are_needed(of_patients):
    for given in ((), ("1234", "--patient", "P-1")):
        assert medlike("remove", *given, "-a", of_patients).code == 2


@pytest.mark.slow
@pytest.mark.parametrize("command", ["index", "remove", "compact", "reindex"])
def test_a_command_waits_for_the_writer(of_patients, tmp_path, command):
    archive = shutil.copytree(of_patients, tmp_path / "archive")
    words = {"index": [samples() / "queries/ct-4-3.dcm"], "remove": ["--patient", "P-2"]}.get(command, [])
    with Archive.open(archive) as opened, opened._writer.writing():
        began = time.monotonic()
        late = medlike(command, *words, "-a", archive, "--wait", "4")
        assert late.code == 1 and "being written" in late.err and time.monotonic() - began > 4


@pytest.mark.slow
def test_a_search_draws_a_page(indexed, tmp_path):
    page, query = tmp_path / "found.html", samples() / "queries/chest-86d19bba.jpg"
    done = medlike("search", query, "-a", indexed, "--page", page, "--title", "My query", "-k", "3")
    html = page.read_text(encoding="utf-8")
    assert done.code == 0 and "My query" in html and html.count("data:image/jpeg") == 4
    refused = medlike("search", query, "-a", indexed, "--texts", "--page", page)
    assert refused.code == 2 and "--page" in refused.err


def test_progress_is_a_line_now_and_then_without_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(screen, "EVERY", 0.05)
    with screen.progress() as display:
        task = display.add_task("Indexing", total=None)
        display.update(task, completed=7)
        time.sleep(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 6 and set(lines) == {"medlike: Indexing: 7"}
    time.sleep(0.15)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_facets_count_what_list_lists(indexed):
    counted = medlike("facets", "-a", indexed, "-w", "modality=CT", "-f", "json").json
    assert counted["total"] == 10 and counted["where"] == {"modality": {"eq": "CT"}}
    facets = {facet["field"]: facet for facet in counted["facets"]}
    assert facets["modality"]["values"] == [["CT", 10]]
    shown = medlike("facets", "-a", indexed, "-n", "1", COLUMNS="200")
    assert "25 images as of generation" in shown.out
    assert ", others " in shown.out and " different" in shown.out
    none = medlike("facets", "-a", indexed, "-w", "modality=XX")
    assert none.code == 0 and none.out.strip() == "no images"
    assert medlike("facets", "-a", indexed, "-w", "modalty=CT").code == 2
    assert medlike("facets", "-a", indexed, "--generation", "999").code == 1
