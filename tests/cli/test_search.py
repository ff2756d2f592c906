"""medlike search: formats, filters, refusals."""

import csv
import io
import subprocess
import sys

import pytest
from PIL import Image

from medlike import samples

from .conftest import MEDLIKE, medlike, processor_seconds

CHEST = samples() / "queries" / "chest-86d19bba.jpg"
SLICE = samples() / "queries" / "ct-4-3.dcm"
HIT = {"rank", "id", "distance", "similarity", "box", "metadata", "source"}
VERDICT = {"is_outlier", "p_value", "score", "threshold", "components", "modality"}


def test_json_has_every_key_and_nothing_else_on_stdout(indexed):
    done = medlike("search", CHEST, "--archive", indexed, "-k", "5", "--format", "json")
    assert done.code == 0, done.err
    answer = done.json
    assert set(answer) == {"familiarity", "hits", "outlier", "receipt", "seconds"}
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3, 4, 5]
    assert all(set(hit) == HIT for hit in answer["hits"])
    assert set(answer["outlier"]) == VERDICT and set(answer["outlier"]["components"]) >= {"contrast"}
    assert {"generation", "bundle", "settings", "query"} <= set(answer["receipt"])
    assert answer["receipt"]["settings"]["rank"] == "neighbours"
    by_content = medlike("search", CHEST, "-a", indexed, "--rank", "content", "--format", "json").json
    distances = [hit["distance"] for hit in by_content["hits"]]
    assert distances == sorted(distances)
    stored = medlike("search", "--id", answer["hits"][0]["id"], "-a", indexed, "--format", "json").json
    assert set(stored) == set(answer) and set(stored["outlier"]) == VERDICT and stored["outlier"]["components"]


def test_a_search_starts_quickly_and_loads_only_what_it_needs(indexed):
    code = (
        "import sys; from medlike.cli import main; sys.argv[0] = 'medlike'\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'numba', 'scipy', 'matplotlib', 'pydicom') if m in sys.modules])"
    )
    words = [sys.executable, "-c", code, "search", CHEST, "--archive", indexed, "--format", "csv"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "chest-" in done.stdout and done.stdout.splitlines()[-1] == "[]"

    def used():
        began = processor_seconds()
        assert medlike("search", CHEST, "--archive", indexed).code == 0
        return processor_seconds() - began

    assert min(used() for _ in range(3)) < 2.5


def test_a_field_that_no_image_has_is_said(indexed):
    done = medlike("search", CHEST, "--archive", indexed, "--where", "modalty=XR")
    assert done.code == 2 and not done.out
    assert "modalty" in done.err and "modality" in done.err


def test_neighbours_are_of_the_querys_kind(indexed):
    for query, kind in ((CHEST, "chest-"), (SLICE, "ct-")):
        hits = medlike("search", query, "--archive", indexed, "-k", "3", "-f", "json").json["hits"]
        names = [hit["source"]["path"].rsplit("/", 1)[-1] for hit in hits]
        assert all(name.startswith(kind) for name in names), names


def test_a_stored_image_finds_itself(indexed, sources):
    first = medlike("search", sources / "ct-1-3.dcm", "-a", indexed, "-k", "1", "-f", "json").json["hits"][0]
    assert first["distance"] == 0 and first["similarity"] == pytest.approx(1, abs=1e-3)
    by_id = medlike("search", "--id", first["id"], "-a", indexed, "-k", "4", "-f", "json")
    assert by_id.code == 0, by_id.err


def test_an_id_may_be_in_capitals_and_cut_short(indexed):
    id = medlike("search", SLICE, "-a", indexed, "-k", "1", "-f", "json").json["hits"][0]["id"]
    for given in (id.upper(), id[:12].upper(), id[:9]):
        asked = medlike("search", "--id", given, "-a", indexed, "-f", "json")
        assert asked.code == 0 and asked.json["receipt"]["query"]["id"] == id, asked.err


def test_filters(indexed):
    hits = medlike("search", CHEST, "-a", indexed, "-w", "modality=CT", "-w", "age>=40", "-f", "json").json["hits"]
    assert hits
    assert all(hit["metadata"]["modality"] == "CT" and hit["metadata"]["age"] >= 40 for hit in hits)
    some = medlike("search", SLICE, "-a", indexed, "-w", "sex=F", "-f", "json").json["hits"]
    assert some and {hit["metadata"]["sex"] for hit in some} == {"F"}


def test_group_by_series_shows_each_once(indexed):
    hits = medlike("search", SLICE, "-a", indexed, "-w", "modality=CT", "--group-by", "series", "-f", "json").json[
        "hits"
    ]
    assert len(hits) == 2


@pytest.mark.slow
def test_collapsed_hits_say_how_many_they_stand_for(indexed):
    for collapse in ("patient", "duplicates"):
        answer = medlike("search", SLICE, "-a", indexed, "-k", "25", "--collapse", collapse, "-f", "json").json
        assert sum(hit["group_size"] for hit in answer["hits"]) == 25
    both = medlike("search", SLICE, "-a", indexed, "--collapse", "patient", "--group-by", "study")
    assert both.code != 0 and "leave one of them out" in both.err


def test_radius_limits_the_distance(indexed):
    near = medlike("search", SLICE, "-a", indexed, "--radius", "6", "--rank", "radius", "-f", "json").json["hits"]
    assert all(hit["distance"] <= 6 for hit in near)
    similar = [hit["similarity"] for hit in near]
    assert similar == sorted(similar, reverse=True)


def test_a_radius_that_was_not_given_is_said(indexed):
    done = medlike("search", SLICE, "-a", indexed, "--rank", "radius", "-f", "json")
    bits = 8 * len(done.json["receipt"]["query"]["code"]) // 2
    assert f"images within {bits // 8} bits were searched" in " ".join(done.err.split())
    assert "no radius" not in medlike("search", SLICE, "-a", indexed, "--rank", "radius", "--radius", "6").err


def test_csv_marks_the_querys_own_copy(indexed, sources):
    image = next(path for path in sorted(sources.rglob("*")) if path.suffix in (".jpg", ".png"))
    done = medlike("search", image, "-a", indexed, "-k", "3", "-f", "csv")
    assert [row["itself"] for row in csv.DictReader(io.StringIO(done.out))] == ["yes", "", ""]


def test_csv_is_csv(indexed):
    done = medlike("search", CHEST, "-a", indexed, "-k", "3", "-f", "csv", "--rank", "hamming")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert len(rows) == 3
    assert rows[0]["rank"] == "1" and int(rows[0]["distance"]) <= int(rows[2]["distance"])
    assert len(rows[0]["id"]) == 32


def test_table_shows_ids_whole(indexed):
    done = medlike("search", CHEST, "-a", indexed, "-k", "2", COLUMNS="80")
    ids = [hit["id"] for hit in medlike("search", CHEST, "-a", indexed, "-k", "2", "-f", "json").json["hits"]]
    assert all(id in done.out for id in ids)


def test_sheet_is_drawn(indexed, tmp_path):
    sheet = tmp_path / "sheet.png"
    done = medlike("search", CHEST, "-a", indexed, "--sheet", sheet)
    assert done.code == 0, done.err
    with Image.open(sheet) as picture:
        assert picture.format == "PNG" and picture.width > 400 and picture.height > 200


def test_receipt_repeats_the_search(own, sources, tmp_path):
    receipt = tmp_path / "receipt.json"
    before = medlike("search", SLICE, "-a", own, "-k", "4", "--receipt", receipt, "-f", "json")
    assert before.code == 0 and receipt.is_file()
    gone = before.json["hits"][0]["id"]
    assert medlike("remove", gone, "-a", own).code == 0
    now = medlike("search", SLICE, "-a", own, "-k", "4", "-f", "json").json["hits"]
    assert gone not in [hit["id"] for hit in now]
    again = medlike("search", "-a", own, "--receipt", receipt, "-f", "json")
    assert again.code == 0, again.err
    assert [hit["id"] for hit in again.json["hits"]] == [hit["id"] for hit in before.json["hits"]]
    for given in (("-k", "6"), ("--where", "label=nosuch"), ("--rank", "hamming")):
        other = medlike("search", "-a", own, "--receipt", receipt, *given)
        assert other.code == 2 and given[0] in other.err and "leave it out" in other.err


def test_what_is_for_regions_or_words_is_refused_without_them(indexed):
    for given in (
        ("--region-weight", "0.5"), ("--shortlist", "5"), ("--orientations", "1"), ("--scales", "1"),
        ("--region-distance", "share"), ("--region-turns", "rearranged"),
    ):  # fmt: skip
        done = medlike("search", CHEST, "-a", indexed, *given)
        assert done.code == 2 and given[0] in done.err and "--region" in done.err and "leave it out" in done.err
    done = medlike("search", CHEST, "-a", indexed, "--weight", "words=2")
    assert done.code == 2 and "--weight" in done.err and "--text" in done.err


@pytest.mark.parametrize(
    "given", [("--rank", "hamming"), ("--exclude-own-patient",), ("--group-by", "study"), ("--sheet", "x.png")]
)
def test_what_is_for_images_is_refused_of_texts(indexed, given):
    done = medlike("search", CHEST, "-a", indexed, "--texts", *given)
    assert done.code == 2 and given[0] in done.err and "leave it out" in done.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "query"),
        ((CHEST, "--id", "0" * 32), 2, "query"),
        (("nowhere.png",), 1, "nowhere.png"),
        ((CHEST, "-k", "0"), 2, "-k"),
        ((CHEST, "--where", "modality"), 2, "modality"),
        ((CHEST, "--where", "age>=old"), 2, "old"),
        ((CHEST, "--rank", "best"), 2, "best"),
        (("--id", "no-such-id"), 1, "no-such-id"),
        ((CHEST, "--sheet", "found.xyz"), 2, "ends in .png"),
        ((CHEST, "--region", "40,60,20,80"), 2, "inverted"),
        (("--text", ""), 2, "at least one word"),
        (("--id", "99"), 2, "99 is too short; give at least 4 digits"),
        (("--receipt", "no-such-receipt"), 1, "no-such-receipt"),
        (("--receipt", samples() / "README.md"), 1, "README.md"),
        ((samples() / "manifest.csv",), 1, "manifest.csv"),
    ],
)
def test_refusals(indexed, words, code, said):
    done = medlike("search", *words, "--archive", indexed)
    assert done.code == code
    assert said in done.err
    assert done.out == ""
    if code == 1:
        assert len(done.err.splitlines()) == 1 and done.err.startswith("medlike: ")


def test_no_archive_says_how_to_make_one(tmp_path):
    done = medlike("search", CHEST, "--archive", tmp_path / "none")
    assert done.code == 1
    assert "medlike index" in done.err


def test_default_archive_is_in_the_users_data_directory(sources, tmp_path):
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    done = medlike("index", sources / "ct-1-3.dcm", **home)
    assert done.code == 0, done.err
    assert (tmp_path / "data" / "medlike" / "archive" / "archive.json").is_file()
    assert medlike("search", SLICE, "-f", "json", **home).json["hits"][0]["rank"] == 1


def test_closed_pipe_is_quiet(indexed):
    piped = subprocess.run(
        f"'{MEDLIKE}' search '{CHEST}' -a '{indexed}' -f csv | head -n 1; echo ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True,
    )  # fmt: skip
    assert piped.stderr == ""
    assert piped.stdout.splitlines()[0].startswith("rank,id,distance")


def test_a_region_is_searched_for_where_the_bundle_can(tmp_path, tiny_regional_bundle, indexed, sources):
    archive = tmp_path / "regional"
    done = medlike("index", sources, "--archive", archive, "--bundle", tiny_regional_bundle.path)
    assert done.code == 0, done.err
    words = ("search", SLICE, "-a", archive, "--region", "20,30,80,90", "-k", "3")
    hits = medlike(*words, "-f", "json").json["hits"]
    assert all(0 <= hit["box"][0] < hit["box"][2] for hit in hits)
    assert all(0 <= hit["distance"] <= 1 for hit in hits)
    table = medlike(*words, "--sheet", tmp_path / "sheet.png")
    assert " %" in table.out
    assert Image.open(tmp_path / "sheet.png").width > 400
    assert medlike("search", SLICE, "-a", archive, "--region", "20,30").code == 2
    assert medlike("search", SLICE, "-a", archive, "--region", "9000,0,9100,90").code == 1
    without = medlike("search", SLICE, "-a", indexed, "--region", "20,30,80,90")
    if without.code:
        assert "local codes" in without.err


def test_marks_move_the_hits_and_are_repeated(indexed, tmp_path):
    words, receipt = ("search", SLICE, "-a", indexed, "--rank", "exact", "-k", "30", "-f", "json"), tmp_path / "receipt"
    ids = [hit["id"] for hit in medlike(*words).json["hits"]]
    marks = ("--like", f"{ids[9][:12]},{ids[8]}", "--like", ids[7], "--unlike", ids[1])
    moved = medlike(*words, *marks, "--receipt", receipt).json
    assert moved["receipt"]["query"]["like"] == [ids[9], ids[8], ids[7]]
    assert moved["receipt"]["query"]["unlike"] == [ids[1]]
    now = [hit["id"] for hit in moved["hits"]]
    assert sum(now.index(id) for id in ids[7:10]) < 7 + 8 + 9
    again = medlike("search", "-a", indexed, "--receipt", receipt, "-f", "json")
    assert again.json["hits"] == moved["hits"]
    for given, said in (
        (("--receipt", receipt, "--like", ids[0]), "--like"),
        (("--text", "nodule", "--like", ids[0]), "like and unlike"),
        ((SLICE, "--texts", "--unlike", ids[0]), "--unlike"),
    ):
        done = medlike("search", "-a", indexed, *given)
        assert done.code == 2 and said in done.err
    assert medlike("search", SLICE, "-a", indexed, "--like", "0" * 32).code == 1


def test_files_of_one_study_are_one_query(indexed, tmp_path):
    words, receipt = ("search", SLICE, CHEST, "-a", indexed, "--as-study", "-k", "6"), tmp_path / "receipt.json"
    answer = medlike(*words, "-f", "json", "--receipt", receipt, "--sheet", tmp_path / "sheet.png").json
    assert answer["receipt"]["settings"]["group_by"] == "study" and len(answer["receipt"]["query"]["members"]) == 2
    assert {hit["member"] for hit in answer["hits"]} == {1, 2} and all("group_size" in hit for hit in answer["hits"])
    again = medlike("search", "-a", indexed, "--receipt", receipt, "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(again.out)))
    assert [int(row["member"]) for row in rows] == [hit["member"] for hit in answer["hits"]]
    assert "member" in medlike(*words, "--group-by", "series").out
    for given, code, said in (
        ((SLICE, CHEST), 2, "--as-study"),
        (("--as-study", "--text", "nodule"), 2, "files of the study"),
        ((SLICE, "nowhere.png", "--as-study"), 1, "nowhere.png"),
        ((SLICE, samples() / "manifest.csv", "--as-study"), 1, "image 2 of 2"),
        ((SLICE, CHEST, "--as-study", "--text", "nodule"), 2, "give one image"),
    ):
        done = medlike("search", "-a", indexed, *given)
        assert done.code == code and said in " ".join(done.err.split())
