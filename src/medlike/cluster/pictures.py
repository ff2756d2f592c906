"""Pictures of queries, drawn on this side: the service keeps no image that was sent as a query."""

from collections.abc import Callable, Mapping

from medlike.archive.search.query import Query
from medlike.imaging import as_image, render_colour
from medlike.types import Json, Picture


def query_picture(
    query: object, asked: Mapping[str, Json], stored: Callable[[str], Picture | None]
) -> Picture | None:
    """Return a picture of a query: uint8 [H, W] or [H, W, 3]; None for words. Of a study it is that of the verdict.

    Args:
        query: The query, None for that of a receipt.
        asked: The query as the receipt has it.
        stored: Returns the picture of a stored image.
    """
    value = query.image if isinstance(query, Query) else query
    decoding = query.decoding if isinstance(query, Query) else "process"
    if isinstance(query, Query) and query.images:
        verdicts = [member.get("outlier") for member in asked.get("members", ())] or [None]
        values = [-1.0 if verdict is None else float(verdict["p_value"]) for verdict in verdicts]
        value = query.images[values.index(max(values))]
    if value is not None:
        image = as_image(value, decoding)
        return None if image is None else render_colour(image)
    return stored(asked["id"]) if asked.get("id") else None
