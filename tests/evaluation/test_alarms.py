import numpy as np

from medlike.evaluation.alarms import constant_bits, false_alarms, few_units, over_centralisation, suspects
from medlike.metrics import Relevance, score_codes
from medlike.metrics.statistics import Interval


def scores(codes, labels):
    return score_codes(codes[:50], codes[50:], Relevance.of(labels[:50], labels[50:]))


def test_one_code_a_class_is_over_centralised_and_spread_codes_are_not():
    labels = np.arange(200) % 4
    rng = np.random.default_rng(0)
    collapsed = np.array([[0] * 4, [255] * 4, [240] * 4, [15] * 4], np.uint8)[labels]
    assert "radius 0" in over_centralisation(scores(collapsed, labels)).message
    spread = collapsed ^ np.packbits(rng.random((200, 32)) < 0.06, axis=1)
    assert over_centralisation(scores(spread, labels)) is None
    chance = rng.integers(0, 256, (200, 4), dtype=np.uint8)
    assert over_centralisation(scores(chance, labels)) is None
    # A query that stands in the gallery too finds its own copy at radius 0, which says nothing of classes.
    copies = score_codes(chance[:50], chance, Relevance.of(labels[:50], labels))
    assert copies.precision_within[:, 0].mean() == 1 and over_centralisation(copies) is None


def test_a_handful_of_patients_is_told():
    assert few_units(30, 200) is None
    assert "11 queries of 9 patients" in few_units(9, 11).message


def test_constant_bits_are_counted():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (500, 2), dtype=np.uint8)
    assert constant_bits(codes) is None
    codes[:, 0] |= 0b11000000
    assert constant_bits(codes).message.startswith("2 of 16")


def test_false_alarms_alarm_only_beyond_chance():
    assert false_alarms(Interval(0.05, 0.02, 0.09, 100)) is None
    assert false_alarms(Interval(0.08, 0.05, 0.12, 100)).name == "too many false outlier alarms"


def test_mislabelled_images_are_the_first_suspects():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40)
    features = np.eye(2)[labels] * 4 + rng.normal(0, 0.3, (80, 2))
    wrong = labels.copy()
    wrong[5] = 1
    doubt = suspects(features, wrong, np.arange(80))
    assert doubt.argmax() == 5 and doubt[5] == 1.0 and np.median(doubt) < 0.15


def test_copies_of_the_same_patient_do_not_vouch_for_a_label():
    # Twelve copies of one patient among the other label, and their label far away in other patients.
    at = [[1.0, 0.0]] * 12 + [[0.99, 0.1]] * 12 + [[0.0, 1.0]] * 12
    labels = np.array([1] * 12 + [0] * 12 + [1] * 12)
    units = np.array([0] * 12 + list(range(1, 25)))
    doubt = suspects(np.array(at), labels, units)
    assert (doubt[:12] == 1.0).all() and (doubt[24:] == 0.0).all()
    assert (suspects(np.array(at), labels, np.arange(36))[:12] == 0.0).all()


def test_a_label_of_one_patient_alone_is_not_judged_and_few_images_are_judged_by_what_there_is():
    features = np.array([[1.0, 0.0]] * 3 + [[0.9, 0.1]] * 20)
    alone = np.array([1] * 3 + [0] * 20)
    assert (suspects(features, alone, np.array([0] * 3 + list(range(1, 21))))[:3] == 0.0).all()
    assert (suspects(features[:5], alone[:5], np.array([0, 1, 2, 3, 3]))[:3] == 0.0).all()
