"""Pages and notebook output are readable: opened in Chromium, every text's contrast with its background measured."""

import html
import json
import shutil
import subprocess

import numpy as np
import pytest

from medlike import Hit, Result
from medlike.archive.search.familiarity import Familiarity
from medlike.archive.search.result import ResultPictures
from medlike.display import page

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=2000",
)  # fmt: skip
LEAST = 4.5  # WCAG 2.1, 1.4.3: contrast of text of normal size

# What JupyterLab's themes say of rendered output, with their colours (packages/rendermime/style/base.css).
NOTEBOOK = """
body{background:%(ground)s;color:%(text)s}
.jp-RenderedHTMLCommon{color:%(text)s;font-size:14px}
.jp-RenderedHTMLCommon h1,.jp-RenderedHTMLCommon h2{color:%(text)s}
.jp-RenderedHTMLCommon code{background-color:%(code)s;color:%(text)s;padding:1px 5px}
.jp-RenderedHTMLCommon p,.jp-RenderedHTMLCommon li,.jp-RenderedHTMLCommon dd{color:%(text)s}
.jp-RenderedHTMLCommon dt{color:%(text)s;font-weight:bold}
.jp-RenderedHTMLCommon img{background-color:%(image)s}
"""
THEMES = {
    "light": {"ground": "#fff", "text": "rgba(0,0,0,.87)", "code": "#eee", "image": "#fff"},
    "dark": {"ground": "#111", "text": "rgba(255,255,255,.87)", "code": "#424242", "image": "#fff"},
}
# For each piece of text: the text, its colour, and the colours behind it from the nearest outwards.
MEASURE = """<script>addEventListener("load", () => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), texts = [];
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), parent = walker.currentNode.parentElement;
    if (!text || ["SCRIPT", "STYLE"].includes(parent.tagName)) continue;
    const behind = [];
    for (let at = parent; at; at = at.parentElement) behind.push(getComputedStyle(at).backgroundColor);
    texts.push([text, getComputedStyle(parent).color, behind]);
  }
  document.title = JSON.stringify(texts);
});</script>"""


@pytest.fixture(scope="module")
def result():
    picture = np.full((20, 30), 200, np.uint8)
    hits = [
        Hit(1, "a" * 32, 0, 1.0, metadata={"label": "a_label"}, itself=True),
        Hit(2, "b" * 32, 4, 0.8, group_size=5, metadata={"modality": "CT"}),
    ]
    return Result(
        hits, title="a query", outlier={"is_outlier": True, "p_value": 0.004}, warnings=("mind this",),
        familiarity=Familiarity(True, 0.8, 0.9, 0.3, 300),
        pictures=ResultPictures(lambda: picture, lambda id: picture if id[0] == "a" else None),
    )  # fmt: skip


def measured(text, folder):
    """Open a page and return its texts with their contrast."""
    chromium = shutil.which("chromium")
    assert chromium, "needed: chromium; install with: sh tests/system-packages.sh"
    file = folder / "page.html"
    # The page's own policy lets no script run: it is lifted to measure.
    file.write_text(text.replace('http-equiv="Content-Security-Policy"', "") + MEASURE)
    command = [chromium, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", file.as_uri()]
    opened = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    texts = json.loads(html.unescape(opened.split("<title>")[1].split("</title>")[0]))
    return [(words, contrast(colour, behind)) for words, colour, behind in texts]


def channels(colour):
    """Return red, green, blue and opacity of a computed colour, 0 to 1."""
    numbers = [float(number) for number in colour[colour.index("(") + 1 : -1].replace(",", " ").split()]
    return np.array(numbers[:3]) / 255, numbers[3] if len(numbers) == 4 else 1.0


def contrast(colour, behind):
    """Return the contrast ratio of WCAG 2.1, 1 to 21."""
    ground = np.ones(3)
    for layer in reversed(behind):
        paint, opacity = channels(layer)
        ground = opacity * paint + (1 - opacity) * ground
    paint, opacity = channels(colour)
    lights = sorted(luminance(each) for each in (ground, opacity * paint + (1 - opacity) * ground))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def luminance(colour):
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_contrast_is_that_of_the_standard():
    assert contrast("rgb(255, 255, 255)", ["rgba(0, 0, 0, 0)", "rgb(0, 0, 0)"]) == pytest.approx(21)
    assert contrast("rgb(118, 118, 118)", ["rgb(255, 255, 255)"]) == pytest.approx(4.54, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("theme", THEMES)
def test_notebook_output_is_readable_in_both_themes(result, theme, tmp_path):
    style = NOTEBOOK % THEMES[theme]
    output = f'<div class="jp-RenderedHTMLCommon">{result._repr_html_()}</div>'
    shown = measured(f"<!doctype html><title></title><style>{style}</style><body>{output}", tmp_path)
    texts = [text for text, _ in shown]
    for text in ("a query", "0 bits · similarity 1.00", "the query itself", "a" * 16, "picture missing", "bits", "+4"):
        assert text in texts
    assert any(text.startswith("Outlier") for text in texts)
    assert [(text, ratio) for text, ratio in shown if ratio < LEAST] == []


@pytest.mark.slow
def test_a_page_is_readable(result, tmp_path):
    shown = measured(page.page([result], attributions=["A. Author, CC BY 4.0"]), tmp_path)
    assert "A. Author, CC BY 4.0" in [text for text, _ in shown]
    assert [(text, ratio) for text, ratio in shown if ratio < LEAST] == []
