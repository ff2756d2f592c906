"""What the fields of an image say as one written sentence, so that they are found by meaning as texts are.

"Chest X-ray, anteroposterior view, pneumonia, 63 years, female". The sentence is a function of an image's stored
columns, which never change; it is never stored itself, only its codes under the text bundle. Receipts repeat what was
searched: whoever changes what is written raises `storage.folder.SENTENCES`.
"""

from collections.abc import Mapping

from medlike.types import Json

COLUMNS = ("modality", "region", "body_part", "view", "label", "age", "sex")  # what a sentence is written from
LONGEST = 1000  # characters of a sentence
NOUNS = {
    "CT": "CT", "ES": "endoscopy", "MG": "mammogram", "MR": "MRI", "NM": "scintigraphy",
    "OCT": "optical coherence tomography", "PT": "PET", "RF": "fluoroscopy", "US": "ultrasound", "XA": "angiogram",
    "XR": "X-ray",
}  # fmt: skip
# DICOM PS3.3 C.8.7.1.1.1 and, for breasts, PS3.16 CID 4014.
VIEWS = {
    "AP": "anteroposterior", "PA": "posteroanterior", "LL": "left lateral", "RL": "right lateral",
    "LLD": "left lateral decubitus", "RLD": "right lateral decubitus", "MLO": "mediolateral oblique",
    "CC": "craniocaudal", "ML": "mediolateral", "LM": "lateromedial",
}  # fmt: skip
SEXES = {"F": "female", "M": "male"}


def field_sentence(columns: Mapping[str, Json]) -> str:
    """Return an image's fields as a sentence, "" where none of them says anything.

    Args:
        columns: Values by the names in COLUMNS, as the store has them; missing ones are left out.
    """
    text = {name: _text(columns.get(name)) for name in COLUMNS}
    place = text["region"] or text["body_part"].lower()
    what = NOUNS.get(text["modality"], text["modality"]) or ("image" if place else "")
    view = VIEWS.get(text["view"].upper(), text["view"].lower())
    parts = (
        f"{place} {what}".strip(),
        view if not view or view.endswith("view") else f"{view} view",
        text["label"],
        _years(columns.get("age")),
        SEXES.get(text["sex"], ""),
    )
    sentence = ", ".join(part for part in parts if part)[:LONGEST]
    return sentence[:1].upper() + sentence[1:]


def _text(value: Json) -> str:
    return " ".join(str(value).replace("_", " ").split()) if isinstance(value, str) else ""


def _years(age: Json) -> str:
    if isinstance(age, bool) or not isinstance(age, int | float):
        return ""
    return "under 1 year" if 0 <= age < 1 else f"{int(age)} year{'s' * (int(age) != 1)}"
