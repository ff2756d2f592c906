import pytest

from medlike.evaluation.tables import between, shown


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        (0.12345, "0.123"), (0.00012, "0.0001"), (0.0, "0.000"), (26.3434, "26.3"), (26343.433, "26,343"),
        (-264.339, "-264"), (1664, "1664"), (1_000_000, "1,000,000"), (True, "True"), (None, ""), (float("nan"), ""),
        ("10000", "10000"),
    ],
)  # fmt: skip
def test_cells_are_written_for_people(cell, written):
    assert shown(cell) == written


def test_an_interval_that_does_not_exist_is_nothing():
    assert between((0.25, 0.5)) == "0.250 to 0.500"
    assert between((None, None)) == between((float("nan"), float("nan"))) == ""
