"""Remove identifiers from texts by rule, before anything is stored: names, dates, numbers, addresses.

There are two kinds of rules. One replaces what the same object states about people (the names of the patient and the
physicians, ids, UIDs) anywhere in a text. The other replaces what looks like an identifier: a title and a name, a date,
a phone number, an e-mail address, a long number. No rule knows every name: a text may still name a person afterwards.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from medlike.imaging.image import Value
from medlike.imaging.known_identifiers import Passage, known
from medlike.imaging.letters import composed, fold

_MARK = re.compile(r"\[(?:name|date|id|phone|address)\]")

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)(?![^\W_])\.?"
)
_DAY, _NUMBER_OF_MONTH, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:19|20)\d\d"
_CAPITALISED = r"[A-ZÀ-ÖØ-Þ](?:(?:[^\W_]|['’-])*[^\W_]|\.)?"
_TITLE = (
    r"(?:Drs?|Prof(?:essor)?|Mr|Mrs|Ms|Miss|Mister|Doctor|PD|Herrn?|Frau|Monsieur|Mme|Mlle|Sra?|Dott|Schwester|Nurse)"
)

#: Neither a letter nor a digit beside: "_" parts words here, unlike in \b.
_FREE, _ENDS = r"(?<![^\W_])", r"(?![^\W_])"
#: No letter beside; a digit may be.
_WORD_ENDS = r"(?![^\W\d_])"

# In this order: what is longer and surer comes first. Each with what is put in its place. They are looked for in the
# folded text, so that digits of every script count.
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("[address]", re.compile(r"[\w.+-]+@[^\W_]+(?:[.-][^\W_]+)*\.[^\W\d_]+")),
    ("[address]", re.compile(rf"{_FREE}(?:https?://|www\.)\S+", re.IGNORECASE)),
    ("[id]", re.compile(r"(?<![\d.])\d+(?:\.\d+){5,}(?![\d])")),
    (
        "[date]",
        re.compile(
            rf"(?<!\d)(?:{_YEAR}[-/._]{_NUMBER_OF_MONTH}[-/._]{_DAY}(?:[T _]\d\d:\d\d(?::\d\d)?)?"
            rf"|{_DAY}[-/._]\s?{_DAY}[-/._]\s?{_YEAR}|{_FREE}{_DAY}[-/.]\s?{_DAY}[-/.]\s?\d\d"
            rf"|{_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
            rf"|(?:{_YEAR}|(?:昭和|平成|令和|大正|明治)(?:\d{{1,2}}|元))\s?[年년]\s?{_NUMBER_OF_MONTH}\s?[月월](?:\s?{_DAY}\s?[日일号號])?"
            r")(?!\d)(?![.,]\d)"
        ),
    ),
    (
        "[date]",
        re.compile(
            rf"(?<!\d){_FREE}(?:{_DAY}(?:st|nd|rd|th|\.)?[\s_-]+(?:of\s+)?{_MONTH}[,_-]?\s*(?:{_YEAR}{_ENDS})?"
            rf"|{_MONTH}[\s_-]+{_DAY}(?:st|nd|rd|th)?(?:[,_-]?[\s_]+{_YEAR}{_ENDS}|{_ENDS}(?![\w.,]*\d)(?!\s*(?:mm|cm|m|kg|%|x)\b))"
            rf"|{_MONTH},?[\s_]+{_YEAR}{_ENDS})",
            re.IGNORECASE,
        ),
    ),
    (
        "[phone]",
        re.compile(
            rf"(?<!\.){_FREE}(?:(?:tel|phone|fax|mobile|cell|pager){_WORD_ENDS}\.?:?[\s_]*\+?[\d(][\d ()./_-]{{4,}}\d"
            rf"|\+\d[\d ()./-]{{6,}}\d|\(\d{{2,5}}\)[ -]?\d{{2,4}}[ -]?\d{{2,6}}|\d{{3}}[-.]\d{{3}}[-.]\d{{4}}){_ENDS}",
            re.IGNORECASE,
        ),
    ),
    (
        "[id]",
        re.compile(
            rf"{_FREE}(?:MRN|medical record(?: number)?|patient[ _](?:id|no|number)|accession(?:[ _](?:no|number))?"
            rf"|case[ _](?:no|number)|acc|SSN|NHS(?:[ _](?:no|number))?|fall-?nr|pat\.?-?nr)(?:{_ENDS}|(?=\d{{3}}))\.?"
            r"[\s_]*[:#]?[\s_]*#?(?=[^\W_]*(?:-[^\W_]+)*\d)[^\W_]+(?:-[^\W_]+)*(?: \d{3,4}(?!\d))*",
            re.IGNORECASE,
        ),
    ),
    ("[id]", re.compile(r"(?:(?<![^\W\d_])[A-Z]{1,3}-?)?(?<!\d)\d{6,}|(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)")),
    (
        "[name]",
        re.compile(
            rf"{_FREE}{_TITLE}(?:\.|{_ENDS})(?:[\s_]*(?:{_TITLE}|med|rer|nat|phil|habil){_ENDS}\.?)*"
            rf"(?:(?:[\s_^]+|(?<=\.)){_CAPITALISED}){{1,3}}"
        ),
    ),
    (
        "[name]",
        re.compile(
            rf"{_FREE}(?i:dictated|reported|signed|read|reviewed|referred|performed|interpreted|electronically signed)"
            rf"[\s_]+(?i:by):?[\s_]+{_CAPITALISED}(?:[\s_]+{_CAPITALISED}){{0,2}}"
        ),
    ),
    (
        "[name]",
        re.compile(rf"{_FREE}(?i:patient|patient's name|name):\s*{_CAPITALISED}(?:[ ,^_]+{_CAPITALISED}){{0,2}}"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Deidentified:
    """A text without what the rules found. count: how many passages were taken out."""

    text: str
    count: int


def plain(text: str) -> str:
    """Return a text without control characters and lone surrogates, its white space tidied."""
    printable = "".join(" " if unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in text)
    return " ".join(printable.split())


def deidentify(text: str, identifiers: Mapping[str, str] | None = None) -> Deidentified:
    """Replace names, dates, numbers and addresses by [name], [date], [id], [phone], [address].

    White space is tidied, and letters are composed (NFC). Not perfect: see the module.

    Args:
        text: any text.
        identifiers: of the same object, as `Image.identifiers`.
    """
    clean = composed(plain(text))
    clean, count = _replaced(clean, known(identifiers or {}).passages(clean))
    for mark, pattern in _RULES:
        folded = fold(clean)
        spans = (folded.original(*match.span()) for match in pattern.finditer(folded.text))
        clean, number = _replaced(clean, [Passage(*span, mark) for span in spans if span])
        count += number
    return Deidentified(clean, count)


def without_known(text: str, identifiers: Mapping[str, str], numbers: bool = True) -> str:
    """Replace only what the object says of its people, for values that are no sentences.

    Args:
        text: a value, such as the name of a machine.
        identifiers: of the same object, as `Image.identifiers`.
        numbers: also replace ids, UIDs and places; else names and dates alone.
    """
    clean = composed(text)
    redacted, count = _replaced(clean, known(identifiers).passages(clean, numbers))
    return redacted if count else text


#: Metadata that holds words of a collection, the same for many patients: labels and the like.
VOCABULARY = ("region", "label", "class", "source", "task", "licence")


def nameless(facts: Mapping[str, Value], who: Mapping[str, str], numbers: bool = True) -> dict[str, Value]:
    """Return facts without the names, dates and numbers that the same object says of its people.

    A code string has room for a name: BodyPartExamined may be "DOE JANE". Columns of a collection's own vocabulary stay
    as they are: a patient called Brown takes nothing from the label brown_fat. `numbers`: as in `without_known`.
    """
    return {
        key: without_known(value, who, numbers) if isinstance(value, str) and key not in VOCABULARY else value
        for key, value in facts.items()
    }


def _replaced(text: str, passages: list[Passage]) -> tuple[str, int]:
    """Return the text with passages replaced, and how many there were; existing marks stay."""
    if not passages:
        return text, 0
    marks = [match.span() for match in _MARK.finditer(text)]
    chosen = [one for one in passages if all(one.end <= start or one.start >= end for start, end in marks)]
    for one in reversed(chosen):
        text = text[: one.start] + one.mark + text[one.end :]
    return text, len(chosen)
