"""Familiarity: whether anything in the archive is alike, judged by how similar its own images are to each other."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from medlike.types import Json, JsonObject

#: Share of an archive's own images that are this far from all others, up to which nothing is called alike. By design it
#: is also the share of false alarms; chosen on development images of which whole kinds were left out.
THRESHOLD = 0.05
HARDLY = 0.1  # the same, up to which hardly anything is called alike
UNITS = 100  # patients, or studies where these are not known, without which nothing is judged
#: The most similar image is looked for among so many nearest by code.
SHORTLIST = 10


@dataclass(frozen=True)
class Familiarity:
    """Say whether anything in the archive is like the query, as of the search's generation.

    Attributes:
        alike: False if nothing is alike; None if that cannot be judged.
        similarity: Similarity of the most similar image but the query itself, among the ten nearest by code that pass
            the filter; None if there is none.
        usual: Median similarity of the archive's images to their most similar one of another patient and study;
            None if no image has one.
        share: Share of these images whose neighbour is no more similar, 0 to 1; None without `usual` or `similarity`.
        units: How many images that share is of, one of each patient.
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
