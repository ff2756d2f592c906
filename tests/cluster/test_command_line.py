"""The command line on the address of a service: the same output as on the folder, uploads, jobs, refusals."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medlike import Archive
from medlike.cli.app import build

from .conftest import OWNER, PEER, served_by_a_server, writing


@pytest.fixture(scope="module")
def images(tmp_path_factory, write_phantoms):
    """A folder of drawn images with a manifest."""
    return write_phantoms(tmp_path_factory.mktemp("images"), each=2)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory, tiny_regional_bundle, images):
    """An archive of them. Tests only read it."""
    folder = tmp_path_factory.mktemp("indexed") / "archive"
    with Archive.create(folder, tiny_regional_bundle, text_bundle=None) as archive:
        archive.add(images / "manifest.csv")
    return folder


@pytest.fixture(scope="module")
def address(indexed):
    with served_by_a_server(indexed) as url:
        yield url


@pytest.fixture
def medlike(monkeypatch):
    """medlike(*words): run a command in this process; its code, stdout and stderr."""
    monkeypatch.setenv("MEDLIKE_TOKEN", OWNER)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("MEDLIKE_ARCHIVE", raising=False)
    app = build()

    def run(*words):
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert "Traceback" not in done.stderr and "defect" not in done.stderr, done.stderr
        return done

    return run


def without_times(text):
    facts = json.loads(text)
    facts.pop("seconds", None), facts.pop("bytes", None), facts.pop("bytes_an_image", None)
    return facts


def commands(images, ids):
    file = sorted(images.glob("*.png"))[3]
    return [
        ("search", "--id", ids[2]), ("search", "--id", ids[2][:6], "-k", "3", "--where", "modality=CT"),
        ("search", file, "--group-by", "study"), ("search", file, "--region", "10,10,60,70", "-k", "4"),
        ("search", file, ids and file, "--as-study", "-k", "3"), ("search", "--text", "head CT", "--weight", "words=2"),
        ("search", "--id", ids[0], "--like", f"{ids[1][:8]},{ids[2]}", "--unlike", ids[3]),
        ("search", "--id", ids[0], "--texts"), ("search", "--id", "0" * 32), ("search", file, "--where", "modalty=CT"),
        ("search", images / "manifest.csv"), ("search", "--id", "1"),
        ("list",), ("list", "--where", "modality=CT", "--limit", "3", "--offset", "1"), ("list", "--offset", "99"),
        ("facets",), ("facets", "--where", "modality=CT", "-n", "2"), ("facets", "--generation", "0"),
    ]  # fmt: skip


def test_what_only_reads_prints_the_same(medlike, images, indexed, address):
    with Archive.open(indexed) as archive:
        ids = archive.ids()
    codes = set()
    for words in commands(images, ids):
        for form in ("table", "json"):
            here = medlike(*words, "--archive", indexed, "--format", form)
            there = medlike(*words, "--archive", address, "--format", form)
            assert (there.exit_code, there.stderr) == (here.exit_code, here.stderr), words
            if form == "json" and here.exit_code == 0:
                assert without_times(there.stdout) == without_times(here.stdout), words
            else:
                assert there.stdout == here.stdout, words
            codes.add(here.exit_code)
    assert codes == {0, 1, 2}
    here, there = (without_times(medlike("info", "-a", place, "-f", "json").stdout) for place in (indexed, address))
    assert here == there and address in medlike("info", "-a", address).stdout
    for words in (("list",), ("search", "--id", ids[0])):
        assert medlike(*words, "-a", address, "-f", "csv").stdout == medlike(*words, "-a", indexed, "-f", "csv").stdout


def test_receipts_and_sheets_are_those_of_the_folder(medlike, indexed, address, tmp_path):
    with Archive.open(indexed) as archive:
        id = archive.ids()[0]
    for name, place in (("here", indexed), ("there", address)):
        words = ("-a", place, "--receipt", tmp_path / f"{name}.json", "-f", "csv")
        first = medlike("search", "--id", id, *words, "--sheet", tmp_path / f"{name}.png")
        assert first.exit_code == 0, first.stderr
        assert medlike("search", *words).stdout == first.stdout
        assert medlike("search", "--id", id, "-a", place, "--page", tmp_path / f"{name}.html").exit_code == 0
    for form in ("json", "png", "html"):
        assert (tmp_path / f"here.{form}").read_bytes() == (tmp_path / f"there.{form}").read_bytes()


def test_files_are_uploaded_and_removed(medlike, images, indexed, tmp_path):
    own = Path(shutil.copytree(indexed, tmp_path / "own"))
    with Archive.open(own) as archive:
        first, second, third, *_ = archive.ids()
        count = len(archive)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    with writing(own), served_by_a_server(own) as url:
        assert "2 images removed" in medlike("remove", first, second[:8], "-a", url).stdout
        unknown = medlike("remove", "0" * 32, "-a", url)
        assert unknown.exit_code == 3 and "no image 000" in unknown.stderr
        done = medlike("index", images / "manifest.csv", tmp_path / "broken.png", "-a", url)
        assert done.exit_code == 3 and "2 added" in done.stdout and f"{count - 2} unchanged" in done.stdout
        assert "broken.png" in done.stdout and f"archive: {url}" in done.stdout
        report = medlike("index", images / "manifest.csv", "-a", url, "-f", "json")
        assert report.exit_code == 0 and json.loads(report.stdout)["unchanged"] == count
        erased = medlike("remove", third, "--erase", "--yes", "-a", url, "-f", "json")
        assert json.loads(erased.stdout)["erased"] == 1
        nothing = medlike("index", tmp_path / "broken.png", "-a", url, "-f", "json")
        assert nothing.exit_code == 3 and len(json.loads(nothing.stdout)["skipped"]) == 1
    with Archive.open(own) as archive:
        assert len(archive) == count - 1


def test_all_images_of_a_patient_are_removed(medlike, tmp_path, tiny_bundle, scan):
    with Archive.create(tmp_path / "archive", tiny_bundle, text_bundle=None) as archive:
        archive.add([scan(f"{at}.dcm", seed=at, PatientID=f"P-{at // 2}") for at in range(4)])
        with writing(archive.path), served_by_a_server(archive.path) as url:
            refused = medlike("remove", "--patient", "P-0", "--erase", "--yes", "-a", url)
            assert refused.exit_code == 2 and "removed already" in " ".join(refused.stderr.split())
            assert "2 images removed" in medlike("remove", "--patient", "P-0", "-a", url).stdout
            assert medlike("remove", "--patient", "P-0", "-a", url).exit_code == 3
        assert archive.ids() == archive.ids_of(patient="P-1")


def test_long_writes_run_as_jobs(medlike, indexed, tmp_path):
    own = Path(shutil.copytree(indexed, tmp_path / "own"))
    with writing(own) as archive, served_by_a_server(own) as url:
        fitted = medlike("fit", "--bits", "64", "-a", url)
        assert fitted.exit_code == 0 and "codes of 64 bits fitted to" in fitted.stdout
        assert archive.info()["fit"]["bits"] == 64
        archive.remove(archive.ids()[:2])
        assert "2 removed images dropped" in medlike("compact", "-a", url).stdout
        assert "index built again" in medlike("reindex", "-a", url).stdout
        assert medlike("verify", "-a", url).stdout == "no problems\n"
        saved = medlike("backup", tmp_path / "saved", "-a", url, "-f", "json")
        assert json.loads(saved.stdout)["images"] == len(archive)
        again = medlike("backup", tmp_path / "saved", "-a", url)
        assert again.exit_code == 1 and "not empty" in again.stderr
    with Archive.open(tmp_path / "saved") as copy:
        assert len(copy) > 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("index", ".", "--pixels", "copy"), "stores the pixels and all frames"),
        (("index", ".", "--bundle", "tiny"), "stores the pixels and all frames"),
        (("index", ".", "--wait", "3"), "stores the pixels and all frames"),
        (("compact", "--wait", "3"), "one write after the other"),
        (("fit", "--wait", "3"), "one write after the other"),
        (("upgrade",), "needs the folder of the archive"),
        (("restore", "backup"), "needs the folder of the archive"),
    ],
)
def test_what_needs_a_folder_is_refused_with_a_sentence(medlike, address, words, reason):
    done = medlike(*words, "--archive", address)
    assert done.exit_code == 2 and reason in " ".join(done.stderr.replace("│", "").split()), done.stderr


def test_the_token_is_not_typed_where_others_see_it(medlike, address, monkeypatch):
    typed = medlike("list", "--archive", f"{address}/?token={OWNER}")
    assert typed.exit_code == 2 and "MEDLIKE_TOKEN" in typed.stderr
    monkeypatch.delenv("MEDLIKE_TOKEN")
    untold = medlike("list", "--archive", address)
    assert untold.exit_code == 1 and "set MEDLIKE_TOKEN" in untold.stderr and len(untold.stderr.splitlines()) == 1
    monkeypatch.setenv("MEDLIKE_ARCHIVE", f"{address}/?token={OWNER}")
    assert medlike("list").exit_code == 0
    monkeypatch.setenv("MEDLIKE_ARCHIVE", f"{address}/?token={PEER}")
    refused = medlike("remove", "0" * 32)
    assert refused.exit_code == 1 and "owner" in refused.stderr
    refused = medlike("list")
    assert refused.exit_code == 1 and "this token is for other services: send the owner's token" in refused.stderr
