"""Fold texts for comparing names and numbers: one form of each letter and digit, whatever the script."""

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

#: Letters without a decomposition of their own, or that spellings of a name exchange.
_ALIKE = {
    "ß": "ss", "ẞ": "SS", "ı": "i", "ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D",
    "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "þ": "th", "Þ": "Th", "ى": "ي", "ة": "ه", "ـ": "", "ς": "σ",
}  # fmt: skip
#: Scripts that set no space between words, as the first word of a character's Unicode name.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


@dataclass(frozen=True)
class Folded:
    """A text in the form that is compared.

    text: the form, its case kept. lower: the same without case, character by character. starts: of each character of
    the form the index in the original text, and its length at the end.
    """

    text: str
    lower: str
    starts: list[int]

    def original(self, start: int, end: int) -> tuple[int, int] | None:
        """Return the span in the original text; None where it would cut a letter of that in two."""
        at, until = self.starts[start], self.starts[end]
        whole = (not start or self.starts[start - 1] != at) and self.starts[end - 1] != until
        return (at, until) if whole else None


def fold(text: str) -> Folded:
    """Fold a text: full-width forms, digits of every script, accents and vowel points, invisible characters.

    Hiragana becomes katakana. Parts of a letter in its script stay: vowel signs, tone marks of Thai, the voicing marks
    of kana. The text should be in NFC.
    """
    if text.isascii():
        return Folded(text, text.lower(), list(range(len(text) + 1)))
    form: list[str] = []
    starts: list[int] = []
    for at, sign in enumerate(text):
        for one in _form(sign):
            form.append(one)
            starts.append(at)
    starts.append(len(text))
    return Folded("".join(form), "".join(map(_lower, form)), starts)


@lru_cache(maxsize=8192)
def _form(sign: str) -> str:
    if sign in _ALIKE:
        return _ALIKE[sign]
    if "\uac00" <= sign <= "\ud7a3":  # a syllable of Korean is one letter here
        return sign
    kind = unicodedata.category(sign)
    if kind == "Nd":
        return str(unicodedata.decimal(sign))
    if kind == "Cf":
        return ""
    parts = (one for one in unicodedata.normalize("NFKD", sign) if not _is_accent(one))
    return "".join(chr(ord(one) + 0x60) if "\u3041" <= one <= "\u3096" else _ALIKE.get(one, one) for one in parts)


def _is_accent(sign: str) -> bool:
    """Return whether a mark may be left out in writing: accents, Hebrew and Arabic points. Source: Unicode 4.3."""
    place = unicodedata.combining(sign)
    return place == 1 or 10 <= place <= 35 or place >= 200


def _lower(sign: str) -> str:
    low = sign.casefold()
    return low if len(low) == 1 else sign


@lru_cache(maxsize=8192)
def script(sign: str) -> str:
    """Return the script of a letter or mark: the first word of its Unicode name; "" for anything else.

    Han and other unspaced scripts included. Digits, signs and the underscore have none.
    """
    if unicodedata.category(sign)[0] not in "LM":
        return ""
    name = unicodedata.name(sign, "").split(" ")[0].split("-")[0]
    if name in ("COMBINING", "IDEOGRAPHIC"):
        return "CJK" if name == "IDEOGRAPHIC" else ""
    # The prolonged sound mark and the marks of voice.
    return "KATAKANA" if name == "HIRAGANA" else name


def unspaced(sign: str) -> bool:
    """Return whether a letter belongs to a script without spaces between words."""
    return script(sign) in _UNSPACED


def composed(text: str) -> str:
    """Return a text in NFC."""
    return unicodedata.normalize("NFC", text)
