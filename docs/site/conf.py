"""Settings of the documentation site: sphinx-build -W -c docs/site . build/site, or make docs-site.

The source folder is the root of the repository, so that README.md and docs/ are pages where they lie and their links
between each other are those that a code host follows. Nothing is loaded from another host: no font, script or picture.
"""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "src"))

import medlike  # noqa: E402

project = "medlike"
author = "The medlike maintainers"
copyright = "The medlike maintainers, Apache License 2.0"
version = release = medlike.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/site/index"
include_patterns = [
    "*.md", "docs/*.md", "docs/results/*.md", "docs/site/*.md", "docs/site/*.rst",
    "samples/README.md", "research/*.md",
]
exclude_patterns = [".*", "build", "dist", "runs", "src", "tests", "research/src", "research/tests", "tools"]

# Headings have anchors as a code host makes them, so that PAGE.md#heading is checked.
myst_heading_anchors = 4
myst_links_external_new_tab = False

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
# Fields are explained once, in the docstring of their class.
napoleon_use_ivar = True
maximum_signature_line_length = 88
python_use_unqualified_type_names = True

html_theme = "pydata_sphinx_theme"
html_title = "medlike"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_sidebars: dict[str, list[str]] = {"docs/site/index": [], "docs/site/api": []}
html_theme_options: dict[str, Any] = {
    "logo": {"text": "medlike"},
    "navbar_align": "left",
    "show_toc_level": 2,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "friendly",
    "pygments_dark_style": "github-dark",
}

ENTRY = """<!doctype html>
<meta charset="utf-8">
<title>medlike</title>
<meta http-equiv="refresh" content="0; url={page}">
<a href="{page}">medlike: documentation</a>
"""


def write_entry(app: Any, exception: Exception | None) -> None:
    """Write index.html at the top of the site, which leads to the first page."""
    if exception is None and app.builder.format == "html":
        page = app.builder.get_target_uri(root_doc)
        (Path(app.outdir) / "index.html").write_text(ENTRY.format(page=page), encoding="utf-8")


def setup(app: Any) -> None:
    """Register what the site adds to Sphinx."""
    app.connect("build-finished", write_entry)
