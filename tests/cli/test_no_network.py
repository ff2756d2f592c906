"""No command opens a socket to a network or leaves a file that medlike does not document.

The commands run in a network namespace without a route, in an empty home, under strace. Those that measure or train for
minutes are entered as far as their help: their modules import what the others do.
"""

import json
import os
import re
import subprocess
import sys

import pytest

from medlike.datasets.shipped import samples
from medlike_research.docs.reference import every_command

# pydicom imports requests where it is installed, which is no part of medlike, and that makes a socket to see whether
# the machine has IPv6.
RUNNER = """
import contextlib, io, json, sys
sys.modules["requests"] = None
from medlike import Archive
from medlike.cli import main
for words in json.loads(sys.argv[1]):
    if "FIRST" in words:
        with Archive.open("a") as archive:
            words[words.index("FIRST")] = archive._store.images([1])[1].id
    sys.argv = ["medlike", *words]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = main() or 0
        except SystemExit as end:
            code = end.code or 0
    print(json.dumps([words, code, said.getvalue()[-500:]]))
"""
HELP_ONLY = ("demo", "study", "train", "evaluate", "text install", "model info", "bench")


def cases(work, bundle):
    """Command -> what is run of it, in order."""
    chest = next(iter(sorted(samples().glob("images/chest-*.jpg"))))
    a, b = ("--archive", str(work / "a")), str(work / "b")
    return {
        "index": [str(samples() / "phantoms"), *a, "--bundle", bundle],
        "search": [str(chest), *a, "--sheet", str(work / "s.png"), "--receipt", str(work / "r.json")],
        "triage": [str(chest), "--bundle", bundle],
        "info": [*a],
        "verify": [*a],
        "remove": ["FIRST", *a],
        "compact": [*a],
        "reindex": [*a],
        "backup": [b, *a],
        "restore": [b, "--archive", str(work / "c")],
        "calibrate": ["--help"],
        "commission": ["--data", str(samples() / "phantoms"), "--bundle", bundle, "--out", str(work / "report")],
        "bundle info": [],
        "bundle card": [bundle, "--out", str(work / "card.md")],
        **{name: ["--help"] for name in names() if name.startswith(HELP_ONLY)},
    }


def names():
    return [name.removeprefix("medlike ") for name, _, _ in every_command()]


@pytest.fixture(scope="module")
def watched(tmp_path_factory, tiny_bundle):
    """The commands' ends, what strace saw, and the home they ran in."""
    folder = tmp_path_factory.mktemp("watched")
    home, work = folder / "home", folder / "work"
    (home / "tmp").mkdir(parents=True)
    work.mkdir()
    given = [[*name.split(), *words] for name, words in cases(work, str(tiny_bundle.path)).items()]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home / "tmp"), "COLUMNS": "100"}
    trace = ["strace", "-f", "--seccomp-bpf", "-e", "trace=socket,connect", "-o", str(folder / "trace")]
    run = subprocess.run(
        ["unshare", "-n", *trace, sys.executable, "-c", RUNNER, json.dumps(given)],
        env=environment, cwd=work, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()], (folder / "trace").read_text(), home


def test_every_command_has_a_case(tmp_path):
    assert set(cases(tmp_path, "b")) == set(names())


def test_the_commands_work_without_a_network(watched):
    ended, _, _ = watched
    assert [end for end in ended if end[1] not in (0, 3)] == []


def test_no_command_opens_a_socket_to_a_network(watched):
    _, trace, _ = watched
    assert "exited with 0" in trace
    assert re.findall(r".*AF_INET.*", trace) == []


def test_nothing_is_left_in_the_home_folder_but_what_is_medlikes(watched):
    _, _, home = watched
    left = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]
    assert [path for path in left if not path.startswith((".cache/medlike/", ".local/share/medlike/"))] == []


def test_the_runtime_is_imported_in_one_place():
    from pathlib import Path

    import medlike

    source = Path(medlike.__file__).parent
    importing = re.compile(r"^\s*(?:import|from) onnxruntime\b", re.MULTILINE)
    found = [str(path.relative_to(source)) for path in source.rglob("*.py") if importing.search(path.read_text())]
    assert found == ["bundle/runtime.py"]
