"""Results of a search of stored texts."""

from dataclasses import dataclass
from typing import ClassVar

from medlike.archive.search.result import Answer
from medlike.types import JsonObject


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
