"""Read the facts of a DICOM file besides its pixels: searchable metadata, and identifiers that are stored apart."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import TypeVar

from pydicom.dataset import Dataset

from medlike.imaging import vocabulary
from medlike.imaging.deidentification import deidentify
from medlike.imaging.dicom_numbers import number, numbers
from medlike.imaging.dicom_people import as_text, people_and_dates
from medlike.imaging.dicom_photometry import functional_group
from medlike.imaging.image import Value
from medlike.imaging.manifest import is_placeholder

Read = TypeVar("Read")

#: Identifier -> DICOM keyword. Persons, places, dates, numbers and free text: all that might name somebody.
IDENTIFIERS = {
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "patient_birth_date": "PatientBirthDate",
    "other_patient_ids": "OtherPatientIDs",
    "patient_comments": "PatientComments",
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "sop_uid": "SOPInstanceUID",
    "sop_class_uid": "SOPClassUID",
    "frame_of_reference_uid": "FrameOfReferenceUID",
    "study_id": "StudyID",
    "accession_number": "AccessionNumber",
    "series_number": "SeriesNumber",
    "instance_number": "InstanceNumber",
    "study_date": "StudyDate",
    "study_time": "StudyTime",
    "series_date": "SeriesDate",
    "acquisition_date": "AcquisitionDate",
    "acquisition_time": "AcquisitionTime",
    "content_date": "ContentDate",
    "study_description": "StudyDescription",
    "series_description": "SeriesDescription",
    "protocol_name": "ProtocolName",
    "image_comments": "ImageComments",
    "institution": "InstitutionName",
    "station": "StationName",
    "device_serial_number": "DeviceSerialNumber",
    "referring_physician": "ReferringPhysicianName",
    "performing_physician": "PerformingPhysicianName",
    "reading_physician": "NameOfPhysiciansReadingStudy",
    "operator": "OperatorsName",
}

#: Kind of text -> DICOM keywords of elements that describe what is seen or asked, by allow-list. Comments on the
#: patient, histories and names of any kind are never among them.
TEXTS = {
    "description": ("StudyDescription", "SeriesDescription", "ProtocolName"),
    "reason": ("ReasonForStudy", "ReasonForTheRequestedProcedure", "RequestedProcedureDescription"),
    "comments": ("ImageComments",),
    "diagnosis": ("AdmittingDiagnosesDescription", "InterpretationDiagnosisDescription"),
    "report": ("InterpretationText", "Impressions"),
}


def metadata(dataset: Dataset) -> dict[str, Value]:
    """Return searchable facts that name nobody: codes of closed vocabularies, numbers, and the make of the machine.

    Keys, each present if the file states it: modality (radiographs are XR; dicom_modality then has the
    file's code), region, body_part, laterality, view, sex, age (years), manufacturer, model, rows, columns,
    slice_thickness, kvp, magnetic_field. Free text is never among them: a description gives its region at
    most.
    """
    code = vocabulary.code_string(_text(dataset, "Modality"))
    modality = code and (vocabulary.modality(code) or code)
    facts: dict[str, Value | None] = {
        "modality": modality,
        "dicom_modality": None if modality == code else code,
        "body_part": vocabulary.code_string(_text(dataset, "BodyPartExamined")),
        "region": _first(vocabulary.region, dataset, "BodyPartExamined", *TEXTS["description"]),
        "laterality": _first(vocabulary.code_string, dataset, "ImageLaterality", "Laterality"),
        "view": vocabulary.code_string(_text(dataset, "ViewPosition")),
        "sex": vocabulary.sex(_text(dataset, "PatientSex")),
        "age": _age(dataset),
    }
    for key, keyword in {"manufacturer": "Manufacturer", "model": "ManufacturerModelName"}.items():
        facts[key] = " ".join(_text(dataset, keyword).split())[:64] or None
    for key in ("Rows", "Columns"):
        count = number(dataset, key)
        facts[key.lower()] = None if count is None else int(count)
    for key, keyword in {
        "slice_thickness": "SliceThickness",
        "kvp": "KVP",
        "magnetic_field": "MagneticFieldStrength",
    }.items():
        facts[key] = number(dataset, keyword)
    return {key: value for key, value in facts.items() if value is not None}


def identifiers(dataset: Dataset) -> dict[str, str]:
    """Return names, places, dates, UIDs and free text of the file, as strings.

    Besides IDENTIFIERS these are names_in_file, dates_in_file and numbers_in_file (see dicom_people).
    """
    values = {key: _text(dataset, keyword) for key, keyword in IDENTIFIERS.items()}
    return {key: value for key, value in values.items() if value} | people_and_dates(dataset)


def texts(dataset: Dataset, who: Mapping[str, str]) -> tuple[dict[str, str], int]:
    """Return the texts of the image by kind, and how many passages the rules replaced in them.

    who: the identifiers of the same object. Elements of a kind are joined.
    """
    clean_texts, count = {}, 0
    for kind, keywords in TEXTS.items():
        passages = (" ".join(_text(dataset, keyword).replace("\\", ", ").split()) for keyword in keywords)
        words = list(dict.fromkeys(one for one in passages if not is_placeholder(one)))
        if words:
            clean = deidentify(". ".join(words), who)
            clean_texts[kind] = clean.text
            count += clean.count
    return clean_texts, count


def spacing(dataset: Dataset, frame: int) -> tuple[float, float] | None:
    """Return the millimetres between rows and between columns of a frame, or None.

    They refer to the patient if known (PixelSpacing, ultrasound regions), else to the detector.
    """
    measures = functional_group(dataset, frame, "PixelMeasuresSequence") or dataset
    for holder, keyword in (
        (measures, "PixelSpacing"),
        (dataset, "PixelSpacing"),
        (dataset, "ImagerPixelSpacing"),
        (dataset, "NominalScannedPixelSpacing"),
    ):
        apart = numbers(holder, keyword)
        if len(apart) == 2 and min(apart) > 0:
            return apart[0], apart[1]
    try:
        for region in dataset.get("SequenceOfUltrasoundRegions") or []:
            down, across = number(region, "PhysicalDeltaY"), number(region, "PhysicalDeltaX")
            # Unit 3 is centimetres (PS3.3 C.8.5.5.1.15); Doppler and M-mode regions are in others.
            centimetres = region.get("PhysicalUnitsXDirection") == 3 == region.get("PhysicalUnitsYDirection")
            if centimetres and down and across:
                return abs(down) * 10, abs(across) * 10
    except Exception:  # a damaged region says nothing
        return None
    return None


def _first(read: Callable[[str], Read | None], dataset: Dataset, *keywords: str) -> Read | None:
    """Return what `read` makes of the first of several elements that it can read, or None."""
    return next(filter(None, (read(_text(dataset, keyword)) for keyword in keywords)), None)


def _age(dataset: Dataset) -> float | None:
    stated = vocabulary.age(_text(dataset, "PatientAge"))
    if stated is not None:
        return stated
    born = _date(_text(dataset, "PatientBirthDate"))
    seen = _first(_date, dataset, "StudyDate", "AcquisitionDate", "ContentDate")
    if born is None or seen is None or not 0 <= (seen - born).days <= 150 * 365.25:
        return None
    # Whole years, so that the age does not give the birth date away.
    # Anonymisers write one date for all: the day of birth is no age.
    return float(math.floor((seen - born).days / 365.25)) if seen > born else None


def _date(text: str) -> date | None:
    """Parse YYYYMMDD, or YYYY.MM.DD of ACR-NEMA (PS3.5 6.2, DA), as a date, or return None."""
    if re.match(r"\d{4}\.\d{2}\.\d{2}", text):
        text = text.replace(".", "")
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None


def _text(dataset: Dataset, keyword: str) -> str:
    """Return an element as text, "" if it is absent or unreadable."""
    try:
        return as_text(dataset.get(keyword))
    except Exception:  # pydicom raises what the damage happens to provoke
        return ""
