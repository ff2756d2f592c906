"""Arrays and tables of all images of one generation, for work outside of medlike."""

from typing import TYPE_CHECKING

import numpy as np

from medlike.archive.index.index import Layout, Part, View
from medlike.archive.storage.store import Store
from medlike.errors import MissingExtra
from medlike.types import Array, Json, Mask

if TYPE_CHECKING:
    from pandas import DataFrame

GROUPS = ("patient", "study", "series")  # keyed hashes, which the metadata leave out


def live(view: View, layout: Layout, name: str) -> tuple[list[str], Array]:
    """Return the ids of a view's images, and one of the index's arrays for them.

    Args:
        view: The images of one generation.
        layout: Types and shapes of the index's arrays.
        name: An array of `Segment`: codes, content, rows or another.

    Returns:
        N ids in the order the images were added, and the array [N, ...]. Both are copies.
    """
    living = [(part, _living(part)) for part in view.parts]
    ids = [row.tobytes().hex() for part, mask in living for row in part.segment.array("ids")[: part.rows][mask]]
    kind, shape = layout.arrays()[name]
    arrays = [np.empty((0, *shape), kind)]
    arrays += [part.segment.array(name)[: part.rows][mask] for part, mask in living]
    return ids, np.concatenate(arrays)


def table(view: View, layout: Layout, store: Store, texts: bool) -> "DataFrame":
    """Return a view's images as a pandas table, one row each; `Archive.to_pandas` says which columns it has.

    Raises:
        MissingExtra: pandas is not installed.
    """
    try:
        from pandas import DataFrame, Index
    except ImportError:
        raise MissingExtra("pandas", "pandas") from None
    ids, numbers = live(view, layout, "rows")
    rows = [int(number) for number in numbers]
    images = store.images(rows)
    written = store.texts_of(rows) if texts else {}
    records: list[dict[str, Json]] = []
    for row in rows:
        image = images[row]
        facts = {"width": image.width, "height": image.height, "frame": image.frame, "frames": image.frames}
        groups = {name: getattr(image, name) for name in GROUPS}
        shown = {f"text.{kind}": text for kind, text in written.get(row, {}).items()}
        records.append({**facts, **image.metadata, **groups, **shown})
    known = dict.fromkeys(name for record in records for name, value in record.items() if value is not None)
    return DataFrame(records, index=Index(ids, name="id"), columns=list(known))


def _living(part: Part) -> Mask:
    """Return which of a part's rows live: bool [rows]."""
    mask = np.ones(part.rows, bool)
    mask[part.dead] = False
    return mask
