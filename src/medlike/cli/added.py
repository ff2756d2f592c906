"""Commands that other packages add, loaded when they are called or listed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import typer
from typer.core import TyperGroup

from medlike.errors import PluginError
from medlike.plugins import COMMANDS, load, plugins

# A command or a context of click, which typer has under a private name.
Click = Any

PANEL = "Added by other packages"
# Commands of a package that may be absent: the docs name them, so calling one says what to install.
ELSEWHERE = {"bench": "medlike-research", "study": "medlike-research"}


class Commands(TyperGroup):
    """The commands of medlike, then those of the entry-point group `medlike.commands`."""

    def invoke(self, ctx: Click) -> object:
        """Run a command. A wrong value is told in our words, without the prefix that typer's validation gives it."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise

    def list_commands(self, ctx: Click) -> list[str]:
        """Return the names of all commands, medlike's own first."""
        names = super().list_commands(ctx)
        return [*names, *(name for name in plugins(COMMANDS) if name not in names)]

    def get_command(self, ctx: Click, name: str) -> Click:
        """Return a command by its name, or None if neither medlike nor a plug-in has it."""
        command = super().get_command(ctx, name)
        if command is not None:
            return command
        entry = plugins(COMMANDS).get(name)
        if entry is None:
            if name not in ELSEWHERE:
                return None
            package = ELSEWHERE[name]
            return _failing(name, f"`medlike {name}` comes with {package}; install it with: pip install {package}")
        try:
            command = _command(name, entry)
        except PluginError as error:
            return _failing(name, str(error))
        command.name = name
        command.rich_help_panel = PANEL
        return command


def added() -> Iterator[tuple[str, typer.Typer]]:
    """Yield the name and the Typer of each command that other packages add.

    Raises:
        PluginError: A command cannot be loaded.
    """
    for name, entry in plugins(COMMANDS).items():
        yield name, _app(load(entry), name)


def _command(name: str, entry: EntryPoint) -> Click:
    app = _app(load(entry), name)
    try:
        return typer.main.get_command(app)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise PluginError(f"{entry.value} is no command ({reason}); report it to the makers of {name}") from error


def _app(loaded: object, name: str) -> typer.Typer:
    if not isinstance(loaded, typer.Typer):
        kind = type(loaded).__name__
        raise PluginError(f"the command {name} is a {kind} and not a typer.Typer; report it to its makers")
    return loaded


def _failing(name: str, message: str) -> Click:
    """Return a command that accepts any arguments and fails with one line on stderr."""

    def run() -> None:
        from medlike.cli.exits import fail

        fail(message)

    return typer.core.TyperCommand(
        name,
        callback=run,
        help=message,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        rich_help_panel=PANEL,
    )
