"""Read any labelled collection, recognised by its layout."""

from __future__ import annotations

from pathlib import Path

from medlike.datasets.chestxray14 import read_chestxray14
from medlike.datasets.folders import read_folders
from medlike.datasets.manifest import read_manifest
from medlike.datasets.medmnist import read_medmnist
from medlike.datasets.openi import REPORTS, read_openi
from medlike.datasets.radimagenet import holds_radin_ct, read_radimagenet, read_radin_ct
from medlike.datasets.roco import holds_roco, read_roco
from medlike.datasets.sample import Dataset
from medlike.errors import DatasetError


def read_collection(path: str | Path, name: str | None = None) -> Dataset:
    """Read a manifest, MedMNIST, ChestX-ray14, RadImageNet, RadIN-CT, Open-i, ROCO or a folder per class, by layout.

    Raises DatasetError if it is none of them.
    """
    target = Path(path)
    if not target.exists():
        raise DatasetError(f"{target} does not exist; give a manifest.csv, an npz or a folder")
    if target.is_file():
        if target.suffix == ".npz":
            return read_medmnist(target, name)
        if target.name.startswith("Data_Entry_2017"):
            return read_chestxray14(target, name or "chestxray14")
        return read_manifest(target, name)
    if (target / "manifest.csv").is_file():
        return read_manifest(target, name)
    if any(target.glob("Data_Entry_2017*.csv")):
        return read_chestxray14(target, name or "chestxray14")
    if target.name == "radiology_ai" or (target / "radiology_ai").is_dir():
        return read_radimagenet(target, name or "radimagenet")
    if holds_radin_ct(target):
        return read_radin_ct(target, name or "radin_ct")
    if (target / REPORTS).is_dir():
        return read_openi(target, name or "openi")
    if holds_roco(target):
        return read_roco(target, name or "roco")
    return read_folders(target, name)
