"""DICOM files made to order, and where the real ones are."""

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


@pytest.fixture
def write_dicom(tmp_path):
    """write(name, pixels, **elements): a secondary capture of [H, W], [F, H, W] or, colour, [H, W, 3]."""

    def write(
        name: str, pixels: np.ndarray, colour: bool = False, syntax=ExplicitVRLittleEndian, **elements
    ) -> Path:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        plane = pixels.shape[: pixels.ndim - colour]
        if len(plane) == 3:
            dataset.NumberOfFrames = plane[0]
        dataset.Rows, dataset.Columns = plane[-2:]
        dataset.SamplesPerPixel = 3 if colour else 1
        if colour:
            dataset.PlanarConfiguration = 0
        dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
        dataset["PixelData"].VR = "OW"
        for keyword, value in elements.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        path = tmp_path / name
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


def pytest_generate_tests(metafunc):
    """`bundled`: every file inside the installed pydicom. `collected`: every file of the DICOM collection."""
    if "bundled" in metafunc.fixturenames:
        data = Path(pydicom.__file__).parent / "data"
        files = [f for folder in ("test_files", "charset_files") for f in sorted((data / folder).rglob("*"))]
        files = [f for f in files if f.is_file() and f.suffix not in (".py", ".pyc")]
        metafunc.parametrize("bundled", files, ids=[str(f.relative_to(data)) for f in files])
    if "collected" in metafunc.fixturenames:
        folder = Path(os.environ.get("MEDLIKE_DEV", "/nonexistent")) / "dicom"
        files = sorted(folder.glob("*.dcm"))
        reason = "the development collections are absent: set MEDLIKE_DEV to their folder"
        absent = pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")
        metafunc.parametrize("collected", files or [absent], ids=[f.name for f in files] or None)
