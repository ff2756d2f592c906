"""RadImageNet: radiology_ai/MODALITY/ANATOMY/LABEL/image.png, and the 16 CT classes known as RadIN-CT.

Mei et al., Radiology: Artificial Intelligence 2022. Ultrasound has no LABEL folder: its classes are organs.
The files carry no patient ids: every image is its own group and near-duplicates are joined by their pixels.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from medlike.datasets.folders import images_below, read_folders
from medlike.datasets.sample import Dataset, Sample
from medlike.errors import DatasetError

MODALITIES = ("CT", "MR", "US")
REGIONS = {
    "abd": "abdomen",
    "af": "ankle_foot",
    "brain": "brain",
    "gb": "gallbladder",
    "hip": "hip",
    "kidney": "kidney",
    "knee": "knee",
    "liver": "liver",
    "lung": "chest",
    "shoulder": "shoulder",
    "spine": "spine",
    "thyroid": "thyroid",
}
LICENCE = "RadImageNet research agreement: non-commercial"
RADIN_CT = (
    "abd_normal", "airspace_opacity", "bladder_pathology", "bowel_abnormality", "bronchiectasis",
    "interstitial_lung_disease", "liver_lesion", "lung_normal", "nodule", "osseous_neoplasm",
    "ovarian_pathology", "pancreatic_lesion", "prostate_lesion", "renal_lesion", "splenic_lesion",
    "uterine_pathology",
)  # fmt: skip


def read_radimagenet(path: str | Path, name: str = "radimagenet") -> Dataset:
    """Read every image of a RadImageNet folder; labels are CT_abd_liver_lesion, US_liver and the like.

    Args:
        path: The folder `radiology_ai`, or the one that holds it.
        name: Name of the collection.

    Raises:
        DatasetError: The folder has another layout.
    """
    root = Path(path)
    if (root / "radiology_ai").is_dir():
        root = root / "radiology_ai"
    if not any((root / modality).is_dir() for modality in MODALITIES):
        raise DatasetError(f"{root} has none of {', '.join(MODALITIES)}; expected {root.name}/CT/abd/LABEL/*.png")
    samples = []
    for modality in MODALITIES:
        for file in images_below(root / modality) if (root / modality).is_dir() else ():
            parts = file.relative_to(root).parts
            if len(parts) != 4 and not (modality == "US" and len(parts) == 3):
                raise DatasetError(f"{file} does not lie in MODALITY/ANATOMY/LABEL/; is this RadImageNet?")
            anatomy, label = parts[1], "_".join(parts[2:-1])
            samples.append(
                replace(
                    Sample.of(file, root, name),
                    label="_".join(parts[:-1]),
                    coarse=f"{modality}_{REGIONS.get(anatomy, anatomy)}",
                    modality=modality,
                    region=REGIONS.get(anatomy, anatomy),
                    licence=LICENCE,
                    extra={"finding": label, "anatomy": anatomy},
                )
            )
    if not samples:
        raise DatasetError(f"{root} holds no image")
    return Dataset(name, tuple(samples))


def read_radin_ct(path: str | Path, name: str = "radin_ct") -> Dataset:
    """Read the 16 CT classes that hashing papers use, under their own names (abd_normal, ..., uterine_pathology).

    Args:
        path: A RadImageNet folder, or one with a folder per class as in those papers (liver_lesion_ct/...).
        name: Name of the collection.

    Raises:
        DatasetError: There are fewer than two of the classes; the message lists the missing ones.
    """
    root = Path(path)
    try:
        classes = [
            (sample, radin_ct_class(str(sample.extra["finding"]), str(sample.extra["anatomy"])))
            for sample in read_radimagenet(root, name)
            if sample.modality == "CT"
        ]
    except DatasetError:
        classes = [
            (replace(sample, modality="CT", licence=LICENCE), radin_ct_class(sample.label))
            for sample in read_folders(root, name)
        ]
    samples = tuple(
        replace(sample, label=label, coarse=label, region=sample.region or _region(label))
        for sample, label in classes
        if label
    )
    seen = {s.label for s in samples}
    if len(seen) < 2:
        missing = ", ".join(c for c in RADIN_CT if c not in seen)
        raise DatasetError(f"{root} does not hold the RadIN-CT classes; not found: {missing}")
    return Dataset(name, samples)


def holds_radin_ct(path: Path) -> bool:
    """Return whether a folder has a folder for each of two or more of the 16 classes, and no other folder."""
    classes = [radin_ct_class(folder.name) for folder in path.iterdir() if folder.is_dir()]
    return len(classes) > 1 and None not in classes


def radin_ct_class(folder: str, anatomy: str = "") -> str | None:
    """Return the class that a folder name means, or None; case and `_ct` do not matter, `normal` goes by anatomy."""
    label = folder.lower().removesuffix("_ct").strip("_")
    if label == "normal":
        label = f"{anatomy.lower()}_normal"
    return label if label in RADIN_CT else None


def _region(label: str) -> str:
    chest = {"airspace_opacity", "bronchiectasis", "interstitial_lung_disease", "lung_normal", "nodule"}
    return "chest" if label in chest else "abdomen"
