"""Checks of encoded queries that come from outside: every part must be as the archive's bundles make it."""

import re
from typing import TYPE_CHECKING

from medlike.archive.search.encoded_query import OWN, EncodedQuery
from medlike.archive.search.query import MOST_IMAGES, MOST_MARKS
from medlike.archive.search.query_region import Region
from medlike.archive.search.text_query import LONGEST, TextQuery
from medlike.bundle.bundle import former
from medlike.codes.templates import GRID, ORIENTATIONS
from medlike.errors import QueryError

if TYPE_CHECKING:
    from medlike.archive.session import Session

_ID = re.compile(r"[0-9a-f]{32}")
_LARGEST = 1 << 62  # of whole numbers


def require_bundle(session: "Session", digest: str | None, what: str, action: str) -> None:
    """Raise QueryError unless a bundle gives the same codes as the archive's own.

    Args:
        session: The archive.
        digest: Digest of the bundle, None if it is not known.
        what: What is of the bundle, as a message begins.
        action: What to do otherwise.
    """
    used = session.folder.bundle
    # Releases that calibrate verdicts anew change a bundle's digest, not its codes.
    if digest == used.digest or former().get(digest or "", {}).get("encoder_digest", "") == used.encoder:
        return
    which = "no bundle" if digest is None else f"bundle {digest[:16]}"
    raise QueryError(
        f"{what} is of {which}, the archive now uses {used.digest[:16]}: its codes cannot be compared; {action}"
    )


def require_sound(session: "Session", encoded: EncodedQuery, widths: tuple[int, int]) -> None:
    """Raise QueryError unless an encoded query has the types and the widths that the archive's own queries have.

    Args:
        session: The archive.
        encoded: The query, from a receipt or from plain data.
        widths: Bits of a code and entries of a content vector.
    """
    reason = _reason(session, encoded, widths)
    if reason:
        raise QueryError(f"this query cannot be searched for ({reason}): give it as medlike made it, or search anew")


def _reason(session: "Session", encoded: EncodedQuery, widths: tuple[int, int]) -> str:
    """Return what is wrong with an encoded query, nothing if it is sound."""
    found = (8 * encoded.code.size, encoded.content.size)
    wordy = encoded.text is not None and not encoded.members and encoded.region is None
    if found != widths and not (found == (0, 0) and wordy):
        return f"it has {found[0]} bits and {found[1]} values, the archive's queries {widths[0]} and {widths[1]}"
    ids = [id for id in (encoded.id, encoded.copy, *encoded.like, *encoded.unlike) if id is not None]
    row = encoded.row
    checks = {
        "an id is not 32 hexadecimal digits": all(isinstance(id, str) and _ID.fullmatch(id) for id in ids),
        "its row is no number": row is None
        or (isinstance(row, int) and not isinstance(row, bool) and 0 <= row < _LARGEST),
        "its patient, study or series is no keyed hash": all(
            name in OWN and isinstance(value, str) and _ID.fullmatch(value) for name, value in encoded.own.items()
        ),
        "its modality is no text": encoded.modality is None or isinstance(encoded.modality, str),
        "its verdict is no object": encoded.outlier is None or isinstance(encoded.outlier, dict),
        "its size is not positive": encoded.size is None or all(0 < side < _LARGEST for side in encoded.size),
        f"more than {MOST_MARKS} images are marked": len(encoded.like) + len(encoded.unlike) <= MOST_MARKS,
        "its cells do not fit the bundle": _cells_fit(encoded, session.folder.bundle.local_bits),
        "its region does not fit the bundle": encoded.region is None
        or _region_fits(encoded.region, session.folder.bundle.local_bits),
        "its text does not fit the text bundle": encoded.text is None or _text_fits(session, encoded.text),
        f"it has more than {MOST_IMAGES} images": len(encoded.members) <= MOST_IMAGES,
        "an image of it has images, words or a region": not any(
            member.members or member.text or member.region for member in encoded.members
        ),
    }
    wrong = next((reason for reason, right in checks.items() if not right), "")
    for member in () if wrong else encoded.members:
        wrong = wrong or _reason(session, member, widths)
    return wrong


def _cells_fit(encoded: EncodedQuery, bits: int | None) -> bool:
    cells, mask = encoded.cells, encoded.mask
    shape = (GRID, GRID, (bits or 0) // 64)
    if cells is None or mask is None:
        return cells is None
    return cells.dtype == "uint64" and cells.shape == shape and mask.dtype == "bool" and mask.shape == shape[:2]


def _region_fits(region: Region, bits: int | None) -> bool:
    height, width, words = region.codes.shape
    turned = region.turned is None or region.turned.shape == (ORIENTATIONS - 1, height, width, words)
    edges = all(abs(edge) < 1e9 for edge in region.box)
    return 1 <= height <= GRID and 1 <= width <= GRID and 64 * words == bits and turned and edges


def _text_fits(session: "Session", text: TextQuery) -> bool:
    bundle = session.folder.text
    if len(text.text) > LONGEST or len(text.terms) > LONGEST:
        return False
    if text.code is None or text.embedding is None:
        return text.code is None and text.embedding is None
    return bundle is not None and 8 * text.code.size == bundle.bits and text.embedding.size == bundle.width
