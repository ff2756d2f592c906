import os
from pathlib import Path

import pytest

from medlike.datasets import (
    Dataset,
    Sample,
    coarse_class,
    development,
    headline,
    headline_labels,
    label_tree,
    node_path,
    shared_depth,
)
from medlike.datasets.labels import CROSS_SOURCE_CLASSES, kin_of, known_traps


def sample(path: str, **facts: str) -> Sample:
    return Sample(path=path, file=Path(path), **facts)


GLIOMA = sample("a", modality="MR", region="brain", label="MR_brain_glioma_tumor", source="x")
HEAD = sample("b", modality="MR", region="head", label="MR_head", source="y")
THORAX = sample("c", modality="CT", region="thorax", label="CT_thorax", source="y")
CHEST = sample("d", modality="CT", region="chest", label="CT_chest_COVID-19", source="z")


def test_head_is_brains_parent_and_thorax_is_chest():
    assert node_path(GLIOMA) == ("MR", "head", "brain", "MR_brain_glioma_tumor")
    assert node_path(HEAD) == ("MR", "head", "MR_head")
    assert node_path(THORAX)[:2] == node_path(CHEST)[:2] == ("CT", "chest")
    assert shared_depth(GLIOMA, HEAD) == 2
    assert shared_depth(THORAX, CHEST) == 2
    assert shared_depth(THORAX, HEAD) == 0
    assert shared_depth(HEAD, HEAD) == 3


def test_coarse_classes_are_the_same_in_both_collections():
    assert coarse_class(GLIOMA) == coarse_class(HEAD) == "MR_head"
    assert coarse_class(THORAX) == coarse_class(CHEST) == "CT_chest"
    assert coarse_class(sample("e", modality="MR", region="spine_muscle")) == "MR_spine"
    assert coarse_class(sample("f", modality="photo", region="none", coarse="OOD_photo")) == "OOD_photo"


def test_the_tree_leaves_out_ood():
    tree = label_tree(
        [GLIOMA, HEAD, THORAX, CHEST, sample("f", modality="photo", coarse="OOD_p", label="OOD_p")]
    )
    assert tree == {
        "CT": {"chest": ["CT_chest_COVID-19", "CT_thorax"]},
        "MR": {"head": ["MR_brain_glioma_tumor", "MR_head"]},
    }


def test_headline_labels_leave_out_the_rare_the_unfinished_mnist_and_ood():
    rows = [sample(f"k{n}", label="keep", source="s") for n in range(40)]
    rows += [sample(f"r{n}", label="rare", source="s") for n in range(39)]
    rows += [sample(f"t{n}", label="XR_todo", source="s") for n in range(50)]
    rows += [sample(f"m{n}", label="keep", source="medical_mnist") for n in range(50)]
    rows += [sample(f"n{n}", label="rare", source="medical_mnist") for n in range(50)]
    rows += [sample(f"o{n}", label="OOD_photo", coarse="OOD_photo", task="ood") for n in range(50)]
    data = Dataset("d", tuple(rows))
    assert headline_labels(data) == ("keep",)
    assert len(headline(data)) == 40


def test_kin_share_a_hospital_or_an_origin():
    assert kin_of("hannover_cxr") == {"hannover_cxr", "covid_cxr_lungbox"}
    assert kin_of("busi") == {"busi"}


def test_traps_are_told_of_sources_that_are_there():
    rows = [sample("a", source="medpix2"), sample("b", source="hannover_cxr"), sample("c", source="covid_cxr_lungbox")]
    told = known_traps(Dataset("d", tuple(rows)))
    assert [line.split()[0] for line in told] == ["medpix2", "covid_cxr_lungbox"] and "(1 image)" in told[0]
    assert known_traps(Dataset("d", tuple(rows[1:2]))) == []


@pytest.mark.collections
@pytest.mark.skipif("MEDLIKE_DEV" not in os.environ, reason="no development collections (MEDLIKE_DEV)")
def test_the_development_collections_have_21_headline_labels_and_seven_cross_source_classes():
    dev = development(("dev",))
    assert len(headline_labels(dev)) == 21
    assert len(headline(dev)) == 4_577
    data = development()
    for name in CROSS_SOURCE_CLASSES:
        assert len({s.source for s in data if coarse_class(s) == name}) >= 2, name
