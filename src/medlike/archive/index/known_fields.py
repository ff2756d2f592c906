"""Which fields the images of an archive have, so that a misspelt one in a filter is an error and not "no hits"."""

import difflib
from collections.abc import Mapping, Sequence

from medlike.archive.index.filters import conditions, holds_field
from medlike.archive.index.index import Part
from medlike.archive.storage.rows import FILTER_COLUMNS
from medlike.archive.storage.store import Store
from medlike.errors import UnknownField
from medlike.types import Json

_LOOKED_AT = 10_000  # newest images whose fields an error lists


def require_fields(where: Mapping[str, Json], store: Store, parts: Sequence[Part]) -> None:
    """Check that an image has each field of a filter. An archive without images knows no field, and refuses none.

    Args:
        where: The filter.
        store: Where the fields are that have no column in the index.
        parts: The parts of the index.

    Raises:
        UnknownField: No image, not even a removed one, has a field. The error names those that images have.
    """
    if not any(part.rows for part in parts):
        return
    for field in dict.fromkeys(condition.field for condition in conditions(where)):
        present = _in_columns(field, parts) if field in FILTER_COLUMNS else holds_field(store, field)
        if not present:
            known = known_fields(store, parts)
            near = difflib.get_close_matches(field, known, 1)
            meant = f": did you mean {near[0]}?" if near else "."
            raise UnknownField(f"no image has the field {field}{meant} The images have {', '.join(known)}")


def known_fields(store: Store, parts: Sequence[Part]) -> list[str]:
    """Return the fields that images have, by name, as far as the newest 10,000 images tell."""
    columns = {field for field in FILTER_COLUMNS if _in_columns(field, parts)}
    sql = (
        "SELECT DISTINCT key FROM (SELECT metadata FROM images ORDER BY row DESC LIMIT ?) AS newest, "
        "json_each(newest.metadata)"
    )
    return sorted(columns | {str(key) for (key,) in store.query(sql, (_LOOKED_AT,))})


def _in_columns(field: str, parts: Sequence[Part]) -> bool:
    return any(len(part.segment.column(field).values) > 0 for part in parts)
