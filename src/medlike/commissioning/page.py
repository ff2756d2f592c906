"""The commissioning report as a page that needs nothing else. It shows no picture."""

from typing import Any

from medlike.commissioning.commission import sentences
from medlike.display.templates import template


def page(report: dict[str, Any]) -> str:
    """Return the report of `commission` as HTML: no script, no address, styles inside."""
    return template("commissioning.html").render(report=report, sentences=sentences(report))
