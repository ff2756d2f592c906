"""The commands' own help as Markdown: python -m medlike_research.docs.reference > docs/cli.md

With the argument `added` it is the help of the commands that packages add: research/commands.md.
"""

import inspect
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from enum import Enum
from typing import Any, get_args, get_origin

import typer

INTRODUCTION = """# Commands

`make docs` writes this page from the help of the commands; do not edit it. `medlike COMMAND --help` has more examples.

| exit code | meaning |
|---:|---|
| 0 | done |
| 1 | failed; one line on stderr names the reason |
| 2 | wrong usage |
| 3 | done, but some inputs were refused |
| 130 | interrupted |

Results go to stdout; progress and notes go to stderr. Names, labels and texts come from files, so control characters
appear as escapes (`\\x1b`, `\\u202e`). In CSV, a text that begins like a formula gets an apostrophe in front of it.

Set `MEDLIKE_TRACEBACK=1` to see where a failure comes from. `medlike --install-completion` installs shell completion.
The package medlike-research adds [commands](../research/commands.md) for studies and benches.
"""
ADDED = """# Commands of medlike-research

`make docs` writes this page from the help of the commands; do not edit it. [Commands](../docs/cli.md) has those of
medlike itself.
"""


EXAMPLES = 3  # of a command; its help has them all
SHARED = 3  # an option that so many commands have, with the same help, is described once


def reference(added: bool = False) -> str:
    """Return the page of medlike's own commands, or of those that packages add, with options and examples."""
    source = added_commands() if added else own_commands()
    described = [(path, function, epilog, _arguments_first(function)) for path, function, epilog in source]
    counts = Counter((name, text) for *_, own in described for _, name, text in own if name.startswith("-"))
    shared = [item for item, count in counts.items() if count >= SHARED]
    parts = [
        ADDED if added else INTRODUCTION,
        "## Shared options\n\nThe usage of each command says which of these it takes.\n",
        "\n".join(_item(*item) for item in shared) + "\n",
    ]
    for path, function, epilog, own in described:
        listed = [(name, text) for _, name, text in own if (name, text) not in shared]
        usage = [path, *(word for word, name, text in own if not name.startswith("-"))]
        usage += [word for word, name, text in own if (name, text) in shared]
        usage += ["[OPTIONS]"] * any(name.startswith("-") for name, _ in listed)
        parts.append(f"## {path}\n\n{inspect.getdoc(function)}\n\n`{' '.join(usage)}`\n")
        if listed:
            parts.append("\n".join(_item(*item) for item in listed) + "\n")
        paragraphs = [" ".join(part.split()) for part in (epilog or "").split("\n\n")]
        examples = [part for part in paragraphs if part.startswith("medlike ")]
        if examples:
            parts.append("```\n" + "\n".join(examples[:EXAMPLES]) + "\n```\n")
    return "\n".join(parts)


def _arguments_first(function: Any) -> list[tuple[str, str, str]]:
    return sorted(parameters(function), key=lambda item: item[1].startswith("-"))


def _item(name: str, text: str) -> str:
    """Return a list item of at most 120 characters a line; the name is never folded."""
    # A name of several words is one word to textwrap while its blanks are no blanks.
    whole = f"`{name}`:".replace(" ", "\0")
    lines = textwrap.wrap(
        f"- {whole} {text}", 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace("\0", " ")


def every_command() -> Iterator[tuple[str, Any, str | None]]:
    """Yield full name, function and epilog of medlike's own commands, then of those that packages add."""
    yield from own_commands()
    yield from added_commands()


def own_commands() -> Iterator[tuple[str, Any, str | None]]:
    """Yield full name, function and epilog of medlike's own commands."""
    from medlike.cli.app import build

    yield from commands(build())


def added_commands() -> Iterator[tuple[str, Any, str | None]]:
    """Yield full name, function and epilog of the commands that packages add."""
    from medlike.cli.added import added

    for name, app in added():
        # A Typer of one command is that command; one of several is a group.
        single = len(app.registered_commands) == 1 and not app.registered_groups
        yield from commands(app, "medlike" if single else f"medlike {name}")


def commands(app: typer.Typer, path: str = "medlike") -> Iterator[tuple[str, Any, str | None]]:
    """Full name, function and epilog of everything that can be run."""
    for command in app.registered_commands:
        yield f"{path} {command.name}", command.callback, command.epilog
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from commands(group.typer_instance, f"{path} {group.name}")


def parameters(function: Any) -> Iterator[tuple[str, str, str]]:
    """Of each argument and option: its word in the usage line, its names, its help with the default."""
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if parameter.annotation is typer.Context:
            continue  # what was given, not something to give
        kind, facts = get_args(parameter.annotation)[:2]
        value = _value(kind, facts.metavar, parameter.name)
        text = " ".join((facts.help or "").split())
        if isinstance(facts, typer.models.ArgumentInfo):
            optional = parameter.default is not inspect.Parameter.empty
            bare = value.strip("[]")
            yield (f"[{bare}]" if optional else bare), bare, text
            continue
        # Inside Annotated, typer keeps the first name where a default would be.
        names = [n for n in (facts.default, *(facts.param_decls or ())) if isinstance(n, str)]
        names = names or ["--" + parameter.name.replace("_", "-")]
        after = "" if kind is bool else f" {value}"
        yield (
            f"[{names[0]}{after}]",
            ", ".join(names) + after,
            text + _default(parameter.default, facts.show_default),
        )


def _value(kind: Any, metavar: str | None, name: str) -> str:
    if metavar:
        return metavar
    bare = [t for t in get_args(kind) if t is not type(None)] if get_origin(kind) is not None else [kind]
    bare = [t for t in (getattr(kind, "__args__", None) or bare) if t is not type(None)]
    if isinstance(bare[0], type) and issubclass(bare[0], Enum):
        return "|".join(str(choice.value) for choice in bare[0])
    return name.upper()


def _default(default: Any, shown: Any) -> str:
    if isinstance(shown, str):
        return f" Default: {shown}."
    if not default or default is inspect.Parameter.empty:
        return ""
    return f" Default: {getattr(default, 'value', default)}."


if __name__ == "__main__":
    print(reference(added=sys.argv[1:] == ["added"]), end="")
