"""Say how a field of a settings class is written on the command line."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """Offer a field of a frozen settings class on the command line: `k: Annotated[int, Option("Hits.", "-k")] = 10`.

    Attributes:
        help: What the option does, in a sentence or two.
        names: Its names, separated by blanks. By default the name of the field after two hyphens.
        metavar: What the help calls the value.
        min: The smallest number allowed.
        max: The largest number allowed.
        envvar: An environment variable that gives the value.
        panel: The heading under which the help lists the option.
        shown: What the help shows as the default, where that is not the default of the field.
        text: What is typed where the field has another type: `str`, `list[str]` if repeatable, or a `Literal` of words.
        argument: If true, the value stands alone, without a name.
    """

    help: str
    names: str = ""
    metavar: str | None = None
    min: float | None = None
    max: float | None = None
    envvar: str | None = None
    panel: str | None = None
    shown: str | None = None
    text: object = None
    argument: bool = False
