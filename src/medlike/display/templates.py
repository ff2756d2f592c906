"""The templates of all pages: the only place that turns values into HTML."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


def template(name: str) -> Template:
    """Return a template of display/templates by name. It escapes texts and refuses a value that is missing."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("medlike.display"), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
