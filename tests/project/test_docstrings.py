"""Every public name has a docstring in Google form: a sentence, each argument, what is returned."""

import dataclasses
import inspect

import pytest

import medlike

NAMES = [name for name in medlike.__all__ if not name.startswith("_")]


def public_functions():
    for name in NAMES:
        value = getattr(medlike, name)
        if inspect.isfunction(value):
            yield name, value
        elif not issubclass(value, Exception):
            for attribute, member in vars(value).items():
                function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
                if not attribute.startswith("_") and inspect.isfunction(function):
                    yield f"{name}.{attribute}", function


def section(text, title):
    return text.partition(f"\n{title}:\n")[2].partition("\n\n")[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_explained_in_a_sentence(name):
    first = inspect.getdoc(getattr(medlike, name)).splitlines()[0]
    assert first[0].isupper() and first.endswith("."), first
    assert first.split()[0] not in ("A", "An", "The", "What", "One", "How", "Whether", "Something"), first


@pytest.mark.parametrize("name", [name for name in NAMES if dataclasses.is_dataclass(getattr(medlike, name))])
def test_every_field_of_a_public_class_is_explained(name):
    kind = getattr(medlike, name)
    text = inspect.getdoc(kind)
    if name == "TextResult":
        text += inspect.getdoc(medlike.Result)
    for field in dataclasses.fields(kind):
        assert f"\n    {field.name}: " in text, f"{name}.{field.name}"


@pytest.mark.parametrize(("name", "function"), list(public_functions()))
def test_every_argument_of_a_public_function_is_explained(name, function):
    text = inspect.getdoc(function)
    first = text.splitlines()[0]
    assert first[0].isupper() and (first.endswith(".") or "." in first), f"{name}: {first}"
    given = [each for each in inspect.signature(function).parameters if each not in ("self", "cls")]
    arguments = section(text, "Args")
    for each in given:
        assert f"    {each}: " in f"\n{arguments}" or f"    **{each}: " in arguments, f"{name}: {each}"
    returned = inspect.signature(function).return_annotation
    if returned not in (None, "None", inspect.Signature.empty):
        assert first.startswith(("Return", "Draw")) or "\nReturns:\n" in text or "\nYields:\n" in text or (
            "return" in first
        ), f"{name} does not say what it returns"
