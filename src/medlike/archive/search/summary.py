"""Summary of hits: how many of their patients have which label in the archive."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from medlike.errors import QueryError
from medlike.types import Json, JsonObject

_SHOWN = 40  # characters of a value in a sentence
_Z = 1.959963984540054  # of the normal distribution, for 95 %


class Summarised(Protocol):
    """What a summary reads of a hit."""

    @property
    def metadata(self) -> Mapping[str, Json]:
        """Return its searchable fields."""
        ...

    @property
    def patient(self) -> int | None:
        """Return the number of its patient among the hits."""
        ...

    @property
    def itself(self) -> bool:
        """Return True if it is the query."""
        ...


@dataclass(frozen=True)
class ValueShare:
    """How many patients among the hits have a value.

    Attributes:
        value: The value.
        patients: Patients that have it.
        share: Their share of the patients that have any, 0 to 1.
        low: Lower end of Wilson's 95 % interval of the share.
        high: Upper end of it.
    """

    value: str
    patients: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class HitSummary:
    """What the archive holds on the patients of the first hits: no diagnosis of the query.

    Attributes:
        field: The field.
        hits: How many hits were counted; the query itself is not.
        patients: Patients of these hits that have a value.
        without: Patients of these hits that have none.
        unknown: Hits whose patient is not known: each is counted as a patient of its own.
        values: The values, the most frequent first; equally frequent ones in the order of the hits.
    """

    field: str
    hits: int
    patients: int
    without: int
    unknown: int
    values: tuple[ValueShare, ...]

    def to_dict(self) -> JsonObject:
        """Return the summary as plain data."""
        return {**asdict(self), "values": [asdict(value) for value in self.values]}

    def __str__(self) -> str:
        """Return the most frequent value as a sentence; empty if fewer than two patients have a value."""
        if self.patients < 2:
            return ""
        first = self.values[0]
        value = first.value if len(first.value) <= _SHOWN else first.value[: _SHOWN - 1] + "…"
        interval = f"interval {100 * first.low:.0f} to {100 * first.high:.0f} %"
        rest = f"; {self.without} more without" if self.without else ""
        have = "has" if first.patients == 1 else "have"
        patients = f"Of the {self.patients} patients nearest with a {self.field} here"
        return f"{patients}, {first.patients} {have} {value} ({interval}){rest}"


def summary(hits: Sequence[Summarised], field: str = "label", k: int | None = None) -> HitSummary:
    """Count the patients of the first hits by their value of a field; `Result.summary` explains the arguments."""
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
        raise QueryError(f"k is {k!r}: give a number of hits, 1 or more")
    counted = [hit for hit in hits[:k] if not hit.itself]
    by_patient: dict[tuple[str, int], list[str]] = {}
    for at, hit in enumerate(counted):
        patient = ("hit", at) if hit.patient is None else ("patient", hit.patient)
        values = by_patient.setdefault(patient, [])
        if (value := hit.metadata.get(field)) not in (None, "", []):
            values.append(", ".join(map(str, value)) if isinstance(value, list) else str(value))
    # Both count in the order of the hits, and `most_common` keeps it where numbers are equal.
    majorities = [Counter(values).most_common(1)[0][0] for values in by_patient.values() if values]
    return HitSummary(
        field=field,
        hits=len(counted),
        patients=len(majorities),
        without=len(by_patient) - len(majorities),
        unknown=sum(hit.patient is None for hit in counted),
        values=tuple(
            ValueShare(value, number, number / len(majorities), *wilson(number, len(majorities)))
            for value, number in Counter(majorities).most_common()
        ),
    )


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.

    Args:
        successes: How many of the trials succeeded.
        trials: How many there were, 1 or more.
    """
    share, spread = successes / trials, _Z * _Z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)
