"""Which program made a result."""

import subprocess

from medlike import __version__
from medlike.evaluation import provenance


def test_the_version_names_a_commit_only_where_the_program_is_among_its_files(tmp_path, monkeypatch):
    who = ["-c", "user.name=a", "-c", "user.email=b"]
    for words in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "c"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    (tmp_path / "provenance.py").touch()
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance.code_version() == __version__
    subprocess.run(["git", "add", "provenance.py"], cwd=tmp_path, check=True)
    assert provenance.code_version().startswith(f"{__version__} (")
