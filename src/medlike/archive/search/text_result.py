"""Results of a search of stored texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from medlike.archive.search.result import Answer
from medlike.errors import QueryError
from medlike.types import Json, JsonObject


@dataclass(frozen=True)
class TextHit:
    """Describe one stored text that a search returned.

    Attributes:
        rank: Place in the result, from 1.
        id: Public id of the image that the text belongs to.
        kind: Report, caption or another kind.
        text: The text.
        distance: Differing bits of the cross-modal codes, lower is nearer.
        similarity: Similarity of the embeddings, -1 to 1, higher is more alike.
    """

    rank: int
    id: str
    kind: str
    text: str
    distance: int
    similarity: float

    def as_dict(self) -> JsonObject:
        """Return the hit for JSON."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class TextResult(Answer[TextHit]):
    """Hold the stored texts nearest to one query, ordered by (distance, -similarity, id of the image).

    It is the sequence of its hits, and has the attributes of `Result` from `hits` to `erased`.
    """

    HITS: ClassVar[str] = "texts"

    @classmethod
    def from_dict(cls, facts: Mapping[str, Json]) -> "TextResult":
        """Return the result of a dictionary: that of `as_dict`, with the modality if it is known.

        Args:
            facts: The dictionary.

        Raises:
            QueryError: The data is no result of a search for texts.
        """
        try:
            return cls(
                [TextHit(**hit) for hit in facts[cls.HITS]],
                outlier=facts["outlier"],
                receipt=dict(facts["receipt"]),
                seconds=dict(facts["seconds"]),
                modality=facts.get("modality"),
                warnings=tuple(facts.get("warnings", ())),
                erased=int(facts.get("erased", 0)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise QueryError(f"this is no result of a search for texts ({error}): give what `as_dict` made") from None
