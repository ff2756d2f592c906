"""Several images of one study as one query: read, put together, and which of them a stored image matched."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.candidates import Candidates
from medlike.archive.index.index import View
from medlike.archive.search.encoded_query import EncodedQuery
from medlike.archive.search.encoding import read_images
from medlike.archive.search.query import Query
from medlike.errors import ImageError
from medlike.inference.encoding import similarity

if TYPE_CHECKING:
    from medlike.archive.session import Session
    from medlike.imaging import Image


def read_members(session: "Session", query: Query) -> "list[Image | None]":
    """Read the images of one query; an ImageError says which of them cannot be read."""
    images: list[Image | None] = []
    for number, member in enumerate(query.members, 1):
        try:
            images += read_images(session, [member])
        except ImageError as error:
            if not query.images:
                raise
            raise ImageError(f"image {number} of {len(query.images)}: {error}") from error
    return images


def as_studies(
    queries: Sequence[Query], encoded: Sequence[EncodedQuery], images: "Sequence[Image | None]"
) -> "tuple[list[EncodedQuery], list[Image | None]]":
    """Put encoded images together: one encoded query for each query, and the image that is shown for it.

    Args:
        queries: The queries.
        encoded: The members of all of them, encoded.
        images: The same as images.
    """
    studies, shown = [], []
    start = 0
    for query in queries:
        stop = start + len(query.members)
        lead = start
        if query.images:
            lead += least_unusual(encoded[start:stop])
            warnings = dict.fromkeys(text for member in encoded[start:stop] for text in member.warnings)
            members = tuple(encoded[start:stop])
            studies.append(replace(encoded[lead], members=members, warnings=tuple(warnings)))
        else:
            studies.append(encoded[lead])
        shown.append(images[lead])
        start = stop
    return studies, shown


def least_unusual(members: Sequence[EncodedQuery]) -> int:
    """Return the position of the image with the largest p-value of its outlier verdict; the first of equal ones."""
    values = [-1.0 if member.outlier is None else float(member.outlier["p_value"]) for member in members]
    return values.index(max(values))


def matched(view: View, rows: Candidates, members: Sequence[EncodedQuery]) -> NDArray[np.int64]:
    """Return which image of the query each row is most similar to: int64 [M], positions; the first of equal ones."""
    numbers = np.zeros(len(rows), np.int64)
    for number, part in enumerate(view.parts):
        inside = rows.part == number
        positions = rows.position[inside]
        contents = np.asarray(part.segment.array("content", positions)[positions])
        numbers[inside] = np.argmax([similarity(member.content, contents) for member in members], axis=0)
    return numbers
