"""What a search of texts answers."""

from dataclasses import dataclass
from typing import Any, ClassVar

from medlike.archive.search.result import Answer


@dataclass(frozen=True)
class TextHit:
    """One stored text that was found.

    rank: from 1. id: of its image. kind: report, caption and the like. distance: differing bits of the cross-modal
    codes, lower is nearer. similarity: of the embeddings, -1 to 1, higher is more alike.
    """

    rank: int
    id: str
    kind: str
    text: str
    distance: int
    similarity: float

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class TextResult(Answer[TextHit]):
    """The answer to one query in stored texts, in the order (distance, -similarity, id of the image)."""

    HITS: ClassVar[str] = "texts"
