"""What is searched for: an image, one that is stored already, words, or words with an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medlike.errors import ImageError, QueryError

if TYPE_CHECKING:
    from medlike.imaging import Image


#: What a query is called on sheets and pages unless it has a title of its own.
TITLE = "Query"


@dataclass(frozen=True, eq=False)
class Query:
    """One question to an archive.

    image: a path, an array [H, W] or [H, W, 3], a Pillow picture, or an `imaging.Image`; of a multi-frame
    file the middle frame. id: of a stored image, instead of `image`. region: x0, y0, x1, y1, half-open, in
    the image's own pixels. text: words to search by, alone or with an image. title: what sheets and pages call
    the query, in place of "Query"; a file's name is never shown there, since it may name somebody.
    Raises QueryError where the parts do not make a question.
    """

    image: Any = None
    id: str | None = None
    region: Sequence[float] | None = None
    text: str | None = None
    title: str | None = None

    def __post_init__(self) -> None:
        if self.image is not None and self.id is not None:
            raise QueryError("a query has an image or an id, not both: leave one out")
        if self.image is None and self.id is None and self.text is None:
            raise QueryError("a query is empty: give image=, id= of a stored image, or text=")
        if self.region is not None:
            if self.image is None and self.id is None:
                raise QueryError("a region needs the image it is in: give image= or id= too")
            object.__setattr__(self, "region", _box(self.region))
        if self.id is not None and not isinstance(self.id, str):
            raise QueryError(f"the id is {self.id!r}: give the 32 hexadecimal digits that a hit shows")
        if self.text is not None and (not isinstance(self.text, str) or not self.text.strip()):
            raise QueryError(f"the text is {self.text!r}: give at least one word")

    def read(self) -> "Image":
        """The image to be encoded. Raises ImageError where it cannot be read, QueryError where it is none."""
        from medlike import imaging

        given = self.image
        if isinstance(given, imaging.Image):
            return given
        if isinstance(given, str | Path):
            for image in imaging.read(given, "middle"):
                return image
            raise ImageError(f"{given} holds no image")
        if _is_pillow(given):
            return imaging.from_pil(given)
        if hasattr(given, "__array__") or isinstance(given, list | tuple):
            return imaging.from_array(given)
        raise QueryError(
            f"{type(given).__name__} cannot be searched for: "
            "give a path, an array, a Pillow picture or an Image"
        )


def _box(region: Any) -> tuple[float, float, float, float]:
    try:
        x0, y0, x1, y1 = (float(edge) for edge in region)
    except (TypeError, ValueError):
        raise QueryError(f"the region is {region!r}: give four numbers x0, y0, x1, y1") from None
    edges = (x0, y0, x1, y1)
    if not all(abs(edge) < 1e9 for edge in edges):
        raise QueryError(f"the region is {list(edges)}: its edges must be finite pixel positions")
    if x1 <= x0 or y1 <= y0:
        raise QueryError(f"the region {list(edges)} is empty or inverted: x0 < x1 and y0 < y1 must hold")
    return edges


def _is_pillow(given: Any) -> bool:
    # By name, so that Pillow need not be imported for a search by id.
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(given).__mro__)
