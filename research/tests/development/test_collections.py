"""The development collections: how they read, and what is known of their sources."""

import os

import pytest

from medlike.datasets import coarse_class, headline, headline_labels, may_draw, may_train
from medlike.datasets.labels import apart_sources, cautions, kin_of
from medlike.errors import DatasetError
from medlike_research.development.collections import CROSS_SOURCE_CLASSES, LENIENT_CLASSES, development

needed = pytest.mark.skipif("MEDLIKE_DEV" not in os.environ, reason="no development collections (MEDLIKE_DEV)")


def test_without_their_folder_the_variable_is_named(monkeypatch):
    monkeypatch.delenv("MEDLIKE_DEV", raising=False)
    with pytest.raises(DatasetError, match="set MEDLIKE_DEV"):
        development()


@pytest.mark.collections
@needed
def test_both_collections_read():
    data = development()
    assert len(data) == 11_933
    assert sum(s.is_ood for s in data) == 590
    assert sum(bool(s.text) for s in data) == 1_940
    assert sum(bool(s.boxes) for s in data) == 1_191 + 677
    assert all(s.mask is None or s.mask.is_file() for s in data)
    assert sum(may_draw(s) for s in data if s.source == "covid_cxr_lungbox") == 78
    assert all(may_draw(s) for s in data if s.source == "hc18"), "by the terms of its origin"
    assert not any(may_train(s) for s in data if s.source == "mias_mammo")
    # The terms of this source name its data sets 1 to 3 only.
    assert {s.extra["dataset"] for s in data if s.source == "timtrack_muscle_us"} == {1, 2, 3}


@pytest.mark.collections
@needed
def test_what_is_known_of_their_sources():
    data = development()
    assert apart_sources(data) == {"medical_mnist"}
    assert kin_of("hannover_cxr", data) == {"hannover_cxr", "covid_cxr_lungbox"}
    assert kin_of("boneage_hand", data) == {"boneage_hand", "medical_mnist"} and kin_of("busi", data) == {"busi"}
    assert [line.split()[0] for line in cautions(data)] == [
        "medical_mnist", "medpix2", "boneage_hand", "covid_cxr_lungbox",
    ]  # fmt: skip


@pytest.mark.collections
@needed
def test_there_are_21_headline_labels_and_seven_cross_source_classes():
    dev = development(("dev",))
    assert len(headline_labels(dev)) == 21
    assert len(headline(dev)) == 4_577
    data = development()
    assert set(CROSS_SOURCE_CLASSES) >= LENIENT_CLASSES
    for name in CROSS_SOURCE_CLASSES:
        assert len({s.source for s in data if coarse_class(s) == name}) >= 2, name
