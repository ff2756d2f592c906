"""DICOM files for benches: drawn CT slices of 512 x 512, one in eight in JPEG 2000, no two alike."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

from medlike.datasets import phantoms

SIDE = 512
JPEG_2000 = 8  # one in so many
BODIES = 8  # drawn; the rest are these with noise of their own


def write_files(folder: Path, number: int) -> list[Path]:
    """Write so many files into a new folder; the same number gives the same pixels and UIDs. Their paths."""
    folder.mkdir(parents=True)
    bodies = [phantoms.draw("ct_abdomen", seed, size=SIDE).pixels for seed in range(min(BODIES, number))]
    paths = []
    for i in range(number):
        noise = np.random.default_rng(i).integers(-8, 9, (SIDE, SIDE))
        path = folder / f"{i:06d}.dcm"
        _slice((bodies[i % len(bodies)] + noise).astype("<i2"), i).save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _slice(pixels: np.ndarray, number: int) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.Modality = CTImageStorage, "CT"
    image.SOPInstanceUID = generate_uid(entropy_srcs=["medlike bench", str(number)])
    image.SeriesInstanceUID = generate_uid(entropy_srcs=["medlike bench series", str(number // 100)])
    image.StudyInstanceUID = generate_uid(entropy_srcs=["medlike bench study", str(number // 100)])
    image.PatientID, image.BodyPartExamined = f"bench-{number // 100}", "ABDOMEN"
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.RescaleSlope, image.RescaleIntercept = 1, 0
    image.WindowCenter, image.WindowWidth = 40, 400
    image.PixelSpacing = [0.7, 0.7]
    image.PixelData = pixels.tobytes()
    if number % JPEG_2000 == JPEG_2000 - 1:
        image.compress(JPEG2000Lossless, generate_instance_uid=False)
    return image
