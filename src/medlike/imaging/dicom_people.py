"""Collect names, dates and ids from all of a DICOM file, by value representation."""

import re
from collections.abc import Iterator
from contextlib import suppress

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

#: Keywords of elements that hold an id, a number or an address of a person, an order or a device.
_NUMBERS = re.compile(
    r"(?:ID|IDs|AccessionNumber\w*|OrderNumber\w*|SerialNumber|TelephoneNumbers?|Address|MedicalRecordLocator)$"
)
#: VRs in which such an id may be: strings of any kind.
_STRINGS = frozenset(("LO", "SH", "ST", "LT", "UT", "UC", "CS"))
_DEEPEST = 16
#: Control characters of Latin-1, which no text has, and two letters in a row: kana or kanji.
_CONTROL, _JAPANESE = re.compile(r"[\x80-\x9f]"), re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]{2}")


def people_and_dates(dataset: Dataset) -> dict[str, str]:
    """Return all names, dates and ids of a data set, of its sequences and of its private elements.

    Names are the elements of VR PN, dates those of VR DA and DT, whatever they are called; ids are recognised by
    their keyword. Source: PS3.5 6.2, PS3.6.

    Returns:
        names_in_file, dates_in_file, numbers_in_file: values separated by backslashes; absent where there are none.
    """
    values_by_kind: dict[str, dict[str, None]] = {"names_in_file": {}, "dates_in_file": {}, "numbers_in_file": {}}
    for key, value in _values(dataset, 0):
        values_by_kind[key][value] = None
    return {key: "\\".join(values) for key, values in values_by_kind.items() if values}


def as_text(value: object) -> str:
    """Return the value of an element as text, without what no database takes; several are joined by backslashes.

    They are joined first, since a backslash may also be the second byte of a letter.


    UTF-8 and Shift JIS that the file does not declare arrive as Latin-1, in which they would hide a name. No other
    text is well-formed UTF-8 by chance. A text is Shift JIS if it has control characters that Latin-1 texts lack (a
    curly quote of Windows is one of them) and, read so, two Japanese letters in a row. Source: PS3.3 C.12.1.1.2.
    """
    if isinstance(value, MultiValue | list | tuple):
        value = "\\".join("" if one is None else str(one) for one in value)
    # Undecodable bytes arrive as surrogates.
    text = str("" if value is None else value).replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    with suppress(UnicodeError):
        return text.encode("latin-1").decode("utf-8").strip()
    with suppress(UnicodeError):
        japanese = text.encode("latin-1").decode("cp932")
        if _CONTROL.search(text) and _JAPANESE.search(japanese):
            return japanese.strip()
    return text.strip()


def _values(dataset: Dataset, depth: int) -> Iterator[tuple[str, str]]:
    for tag in list(dataset.keys()):
        try:
            key = _kind(dataset, tag)
            if key == "sequence" and depth < _DEEPEST:
                items = dataset[tag].value
                for item in items if isinstance(items, Sequence) else ():
                    yield from _values(item, depth + 1)
            elif key in ("names_in_file", "dates_in_file", "numbers_in_file"):
                texts = as_text(dataset[tag].value).split("\\")
                yield from ((key, text.strip()) for text in texts if text.strip())
        except Exception:  # a damaged element says nothing
            continue


def _kind(dataset: Dataset, tag: int) -> str:
    """Return what an element holds, without reading its value: most are numbers of the image.

    The dictionary decides, for a file may call its representation LO; the file does where the dictionary is silent.
    """
    vr = str(getattr(dataset.get_item(tag), "VR", None) or "")
    if vr != "SQ" and dictionary_has_tag(tag):
        vr = dictionary_VR(tag)
    if vr == "SQ":
        return "sequence"
    if vr == "PN":
        return "names_in_file"
    if vr in ("DA", "DT"):
        return "dates_in_file"
    return "numbers_in_file" if vr in _STRINGS and _NUMBERS.search(keyword_for_tag(tag)) else ""
