"""Options come from frozen settings: what the decorator makes of each kind of field, and how large a command is."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from typer.testing import CliRunner

from medlike.archive.intake.settings import IntakeSettings
from medlike.archive.search.settings import SearchSettings
from medlike.cli.app import build
from medlike.cli.settings import options_from_settings
from medlike.evaluation.settings import EvaluationSettings
from medlike.option import Option
from medlike.training.plan import TrainingPlan

MOST = 8  # parameters of a command


def commands(app: typer.Typer, path: str = "") -> dict[str, Callable[..., None]]:
    """Return each command, by what calls it, as it is written: without decorators."""
    named = {f"{path}{each.name}": inspect.unwrap(each.callback) for each in app.registered_commands}
    for group in app.registered_groups:
        named |= commands(group.typer_instance, f"{path}{group.name} ")
    return named


def test_a_word_that_an_option_does_not_know_is_answered_with_those_it_knows():
    done = CliRunner().invoke(build(), ["search", "x.png", "--rank", "nearby"], env={"COLUMNS": "200"})
    assert done.exit_code == 2 and "Value error" not in done.output
    assert "'nearby' is not one of 'content', 'radius', 'hamming', 'shortlist', 'exact', 'neighbours'" in done.output


@pytest.mark.parametrize(("name", "command"), commands(build()).items())
def test_a_command_has_few_parameters_and_hides_none(name, command):
    parameters = inspect.signature(command).parameters.values()
    assert len(parameters) <= MOST, f"{name}: put options that belong together in a settings class"
    hiding = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    assert not [each.name for each in parameters if each.kind in hiding]


@pytest.mark.parametrize(
    ("command", "kind"),
    [("search", SearchSettings), ("index", IntakeSettings), ("evaluate", EvaluationSettings), ("train", TrainingPlan)],
)
def test_a_command_offers_the_settings_of_its_room(command, kind):
    offered = {each.name for each in typer.main.get_command(build()).commands[command].params}
    described = {name for name, hint in inspect.get_annotations(kind, eval_str=True).items() if "Option(" in repr(hint)}
    assert described and described <= offered


@dataclass(frozen=True)
class Meal:
    """Settings with a field of every kind."""

    dish: Annotated[str, Option("What to eat.", argument=True)]
    guests: Annotated[int, Option("People.", "--guests -g", min=1, max=9)] = 2
    course: Annotated[Literal["starter", "main"], Option("When.")] = "main"
    sauce: Annotated[Literal["red", "green"] | None, Option("Over it.")] = None
    spices: Annotated[tuple[str, ...], Option("In it.", "--spice")] = ("salt",)
    prices: Annotated[dict[str, float] | None, Option("Costs.", "--price", text=list[str])] = None
    table: Annotated[tuple[int, int] | None, Option("Where.", metavar="X,Y", text=str)] = None
    menu: Annotated[Path | None, Option("File.", envvar="MEAL_MENU", shown="the usual one")] = None
    warm: Annotated[bool, Option("Heat it.", "--warm/--cold", panel="Kitchen")] = True
    vegan: Annotated[bool, Option("No meat.")] = False
    secret: int = 7


def prices(texts: list[str]) -> dict[str, float]:
    """Read NAME=PRICE."""
    return {name: float(price) for name, _, price in (text.partition("=") for text in texts)}


def table(text: str) -> tuple[int, int]:
    """Read X,Y."""
    try:
        x, y = map(int, text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no table", param_hint="--table") from None
    return x, y


@pytest.fixture
def cook():
    """Run a command that gets a Meal; returns what click says and the arguments the command had."""
    served: list[tuple[Meal, str]] = []
    app = typer.Typer()

    @app.command()
    @options_from_settings(Meal, prices=prices, table=table)
    def serve(meal: Meal, place: Annotated[str, typer.Option("--place")] = "home") -> None:
        served.append((meal, place))

    def run(*arguments: str, **environment: str):
        served.clear()
        return CliRunner().invoke(app, arguments, env=environment), *(served or [(None, None)])[0]

    return run


def test_options_that_are_not_used_leave_the_defaults(cook):
    done, meal, place = cook("soup")
    assert done.exit_code == 0 and place == "home"
    assert meal == Meal("soup", prices={})


def test_options_become_the_values_of_fields(cook):
    done, meal, place = cook(
        "soup", "-g", "3", "--course", "starter", "--sauce", "red", "--spice", "basil", "--spice", "dill", "--price",
        "soup=2.5", "--price", "bread=1", "--table", "4,2", "--cold", "--vegan", "--place", "work",
        MEAL_MENU="menu.txt",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert place == "work"
    prices = {"soup": 2.5, "bread": 1.0}
    assert meal == Meal(
        "soup", 3, "starter", "red", ("basil", "dill"), prices, (4, 2), Path("menu.txt"), warm=False, vegan=True
    )
    assert type(meal.course) is str, "a word, as a receipt or a digest holds it"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument"),
        (("soup", "--guests", "0"), "--guests"),
        (("soup", "--guests", "10"), "--guests"),
        (("soup", "--course", "dessert"), "--course"),
        (("soup", "--table", "near the window"), "--table"),
        (("soup", "--secret", "3"), "No such option"),
    ],
)
def test_a_value_that_is_refused_ends_in_2_and_names_the_option(cook, arguments, message):
    done, meal, _ = cook(*arguments)
    assert done.exit_code == 2 and meal is None
    assert message in done.stderr


def test_help_shows_names_defaults_and_panels(cook):
    shown = " ".join(cook("--help", COLUMNS="200")[0].stdout.replace("│", " ").split())
    for part in (
        "--guests -g", "[default: 2]", "starter|main", "MEAL_MENU", "the usual one", "X,Y", "--cold", "Kitchen",
    ):  # fmt: skip
        assert part in shown, part
    assert "secret" not in shown
