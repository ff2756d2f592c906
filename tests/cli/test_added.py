"""Commands of other packages: real distributions on the path, whole and broken ones."""

import pytest
from typer.testing import CliRunner

from medlike.cli.app import build

from .conftest import medlike

HELLO = '''
import typer

app = typer.Typer(add_completion=False)

@app.command()
def hello(name: str = "you") -> None:
    """Greet somebody."""
    print(f"hello {name}")

group = typer.Typer(add_completion=False, help="Two of them.")
group.command("one")(hello)
group.command("two")(hello)
empty = typer.Typer()
number = 3
'''


@pytest.fixture
def package(tmp_path):
    """Write a distribution with entry points of `medlike.commands`; returns the environment that has it."""

    def write(**commands: str) -> dict[str, str]:
        (tmp_path / "greeting.py").write_text(HELLO)
        (tmp_path / "exiting.py").write_text("raise SystemExit(7)\n")
        facts = tmp_path / "greeting-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in commands.items()]
        (facts / "entry_points.txt").write_text("\n".join(["[medlike.commands]", *lines, ""]))
        return {"PYTHONPATH": str(tmp_path)}

    return write


def test_a_command_and_a_group_are_added_and_listed(package):
    environment = package(hello="greeting:app", greet="greeting:group")
    assert medlike("hello", "--name", "Ada", **environment).out == "hello Ada\n"
    assert medlike("greet", "two", **environment).out == "hello you\n"
    listed = medlike("--help", **environment).out
    assert "Greet somebody." in listed and "Two of them." in listed and "search" in listed


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("missing:app", "No module named 'missing'"),
        ("greeting:gone", "has no attribute 'gone'"),
        ("exiting:app", "SystemExit"),
        ("greeting:number", "and not a typer.Typer"),
        ("greeting:empty", "is no command"),
    ],
)
def test_a_broken_command_ends_in_one_line_and_breaks_no_other(package, value, reason):
    environment = package(hello=value)
    done = medlike("hello", "--name", "Ada", **environment)
    assert done.code == 1 and done.out == "" and reason in done.err and done.err.count("\n") == 1
    assert medlike("--help", **environment).code == 0
    assert medlike("bundle", "info", "--help", **environment).code == 0


def test_no_package_replaces_a_command_of_medlike(package):
    assert "hello" not in medlike("info", "--help", **package(info="greeting:app")).out


@pytest.mark.parametrize("name", ["study", "bench"])
def test_a_command_of_a_package_that_is_absent_names_it(name, monkeypatch):
    monkeypatch.setattr("medlike.plugins.entry_points", lambda group: ())
    done = CliRunner().invoke(build(), [name, "methods", "--out", "x"])
    assert done.exit_code == 1 and done.stdout == ""
    assert done.stderr == f"medlike: `medlike {name}` comes with medlike-research; install it with: " \
        "pip install medlike-research\n"
    assert name not in CliRunner().invoke(build(), ["--help"]).stdout.split()


def test_own_commands_look_for_no_packages(monkeypatch):
    monkeypatch.setattr("medlike.plugins.entry_points", None)  # calling it would fail
    assert CliRunner().invoke(build(), ["info", "--help"]).exit_code == 0
