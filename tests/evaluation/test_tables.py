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


def test_the_verdict_names_the_best_rival_and_the_best_that_starts_from_ours():
    from medlike_research.studies.methods import _verdict

    def row(name, relative, protocol="pooled"):
        return [name, protocol, relative / 100, "", f"{relative:.1f} %", 0.5, 0.004]

    rows = [row("csq", -20.0), row("csq", -1.0, "within source"), row("dch", -30.0),
            row("dch after our feature phase", 0.5), row("ITQ on the features of ours", 0.1),
            row("discriminant on tuned stem features, every depth", -50.0)]  # fmt: skip
    told = _verdict("ours (SCH corrected, full recipe)", rows)
    assert "+25.0 % (relative) against the best code that owes nothing to ours, csq (p = 0.0040 after Holm)" in told
    assert "and -0.5 % (relative) against the best code made from the features that ours trained first, dch" in told
    assert "+100.0 % (relative) against the best floor in floats, discriminant on tuned stem features" in told
    assert _verdict("ours (SCH corrected, full recipe)", []).startswith("the comparison needs")
    assert _verdict("csq", rows).startswith("the comparison needs")
