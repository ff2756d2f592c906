"""info, verify, compact, backup, restore, remove, reindex, bundle info, and the program itself."""

import sqlite3
import subprocess
import sys

import medlike as package
from medlike.bundle import default

from .conftest import medlike, processor_seconds


def test_info(indexed):
    facts = medlike("info", "--archive", indexed, "--format", "json").json
    assert facts["images"] == 25
    assert facts["bundle"]["name"] == default() and len(facts["bundle"]["digest"]) == 64
    assert facts["generation"] >= 1
    assert all(isinstance(count, int) for count in facts["bytes"].values()) and facts["bytes"]["store"] > 0
    assert "25" in medlike("info", "--archive", indexed).out


def test_verify_finds_damage(own):
    assert medlike("verify", "--archive", own).code == 0
    preview = next(file for file in (own / "pixels" / "previews").rglob("*") if file.is_file())
    preview.write_bytes(b"damaged")
    done = medlike("verify", "--archive", own, "--format", "json")
    assert done.code == 1
    assert not done.json["ok"] and any(preview.name in p["detail"] for p in done.json["problems"])


def test_upgrade(own):
    again = medlike("upgrade", "-a", own)
    assert again.code == 0 and f"{own} is of format 3 already" in again.out.replace("\n", "")
    again = medlike("upgrade", "-a", own, "--encode-again")
    assert again.code == 0 and "no image was encoded again" in again.out
    with sqlite3.connect(own / "private" / "links.sqlite") as links:
        links.execute("UPDATE links SET digest = NULL")
        links.execute("UPDATE file_ids SET digest = NULL WHERE id = (SELECT min(id) FROM file_ids)")
    noted = medlike("verify", "-a", own)
    assert noted.code == 0 and "no problems" in noted.out
    assert "unchecked: 25 rows of links, 1 row of file_ids; run `medlike upgrade`" in noted.err.replace("\n", " ")
    assert medlike("verify", "-a", own, "-f", "json").json == {
        "ok": True, "problems": [], "unchecked": {"links": 25, "file_ids": 1}
    }  # fmt: skip
    done = medlike("upgrade", "-a", own, "--wait", "1")
    assert "upgrading needs up to" in done.err and "upgrading needs" not in again.err
    assert done.code == 0 and "digests added to 25 rows of links" in done.out and "cannot be told" in done.out
    again = medlike("upgrade", "-a", own, "-f", "json").json
    assert again == {
        "former": 3, "format": 3, "sealed": {}, "received": 0, "fit": None, "sentences": 0, "text": None,
        "encoded": 0, "lost": [],
    }  # fmt: skip
    assert medlike("verify", "-a", own).err == ""


def test_remove_compact_erase(own):
    ids = [
        hit["id"] for hit in medlike("search", "--id", _some_id(own), "-a", own, "-k", "5", "-f", "json").json["hits"]
    ]
    assert medlike("remove", ids[0], "-a", own).code == 0
    assert medlike("info", "-a", own, "-f", "json").json["images"] == 24
    unknown = medlike("remove", ids[1], "f" * 32, "-a", own)
    assert unknown.code == 3 and "f" * 32 in unknown.err
    short = medlike("remove", "0", "1", "-a", own)
    assert short.code == 2 and "at least 4 digits" in short.err
    assert medlike("remove", ids[3][:20].upper(), "-a", own).code == 0
    assert medlike("compact", "-a", own).code == 0
    unasked = medlike("remove", ids[2], "--erase", "-a", own)
    assert unasked.code != 0, "erasing asks first, and nobody answered"
    assert medlike("remove", ids[2], "--erase", "--yes", "-a", own).code == 0
    assert medlike("info", "-a", own, "-f", "json").json["images"] == 21
    assert medlike("verify", "-a", own).code == 0


def test_backup_and_restore(own, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("correct horse\n")
    saved, restored = tmp_path / "saved", tmp_path / "restored"
    done = medlike("backup", saved, "-a", own, "--links", "--passphrase-file", secret, "-f", "json")
    assert done.code == 0 and done.json["images"] == 25
    refused = medlike("restore", saved, "-a", restored)
    assert refused.code == 1 and "passphrase" in refused.err
    assert medlike("restore", saved, "-a", restored, "--passphrase-file", secret).code == 0
    assert medlike("verify", "-a", restored).code == 0
    id = _some_id(own)
    before = medlike("search", "--id", id, "-a", own, "-f", "json").json["hits"]
    after = medlike("search", "--id", id, "-a", restored, "-f", "json").json["hits"]
    assert [hit["id"] for hit in before] == [hit["id"] for hit in after]
    assert medlike("backup", saved, "-a", own).code == 1, "a backup never overwrites"


def test_reindex(own):
    id = _some_id(own)
    before = medlike("search", "--id", id, "-a", own, "-f", "json").json["hits"]
    done = medlike("reindex", "-a", own)
    assert done.code == 0 and "built again" in done.out, done.err
    after = medlike("search", "--id", id, "-a", own, "-f", "json").json["hits"]
    assert [hit["id"] for hit in before] == [hit["id"] for hit in after]


def test_bundle_info():
    listed = medlike("bundle", "info", "--format", "json").json
    assert "medlike-itq-64" in [bundle["name"] for bundle in listed]
    one = medlike("bundle", "info", "medlike-itq-64", "-f", "json").json
    assert one["bits"] == 64 and len(one["digest"]) == 64 and one["text_part"] is None
    assert {bundle["name"]: bundle["text_part"] for bundle in listed}[default()] == "medlike-text-16"
    assert medlike("bundle", "info", "nonsense").code == 1


def test_version_and_help():
    assert medlike("--version").out.strip() == f"medlike {package.__version__}"
    assert "Usage" in medlike("--help").out
    assert medlike("search", "--help").code == 0
    assert medlike("sarch").code == 2


def test_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys; from medlike.cli import main; sys.argv = ['medlike', 'search', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'numba', 'onnxruntime', 'numpy', 'pydicom', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert min(_processor_seconds("--help") for _ in range(3)) < 0.8


def test_module_runs_like_the_program():
    done = subprocess.run([sys.executable, "-m", "medlike", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and package.__version__ in done.stdout


def _some_id(archive) -> str:
    from medlike import samples

    query = samples() / "queries" / "ct-4-3.dcm"
    return medlike("search", query, "-a", archive, "-k", "1", "-f", "json").json["hits"][0]["id"]


def _processor_seconds(*words: str) -> float:
    began = processor_seconds()
    medlike(*words)
    return processor_seconds() - began


def test_fit(own):
    """The archive of 25 images has its codes fitted, searched, shown and repeated."""
    id = _some_id(own)
    before = medlike("search", "--id", id, "-a", own, "-f", "json").json
    wrong = medlike("fit", "-a", own, "--bits", "12")
    assert wrong.code == 2 and "--bits" in wrong.err and "multiple of 8 from 8 to 512" in " ".join(wrong.err.split())
    done = medlike("fit", "-a", own, "--bits", "128")
    assert done.code == 0 and "codes of 128 bits fitted to 25 images" in done.out and "aggregate" in done.out
    again = medlike("fit", "-a", own, "-f", "json").json
    assert again["bits"] == 128 and again["recoded"] == 0
    info = medlike("info", "-a", own, "-f", "json").json["fit"]
    assert info["bits"] == 128 and info["images"] == 25 and info["digest"] == again["digest"]
    assert "128 bits from 25 images" in medlike("info", "-a", own).out
    fitted = medlike("search", "--id", id, "-a", own, "-f", "json").json
    trained = medlike("search", "--id", id, "-a", own, "-f", "json", "--codes", "trained").json
    assert fitted["receipt"]["fit"] == again["digest"] and trained["hits"] == before["hits"] != fitted["hits"]
    refused = medlike("search", "--id", id, "-a", own, "--texts", "--codes", "trained")
    assert refused.code == 2 and "--codes" in refused.err
    assert medlike("verify", "-a", own).code == 0
