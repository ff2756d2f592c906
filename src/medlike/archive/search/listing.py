"""Listing stored images without a query, page by page."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.candidates import Field
from medlike.archive.index.filters import Filter
from medlike.archive.index.known_fields import require_fields
from medlike.archive.search.settings import SearchSettings
from medlike.errors import QueryError
from medlike.types import Json, JsonObject

if TYPE_CHECKING:
    from medlike.archive.session import Session


@dataclass(frozen=True)
class ListedImage:
    """A stored image in a listing.

    Attributes:
        id: Its public id.
        width: Its width, pixels.
        height: Its height, pixels.
        metadata: Its searchable fields.
        source: Where it came from; None if that is unknown or not permitted.
    """

    id: str
    width: int
    height: int
    metadata: JsonObject
    source: JsonObject | None


@dataclass(frozen=True)
class Listing:
    """One page of the images that match a filter, in the order they were added.

    Attributes:
        images: The images of the page.
        total: How many images match.
        warnings: What a reader of the page has to know, such as images that have lost their link.
    """

    images: Sequence[ListedImage]
    total: int
    warnings: tuple[str, ...] = ()


_PREFIX = re.compile(r"[0-9a-f]{0,32}")


def require_page(limit: int, offset: int, prefix: str) -> None:
    """Raise QueryError unless these make a page; `Archive.browse` explains them."""
    if not _PREFIX.fullmatch(prefix):
        raise QueryError(f"prefix is {prefix[:80]!r}: give the first of the 32 hex digits of ids")
    for name, value, least in (("limit", limit, 1), ("offset", offset, 0)):
        if value < least:
            raise QueryError(f"{name} is {value}: give a number of images, {least} or more")


def listing(
    session: "Session", where: Mapping[str, Json] | None, limit: int, offset: int, prefix: str = ""
) -> Listing:
    """Return a page of the images that match a filter; `Archive.browse` explains the arguments."""
    require_page(limit, offset, prefix)
    where = SearchSettings(where=where).where
    view = session.index.view()
    if where:
        require_fields(where, session.store, view.parts)
    filter = Filter.of(where, session.store, session.hashed) if where else None
    matching: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for part in view.parts:
        positions = Field.of(part, filter).allowed(np.arange(part.rows))
        matching.append(part.segment.images[positions])
    rows = np.sort(np.concatenate(matching))
    if prefix:
        rows = np.intersect1d(rows, session.store.rows_of(prefix))
    page = [int(row) for row in rows[offset : offset + limit]]
    shown = session.store.shown(page)
    sources = session.sources([shown[row].id for row in page])
    images = [ListedImage(*shown[row], source=sources.get(shown[row].id)) for row in page]
    return Listing(images, len(rows), session.unlinked([image.id for image in images if image.source is None]))
