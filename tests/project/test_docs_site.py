"""The documentation builds without a warning, its links lead somewhere, and it loads nothing from another host."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import medlike

ROOT = Path(__file__).parents[2]
LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}


class Page(HTMLParser):
    """Collect the anchors of a page, and what it links to and loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)
                if (tag, name) in LOADED:
                    self.loaded.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", ROOT / "docs" / "site"]
    done = subprocess.run(
        [*command, "-d", folder / "doctrees", ROOT, folder / "html"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    html = folder / "html"
    return {file: Page(file) for file in sorted(html.rglob("*.html")) if "_static" not in file.relative_to(html).parts}


@pytest.mark.slow
def test_internal_links_lead_to_a_page_and_an_anchor(site):
    assert len(site) > 30
    broken = []
    for file, page in site.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            known = site[target].anchors if target in site else set()
            if not target.exists() or (parts.fragment and unquote(parts.fragment) not in known):
                broken.append(f"{file.name}: {link}")
    assert not broken


@pytest.mark.slow
def test_nothing_is_loaded_from_another_host(site):
    outside = {url for page in site.values() for url in page.loaded if urlsplit(url).netloc}
    assert not outside
    (top,) = [file.parent for file in site if file.name == "README.html" and file.parent.name == "html"]
    sheets = "".join(file.read_text(encoding="utf-8") for file in sorted(top.rglob("*.css")))
    assert "pst-color" in sheets
    for pattern in ("@import url(http", "url(http", 'url("http', "url('http", "url(//", 'url("//'):
        assert pattern not in sheets


@pytest.mark.slow
def test_every_public_name_is_in_the_api_reference(site):
    # docs/api.md describes the HTTP API; this page lists the names of the library.
    (api,) = [page for file, page in site.items() if file.name == "api.html" and file.parent.name == "site"]
    names = {f"medlike.{name}" for name in medlike.__all__ if not name.startswith("__")}
    assert names <= api.anchors
    assert {"medlike.Archive.search", "medlike.Archive.add", "medlike.Query"} <= api.anchors
