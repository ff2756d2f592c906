"""Images to serve: one of each kind of photometry."""

import numpy as np
from PIL import Image as Pillow
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def write_dicom(path, pixels, colour=False, **elements):
    """Write a secondary capture of [H, W], [F, H, W] or, colour, [H, W, 3]; returns its path."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.PatientID, dataset.PatientName, dataset.Modality = "secret-7", "Doe^Jane", "CT"
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
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def shades(low, high, height=96, width=130, seed=0):
    """Smooth values with some noise, float64 [height, width], from low to high."""
    y, x = np.mgrid[0:height, 0:width]
    wave = np.sin(x / 17 + seed) * np.cos(y / (13 + seed)) + 0.05 * np.random.default_rng(seed).normal(size=y.shape)
    wave -= wave.min()
    return low + wave * ((high - low) / wave.max())


def write_kinds(folder):
    """Write one file of each kind of photometry; returns their paths by kind."""
    folder.mkdir(parents=True, exist_ok=True)

    def dicom(name, pixels, **elements):
        return write_dicom(folder / f"{name}.dcm", pixels, **elements)

    lut = Dataset()
    lut.LUTDescriptor, lut.LUTData = [1024, 100, 8], [min(255, (at // 4) ** 2 // 255) for at in range(1024)]
    lut["LUTDescriptor"].VR, lut["LUTData"].VR = "US", "US"
    lut.LUTExplanation = "curve"
    palette = {
        f"{colour}PaletteColorLookupTable{part}": value
        for at, colour in enumerate(("Red", "Green", "Blue"))
        for part, value in (
            ("Descriptor", [256, 0, 16]),
            ("Data", (np.abs((2 * np.arange(256) + 170 * at) % 510 - 255) * 257).astype("<u2").tobytes()),
        )
    }
    ct = shades(-1000, 1500, seed=1).astype(np.int16)
    files = {
        "signed": dicom("signed", ct, RescaleSlope="1", RescaleIntercept="-24", WindowCenter="40", WindowWidth="400"),
        "monochrome1": dicom("monochrome1", shades(100, 3900, seed=2).astype(np.uint16), BitsStored=12, HighBit=11,
                             PhotometricInterpretation="MONOCHROME1"),
        "voi lut": dicom("lut", shades(0, 1500, seed=3).astype(np.uint16), BitsStored=12, HighBit=11,
                         VOILUTSequence=[lut]),
        "padded": dicom("padded", np.where(shades(0, 1, seed=4) < 0.2, -2000, shades(-900, 900, seed=5))
                        .astype(np.int16), PixelPaddingValue=-2000, RescaleSlope="2", RescaleIntercept="-10"),
        "sigmoid": dicom("sigmoid", shades(0, 4000, seed=6).astype(np.uint16), BitsStored=12, HighBit=11,
                         WindowCenter="1200", WindowWidth="900", VOILUTFunction="SIGMOID"),
        "palette": dicom("palette", shades(0, 255, seed=7).astype(np.uint8), **palette,
                         PhotometricInterpretation="PALETTE COLOR"),
        "colour": dicom("colour", np.stack([shades(0, 255, seed=at).astype(np.uint8) for at in (1, 5, 8)], axis=2),
                        colour=True),
        "frames": dicom("frames", np.stack([shades(0, 250 - 50 * at, 40, 40, at) for at in range(3)])
                        .astype(np.uint8)),
    }  # fmt: skip
    Pillow.fromarray(shades(0, 255, 700, 500, seed=9).astype(np.uint8)).save(folder / "grey.png")
    Pillow.fromarray(shades(0, 60000, seed=10).astype(np.uint16)).save(folder / "wide.png")
    Pillow.fromarray(shades(-3, 4, seed=11).astype(np.float32)).save(folder / "float.tif")
    return files | {"grey": folder / "grey.png", "wide": folder / "wide.png", "float": folder / "float.tif"}
