"""What is known of the sources of a collection, from a CSV of its own."""

from pathlib import Path

import pytest

from medlike.datasets import Dataset, Sample, may_draw, read_sources, with_sources
from medlike.errors import DatasetError

ROWS = "source,apart,origin,caution,licence\nx,yes,here,scanned from paper,CC0\ny,no,here,,\n"


def test_samples_get_what_is_known_of_their_source(tmp_path):
    (tmp_path / "sources.csv").write_text(ROWS)
    data = Dataset("d", tuple(Sample(s, Path(s), source=s, licence="not stated") for s in ("x", "y", "z")))
    x, y, z = with_sources(data, read_sources(tmp_path / "sources.csv"))
    assert (x.apart, x.origin, x.caution, x.licence) == (True, "here", "scanned from paper", "CC0")
    assert (y.apart, y.origin, y.caution, y.licence) == (False, "here", "", "not stated")
    assert z == data[2]
    assert may_draw(x) and not may_draw(y)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,apart\nx,yes\n", "has the columns name, apart; known: source,"),
        ("source,kin\nx,y\n", "has the columns source, kin; known: source,"),
        ("", "has the columns nothing"),
        ("source\nx\nx\n", "row 2: source is 'x'; name each source once"),
        ("source,apart\n,yes\n", "row 1: source is ''"),
        ("source,apart\nx,perhaps\n", "row 1: apart is 'perhaps'; write yes or no"),
        (b"source\n\xff\xfe\n", "not a CSV file in UTF-8"),
    ],
)
def test_what_is_wrong_with_the_file_is_named(tmp_path, text, message):
    (tmp_path / "sources.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DatasetError, match=message):
        read_sources(tmp_path / "sources.csv")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match="does not exist"):
        read_sources(tmp_path / "none.csv")
