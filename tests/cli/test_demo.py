"""medlike demo: quick, offline, and what it draws stands by itself."""

import re

import pytest
from PIL import Image

from .conftest import medlike, processor_seconds

# All samples are encoded.
pytestmark = pytest.mark.slow

# Read by Python at its start: whatever wants to connect anywhere is stopped and named.
NO_NETWORK = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"network: {event} {arguments}")

sys.addaudithook(refuse)
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder of a demo run without a network, what it printed, and the processor seconds it took."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "sitecustomize.py").write_text(NO_NETWORK)
    began = processor_seconds()
    done = medlike("demo", folder / "out", PYTHONPATH=str(folder))
    assert done.code == 0, done.err
    return folder / "out", done, processor_seconds() - began


def test_takes_less_than_half_a_minute(drawn):
    assert drawn[2] < 30, "even on one core"


def test_says_where_to_look(drawn):
    folder, done, _ = drawn
    assert str(folder / "page.html") in done.out and str(folder / "sheet.png") in done.out
    assert done.out.startswith("197 images in the archive")
    assert done.out.endswith(f"medlike serve --archive {folder / 'archive'} --open\n")


def test_searches_as_a_larger_archive_does_by_fitted_codes(drawn):
    assert "codes of 64 bits fitted to 197 images" in drawn[1].out


def test_finds_the_right_kinds(drawn):
    tables = re.split(r"\n\n(?=[A-Z])", drawn[1].out)
    for title, kind in (("A chest radiograph", "XR_chest"), ("A fetal head", "US_fetal"), ("A drawn CT", "CT_")):
        [table] = [part for part in tables if part.startswith(title)]
        first = next(line for line in table.splitlines() if line.lstrip().startswith("1 "))
        assert kind in first, table
    for title, word in (("In words", "ring"), ("Words and a chest radiograph", "device")):
        # Drawn samples share their words, and places among equals go by ids, which are new in every archive.
        [table] = [part for part in tables if part.startswith(title)]
        hits = [line for line in table.splitlines() if re.match(r" *[1-5] ", line)]
        assert len(hits) == 5 and any(word in hit for hit in hits), table
    [smear] = [part for part in tables if part.startswith("A blood smear")]
    assert "Outlier" in smear


def test_page_stands_by_itself(drawn):
    page = (drawn[0] / "page.html").read_text(encoding="utf-8")
    pointed = re.findall(r"""(?:src|href)=["']([^"']*)|url\(([^)]*)""", page)
    assert pointed
    assert all("".join(target).startswith(("data:", "#")) for target in pointed), "everything is in the page"
    assert page.count("data:image/") >= 8 + 40
    assert "not a medical device" in page
    for terms in ("COVID-19 Image Repository", "CC BY 3.0, https://", "CC BY 4.0, https://", "changes: scaled down"):
        assert terms in page, "the terms of the images ask for their authors"
    assert "<dt>similarity</dt>" in page


def test_sheet_is_a_picture(drawn):
    with Image.open(drawn[0] / "sheet.png") as sheet:
        assert sheet.format == "PNG" and sheet.height > sheet.width > 800


def test_again_uses_the_archive_that_is_there(drawn):
    again = medlike("demo", drawn[0])
    assert again.code == 0
    assert "197 images in the archive, 0 of them new" in again.out
