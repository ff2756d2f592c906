"""The summary of hits by patient against a naive count, and Wilson's interval against its definition."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medlike import Hit, Query, Result
from medlike.archive.search.summary import wilson
from medlike.display import legend
from medlike.display.sheet import judgements
from medlike.errors import QueryError


def hit(rank, label=None, patient=None, **more):
    metadata = {} if label is None else {"label": label}
    return Hit(rank, f"{rank:032x}", 3, 0.5, metadata=metadata, patient=patient, **more)


def naive(hits, k):
    """(patients with a label, patients without, {label: patients}) of the first k hits, one patient after the other."""
    first = [each for each in hits[:k] if not each.itself]
    patients = []
    for each in first:
        if each.patient is None or each.patient not in patients:
            patients.append(each.patient if each.patient is not None else each)
    labels = []
    for patient in patients:
        of = [each for each in first if each is patient or (each.patient is not None and each.patient == patient)]
        held = [each.metadata["label"] for each in of if "label" in each.metadata]
        if held:
            labels.append(max(held, key=lambda label: (held.count(label), -held.index(label))))
    return len(labels), len(patients) - len(labels), {label: labels.count(label) for label in labels}


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from([None, 1, 2, 3, 4]), st.integers(0, 9)),
        max_size=14,
    ),
    st.integers(1, 16),
)
def test_it_equals_a_count_patient_by_patient(drawn, k):
    hits = [hit(at, label, patient, itself=chance == 0) for at, (label, patient, chance) in enumerate(drawn, 1)]
    summary = Result(hits).summary(k=k)
    patients, without, labels = naive(hits, k)
    assert (summary.patients, summary.without) == (patients, without)
    assert {each.value: each.patients for each in summary.values} == labels
    assert [each.patients for each in summary.values] == sorted(labels.values(), reverse=True)
    assert summary.unknown == sum(each.patient is None for each in hits[:k] if not each.itself)
    for each in summary.values:
        assert each.share == each.patients / patients
        assert 0 <= each.low <= each.share <= each.high <= 1


@pytest.mark.parametrize("trials", [1, 2, 8, 50])
def test_the_interval_ends_where_the_share_would_be_two_deviations_away(trials):
    for successes in range(trials + 1):
        low, high = wilson(successes, trials)
        for end in (low, high):
            if 1e-9 < end < 1 - 1e-9:
                away = abs(successes / trials - end) / math.sqrt(end * (1 - end) / trials)
                assert away == pytest.approx(1.959963984540054)
    assert wilson(0, trials)[0] == pytest.approx(0, abs=1e-12) and wilson(trials, trials)[1] == pytest.approx(1)


def test_table_sheet_and_page_say_what_the_archive_holds():
    hits = [hit(at, "pneumonia" if at < 7 else "normal", at) for at in range(1, 9)] + [hit(9, None, 9)]
    sentence = "Of the 8 patients nearest with a label here, 6 have pneumonia (interval 41 to 93 %); 1 more without"
    assert (sentence, False) in judgements(Result(hits))
    assert sentence in Result(hits).page()
    assert legend.legend([Result(hits)])[-1] == ("interval", legend.INTERVAL)
    summary = Result(hits).as_dict()["summary"]
    assert json.loads(json.dumps(summary)) == summary
    assert summary["values"][0]["value"] == "pneumonia" and summary["without"] == 1
    long = Result([hit(at, "x" * 90, at) for at in range(3)]).summary()
    assert str(long).endswith(f"3 have {'x' * 39}… (interval 44 to 100 %)")
    assert str(Result([hit(1, "a", 1), hit(2, "b", 2)]).summary()).endswith("1 has a (interval 9 to 91 %)")
    assert str(Result([hit(1, "a", 1), hit(2, "b", 1)]).summary()) == ""
    nothing = Result([hit(1)])
    assert "summary" not in nothing.as_dict() and not any("patients" in text for text, _ in judgements(nothing))


def test_another_field_and_a_wrong_number():
    result = Result([Hit(1, "a" * 32, 1, 0.5, metadata={"view": ["AP", "supine"], "age": 40})])
    assert result.summary("view").values[0].value == "AP, supine"
    assert result.summary("age").values[0].value == "40"
    with pytest.raises(QueryError, match="k is 0"):
        result.summary(k=0)


def test_hits_of_one_patient_have_one_number_in_their_order(population):
    patients = [f"{at % 4:032x}" if at % 5 else None for at in range(30)]
    asked = population.add(30, patient=patients, study=[f"{at % 7:032x}" for at in range(30)], label="x")[0]

    def check(hits):
        numbers = {}
        for each in hits:
            key = population.rows[each.id]["patient"]
            assert each.patient == (None if key is None else numbers.setdefault(key, len(numbers) + 1))

    result = population.archive.search(Query(id=asked), k=30)
    check(result)
    assert [each.patient for each in population.archive.search(Query(id=asked), k=5)] == [
        each.patient for each in result.hits[:5]
    ]
    assert result.summary().patients == 4 + result.summary().unknown and result.summary().unknown == 5
    grouped = population.archive.search(Query(id=asked), k=7, group_by="study")
    check([each for best in grouped for each in (best, *best.others)])
    assert Result.from_dict(json.loads(json.dumps(result.to_dict()))).summary() == result.summary()
