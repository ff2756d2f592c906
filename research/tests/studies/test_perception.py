"""The graded gain of the study `perception`."""

from pathlib import Path

from medlike.datasets import Sample
from medlike_research.studies.perception import shared_depth


def test_depth_counts_levels_from_the_root():
    glioma, head, thorax, chest = (
        Sample(name, Path(name), label, modality=modality, region=region)
        for name, label, modality, region in (
            ("a", "MR_brain_glioma_tumor", "MR", "brain"),
            ("b", "MR_head", "MR", "head"),
            ("c", "CT_thorax", "CT", "thorax"),
            ("d", "CT_chest_COVID-19", "CT", "chest"),
        )
    )
    assert shared_depth(glioma, head) == shared_depth(thorax, chest) == 2
    assert shared_depth(thorax, head) == 0 and shared_depth(head, head) == 3
