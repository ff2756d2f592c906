"""The examples of a page: shell commands, each with the answer that the page shows for it."""

import json
import re
from dataclasses import dataclass

_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
_ELISION = (
    (re.compile(r"([\[{])\s*\.\.\.\s*([\]}])"), r"\1\2"),  # {...}, [...]
    (re.compile(r",\s*\.\.\.\s*(?=[\]}])"), ""),  # {"a": 1, ...}
    (re.compile(r":\s*\.\.\."), ': "..."'),  # {"a": ...}
)
_VARIABLE = re.compile(r"\$(\w+)")


@dataclass(frozen=True)
class Example:
    """A command of a page, and what the page says that it answers; None if it says nothing."""

    command: str
    answer: object = None


def of_page(text):
    """Return the examples of all shell blocks of a page that use curl, in their order.

    A command begins at the margin; a comment below it is its answer: JSON in which `...` stands for anything more.
    """
    found = []
    for block in _BLOCK.findall(text):
        for line in block.splitlines():
            if line.startswith("# "):
                shown = (found[-1].answer or "") + line[2:]
                found[-1] = Example(found[-1].command, shown)
            elif line.startswith("  "):
                found[-1] = Example(found[-1].command + "\n" + line)
            else:
                found.append(Example(line))
    return [Example(each.command, each.answer and parsed(each.answer)) for each in found]


def parsed(shown):
    """Return an answer as a page shows it as JSON."""
    for pattern, plain in _ELISION:
        shown = pattern.sub(plain, shown)
    return json.loads(shown)


def difference(shown, answered, variables, at="the answer"):
    """Return where an answer is another one than the page shows; None if it is not.

    Numbers are compared by their type alone. "..." stands for any value; a "$NAME" takes the first value that it
    stands for into `variables`, and must be the same one from then on.
    """
    if isinstance(shown, dict):
        if not isinstance(answered, dict) or set(shown) - set(answered):
            missing = sorted(set(shown) - set(answered)) if isinstance(answered, dict) else "an object"
            return f"{at} has no {missing}: {answered!r:.500}"
        parts = [(f"{at}.{name}", value, answered[name]) for name, value in shown.items()]
    elif isinstance(shown, list):
        if not isinstance(answered, list) or len(shown) > len(answered):
            return f"{at} has fewer than {len(shown)} entries: {answered!r:.500}"
        parts = [(f"{at}[{i}]", value, answered[i]) for i, value in enumerate(shown)]
    elif isinstance(shown, str) and (name := _VARIABLE.fullmatch(shown)):
        same = variables.setdefault(name[1], answered) == answered
        return None if same else f"{at} is {answered!r}, ${name[1]} is {variables[name[1]]!r}"
    elif isinstance(shown, str) and shown.endswith("..."):
        same = shown == "..." or (isinstance(answered, str) and answered.startswith(shown[:-3]))
        return None if same else f"{at} is {answered!r}, not {shown!r}"
    elif isinstance(shown, int | float) and not isinstance(shown, bool):
        number = isinstance(answered, int | float) and not isinstance(answered, bool)
        return None if number else f"{at} is {answered!r}, not a number"
    else:
        return None if shown == answered else f"{at} is {answered!r}, not {shown!r}"
    for part in parts:
        if found := difference(part[1], part[2], variables, part[0]):
            return found
    return None
