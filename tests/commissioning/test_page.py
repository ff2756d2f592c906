"""The commissioning report as a page."""

import json
import re

from medlike.commissioning.page import page


def test_the_page_needs_nothing_else_and_shows_no_picture(report):
    text = page(report)
    assert not re.search(r"https?://|<script|<img|src=", text)
    assert "scanner North One" in text and "image 7" in text and "not a medical device" in text
    assert text.count("<rect") == 20
    json.dumps(report, allow_nan=False)


def test_names_in_the_page_are_escaped(report):
    harmful = report | {"skipped": [{"name": "<b>x", "reason": "a & b"}]}
    assert "&lt;b&gt;x" in page(harmful) and "a &amp; b" in page(harmful)


def test_commands_in_the_advice_have_no_quotes(report):
    assert "run medlike calibrate on" in page(report | {"advice": ["run `medlike calibrate` on these images."]})
