"""Find the names, dates, ids and UIDs of an object in a text, in any formatting.

A word of a name is *strong* or *weak*. A strong one is taken out wherever it stands as a word, with or without a
genitive s; in scripts without spaces, and from six letters on, also inside of a word. A weak one (an initial, a
particle, a function word such as "An", the code of a modality, a single Chinese character) is taken out only beside
another word of the same name, or where it stands alone in a script without spaces.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache

from medlike.imaging.letters import Folded, composed, fold, script, unspaced

#: Key of the identifiers -> what is in it. A key that fits none of the first two holds a number, an id or a place.
_NAME_KEYS = re.compile(r"name|physician|doctor|operator|person|radiologist|reader|referrer")
_DATE_KEYS = re.compile(r"date|birth|dob")
#: Keys of free text, of facts that identify nobody, and of small numbers that every text holds.
_NEITHER = frozenset((
    "patient_comments", "study_description", "series_description", "protocol_name", "image_comments", "sop_class_uid",
    "series_number", "instance_number", "study_time", "acquisition_time", "mask", "original_path", "pixels",
))  # fmt: skip
_PLACES = re.compile(r"institution|station|hospital|site|file_?name|path")
_SHORTEST_NUMBER = 4
#: Letters from which on a name is also found inside of a word.
_INSIDE = 6

_PARTICLES = (
    "af al bin ibn bint ben de da das del della den der des di do dos du el la las le les los of st ter the van vom "
    "von und y zu zum zur"
)
_TITLES = "dr prof mr mrs ms miss md phd med dipl ing herr frau jr sr ii iii iv"
_FUNCTION_WORDS = (
    "ad am an and are as at be but by can for go had has he her him his if im in is it its man may me my no nor not "
    "off on one or our out per she so than to too two up us was we who with new old all any low mit bei auf nach et en"
)
_CODES = "ct mr mri xr cr dx us nm pt pet rf xa mg ap pa ll rl lt rt lat left right er iv im sc t1 t2 ed"
_WEAK = frozenset(" ".join((_PARTICLES, _TITLES, _FUNCTION_WORDS, _CODES)).split())
_HONORIFICS = (
    "先生", "女士", "小姐", "太太", "同志", "醫師", "医生", "医师", "様", "樣", "殿", "氏", "君", "サン", "クン",
    "サマ", "씨", "님", "군", "양", "선생",
)  # fmt: skip
_CLITICS = {"ARABIC": "وفبلك", "HEBREW": "ובלהמשכ"}
_BETWEEN_WORDS = frozenset(" _^,.-'’=·・•/")
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})


@dataclass(frozen=True)
class Passage:
    """A stretch [start, end) of a text and what stands in its place."""

    start: int
    end: int
    mark: str


@dataclass(frozen=True)
class _Words:
    """Words of names, folded and in lower case -> the persons who have them. initials: weak words of one letter."""

    strong: dict[str, set[int]] = field(default_factory=dict)
    weak: dict[str, set[int]] = field(default_factory=dict)
    initials: dict[str, set[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """The identifiers of one object, ready to be looked up in texts."""

    words: _Words
    dates: tuple[re.Pattern[str], ...]
    numbers: tuple[re.Pattern[str], ...]

    def passages(self, text: str, numbers: bool = True) -> list[Passage]:
        """Return what of a text in NFC is to be replaced, in order and free of overlaps.

        Args:
            text: the text, in NFC.
            numbers: look for ids, UIDs and places too, and not for names and dates alone.
        """
        folded = fold(text)
        spans = []
        for mark, patterns in (("[id]", self.numbers if numbers else ()), ("[date]", self.dates)):
            for pattern in patterns:
                spans += [(match.span(), mark) for match in pattern.finditer(folded.lower)]
        spans += [(span, "[name]") for span in _names(folded, self.words)]
        originals = [(folded.original(*span), mark) for span, mark in spans]
        candidates = [Passage(*span, mark) for span, mark in originals if span]
        # The longest first: a date inside of an id is part of it.
        chosen: list[Passage] = []
        for passage in sorted(candidates, key=lambda one: (one.start - one.end, one.start)):
            if all(passage.end <= other.start or passage.start >= other.end for other in chosen):
                chosen.append(passage)
        return sorted(chosen, key=lambda one: one.start)


def known(identifiers: Mapping[str, str]) -> Known:
    """Prepare identifiers, as in `Image.identifiers`; several values of one are separated by backslashes."""
    return _known(tuple(sorted((key, str(value)) for key, value in identifiers.items() if value)))


@lru_cache(maxsize=64)
def _known(identifiers: tuple[tuple[str, str], ...]) -> Known:
    words = _Words()
    persons = 0
    dates: dict[str, None] = {}
    numbers: dict[str, None] = {}
    for key, value in identifiers:
        if key in _NEITHER or key.endswith("time"):
            continue
        for one in composed(value).split("\\"):
            if _NAME_KEYS.search(key) and not _PLACES.search(key):
                persons += 1
                _add_person(words, one, persons)
            elif _DATE_KEYS.search(key):
                dates |= dict.fromkeys(_date_forms(one))
            else:
                numbers |= dict.fromkeys(_number_form(one))
    return Known(
        words,
        tuple(re.compile(form) for form in dates),
        tuple(re.compile(form) for form in sorted(numbers, key=lambda form: (-len(form), form))),
    )


def _add_person(words: _Words, person: str, number: int) -> None:
    """Add the words of a name in all its groups: alphabetic, ideographic, phonetic. Source: PS3.5 6.2.1."""
    for group in person.split("="):
        components = [_parts(component) for component in group.split("^")[:5]]
        # Pieces without hyphens or apostrophes, since these are left out where words are run together.
        flat = [part for parts in components[:3] for part in parts if not re.search("[-'’]", part)]
        # The family name first and the given name first, run together.
        joined = ["".join(flat), "".join(flat[::-1]), "".join(flat[:2]), "".join(flat[1::-1])] if len(flat) > 1 else []
        # Each component by itself: ONEILL, DELACRUZ, mariajose.
        joined += ["".join(part for part in parts if part in flat) for parts in components[:3] if len(parts) > 1]
        joined += _logins(*("".join(part for part in parts if part in flat) for parts in components[:2]))
        for word in joined:
            if len(word) >= 4 or (len(word) > 1 and unspaced(word[0])):
                words.strong.setdefault(word, set()).add(number)
        for part in [part for parts in components for part in parts] + _parts(group.casefold().translate(_UMLAUTS)):
            for word in {part, *_spellings(part), *_split(part, len(flat) == 1)}:
                place = words.strong if _is_strong(word) else words.weak
                place.setdefault(word, set()).add(number)
            if len(part) > 1 and not unspaced(part[0]):
                words.initials.setdefault(part[0], set()).add(number)


def _logins(family: str = "", given: str = "") -> list[str]:
    """Return a family name with an initial run to it, as users of machines are called: jsmith, smithj."""
    if not given or len(family) < 4 or unspaced(family[0]):
        return []
    return [given[0] + family, family + given[0]]


def _parts(component: str) -> list[str]:
    """Return the words of a component, folded; a hyphenated or apostrophised one whole and in parts."""
    parts: list[str] = []
    for word in re.split(r"[\s,;.·・_^]+", fold(component).lower):
        word = word.strip("-'’()*\"")
        if word and any(script(sign) for sign in word):
            pieces = re.split(r"[-'’]+", word)
            parts += [word, *pieces] if len(pieces) > 1 else [word]
    return [word for word in parts if word]


def _spellings(word: str) -> Iterator[str]:
    """Yield the word with umlauts written out (Mueller), or with the umlaut (Müller, folded to muller)."""
    if re.search("ae|oe|ue", word):
        yield re.sub("([aou])e", r"\1", word)


def _split(word: str, alone: bool) -> Iterator[str]:
    """Split a Chinese, Japanese or Korean name that is written as one word into family and given name."""
    if alone and len(word) in (3, 4) and script(word[0]) in ("CJK", "HANGUL"):
        yield word[1:] if len(word) == 3 else word[2:]
        yield word[0] if len(word) == 3 else word[:2]


def _is_strong(word: str) -> bool:
    if unspaced(word[0]):
        return len(word) >= (2 if script(word[0]) in ("CJK", "HANGUL") else 3)
    return len(word) >= 2 and word not in _WEAK


def _names(folded: Folded, words: _Words) -> list[tuple[int, int]]:
    """Return the spans of the folded text that are names."""
    accepted: list[tuple[int, int, set[int]]] = []
    for word, persons in words.strong.items():
        for start, end in _occurrences(folded, word):
            if _is_genitive(folded, start, end):
                accepted.append((start, end + 1, persons))
            elif unspaced(word[0]) or len(word) >= _INSIDE or _is_word(folded, start, end):
                accepted.append((start, end, persons))
    waiting: list[tuple[int, int, set[int], bool]] = []
    for table, initial in ((words.weak, False), (words.initials, True)):
        for word, persons in table.items():
            for start, end in _occurrences(folded, word):
                alone = _is_word(folded, start, end)
                if unspaced(word[0]) and (alone or folded.text.startswith(_HONORIFICS, end)):
                    accepted.append((start, end, persons))
                elif unspaced(word[0]) or alone:
                    waiting.append((start, end, persons, initial))
    weak = [(start, end, persons) for start, end, persons, initial in waiting if not initial]
    accepted += [
        (start, end, persons)
        for start, end, persons in weak
        if any(persons & others and _beside(folded, (start, end), (at, until)) for at, until, others in weak)
    ]
    grown = True
    while grown:
        taken = {(start, end) for start, end, _ in accepted}
        more = [
            (start, end, persons)
            for start, end, persons, _ in waiting
            if (start, end) not in taken
            and any(persons & whose and _beside(folded, (start, end), (at, until)) for at, until, whose in accepted)
        ]
        accepted += more
        grown = bool(more)
    return _merged(folded, sorted({(start, end) for start, end, _ in accepted}))


def _merged(folded: Folded, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans that touch or overlap."""
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _occurrences(folded: Folded, word: str) -> Iterator[tuple[int, int]]:
    at = folded.lower.find(word)
    while at >= 0:
        yield at, at + len(word)
        at = folded.lower.find(word, at + 1)


def _is_word(folded: Folded, start: int, end: int) -> bool:
    """Return whether no letter of the same script touches a span; digits, "_" and a change of case end a word."""
    text = folded.text
    first, last = text[start], text[end - 1]
    if start and script(text[start - 1]) == script(first) != "":
        before = text[start - 1]
        clitic = end - start >= 4 and before in _CLITICS.get(script(first), "")
        if clitic:
            clitic = start < 2 or script(text[start - 2]) != script(first)
        if not clitic and not (before.islower() and first.isupper()):
            return False
    if end < len(text) and script(text[end]) == script(last) != "":
        return last.islower() and text[end].isupper()
    return True


def _is_genitive(folded: Folded, start: int, end: int) -> bool:
    """Return whether a span and the "s" after it are a word: Meyers, or Kims. Short ones need a capital."""
    shortest = 3 if folded.text[start].isupper() else 4
    return folded.lower.startswith("s", end) and end - start >= shortest and _is_word(folded, start, end + 1)


def _beside(folded: Folded, one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether at most three signs that join words lie between two spans, which do not overlap."""
    (_, end), (start, _) = sorted((one, other))
    return end <= start <= end + 3 and all(sign in _BETWEEN_WORDS for sign in folded.text[end:start])


def _date_forms(value: str) -> Iterator[str]:
    """Yield a date (DA, DT, or as in manifests) as patterns for folded text: in figures, with a month in words."""
    match = re.match(r"\s*(\d{4})[-./]?(\d{1,2})[-./]?(\d{1,2})(?!\d\d:)", fold(value).text)
    try:
        day = date(*map(int, match.groups())) if match else None
    except ValueError:
        day = None
    if day is None:
        return
    y, m, d = f"{day.year:04}", f"{day.month:02}", f"{day.day:02}"
    year = f"(?:{y}|{day.year + 543})"  # Thailand counts from 543 before our era
    short = f"(?:{y}|{day.year + 543}|['’]?{y[2:]})"
    month, number = f"0?{day.month}", f"0?{day.day}"
    gap, word = r"[\s./_^,–-]{1,3}", r"[\s.,_-]*(?:(?:de|of|di)\s)?\s*[^\W\d_]{3,12}[\s.,_-]*(?:(?:de|of|di)\s)?\s*"
    ends = r"(?:st|nd|rd|th)?"
    forms = (
        f"{year}{gap}{month}{gap}{number}", f"{number}{gap}{month}{gap}{short}", f"{month}{gap}{number}{gap}{short}",
        rf"{year}\s?[年년]\s?{month}\s?[月월]\s?{number}\s?[日일号號]?",
        f"{y}{m}{d}", f"{d}{m}{y}", f"{m}{d}{y}", f"{y[2:]}{m}{d}", f"{d}{m}{y[2:]}",
        f"{number}{ends}{word}{year}", f"{year}{word}{number}",
        rf"[^\W\d_]{{3,12}}[\s._-]*{number}{ends}[\s,._-]+{year}",
    )  # fmt: skip
    yield rf"(?<!\d)(?:{'|'.join(forms)})(?!\d)"


def _number_form(value: str) -> Iterator[str]:
    """Yield an id, a UID or a place as a pattern for folded text in lower case, with any signs between its pieces."""
    pieces = re.findall(r"[^\W_]+", fold(value).lower)
    together = "".join(pieces)
    if len(together) < _SHORTEST_NUMBER:
        return
    if together.isdecimal() and len(together.lstrip("0")) >= _INSIDE:
        # The figures may be grouped in another way, or stand without leading zeros.
        body = "0*" + r"[\s._/-]?".join(together.lstrip("0"))
    else:
        body = r"[\W_]{0,3}".join(map(re.escape, pieces))
    # So many digits are no chance: letters may touch them, as in "chestAB12345".
    sure = sum(sign.isdecimal() for sign in together) >= _SHORTEST_NUMBER + 1
    yield f"{_edge(together[0], '<!', sure)}{body}{_edge(together[-1], '!', sure)}"


def _edge(sign: str, way: str, sure: bool) -> str:
    if sign.isdecimal():
        return rf"(?{way}\d)"
    return "" if sure or unspaced(sign) else rf"(?{way}[^\W\d_])"
