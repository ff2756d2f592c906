"""Builds the samples again: python samples/build.py, with MEDLIKE_DEV set to the development collections.

manifest.csv lists what an archive is filled with, queries.csv what is searched for and is in no archive.
Takes only images whose terms let them be given away, cleans the headers of DICOM files, draws the phantoms,
and writes manifest.csv and ATTRIBUTION.csv. The same inputs give the same files.
"""

import csv
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, generate_uid

from medlike.datasets import phantoms

HERE = Path(__file__).parent
COLUMNS = (
    "path", "class", "source", "group", "modality", "region", "label", "task", "width", "height",
    "boxes_xywh", "mask", "text", "extra", "licence",
)  # fmt: skip
CREDITS = ("path", "author", "origin", "licence", "licence_url", "changes")

HANNOVER = (
    "Hannover Medical School, Institute for Diagnostic and Interventional Radiology (H. B. Winther et al.): "
    "COVID-19 Image Repository"
)
CC_BY_3 = "https://creativecommons.org/licenses/by/3.0/"
CC_BY_4 = "https://creativecommons.org/licenses/by/4.0/"
HC18 = (
    "T. L. A. van den Heuvel, D. de Bruijn, C. L. de Korte, B. van Ginneken: Automated measurement of fetal "
    "head circumference using 2D ultrasound images, PLoS ONE, 2018; data: Zenodo 10.5281/zenodo.1322001"
)
DRAZAN = (
    "J. F. Drazan, T. J. Hullfish, J. R. Baxter: PeerJ 7:e7120, 2019; data: https://zenodo.org/record/2598553"
)
FORREST = "M. Hanke et al.: A high-resolution 7-Tesla fMRI dataset, Scientific Data 1:140003, 2014"
LUNG_BOXES = (
    "lung boxes: General Blockchain, "
    "https://github.com/GeneralBlockchain/covid-19-chest-xray-lung-bounding-boxes-dataset (CC BY 4.0)"
)
COPIED = "https://github.com/ieee8023/covid-chestxray-dataset"
SHRUNK = "scaled down, stored as 8-bit JPEG"
CLEANED = "pixel data as published; header cut down to what reading needs, names, dates and UIDs replaced"

VIEWS = {
    "AP Supine": "Supine chest radiograph, AP projection.",
    "AP": "Chest radiograph, AP projection.",
    "PA": "Upright chest radiograph, PA projection.",
}
SEEN = {
    "f6d980a0": " An implanted cardiac device lies over the left chest wall.",
    "f64132c8": " An implanted cardiac device lies over the left chest wall.",
    "c0f74558": " Coarse reticular markings in both lungs.",
    "00870a9c": " Monitoring leads cross the chest.",
    "4fcafe41": " Monitoring leads cross the chest.",
}

# file of pydicom, modality, region, label, text, author and origin
DICOM = (
    ("CT_small.dcm", "CT", "chest", "CT_chest", "Axial CT at the level of a thoracic vertebra.", "NEMA WG04"),
    ("MR_small.dcm", "MR", "other", "MR_other", "Small MR test image.", "NEMA WG04"),
    ("examples_overlay.dcm", "MR", "abdomen", "MR_abdomen",
     "Axial contrast-enhanced MR of the upper abdomen, mass in the liver.", "GDCM test data (BSD licence)"),
    ("JPEG-LL.dcm", "NM", "whole_body", "NM_whole_body", "Whole-body bone scan.", "NEMA WG04"),
    ("JPGLosslessP14SV1_1s_1f_8b.dcm", "US", "heart", "US_heart", "Echocardiogram.", "a user of pydicom"),
    ("MR2_J2KI.dcm", "MR", "shoulder", "MR_shoulder", "Coronal MR of the shoulder.", "NEMA WG04"),
    ("RG1_J2KI.dcm", "XR", "chest", "XR_chest", "Chest radiograph, PA projection.", "NEMA WG04"),
    ("RG3_J2KI.dcm", "XR", "leg", "XR_leg",
     "Radiograph of the lower leg: non-ossifying fibroma of the distal tibia.", "NEMA WG04"),
    ("color-pl.dcm", "US", "heart", "US_heart", "Colour Doppler ultrasound.", "S. Barre's samples"),
    ("emri_small_RLE.dcm", "MR", "head", "MR_head", "Ten frames of an enhanced MR.", "a user of pydicom"),
    ("explicit_VR-UN.dcm", "CT", "abdomen", "CT_abdomen", "Axial CT of the abdomen.",
     "H. R. Roth et al.: Pancreas-CT, The Cancer Imaging Archive, 2016, 10.7937/K9/TCIA.2016.tNB1kqBU"),
)  # fmt: skip
KEPT = {
    "SOPClassUID", "Modality", "BodyPartExamined", "Manufacturer", "ManufacturerModelName", "ViewPosition",
    "PatientSex", "PatientAge", "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient",
    "InstanceNumber", "ImagerPixelSpacing", "PixelData", "ImageType",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PixelMeasuresSequence",
    "FrameVOILUTSequence", "PixelValueTransformationSequence",
    "PlanePositionSequence", "PlaneOrientationSequence",
}  # fmt: skip

QUERIES = {
    "images/chest-86d19bba.jpg",
    "images/fetal-031_HC.jpg",
    "dicom/RG1_J2KI.dcm",
    "phantoms/ct-4-3.dcm",
    "phantoms/us-breast-10.png",
    "images/blood-BloodImage_00000.jpg",
    "images/blood-BloodImage_00001.jpg",
    "images/blood-BloodImage_00002.jpg",
}

Row = dict[str, Any]


def main() -> None:
    """Make all samples and their manifests from the development collections."""
    collections = Path(os.environ["MEDLIKE_DEV"])
    for old in ("images", "dicom", "phantoms", "queries"):
        shutil.rmtree(HERE / old, ignore_errors=True)
    made = [*chest(collections), *others(collections), *dicom(collections), *drawn_dicom(), *drawn()]
    made = [(as_query(row) if row["path"] in QUERIES else row, credit) for row, credit in made]
    for name, wanted in (("manifest.csv", False), ("queries.csv", True)):
        write(name, COLUMNS, [row for row, _ in made if row["path"].startswith("queries/") == wanted])
    write("ATTRIBUTION.csv", CREDITS, [{"path": row["path"], **credit} for row, credit in made])
    total = sum(f.stat().st_size for f in HERE.rglob("*") if f.is_file())
    print(f"{len(made)} files, {total / 1e6:.1f} MB", Counter(row["modality"] for row, _ in made))


def as_query(row: Row) -> Row:
    """Move a file among the queries."""
    target = HERE / "queries" / Path(row["path"]).name
    target.parent.mkdir(exist_ok=True)
    (HERE / row["path"]).replace(target)
    return {**row, "path": f"queries/{target.name}"}


def write(name: str, columns: tuple[str, ...], rows: list[Row]) -> None:
    """Write rows as a CSV file beside this one."""
    with (HERE / name).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def chosen(manifest: Path, source: str, per_group: int, most: int, **equal: str) -> Iterator[Row]:
    """Rows of one source, at most `per_group` of one patient, in the manifest's order."""
    seen: Counter[str] = Counter()
    with manifest.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["source"] != source or any(row[k] != v for k, v in equal.items()) or seen.total() >= most:
                continue
            if row["group"] and seen[row["group"]] >= per_group:
                continue
            seen[row["group"]] += 1
            yield row


def taken(collection: Path, row: Row, name: str, **facts: str) -> Row:
    """Copy the image of a row under a new name, and return the row with these facts replaced."""
    target = HERE / "images" / f"{name}.jpg"
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(collection / row["path"], target)
    return {**row, "path": f"images/{target.name}", "mask": "", "extra": "", "text": "", **facts}


def chest(collections: Path) -> Iterator[tuple[Row, Row]]:
    """Yield chest radiographs: the row of each in the manifest, and its attribution."""
    boxed = "covid_cxr_lungbox"
    terms = "CC BY 4.0 (boxes); image: CC BY 3.0"
    for row in chosen(collections / "dev/manifest.csv", boxed, 2, 44, licence=terms):
        name = Path(row["orig"]).stem
        unsaid = row["label"].endswith("_todo")
        yield (
            taken(
                collections / "dev",
                row,
                f"chest-{name}",
                source="hannover",
                licence="CC BY 3.0",
                label="XR_chest" if unsaid else row["label"],
                text=VIEWS[row["extra"]] + SEEN.get(name, ""),
                extra=json.dumps({"view": row["extra"].split()[0]}),
            ),
            {
                "author": HANNOVER,
                "licence": "CC BY 3.0",
                "licence_url": CC_BY_3,
                "origin": "https://github.com/ml-workgroup/covid-19-image-repository, through "
                f"{COPIED} ({Path(row['orig']).name}); {LUNG_BOXES}",
                "changes": SHRUNK,
            },
        )
    for row in chosen(collections / "dev2/manifest.csv", "hannover_cxr", 2, 24):
        name, known = Path(row["orig"]).stem, json.loads(row["extra"])
        view = known["view"].upper()
        yield (
            taken(
                collections / "dev2",
                row,
                f"chest-{name}",
                source="hannover",
                licence="CC BY 3.0",
                text=VIEWS.get(view, "Chest radiograph."),
                extra=json.dumps({"view": view, "sex": known["sex"].upper()}),
            ),
            {
                "author": HANNOVER,
                "licence": "CC BY 3.0",
                "licence_url": CC_BY_3,
                "changes": SHRUNK,
                "origin": f"https://github.com/ml-workgroup/covid-19-image-repository ({row['orig']})",
            },
        )


def others(collections: Path) -> Iterator[tuple[Row, Row]]:
    """Yield ultrasound, MR and blood smears, as `chest` does."""
    for row in chosen(collections / "dev/manifest.csv", "hc18", 1, 32):
        yield (
            taken(
                collections / "dev",
                row,
                f"fetal-{Path(row['orig']).stem}",
                licence="CC BY 4.0",
                text="Ultrasound of a fetal head in the plane of its circumference.",
            ),
            {
                "author": HC18,
                "origin": f"https://zenodo.org/record/1322001 ({Path(row['orig']).name})",
                "licence": "CC BY 4.0",
                "licence_url": CC_BY_4,
                "changes": SHRUNK + "; box drawn around the outline",
            },
        )
    for row in chosen(collections / "dev2/manifest.csv", "timtrack_muscle_us", 4, 28):
        part = json.loads(row["extra"])["dataset"]
        open_data = {
            1: ("T. van der Zee", "CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
            2: ("T. van der Zee", "CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
            3: (DRAZAN, "CC BY 4.0", CC_BY_4),
        }
        author, terms, url = open_data[part]
        muscle = row["label"].removeprefix("US_muscle_").replace("_", " ")
        yield (
            taken(
                collections / "dev2",
                row,
                f"muscle-{part}-{Path(row['path']).stem}",
                licence=terms,
                text=f"Ultrasound of the {muscle} muscle, along its fibres.",
            ),
            {
                "author": author,
                "licence": terms,
                "licence_url": url,
                "changes": SHRUNK,
                "origin": f"https://github.com/timvanderzee/ultrasound-automated-algorithm ({row['orig']})",
            },
        )
    for row in chosen(collections / "dev2/manifest.csv", "studyforrest_t1", 16, 16):
        yield (
            taken(
                collections / "dev2",
                row,
                f"head-{Path(row['orig']).stem}",
                licence="PDDL 1.0",
                text="T1-weighted MR of the head of a healthy volunteer.",
            ),
            {
                "author": FORREST,
                "origin": f"https://www.studyforrest.org ({row['orig']})",
                "licence": "PDDL 1.0",
                "licence_url": "https://opendatacommons.org/licenses/pddl/1-0/",
                "changes": SHRUNK,
            },
        )
    for row in chosen(collections / "dev/manifest.csv", "ood_bccd", 3, 3):
        yield (
            taken(
                collections / "dev",
                row,
                f"blood-{Path(row['orig']).stem}",
                licence="MIT",
                text="Stained blood smear under the microscope.",
            ),
            {
                "author": "S. Cheng, C. Nicolas: BCCD Dataset",
                "origin": "https://github.com/Shenggan/BCCD_Dataset",
                "licence": "MIT",
                "licence_url": "https://github.com/Shenggan/BCCD_Dataset/blob/master/LICENSE",
                "changes": SHRUNK,
            },
        )


def dicom(collections: Path) -> Iterator[tuple[Row, Row]]:
    """Yield DICOM test files without identifying elements, as `chest` does."""
    for number, (file, modality, region, label, text, author) in enumerate(DICOM, 1):
        found = collections / "dicom" / file
        if not found.is_file():
            found = Path(str(get_testdata_file(file, download=False)))
        target = HERE / "dicom" / file
        target.parent.mkdir(exist_ok=True)
        image = cleaned(pydicom.dcmread(found), f"SAMPLE-{number:02d}")
        image.save_as(target, enforce_file_format=True)
        cancer_archive = "Cancer Imaging Archive" in author
        terms = "CC BY 3.0" if cancer_archive else "MIT (as part of pydicom)"
        yield (
            {
                "path": f"dicom/{file}",
                "class": label,
                "source": "pydicom",
                "group": f"SAMPLE-{number:02d}",
                "modality": modality,
                "region": region,
                "label": label,
                "task": "class",
                "width": image.Columns,
                "height": image.Rows,
                "text": text,
                "licence": terms,
            },
            {
                "author": author,
                "origin": f"https://github.com/pydicom/pydicom, test file {file}",
                "licence": terms,
                "changes": CLEANED,
                "licence_url": CC_BY_3
                if cancer_archive
                else "https://github.com/pydicom/pydicom/blob/main/LICENSE",
            },
        )


def cleaned(given: Dataset, patient: str) -> Dataset:
    """The header cut down to what reading needs; pixel data and transfer syntax stay as they are."""
    image = kept(given)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = given.file_meta.TransferSyntaxUID
    image.file_meta = meta
    identify(image, patient, patient, patient)
    if image.file_meta.TransferSyntaxUID.is_compressed:
        image["PixelData"].is_undefined_length = True
    return image


def kept(given: Dataset) -> Dataset:
    """Return a data set with only the elements that a sample may have."""
    result = Dataset()
    for element in given:
        if element.tag.group != 0x0028 and element.keyword not in KEPT:
            continue
        if element.VR == "SQ":
            element = pydicom.DataElement(element.tag, "SQ", [kept(item) for item in element.value])
        result.add(element)
    return result


def identify(image: Dataset, patient: str, series: str, instance: str) -> None:
    """Give an image made-up names and UIDs, the same in every run."""
    image.PatientName, image.PatientID, image.StudyDate = f"Sample^{patient}", patient, "20000101"
    image.StudyInstanceUID = generate_uid(entropy_srcs=["study", patient])
    image.SeriesInstanceUID = generate_uid(entropy_srcs=["series", series])
    image.SOPInstanceUID = generate_uid(entropy_srcs=["instance", instance])
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID


def drawn_dicom() -> Iterator[tuple[Row, Row]]:
    """Drawn CT studies, three of five slices and one of a single slice: to group by, and to filter on age."""
    for patient, (age, sex) in enumerate(((34, "F"), (58, "M"), (71, "F"), (46, "M")), 1):
        name = f"PHANTOM-{patient}"
        for slice_number in (3,) if patient == 4 else range(1, 6):
            phantom = phantoms.draw(
                "ct_abdomen", 100 + patient, lesion=patient != 3, size=160, level=(slice_number - 3) * 0.12
            )
            target = HERE / "phantoms" / f"ct-{patient}-{slice_number}.dcm"
            target.parent.mkdir(exist_ok=True)
            write_ct(target, phantom, name, slice_number, age, sex)
            yield phantom_row(target, phantom, name)


def write_ct(target: Path, phantom: phantoms.Phantom, patient: str, number: int, age: int, sex: str) -> None:
    """Write a CT phantom as a DICOM file."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    image.SOPClassUID, image.Modality = CTImageStorage, "CT"
    identify(image, patient, patient, f"{patient}-{number}")
    image.PatientAge, image.PatientSex, image.BodyPartExamined = f"{age:03d}Y", sex, "ABDOMEN"
    image.Manufacturer, image.InstanceNumber, image.SliceThickness = "medlike phantom", number, 5
    image.Rows, image.Columns = phantom.pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.RescaleSlope, image.RescaleIntercept = 1, 0
    image.WindowCenter, image.WindowWidth = 40, 400
    image.PixelSpacing = [2.2, 2.2]
    image.PixelData = phantom.pixels.astype("<i2").tobytes()
    image.save_as(target, enforce_file_format=True)


def drawn() -> Iterator[tuple[Row, Row]]:
    """Yield drawn MR, ultrasound and radiograph phantoms, as `chest` does."""
    for kind, count in (("mr_head", 10), ("us_breast", 11), ("xr_chest", 10)):
        for seed in range(count):
            phantom = phantoms.draw(kind, seed, lesion=seed % 5 != 4, size=160)
            target = HERE / "phantoms" / f"{kind.replace('_', '-')}-{seed}.png"
            pixels = np.asarray(phantom.pixels)
            Image.fromarray(pixels).save(target, optimize=True)
            yield phantom_row(target, phantom, target.stem)


def phantom_row(target: Path, phantom: phantoms.Phantom, group: str) -> tuple[Row, Row]:
    """Return the row of a phantom in the manifest, and its attribution."""
    height, width = phantom.pixels.shape
    boxes = [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in phantom.boxes]
    return {
        "path": f"phantoms/{target.name}",
        "class": f"{phantom.modality}_{phantom.region}",
        "source": "phantom",
        "group": group,
        "modality": phantom.modality,
        "region": phantom.region,
        "label": phantom.label,
        "task": "class+box" if boxes else "class",
        "width": width,
        "height": height,
        "boxes_xywh": json.dumps(boxes) if boxes else "",
        "text": phantom.text,
        "licence": "Apache-2.0",
    }, {
        "author": "medlike",
        "origin": "drawn by medlike.datasets.phantoms",
        "licence": "Apache-2.0",
        "licence_url": "https://www.apache.org/licenses/LICENSE-2.0",
        "changes": "none",
    }


if __name__ == "__main__":
    main()
