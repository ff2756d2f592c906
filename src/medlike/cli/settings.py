"""Options of a command, made from the fields of a frozen settings class."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from enum import StrEnum
from functools import partial, wraps
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin, get_type_hints

import typer

from medlike.option import Option

Command = Callable[..., None]
Reader = Callable[..., object]


class Choice(StrEnum):
    """Base of the words that an option may have."""


def options_from_settings(kind: type, **readers: Reader) -> Callable[[Command], Command]:
    """Give a command an option for each field of a settings class that has an `Option`.

    The command takes one parameter of that class; its options stand there in the help. Several classes need several
    decorators. A field without an `Option` keeps its default.

    Args:
        kind: A frozen dataclass with fields of `Annotated[type, Option(...)]`.
        **readers: By the name of a field, a function that makes its value of what was typed. For a repeatable option
            it gets the list of texts, which is empty where the option is not used.

    Returns:
        A decorator of commands.
    """
    hints = get_type_hints(kind, include_extras=True)
    options = [_parameter(f, *get_args(hints[f.name])) for f in fields(kind) if get_origin(hints[f.name]) is Annotated]

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            if parameter.annotation is kind:
                place = parameter.name
                parameters += options
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

        @wraps(command)
        def run(**values: object) -> None:
            typed = {option.name: values.pop(option.name) for option in options}
            command(**values, **{place: kind(**_values(typed, readers))})

        # What typer and the reference of the commands read.
        vars(run)["__signature__"] = signature.replace(parameters=parameters)
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _values(typed: dict[str, object], readers: dict[str, Reader]) -> dict[str, object]:
    """Return the values of the fields that were typed; the others keep their defaults."""
    values: dict[str, object] = {}
    for name, value in typed.items():
        if name in readers and value is not None:
            values[name] = readers[name](value)
        elif isinstance(value, list) and value:
            values[name] = tuple(value)
        elif value is not None and value != []:
            values[name] = value.value if isinstance(value, Choice) else value
    return values


def _parameter(field: Field[object], kind: object, option: Option) -> inspect.Parameter:
    """Return the parameter of a command that makes typer offer a field."""
    kind, default = _typed(field.name, option.text or kind), field.default
    if default is MISSING and field.default_factory is MISSING:
        default = inspect.Parameter.empty
    elif get_origin(kind) is list:
        default = []
    elif isinstance(kind, type) and issubclass(kind, Choice) and default is not None:
        default = kind(str(default))
    elif isinstance(option.text, type) and not isinstance(default, option.text):
        default = None
    names = option.names.split() or ["--" + field.name.replace("_", "-")]
    make: Callable[..., object] = typer.Argument if option.argument else partial(typer.Option, *names)
    info = make(
        help=option.help,
        metavar=option.metavar,
        min=option.min,
        max=option.max,
        envvar=option.envvar,
        rich_help_panel=option.panel,
        show_default=option.shown or True,
    )
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )


def _typed(name: str, kind: object) -> object:
    """Return the type that typer knows for the type of a field: one type, without None."""
    if get_origin(kind) in (Union, UnionType):
        kind = next(part for part in get_args(kind) if part is not NoneType)
    if get_origin(kind) is Literal:
        make: Callable[..., object] = Choice
        return make(name, {word: word for word in get_args(kind)})
    return GenericAlias(list, get_args(kind)[:1]) if get_origin(kind) is tuple else kind
