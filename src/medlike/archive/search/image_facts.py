"""What an archive knows of one stored image."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medlike.errors import UnknownImage
from medlike.types import JsonObject

if TYPE_CHECKING:
    from medlike.archive.session import Session


@dataclass(frozen=True)
class ImageFacts:
    """Describe a stored image.

    Attributes:
        id: Its public id.
        size: Width and height in pixels.
        metadata: Searchable fields, by name.
        texts: Stored texts, by kind (report, caption and others).
        added: The generation in which it was added.
        frame: Its number among the frames of its file, from 0.
        frames: How many frames the file has.
        pixels: "copy" if the archive keeps its pixels, "reference" if they are read from its file.
        spacing: Millimetres between rows and between columns, or None.
        source: Where it came from; None if that is unknown or not permitted.
    """

    id: str
    size: tuple[int, int]
    metadata: JsonObject
    texts: dict[str, str]
    added: int
    frame: int
    frames: int
    pixels: str
    spacing: tuple[float, float] | None
    source: JsonObject | None


def image_facts(session: "Session", id: str) -> ImageFacts:
    """Return what the archive knows of a stored image.

    Raises:
        UnknownImage: There is none with this id.
    """
    row = session.store.find(id)
    if row is None:
        raise UnknownImage(id)
    spacing = row.facts.get("spacing")
    return ImageFacts(
        id=row.id,
        size=(row.width, row.height),
        metadata=row.metadata,
        texts=session.store.texts(row.row),
        added=row.added,
        frame=row.frame,
        frames=row.frames,
        pixels=row.kind,
        spacing=None if spacing is None else (float(spacing[0]), float(spacing[1])),
        source=session.sources([row.id]).get(row.id),
    )
