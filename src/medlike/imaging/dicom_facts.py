"""Read the facts of a DICOM file besides its pixels: searchable metadata, and identifiers that are stored apart."""

import math
import re
from collections.abc import Mapping
from datetime import date

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from medlike.imaging import vocabulary
from medlike.imaging.deidentification import deidentify
from medlike.imaging.dicom_numbers import number, numbers
from medlike.imaging.dicom_people import as_text, people_and_dates
from medlike.imaging.dicom_photometry import functional_group
from medlike.imaging.image import Value
from medlike.imaging.manifest import is_placeholder

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
    facts: dict[str, Value] = {}
    code = vocabulary.code_string(_text(dataset, "Modality"))
    if code is not None:
        facts["modality"] = vocabulary.modality(code) or code
        if facts["modality"] != code:
            facts["dicom_modality"] = code
    part = vocabulary.code_string(_text(dataset, "BodyPartExamined"))
    if part is not None:
        facts["body_part"] = part
    region = _region(dataset)
    if region is not None:
        facts["region"] = region
    for key, keywords in {"laterality": ("ImageLaterality", "Laterality"), "view": ("ViewPosition",)}.items():
        for keyword in keywords:
            value = vocabulary.code_string(_text(dataset, keyword))
            if value is not None:
                facts.setdefault(key, value)
    sex = vocabulary.sex(_text(dataset, "PatientSex"))
    if sex is not None:
        facts["sex"] = sex
    age = _age(dataset)
    if age is not None:
        facts["age"] = age
    for key, keyword in {"manufacturer": "Manufacturer", "model": "ManufacturerModelName"}.items():
        make = " ".join(_text(dataset, keyword).split())[:64]
        if make:
            facts[key] = make
    for key, keyword in {
        "rows": "Rows",
        "columns": "Columns",
        "slice_thickness": "SliceThickness",
        "kvp": "KVP",
        "magnetic_field": "MagneticFieldStrength",
    }.items():
        quantity = number(dataset, keyword)
        if quantity is not None:
            facts[key] = int(quantity) if key in ("rows", "columns") else quantity
    return facts


def identifiers(dataset: Dataset) -> dict[str, str]:
    """Return names, places, dates, UIDs and free text of the file, as strings.

    Besides IDENTIFIERS these are names_in_file, dates_in_file and numbers_in_file (see dicom_people).
    """
    found = {key: _text(dataset, keyword) for key, keyword in IDENTIFIERS.items()}
    return {key: value for key, value in found.items() if value} | people_and_dates(dataset)


def texts(dataset: Dataset, who: Mapping[str, str]) -> tuple[dict[str, str], int]:
    """Return the texts of the image by kind, and how many passages the rules replaced in them.

    who: the identifiers of the same object. Elements of a kind are joined.
    """
    found, count = {}, 0
    for kind, keywords in TEXTS.items():
        said = (" ".join(_text(dataset, keyword).replace("\\", ", ").split()) for keyword in keywords)
        words = list(dict.fromkeys(one for one in said if not is_placeholder(one)))
        if words:
            clean = deidentify(". ".join(words), who)
            found[kind] = clean.text
            count += clean.count
    return found, count


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


def _region(dataset: Dataset) -> str | None:
    for keyword in ("BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName"):
        found = vocabulary.region(_text(dataset, keyword))
        if found is not None:
            return found
    return None


def _age(dataset: Dataset) -> float | None:
    told = vocabulary.age(_text(dataset, "PatientAge"))
    if told is not None:
        return told
    born = _date(_text(dataset, "PatientBirthDate"))
    seen = next(
        filter(None, (_date(_text(dataset, k)) for k in ("StudyDate", "AcquisitionDate", "ContentDate"))),
        None,
    )
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
        value = dataset.get(keyword)
        if value is None:
            return ""
        if isinstance(value, MultiValue | list | tuple):
            value = "\\".join(str(one) for one in value)
        return as_text(value)
    except Exception:  # pydicom raises what the damage happens to provoke
        return ""
