"""Familiarity: whether anything in the archive is alike, judged by how similar its own images are to each other.

The query's mean similarity to its five nearest images is compared with that of the 200 images of a sample that are most
like the query, each with the five nearest of other patients: a local conformal p-value, made anew in each generation.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from medlike.types import Json, JsonObject

#: Share of the archive's images around the query that are this far from their neighbours, up to which nothing is called
#: alike. It is about the share of false alarms: see docs/results/familiar.md.
THRESHOLD = 0.05
LOCAL = 200  # images of the sample that say what is usual around a query
HARDLY = 0.1  # the same, up to which hardly anything is called alike
UNITS = 100  # patients, or studies where these are not known, without which nothing is judged
#: The most similar images are looked for among so many nearest by code, as many as the default order looks at.
SHORTLIST = 999


@dataclass(frozen=True)
class Familiarity:
    """Say whether anything in the archive is like the query, as of the search's generation.

    Attributes:
        alike: False if nothing is alike; None if that cannot be judged.
        similarity: Mean similarity of the five most similar images but the query itself, among the 999 nearest by code
            that pass the filter; of fewer where there are fewer, None if there is none.
        usual: Median of the same for those images of a sample that are most like the query, 200 at most, to images of
            other patients and studies; None if no image has a neighbour.
        share: Share of these images whose neighbours are no more similar, 0 to 1; None without `usual` or `similarity`.
        units: How many images the sample has, one of each patient.
        filtered: True if only images that pass a filter were compared with the query.
    """

    alike: bool | None
    similarity: float | None
    usual: float | None
    share: float | None
    units: int
    filtered: bool = False

    def to_dict(self) -> JsonObject:
        """Return the judgement as plain data, as schemas/result.json describes."""
        return asdict(self)

    @classmethod
    def from_dict(cls, facts: Mapping[str, Json]) -> "Familiarity":
        """Return the judgement of a dictionary made by `to_dict`.

        Args:
            facts: The dictionary.

        Raises:
            TypeError: The data is not a judgement.
        """
        return cls(**facts)

    def __str__(self) -> str:
        """Return the judgement as a sentence."""
        where = "that passes the filter" if self.filtered else "in this archive"
        if self.similarity is None:
            return f"No other image {where} to compare with"
        if self.alike is None:
            return f"Too few patients to judge whether anything is alike: {self.units}, and {UNITS} are needed"
        found = "Alike images found"
        if not self.alike:
            found = f"Nothing alike {where}"
        elif self.share is not None and self.share <= HARDLY:
            found = f"Hardly anything alike {where}"
        return f"{found}: similarity {self.similarity:z.2f}, and {self.usual:.2f} is usual here"
