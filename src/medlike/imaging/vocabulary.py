"""Closed vocabularies: modality, region, sex, age and code strings, whatever spelling a file uses."""

import math
import re
from itertools import pairwise

#: DICOM modality codes that are one modality here: plain radiographs of every make are XR.
MODALITIES = dict.fromkeys(("CR", "DX", "RG", "IO", "PX", "XRAY", "X-RAY"), "XR") | {
    "MRI": "MR",
    "MAMMOGRAPHY": "MG",
    "ULTRASOUND": "US",
    "PET": "PT",
    "SPECT": "NM",
}

#: Modality codes that keep their name and are written in capitals here. Source: DICOM PS3.3 C.7.3.1.1.1.
_CODES = frozenset((
    "BI", "BMD", "CT", "DG", "ES", "GM", "IVOCT", "IVUS", "LS", "MG", "MR", "NM", "OCT", "OP", "OPM", "OPT", "PT",
    "RF", "SM", "TG", "US", "XA", "XC", "XR",
))  # fmt: skip

#: Region -> words that name it, in a BodyPartExamined or a description (letters only, upper case).
_REGIONS: dict[str, tuple[str, ...]] = {
    "breast": ("BREAST", "MAMMO"),
    "heart": ("HEART", "CARDIAC", "CORONARY", "CORONARYARTERY"),
    "spine": (
        "SPINE", "CSPINE", "TSPINE", "LSPINE", "CTSPINE", "TLSPINE", "LSSPINE", "SSPINE", "LUMBAR", "SACRUM",
        "COCCYX", "VERTEBRA", "SPINAL", "CERVICALSPINE", "THORACICSPINE", "LUMBARSPINE",
    ),
    "chest": ("CHEST", "THORAX", "LUNG", "RIB", "RIBS", "STERNUM", "MEDIASTINUM", "PULMONARY"),
    "abdomen": ("ABDOMEN", "LIVER", "PANCREAS", "SPLEEN", "STOMACH", "BOWEL", "COLON", "GALLBLADDER", "ABDO"),
    "kidney": ("KIDNEY", "RENAL"),
    "pelvis": ("PELVIS", "BLADDER", "PROSTATE", "UTERUS"),
    "brain": ("BRAIN", "CEREBRUM"),
    "head": ("HEAD", "SKULL", "ORBIT", "FACE", "SINUS", "EAR", "IAC"),
    "dental": ("DENTAL", "TEETH", "JAW", "MANDIBLE", "MAXILLA"),
    "thyroid": ("THYROID",),
    "neck": ("NECK", "LARYNX", "PHARYNX", "CAROTID"),
    "shoulder": ("SHOULDER", "CLAVICLE", "SCAPULA"),
    "arm": ("ARM", "ELBOW", "HUMERUS", "FOREARM", "RADIUS", "ULNA"),
    "hand": ("HAND", "WRIST", "FINGER", "THUMB"),
    "hip": ("HIP",),
    "knee": ("KNEE", "PATELLA"),
    "leg": ("LEG", "FEMUR", "TIBIA", "FIBULA", "THIGH", "CALF"),
    "foot": ("FOOT", "ANKLE", "TOE", "CALCANEUS", "HEEL"),
    "extremity": ("EXTREMITY", "LOWEREXTREMITY", "UPPEREXTREMITY"),
    "retina": ("RETINA", "EYE", "FUNDUS"),
    "wholebody": ("WHOLEBODY",),
}  # fmt: skip

_BY_WORD = {word: region for region, words in _REGIONS.items() for word in words}

_NOTHING = {"", "NONE", "OTHER", "UNKNOWN", "N/A", "NA", "NULL", "NAN", "-"}


def says_nothing(text: str) -> bool:
    """Return whether a cell stands for no value: empty, none, unknown, n/a, -, or the age 000Y of anonymisers."""
    word = text.strip().upper()
    return word in _NOTHING or re.fullmatch(r"\W*|0+[YMW]", word) is not None


def modality(text: str) -> str | None:
    """Return a modality as the short code used everywhere: CT, MR, XR (CR, DX, RG, IO, PX), US, MG ... or None."""
    word = text.strip()
    code = word.upper()
    if code in _NOTHING:
        return None
    return MODALITIES.get(code, code if code in _CODES else word)


def region(text: str) -> str | None:
    """Return the body region that a DICOM body part or a description names, or None.

    "CSPINE", "Lumbar Spine" and "LSSPINE" are spine, "THORAX" is chest; the region whose word comes first
    wins.
    """
    words = re.findall(r"[A-Z]+", text.upper())
    joined = [first + second for first, second in pairwise(words)]
    for word in ["".join(words), *joined, *words]:
        if word in _BY_WORD:
            return _BY_WORD[word]
    return None


def manifest_region(text: str) -> str | None:
    """Return a region from a manifest: its own name in lower case (thorax is chest); None for none or other."""
    name = text.strip().lower()
    if name.upper() in _NOTHING:
        return None
    return "chest" if name == "thorax" else name


def sex(text: str) -> str | None:
    """Return F, M or O, from f, Female, m, male, O, other; else None."""
    word = text.strip().upper()
    if word in ("F", "FEMALE", "WOMAN"):
        return "F"
    if word in ("M", "MALE", "MAN"):
        return "M"
    return "O" if word in ("O", "OTHER") else None


def age(text: str) -> float | None:
    """Return an age in years, from a DICOM age string (045Y, 006M, 010W, 021D) or a number of years; else None.

    Outside of 0 .. 150 it is None. Source: DICOM PS3.5 6.2, AS.
    """
    match = re.fullmatch(r"\s*(\d{1,3}(?:\.\d+)?)\s*([YMWDymwd]?)\s*", text)
    if match is None:
        return None
    days = {"": 365.25, "Y": 365.25, "M": 365.25 / 12, "W": 7.0, "D": 1.0}[match[2].upper()]
    years = float(match[1]) * days / 365.25
    if match[2] and float(match[1]) == 0:
        # 000Y is what anonymisers write; a newborn is 000D.
        return 0.0 if match[2].upper() == "D" else None
    return round(years, 4) if math.isfinite(years) and years <= 150 else None


def code_string(text: str) -> str | None:
    """Return a DICOM code string (capitals, digits, space, underscore, hyphen, at most 16); else None.

    What passes can hold a code, not a sentence; it may be shown. Source: DICOM PS3.5 6.2, CS.
    """
    code = text.strip().upper()
    return code if re.fullmatch(r"[A-Z0-9_ \-]{1,16}", code) and code not in _NOTHING else None
