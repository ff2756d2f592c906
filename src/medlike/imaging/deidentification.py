"""Taking identifiers out of texts by rule, before anything is stored: names, dates, numbers, addresses.

Two kinds of rules. What the same object says of its people (the patient's name, the physicians', ids, UIDs) is
taken out wherever it stands. What looks like an identifier (a title and a name, a date, a phone number, an e-mail
address, a long number) is taken out too. No rule knows every name: a text that went through this may still name
somebody.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

#: Identifiers that hold names of persons; their parts are looked for one by one.
NAMES = ("patient_name", "referring_physician", "performing_physician", "reading_physician", "operator")
#: Identifiers that are looked for as they are.
NUMBERS = (
    "patient_id", "other_patient_ids", "accession_number", "study_id", "study_uid", "series_uid", "sop_uid",
    "frame_of_reference_uid", "device_serial_number", "institution", "station",
)  # fmt: skip
_SHORTEST_NAME, _SHORTEST_NUMBER = 3, 4

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)(?!\w)\.?"
)
_DAY, _NUMBER_OF_MONTH, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:19|20)\d\d"
_CAPITALISED = r"[A-ZÀ-ÖØ-Þ](?:[\w'’-]*[\w]|\.)?"
_TITLE = (
    r"(?:Drs?|Prof(?:essor)?|Mr|Mrs|Ms|Miss|Mister|Doctor|PD|Herrn?|Frau|Monsieur|Mme|Mlle|Sra?|Dott|Schwester|Nurse)"
)

# In this order: what is longer and surer comes first. Each with what is put in its place.
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("[address]", re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")),
    ("[address]", re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE)),
    ("[id]", re.compile(r"\b\d+(?:\.\d+){5,}\b")),
    (
        "[date]",
        re.compile(
            rf"\b(?:{_YEAR}[-/.]{_NUMBER_OF_MONTH}[-/.]{_DAY}(?:[T ]\d\d:\d\d(?::\d\d)?)?"
            rf"|{_DAY}[-/.]\s?{_DAY}[-/.]\s?(?:{_YEAR}|\d\d)|{_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))\b(?![.,]\d)"
        ),
    ),
    (
        "[date]",
        re.compile(
            rf"\b(?:{_DAY}(?:st|nd|rd|th|\.)?\s+(?:of\s+)?{_MONTH},?\s*(?:{_YEAR}\b)?"
            rf"|{_MONTH}\s+{_DAY}(?:st|nd|rd|th)?(?:,?\s+{_YEAR}\b|(?![\w.,]*\d)(?!\s*(?:mm|cm|m|kg|%|x)\b))"
            rf"|{_MONTH},?\s+{_YEAR}\b)",
            re.IGNORECASE,
        ),
    ),
    (
        "[phone]",
        re.compile(
            r"(?<![\w.])(?:\b(?:tel|phone|fax|mobile|cell|pager)\b\.?:?\s*\+?[\d(][\d ()./-]{4,}\d"
            r"|\+\d[\d ()./-]{6,}\d|\(\d{2,5}\)[ -]?\d{2,4}[ -]?\d{2,6}|\d{3}[-.]\d{3}[-.]\d{4})\b",
            re.IGNORECASE,
        ),
    ),
    (
        "[id]",
        re.compile(
            r"\b(?:MRN|medical record(?: number)?|patient (?:id|no|number)|accession(?: (?:no|number))?"
            r"|case (?:no|number)|acc|SSN|NHS(?: (?:no|number))?|fall-?nr|pat\.?-?nr)\b\.?"
            r"\s*[:#]?\s*#?(?=[\w-]*\d)[\w-]+(?: \d{3,4})*",
            re.IGNORECASE,
        ),
    ),
    ("[id]", re.compile(r"\b[A-Z]{0,3}-?\d{6,}\b|\b\d{3}-\d{2}-\d{4}\b")),
    (
        "[name]",
        re.compile(
            rf"\b{_TITLE}\.?(?:\s+(?:{_TITLE}|med|rer|nat|phil|habil)\b\.?)*(?:\s+{_CAPITALISED}){{1,3}}"
        ),
    ),
    (
        "[name]",
        re.compile(
            r"\b(?i:dictated|reported|signed|read|reviewed|referred|performed|interpreted|electronically signed)"
            rf"\s+(?i:by):?\s+{_CAPITALISED}(?:\s+{_CAPITALISED}){{0,2}}"
        ),
    ),
    ("[name]", re.compile(rf"\b(?i:patient|patient's name|name):\s*{_CAPITALISED}(?:[ ,^]+{_CAPITALISED}){{0,2}}")),
)  # fmt: skip


@dataclass(frozen=True)
class Deidentified:
    """A text without what the rules found. count: how many passages were taken out."""

    text: str
    count: int


def plain(text: str) -> str:
    """A text without control characters and halves of characters, its white space tidied."""
    kept = "".join(" " if unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in text)
    return " ".join(kept.split())


def deidentify(text: str, identifiers: Mapping[str, str] | None = None) -> Deidentified:
    """Replace names, dates, numbers and addresses by [name], [date], [id], [phone], [address].

    identifiers: of the same object, as `Image.identifiers`. White space is tidied. Not perfect: see the module.
    """
    found, count = plain(text), 0
    for mark, pattern in (*_known(identifiers or {}), *_RULES):
        found, number = pattern.subn(mark, found)
        count += number
    return Deidentified(found, count)


def _known(identifiers: Mapping[str, str]) -> list[tuple[str, re.Pattern[str]]]:
    """What the object says of its people, as patterns; the longest first."""
    numbers = {plain(identifiers[name]) for name in NUMBERS if identifiers.get(name)}
    names: set[str] = set()
    for name in NAMES:
        for person in identifiers.get(name, "").split("\\"):
            names |= {part for part in re.split(r"[\s^=,;.]+", plain(person)) if part}
    return [
        *_patterns("[id]", {word for word in numbers if len(word) >= _SHORTEST_NUMBER}),
        *_patterns("[name]", {word for word in names if len(word) >= _SHORTEST_NAME and not word.isdigit()}),
    ]


def _patterns(mark: str, words: set[str]) -> list[tuple[str, re.Pattern[str]]]:
    ordered = sorted(words, key=lambda word: (-len(word), word))
    return [(mark, re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)) for word in ordered]
