"""Every example of docs/api.md runs against `medlike serve --demo`, and answers what the page shows."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .examples import Example, difference, of_page, parsed
from .running import running

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLES = [each for each in of_page(PAGE) if "curl" in each.command]
LONGEST = 1400  # words
_PATH = re.compile(r"\$API(/[^\s\"'?]*)?")
_METHOD = re.compile(r"-X ([A-Z]+)")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """`medlike serve --demo` in processes of its own."""
    folder = tmp_path_factory.mktemp("demo")
    with running("--demo", cwd=folder, environment={"XDG_CACHE_HOME": str(folder)}) as service:
        yield service


def test_every_route_has_an_example(served):
    from medlike.service.app import PREFIX

    described = served.get("openapi.json").json()["paths"]
    routes = {(method.upper(), path.removeprefix(PREFIX)) for path, item in described.items() for method in item}
    shown = set()
    for each in EXAMPLES:
        method, path = request(each.command)
        shown |= {
            route
            for route in routes
            if route[0] == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route[1]), path)
        }
    missing = sorted(route for route in routes - shown if route[0] != "HEAD")
    assert not missing, f"docs/api.md has no example of {missing}"


def request(command):
    """Return method and path, below /api/v1, of the request of an example."""
    path = _PATH.search(command)
    assert path, f"no path below $API in: {command}"
    if method := _METHOD.search(command):
        return method[1], path[1] or ""
    sends = re.search(r"\s(-d|-F|--json|--data-binary)\s", command)
    return "POST" if sends else "GET", path[1] or ""


@pytest.mark.slow
def test_every_example_answers_as_shown(demo, tmp_path):
    from medlike.datasets.shipped import samples

    for name in ("chest-86d19bba.jpg", "RG1_J2KI.dcm"):
        (tmp_path / name).write_bytes((samples() / "queries" / name).read_bytes())
    fixed = {"API": f"{demo.url}/api/v1", "AUTH": f"Authorization: Bearer {demo.token}"}
    variables, failed = {}, []
    for each in EXAMPLES:
        script = f"curl() {{ command curl --fail-with-body --max-time 60 \"$@\"; }}\n{each.command}"
        environment = {**os.environ, **fixed, **{name: str(value) for name, value in variables.items()}}
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
        refused = isinstance(each.answer, dict) and each.answer.get("status", 0) and "detail" in each.answer
        if done.returncode != (22 if refused else 0):
            failed.append(f"{each.command}\n{done.stdout}{done.stderr}")
        elif each.answer is not None and (found := difference(each.answer, json.loads(done.stdout), variables)):
            failed.append(f"{each.command}\n{found}")
    assert not failed, "\n\n".join(failed)


@pytest.mark.slow
def test_the_example_in_python_runs(demo, tmp_path):
    from medlike.datasets.shipped import samples

    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 1
    (tmp_path / "query.dcm").write_bytes((samples() / "queries" / "RG1_J2KI.dcm").read_bytes())
    code = blocks[0].replace("http://127.0.0.1:8000", demo.url)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "MEDLIKE_TOKEN": demo.token},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_page_is_short():
    assert len(PAGE.split()) <= LONGEST


def test_answers_are_compared_as_shown():
    page = "```sh\npip install x\ncurl a \\\n  -d b\n# {\"id\": \"$ID\", \"of\": {\"k\": 3, ...}, ...}\n```\n"
    assert of_page(page) == [
        Example("pip install x"),
        Example("curl a \\\n  -d b", {"id": "$ID", "of": {"k": 3}}),
    ]
    shown, variables = parsed('{"id": "$ID", "of": [{"k": 3, "at": ...}, ...], "name": "a..."}'), {}
    good = {"id": "x", "of": [{"k": 7, "at": None}, {}], "name": "abc", "more": 1}
    assert difference(shown, good, variables) is None and variables == {"ID": "x"}
    for wrong in ({"id": "y"}, {"of": []}, {"of": [{"k": "7", "at": 1}]}, {"name": "b"}):
        assert difference(shown, good | wrong, variables) is not None
    assert difference(shown, {"id": "x"}, variables) == "the answer has no ['name', 'of']: {'id': 'x'}"
