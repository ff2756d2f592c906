"""What the study `methods` says of its comparisons."""

from medlike_research.studies.methods import _verdict


def test_the_verdict_names_the_best_rival_and_the_best_that_starts_from_ours():
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
