"""The commissioning report as a page that needs nothing else. It shows no picture."""

from medlike.commissioning.commission import sentences
from medlike.display.templates import template
from medlike.types import JsonObject


def page(report: JsonObject) -> str:
    """Return the report of `commission` as HTML: no script, no address, styles inside."""
    return template("commissioning.html").render(report=report, sentences=sentences(report))
