"""Templates escape texts and refuse what is missing."""

import pytest
from jinja2 import UndefinedError

from medlike.display.templates import template


def test_a_value_that_is_missing_is_refused():
    with pytest.raises(UndefinedError):
        template("page.html").render(results=[])


def test_texts_are_escaped():
    shown = template("page.html").render(
        results=[], title="<b>&", style="", notice="", missing="", legend=[], attributions=[]
    )
    assert "<b>&" not in shown and "&lt;b&gt;&amp;" in shown


def test_the_histogram_shows_counts_and_where_flags_begin():
    drawn = str(template("histogram.html").module.histogram([7, 3, 0, 5], 0.03, 400, 100))
    assert [f">{count}</text>" in drawn for count in (7, 3, 0, 5)] == [True] * 4
    assert '<line x1="12.0" x2="12.0"' in drawn and ">0.03</text>" in drawn
