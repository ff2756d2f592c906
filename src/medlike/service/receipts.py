"""Receipts that come from outside: checked, stored, and repeated within the limits of a search."""

from collections.abc import Sequence

from medlike.archive.viewer import Viewer
from medlike.errors import QueryError
from medlike.service.context import Target
from medlike.service.notes import StoredReceipt, gone, named_images
from medlike.service.search_answer import facts
from medlike.service.search_request import require_bounded
from medlike.types import JsonObject

KEYS = ("of", "archive", "branch", "generation", "bundle", "fit", "settings", "query", "answer")


def repeated(of: Target, receipt: JsonObject, viewer: Viewer, parts: Sequence[str] = ()) -> JsonObject:
    """Return the answer to the search of a receipt, searched for again.

    Args:
        of: The archive.
        receipt: The receipt.
        viewer: Decides which private facts the answer holds.
        parts: What the answer holds besides.

    Raises:
        QueryError: It is not a receipt, or cannot be repeated here.
    """
    _require_receipt(of, receipt)
    return facts(of.archive.repeat(receipt, viewer), parts)


def stored(of: Target, receipt: JsonObject) -> StoredReceipt:
    """Store a receipt in the notebook of its archive.

    Args:
        of: The archive.
        receipt: The receipt.

    Raises:
        QueryError: It is not a receipt of this archive, or names an image that is gone.
    """
    _require_receipt(of, receipt)
    of.archive.repeat(receipt, of.seeing(False))  # what cannot be repeated is not stored
    made = of.notes.store(receipt)
    # Asked after it is stored: an image that is erased meanwhile is noticed here or by `forget`.
    missing = gone(of.archive, named_images(receipt))
    if missing:
        of.notes.delete(made.id)
        raise QueryError(f"the receipt names image {missing[0]}, which is not in the archive any more: search anew")
    return made


def _require_receipt(of: Target, receipt: JsonObject) -> None:
    for name in receipt:
        if name not in KEYS:
            raise QueryError(f"{name[:80]!r} is not a key of a receipt: use {', '.join(KEYS)}")
    settings = receipt.get("settings")
    if isinstance(settings, dict):
        require_bounded(settings, of.service.limits)
