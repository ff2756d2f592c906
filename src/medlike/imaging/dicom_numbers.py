"""Numbers in DICOM elements: decimal strings as files really hold them."""

import re
from typing import NamedTuple

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from medlike.types import Json

#: One comma that cannot part thousands: other than three digits follow it, or other than 1 to 3 come before, or a 0.
_DECIMAL_COMMA = re.compile(r"[+-]?(\d*,(?!\d{3}(?!\d))\d+|\d{4,},\d{3}|0+\d*,\d{3}|,\d{3})([eE][+-]?\d+)?")

#: No quantity in a picture is beyond these, and two of them can be multiplied without overflow.
_SMALLEST, _LARGEST = 1e-100, 1e100


class Number(NamedTuple):
    """One value of an element. value: None where it is empty, no number or beyond bounds. text: as in the file."""

    value: float | None
    text: str

    @property
    def unreadable(self) -> bool:
        """Return True if the file states a value here that is not a number."""
        return self.value is None and self.text != ""

    @property
    def repaired(self) -> bool:
        """Return True if the text is not a decimal string of PS3.5 6.2 but can only mean this number."""
        return self.value is not None and "," in self.text


def positions(dataset: Dataset, keyword: str) -> list[Number]:
    """Return every value of an element at its position, empty and unreadable ones among them.

    Args:
        dataset: the data set or the item that holds the element.
        keyword: the element, of representation DS, IS or a binary number (PS3.5 6.2).

    Returns:
        One Number a value; empty where the element is absent or has no value. A decimal comma is read where it
        can only mean one thing: "40,0" is 40, "1,024" may be either and is unreadable.
    """
    try:
        value = dataset.get(keyword)
    except Exception as error:  # pydicom raises what the damage happens to provoke
        return [Number(None, type(error).__name__)]
    if value is None or (isinstance(value, str | bytes) and not value):
        return []
    many = isinstance(value, MultiValue | list | tuple)
    return [_number(one) for one in (value if many else [value])]


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """Return the numbers of an element in order; empty if it is absent or one of its values is unreadable."""
    listed = positions(dataset, keyword)
    if any(one.unreadable for one in listed):
        return []
    return [one.value for one in listed if one.value is not None]


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return the first number of an element, or None."""
    listed = numbers(dataset, keyword)
    return listed[0] if listed else None


def _number(value: Json) -> Number:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    # Decimal strings come as numbers that remember their text; the text is what a report quotes.
    text = "" if value is None else str(value).strip(" \0\t\r\n")
    if "_" in text:  # a separator in Python, and in no decimal string
        return Number(None, text)
    try:
        parsed = float(text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else value)
    except (TypeError, ValueError, OverflowError):
        return Number(None, text)
    return Number(parsed if parsed == 0 or _SMALLEST < abs(parsed) < _LARGEST else None, text)
