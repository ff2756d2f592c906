"""Expressions of radiology that mean the same: abbreviations, words written out, other words for it.

`paraphrases.toml` lists them. An abbreviation with several meanings has one only beside words that tell which.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_suffix(".toml")
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Meaning:
    """Hold expressions that mean the same, in lower case with a space between words.

    Attributes:
        says: The expressions; the first is written out.
        context: Words by ambiguous expression: beside one of them it has this meaning.
        capitals: Expressions that are ordinary words unless they are in capitals.
    """

    says: tuple[str, ...]
    context: Mapping[str, frozenset[str]] = field(default_factory=dict)
    capitals: frozenset[str] = frozenset()

    def others(self, expression: str) -> tuple[str, ...]:
        """Return the expressions that can stand for one of them wherever they are: none that is ambiguous."""
        unclear = {*self.context, *self.capitals, expression}
        return tuple(other for other in self.says if other not in unclear)


@dataclass(frozen=True)
class FoundExpression:
    """Hold an expression of the vocabulary that stands in a text.

    Attributes:
        expression: In lower case.
        start: Its first character in the text.
        end: The character behind it.
        meaning: What it means; None if it is ambiguous and nothing in the text tells what it means.
        possible: What it may mean, written out.
    """

    expression: str
    start: int
    end: int
    meaning: Meaning | None
    possible: tuple[str, ...]

    @property
    def others(self) -> tuple[str, ...]:
        """Return what may stand in its place; nothing where its meaning is not clear."""
        return () if self.meaning is None else self.meaning.others(self.expression)


@cache
def meanings() -> tuple[Meaning, ...]:
    """Return the vocabulary."""
    tables = tomllib.loads(FILE.read_text("utf-8"))["meaning"]
    return tuple(
        Meaning(
            tuple(normal(expression) for expression in table["says"]),
            {normal(key): frozenset(words) for key, words in table.get("context", {}).items()},
            frozenset(normal(expression) for expression in table.get("capitals", ())),
        )
        for table in tables
    )


def normal(text: str) -> str:
    """Return a text's words in lower case with single spaces between them."""
    return " ".join(_WORD.findall(text.lower()))


def found(text: str) -> list[FoundExpression]:
    """Return the expressions of the vocabulary in a text, the longest at each place, in the order they stand.

    An ambiguous one has the meaning of which another word of the text is a context, unless there are two such. An
    ordinary word that is not in capitals is left out.
    """
    places = [(match.group(), match.start(), match.end()) for match in _WORD.finditer(text)]
    words = [word.lower() for word, _, _ in places]
    expressions: list[FoundExpression] = []
    at = 0
    while at < len(words):
        longest = next(_at(places, words, at, text), None)
        if longest is None:
            at += 1
        else:
            expressions.append(longest[0])
            at += longest[1]
    return expressions


def variants(text: str) -> Iterator[str]:
    """Yield a text with one expression after another replaced by another of the same meaning."""
    for one in found(text):
        for other in one.others:
            yield text[: one.start] + other + text[one.end :]


@cache
def _by_expression() -> tuple[Mapping[str, tuple[Meaning, ...]], int]:
    """Return the meanings of each expression, and how many words the longest has."""
    table: dict[str, tuple[Meaning, ...]] = {}
    for meaning in meanings():
        for expression in meaning.says:
            table[expression] = (*table.get(expression, ()), meaning)
    return table, max(len(expression.split()) for expression in table)


def _at(
    places: list[tuple[str, int, int]], words: list[str], at: int, text: str
) -> Iterator[tuple[FoundExpression, int]]:
    """Yield the expressions that begin at a word, the longest first, each with its number of words."""
    table, longest = _by_expression()
    for count in range(min(longest, len(words) - at), 0, -1):
        expression = " ".join(words[at : at + count])
        possible = table.get(expression, ())
        start, end = places[at][1], places[at + count - 1][2]
        if any(expression in meaning.capitals for meaning in possible) and not text[start:end].isupper():
            continue
        if possible:
            around = {*words[:at], *words[at + count :]}
            clear = [one for one in possible if expression not in one.context or around & one.context[expression]]
            meaning = clear[0] if len(clear) == 1 else None
            yield FoundExpression(expression, start, end, meaning, tuple(one.says[0] for one in possible)), count
