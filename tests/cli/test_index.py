"""medlike index: what goes in, what is refused, and how it says so."""

import csv
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from medlike import samples

from .conftest import MEDLIKE, medlike


def test_index_counts_and_again_changes_nothing(sources, tmp_path):
    archive = tmp_path / "archive"
    first = medlike("index", sources, "--archive", archive, "--format", "json")
    assert first.code == 0, first.err
    assert first.json["added"] == len(list(sources.iterdir())) == 25
    assert first.json["skipped"] == []
    again = medlike("index", sources, "--archive", archive, "--format", "json")
    assert again.code == 0
    assert (again.json["added"], again.json["replaced"], again.json["unchanged"]) == (0, 0, 25)


def test_refused_inputs_are_listed_and_exit_is_3(tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    shutil.copy(samples() / "queries/ct-4-3.dcm", folder / "good.dcm")
    (folder / "text.dcm").write_text("not an image")
    whole = (samples() / "queries/ct-4-3.dcm").read_bytes()
    (folder / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    (folder / "stub.dcm").write_bytes(whole[:200])
    (folder / "empty.png").touch()
    empty, huge = pydicom.dcmread(folder / "good.dcm"), Image.new("1", (20000, 20000))
    empty.Rows = empty.Columns = 0
    empty.save_as(folder / "0x0.dcm")
    huge.save(folder / "huge.png")
    Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(folder / "nan.tif")
    Image.new("L", (1, 1)).save(folder / "1x1.png")
    bad = {"text.dcm", "cut.dcm", "stub.dcm", "empty.png", "0x0.dcm", "huge.png", "nan.tif"}
    done = medlike("index", folder, "--archive", tmp_path / "archive", "--format", "json")
    assert done.code == 3
    assert done.json["added"] == 2
    assert {entry["path"].rsplit("/", 1)[-1] for entry in done.json["skipped"]} == bad
    assert len({entry["reason"] for entry in done.json["skipped"]}) >= 6
    shown = medlike("index", folder, "--archive", tmp_path / "other")
    assert shown.code == 3 and all(name in shown.out for name in bad)


def test_names_in_other_scripts(tmp_path):
    folder = tmp_path / "снимки 画像"
    folder.mkdir()
    shutil.copy(samples() / "queries/fetal-031_HC.jpg", folder / "胎児の頭 éü.jpg")
    archive = tmp_path / "архив"
    done = medlike("index", folder, "--archive", archive)
    assert done.code == 0, done.err
    found = medlike("search", folder / "胎児の頭 éü.jpg", "--archive", archive, "--format", "json")
    assert found.code == 0
    assert found.json["hits"][0]["source"]["path"].endswith("снимки 画像/胎児の頭 éü.jpg")
    assert "胎児の頭 éü.jpg" in found.out, "names are not escaped"


def test_values_of_a_manifest_that_are_left_out_are_told(tmp_path):
    for at in range(3):
        Image.fromarray(np.full((20, 20), at, np.uint8)).save(tmp_path / f"{at}.png")
    (tmp_path / "m.csv").write_text("path,age,modality\n0.png,forty,xr\n1.png,45,XR\n2.png,-3,us\n")
    for _ in range(2):
        done = medlike("index", tmp_path / "m.csv", "-a", tmp_path / "archive")
        assert done.code == 0 and "2 values of the column age not understood" in done.err and "'forty'" in done.err
    done = medlike("index", tmp_path / "m.csv", "-a", tmp_path / "archive", "-f", "json")
    assert done.json["dropped"] == {"age": {"count": 2, "example": "forty"}}


def test_what_was_repaired_in_a_file_is_reported_once_a_file(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    scan = pydicom.dcmread(samples() / "queries/ct-4-3.dcm")
    scan.NumberOfFrames, scan.PixelData = 2, scan.PixelData + scan.PixelData[::-1]
    scan.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    scan.RescaleSlope, scan.RescaleIntercept = "1.25", "-1024"
    scan.save_as(folder / "comma.dcm")
    raw = (folder / "comma.dcm").read_bytes()
    (folder / "comma.dcm").write_bytes(raw.replace(b"1.25", b"1,25"))
    remark = "RescaleSlope '1,25' is read as 1.25: it has a decimal comma"
    done = medlike("index", folder, "-a", tmp_path / "archive", "--frames", "all", "-f", "json")
    assert done.code == 0 and done.json["added"] == 2
    assert done.json["remarks"] == [{"path": str(folder / "comma.dcm"), "remark": remark}]
    shown = medlike("index", folder, "-a", tmp_path / "other")
    assert shown.code == 0 and "comma.dcm" in shown.out and "decimal comma" in " ".join(shown.out.split())


def test_a_terminal_is_not_commanded_by_names_and_labels(tmp_path):
    evil, archive = "\x1b[2Jgone\x9b\n\u202efdp", tmp_path / "archive"
    (tmp_path / f"{evil}.png").write_bytes(b"\x89PNG\r\n")
    shutil.copy(samples() / "queries/fetal-031_HC.jpg", tmp_path / "a.jpg")
    with (tmp_path / "m.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), ("a.jpg", evil), (f"{evil}.png", "")])
    index = medlike("index", tmp_path / "m.csv", "-a", archive)
    search = medlike("search", tmp_path / "a.jpg", "-a", archive)
    missing = medlike("search", tmp_path / f"{evil}.jpg", "-a", archive)
    assert (index.code, search.code, missing.code) == (3, 0, 1)
    for said in (index.out, search.out, missing.err):
        assert r"\x1b[2Jgone\x9b" in said and r"\u202efdp" in said
        assert not set(said) & {"\x1b", "\x9b", "\u202e"}


def test_manifest_facts_can_be_filtered_on(tmp_path):
    manifest = samples() / "manifest.csv"
    rows = manifest.read_text(encoding="utf-8").splitlines()
    chosen = [rows[0], *(r for r in rows[1:] if r.startswith(("images/head", "phantoms/us")))][:20]
    copy = tmp_path / "some.csv"
    copy.write_text(
        "\n".join([chosen[0], *(f"{samples()}/{line}" for line in chosen[1:])]) + "\n",
        encoding="utf-8",
    )
    archive = tmp_path / "archive"
    done = medlike("index", copy, "--archive", archive)
    assert done.code == 0, done.err
    found = medlike(
        "search",
        samples() / "queries/us-breast-10.png",
        "-a",
        archive,
        "-w",
        "modality=US",
        "-f",
        "json",
    )
    assert found.json["hits"]
    assert {hit["metadata"]["modality"] for hit in found.json["hits"]} == {"US"}


def test_nothing_found_fails(tmp_path, own):
    sources = (tmp_path / "nowhere", tmp_path / "*.none")
    done = medlike("index", *sources, "--archive", tmp_path / "archive")
    assert done.code == 1 and "nowhere" in done.err and "*.none" in done.err
    assert not (tmp_path / "archive").exists()
    # Of an archive that is there, and beside a source that is there, it is a refusal.
    assert medlike("index", *sources, "--archive", own).code == 3
    (tmp_path / "empty").mkdir()
    assert medlike("index", *sources, tmp_path / "empty", "--archive", tmp_path / "archive").code == 3


def test_an_empty_folder_is_said_to_be_empty(tmp_path):
    (tmp_path / "empty").mkdir()
    done = medlike("index", tmp_path / "empty", "--archive", tmp_path / "archive")
    assert done.code == 1 and "no image file was found" in done.err and "no archive was made" in done.err
    assert not (tmp_path / "archive").exists()


def test_where_nothing_can_be_read_no_archive_is_left(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "there").mkdir()
    for archive in (tmp_path / "there", tmp_path / "made"):
        done = medlike("index", tmp_path / "broken.png", "--archive", archive)
        assert done.code == 3 and "broken.png" in done.out and "no archive was made" in done.err
    assert not (tmp_path / "made").exists() and not list((tmp_path / "there").iterdir())


def test_an_archive_that_is_there_stays_where_nothing_was_found(tmp_path, own):
    (tmp_path / "empty").mkdir()
    assert medlike("index", tmp_path / "empty", "--archive", own).code == 0
    assert (own / "archive.json").exists()


@pytest.mark.slow
def test_two_that_begin_an_archive_at_once_leave_a_whole_one(sources, tmp_path):
    archive, kinds = tmp_path / "archive", ("*.jpg", "*.dcm")
    for kind in kinds:
        (tmp_path / kind[2:]).mkdir()
        for file in sources.glob(kind):
            (tmp_path / kind[2:] / file.name).symlink_to(file)
    commands = [[MEDLIKE, "index", tmp_path / kind[2:], "--archive", archive] for kind in kinds]
    running = [subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for each in commands]
    ended = [(*process.communicate(timeout=120), process.returncode) for process in running]
    assert any(code == 0 for *_, code in ended), ended
    for _, err, code in ended:
        assert code == 0 or (code == 1 and "is being written by process" in err), ended
    for kind in kinds:
        assert medlike("index", tmp_path / kind[2:], "--archive", archive).code == 0
    checked = medlike("verify", "--archive", archive)
    assert checked.code == 0, checked.out
    assert medlike("info", "--archive", archive, "-f", "json").json["images"] == 23


def test_unknown_bundle_names_those_shipped(sources, tmp_path):
    done = medlike("index", sources, "--archive", tmp_path / "archive", "--bundle", "no-such")
    assert done.code == 1
    assert "no-such" in done.err and "medlike-itq-64" in done.err
    assert len(done.err.splitlines()) == 1


def test_bad_frames_is_usage(sources, tmp_path):
    done = medlike("index", sources, "--archive", tmp_path / "archive", "--frames", "0")
    assert done.code == 2
    assert "--frames" in done.err


def test_frames_all_takes_every_frame(tmp_path):
    file = samples() / "dicom/emri_small_RLE.dcm"
    done = medlike("index", file, "--archive", tmp_path / "archive", "--frames", "all", "--format", "json")
    assert done.json["added"] == 10


@pytest.mark.slow
def test_interrupt_is_clean_and_resumes(tmp_path):
    # On a busy machine indexing may end before this process has looked: then another try.
    for attempt in range(5):
        archive = tmp_path / f"archive-{attempt}"
        running = subprocess.Popen(
            [MEDLIKE, "index", samples() / "manifest.csv", "--archive", archive],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        # Once the first previews are there, it is in the midst of it.
        while not any((archive / "pixels").rglob("*.*")) and running.poll() is None:
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
        assert "Traceback" not in err
        if running.returncode:
            break
    assert running.returncode == 130, err
    assert medlike("verify", "--archive", archive).code == 0
    assert medlike("index", samples() / "manifest.csv", "--archive", archive).code == 0
    assert medlike("verify", "--archive", archive).code == 0


def test_segmentations_are_listed_unless_asked_for(tmp_path):
    folder, archive = tmp_path / "in", tmp_path / "archive"
    folder.mkdir()
    mask = pydicom.dcmread(samples() / "queries/ct-4-3.dcm")
    mask.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    mask.save_as(folder / "mask.dcm")
    done = medlike("index", folder, "--archive", archive, "--format", "json")
    assert done.code == 3 and done.json["added"] == 0
    assert "segmentation" in str(done.json["skipped"]) and "--segmentations" in str(done.json["skipped"])
    done = medlike("index", folder, "--archive", archive, "--segmentations", "--format", "json")
    assert done.code == 0 and done.json["added"] == 1


def test_where_everything_is_refused_the_reasons_are_listed(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "one.png").write_bytes(b"nothing")
    done = medlike("index", tmp_path / "bad", "--archive", tmp_path / "a", "--text-bundle", "none")
    assert done.code == 3 and "0 added, 1 refused" in done.out and "one.png" in done.out


@pytest.fixture
def conflicting(tmp_path):
    """An archive of one image, the image, and a file of another patient with its SOP instance UID."""
    first, second = tmp_path / "first.dcm", tmp_path / "second.dcm"
    shutil.copy(samples() / "queries/ct-4-3.dcm", first)
    data = pydicom.dcmread(first)
    data.StudyInstanceUID = "1.2.3"
    data.save_as(second)
    archive = tmp_path / "archive"
    assert medlike("index", first, "--archive", archive).code == 0
    return archive, first, second


@pytest.mark.slow
def test_a_conflict_names_both_files_and_the_exit_is_3(conflicting):
    archive, first, second = conflicting
    shown = medlike("index", second, "--archive", archive, COLUMNS="250")
    assert shown.code == 3 and str(first) in shown.out and str(second) in shown.out and "1 in conflict" in shown.out
    kept = medlike("index", second, "--archive", archive, "--format", "json")
    (conflict,) = kept.json["conflicts"]
    assert conflict == {
        "path": str(second), "stored": str(first), "id": conflict["id"], "differs": ["study"], "outcome": "kept",
    }  # fmt: skip
    done = medlike("index", second, "--archive", archive, "--on-conflict", "replace", "--format", "json")
    assert done.code == 3 and done.json["conflicts"][0]["outcome"] == "replaced"
    assert done.json["replacements"] == [{"path": str(second), "replaced": str(first), "id": conflict["id"]}]
    third = Path(shutil.copy(first, first.with_name("third.dcm")))
    refused = medlike("index", third, "--archive", archive, "--on-conflict", "refuse", "--format", "json")
    assert refused.code == 3 and [entry["path"] for entry in refused.json["skipped"]] == [str(third)]


@pytest.mark.slow
def test_sources_found_again_are_told(sources, indexed, tmp_path):
    backup, restored = tmp_path / "backup", tmp_path / "restored"
    assert medlike("backup", backup, "--archive", indexed, "--with-id-key").code == 0
    done = medlike("restore", backup, "--archive", restored)
    assert done.code == 0, done.err
    done = medlike("index", sources, "--archive", restored)
    assert done.code == 0 and "25 sources found again" in done.out
