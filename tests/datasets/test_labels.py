from pathlib import Path

from medlike.datasets import (
    Dataset,
    Sample,
    coarse_class,
    headline,
    headline_labels,
    label_tree,
    node_path,
)
from medlike.datasets.labels import apart_sources, cautions, families, kin_of


def sample(path: str, **facts: object) -> Sample:
    return Sample(path=path, file=Path(path), **facts)


GLIOMA = sample("a", modality="MR", region="brain", label="MR_brain_glioma_tumor", source="x")
HEAD = sample("b", modality="MR", region="head", label="MR_head", source="y")
THORAX = sample("c", modality="CT", region="thorax", label="CT_thorax", source="y")
CHEST = sample("d", modality="CT", region="chest", label="CT_chest_COVID-19", source="z")


def test_head_is_brains_parent_and_thorax_is_chest():
    assert node_path(GLIOMA) == ("MR", "head", "brain", "MR_brain_glioma_tumor")
    assert node_path(HEAD) == ("MR", "head", "MR_head")
    assert node_path(THORAX)[:2] == node_path(CHEST)[:2] == ("CT", "chest")


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


def test_headline_labels_leave_out_the_rare_the_unfinished_the_apart_and_ood():
    rows = [sample(f"k{n}", label="keep", source="s") for n in range(40)]
    rows += [sample(f"r{n}", label="rare", source="s") for n in range(39)]
    rows += [sample(f"t{n}", label="XR_todo", source="s") for n in range(50)]
    rows += [sample(f"m{n}", label="keep", source="thumbnails", apart=True) for n in range(50)]
    rows += [sample(f"n{n}", label="rare", source="thumbnails", apart=True) for n in range(50)]
    rows += [sample(f"o{n}", label="OOD_photo", coarse="OOD_photo", task="ood") for n in range(50)]
    data = Dataset("d", tuple(rows))
    assert headline_labels(data) == ("keep",)
    assert len(headline(data)) == 40


def test_kin_share_a_hospital_or_an_origin():
    rows = [sample("a", source="x", origin="here"), sample("b", source="y", origin="here"), sample("c", source="z")]
    assert kin_of("x", rows) == {"x", "y"} and kin_of("z", rows) == {"z"} and kin_of("gone", rows) == {"gone"}
    assert families(rows) == [("x", "y"), ("z",)]


def test_cautions_are_of_sources_that_are_there():
    rows = [sample("a", source="x", origin="o", caution="scanned from paper"), sample("b", source="y", origin="o")]
    assert cautions(Dataset("d", tuple(rows))) == [
        "x (1 image): scanned from paper.",
        "x and y share a hospital or an origin: left out together.",
    ]
    assert cautions(Dataset("d", tuple(rows[1:]))) == []
    assert apart_sources([*rows, sample("c", source="z", apart=True)]) == {"z"}
