"""Encoding queries: their images are read and encoded, or looked up in the archive, and their words made ready."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medlike import strict_json
from medlike.archive.index.index import View
from medlike.archive.search.encoded_checks import require_bundle, require_sound
from medlike.archive.search.encoded_query import OWN, EncodedQuery, stored_title, title_of
from medlike.archive.search.query import TITLE, Query
from medlike.archive.search.query_region import Region, region_of, turned_cells
from medlike.archive.search.result import Picture
from medlike.archive.search.text_query import text_query
from medlike.archive.storage.rows import EncodingRow
from medlike.codes.packing import unpack_grids
from medlike.codes.templates import GRID
from medlike.errors import ArchiveError, QueryError
from medlike.types import JsonObject

if TYPE_CHECKING:
    from medlike.archive.session import Session
    from medlike.imaging import Image, Prepared
    from medlike.inference.encoding import Encoding


def preload(session: "Session", queries: Sequence[Query]) -> None:
    """Load what images of queries need: the encoder, while the worker that decodes their files starts."""
    if any(isinstance(query.image, str | Path) and query.decoding == "process" for query in queries):
        from medlike.imaging.decoding import prepare_worker

        prepare_worker()
    if any(query.image is not None for query in queries):
        _ = session.loaded.encoder


def read_images(session: "Session", queries: Sequence[Query]) -> "list[Image | None]":
    """Read the images of queries, None for a query without one.

    Raises:
        QueryError: The archive's bundle cannot answer one of the queries; then nothing is read.
        ImageError: An image cannot be read.
    """
    for query in queries:
        if query.region is not None and not session.folder.bundle.local_bits:
            raise QueryError(
                f"bundle {session.folder.bundle.name} has no local codes, so a region cannot be searched for: "
                "search by the whole image, or run `medlike reindex --bundle` with one that has"
            )
    return [query.read() if query.image is not None else None for query in queries]


def encode_queries(
    session: "Session",
    queries: Sequence[Query],
    images: "Sequence[Image | None]",
    view: View,
    leave_out_own: bool,
    turned: bool = False,
) -> list[EncodedQuery]:
    """Encode queries: their images, or what is stored of the images they name, and their words.

    Args:
        session: The archive.
        queries: What is searched for.
        images: Theirs, as `read_images` gives them.
        view: The generation in which stored images are looked up.
        leave_out_own: Whether the query's patient is to be left out.
        turned: Whether images with a region are encoded turned and mirrored too.
    """
    pictures = _prepared(session, [image for image in images if image is not None])
    encodings = iter(zip(pictures, session.loaded.encoder.encode(pictures) if pictures else [], strict=True))
    host: tuple[str, ...] = ()
    if any(image is not None for image in images):
        from medlike.inference.encoding import golden_warnings

        host = golden_warnings(session.loaded.encoder)
    encoded_queries = []
    for query, image in zip(queries, images, strict=True):
        if image is not None:
            picture, encoding = next(encodings)
            seen = turned_cells(session.loaded.encoder, picture) if turned and query.region else None
            encoded = _of_image(session, query, image, encoding, leave_out_own, seen)
            encoded = replace(encoded, warnings=encoded.warnings + host, copy=_stored_copy(session, image, view))
        elif query.id is not None:
            encoded = _of_stored(session, query, view, leave_out_own)
        elif query.encoded is not None:
            encoded = _of_encoded(session, query, view, leave_out_own, turned)
        else:
            encoded = EncodedQuery(np.empty(0, np.uint8), np.empty(0, np.int8), None, {}, title="")
        encoded = encoded if query.text is None else _in_words(session, encoded, query.text)
        encoded = replace(encoded, bundle=session.folder.bundle.digest)
        encoded_queries.append(encoded if query.title is None else replace(encoded, title=query.title))
    return encoded_queries


def _in_words(session: "Session", encoded: EncodedQuery, words: str) -> EncodedQuery:
    text = text_query(session, words, None if encoded.in_words_only else encoded.content)
    warnings = encoded.warnings + text.warnings
    return replace(encoded, text=text, title=title_of(text, encoded.title), warnings=warnings)


def _prepared(session: "Session", images: "Sequence[Image]") -> "list[Prepared]":
    if not images:
        return []
    from medlike.imaging import prepare
    from medlike.inference.encoding import image_size

    return [prepare(image, image_size(session.loaded.encoder)) for image in images]


def _of_image(
    session: "Session",
    query: Query,
    image: "Image",
    encoding: "Encoding",
    leave_out_own: bool,
    turned: NDArray[np.uint64] | None,
) -> EncodedQuery:
    owner = _owner(session, image) if leave_out_own else {}
    size = (image.width, image.height)
    region: Region | None = None
    warnings: tuple[str, ...] = ()
    if query.region is not None and encoding.cells is not None:
        shown = query_picture(image)
        region, warnings = region_of(query.region, size, encoding.cells, encoding.cell_mask, shown, turned)
    return EncodedQuery(
        encoding.code,
        encoding.content,
        None,
        owner,
        title=TITLE,
        outlier=None if encoding.outlier is None else encoding.outlier.verdict(),
        modality=encoding.modality,
        region=region,
        cells=encoding.cells,
        mask=encoding.cell_mask,
        size=size,
        warnings=warnings,
    )


def query_picture(image: "Image") -> Picture:
    """Return what to show of a query's image: uint8 [H, W] or [H, W, 3]."""
    from medlike.imaging import render_colour

    return render_colour(image)


def _owner(session: "Session", image: "Image") -> dict[str, str]:
    """Keyed hashes of whose an image is: from its identifiers, or as known of the same image in the archive."""
    identity = session.loaded.identity
    hashed = {name: session.hashed(name, image.identifiers.get(identifier)) for name, identifier in OWN.items()}
    twin = session.store.find(identity.public_id(image.identifiers.get("sop_uid"), image.frame, image.digest))
    hashes = {name: hashed[name] or (getattr(twin, name) if twin else None) for name in OWN}
    return {name: value for name, value in hashes.items() if value}


def _stored_copy(session: "Session", image: "Image", view: View) -> str | None:
    """Return the id under which an image is stored; None if it is not, or the id key cannot be read here."""
    try:
        identity = session.loaded.identity
    except ArchiveError:
        return None
    # Whether a true UID is known here is as private as a filter by it.
    uid = image.identifiers.get("sop_uid") if session.viewer.may("filters") else None
    id = identity.public_id(uid, image.frame, image.digest)
    return None if session.store.find(id, view.generation) is None else id


def _of_stored(session: "Session", query: Query, view: View, leave_out_own: bool) -> EncodedQuery:
    id = query.id or ""
    row = session.store.find(id, view.generation)
    if row is None:
        raise QueryError(f"there is no image {id!r} in the archive: take an id from a search")
    stored = session.store.encoding(row.row, session.folder.bundle.digest)
    if stored is None:
        raise QueryError(f"image {id} is not encoded under the archive's bundle: run `medlike reindex`")
    cells = mask = region = None
    warnings: tuple[str, ...] = ()
    if stored.cells is not None:
        cells = np.frombuffer(stored.cells, "<u8").astype(np.uint64).reshape(GRID, GRID, -1)
        mask = np.ones((GRID, GRID), bool)
        if stored.cell_mask is not None:
            mask = unpack_grids(np.frombuffer(stored.cell_mask, np.uint8)[None], GRID)[0]
    if query.region is not None:
        if cells is None:
            raise QueryError(f"image {id} has no local codes: run `medlike reindex`")
        picture = session.pictures.picture(id, view.generation)
        region, warnings = region_of(query.region, (row.width, row.height), cells, mask, picture)
    return EncodedQuery(
        np.frombuffer(stored.code, np.uint8),
        np.frombuffer(stored.content, np.int8),
        row.row,
        {name: value for name in OWN if (value := getattr(row, name))} if leave_out_own else {},
        title=stored_title(id),
        id=id,
        outlier=_stored_verdict(stored),
        modality=row.predicted_modality,
        region=region,
        cells=cells,
        mask=mask,
        size=(row.width, row.height),
        warnings=warnings,
    )


def _of_encoded(session: "Session", query: Query, view: View, leave_out_own: bool, turned: bool) -> EncodedQuery:
    """Return a query that was encoded before, as it would be encoded now; of a stored image what the store holds."""
    given = query.encoded
    if not isinstance(given, EncodedQuery):
        raise QueryError(f"encoded is {type(given).__name__}: give what `Archive.encode` returned")
    if given.marked:
        raise QueryError("this encoded query was moved by marks: encode the query without like and unlike")
    require_bundle(session, given.bundle, "the encoded query", "encode the query anew")
    require_sound(session, given, (session.folder.bundle.bits, session.folder.bundle.content_dim))
    if (query.like or query.unlike) and (given.region is not None or given.members or given.in_words_only):
        raise QueryError("like and unlike move one whole image: leave them out for a region, several images or words")
    if query.text is not None and given.members:
        raise QueryError("several images are compared as they are: leave text out, or encode one image")
    region = given.region
    if region is not None and not turned:
        region = replace(region, turned=None)
    words = () if given.text is None else given.text.warnings
    warnings = tuple(text for text in given.warnings if text not in words)
    if given.id is not None:
        stored = _of_stored(session, Query(id=given.id), view, leave_out_own)
        encoded = replace(stored, region=region, warnings=warnings)
    else:
        encoded = replace(_as_given(session, given, view, leave_out_own), region=region, text=None, warnings=warnings)
        members = tuple(_as_given(session, member, view, leave_out_own) for member in given.members)
        encoded = replace(encoded, members=members, title="" if given.in_words_only else TITLE)
    if query.text is not None:
        return encoded
    if given.text is not None:
        encoded = _in_words(session, encoded, given.text.text)
    return replace(encoded, title=given.title)


def _as_given(session: "Session", given: EncodedQuery, view: View, leave_out_own: bool) -> EncodedQuery:
    """Return an encoded image without what only stored ones have, and without a stored copy that is gone."""
    known = given.copy is not None and session.store.find(given.copy, view.generation) is not None
    own = given.own if leave_out_own and session.viewer.may("filters") else {}
    return replace(given, row=None, own=own, copy=given.copy if known else None)


def _stored_verdict(stored: EncodingRow) -> JsonObject | None:
    """The verdict on a stored image, as its bundle gave it when it was indexed."""
    if stored.outlier_p is None or stored.outlier_score is None:
        return None
    from medlike.inference.encoding import Outlier

    if stored.outlier_facts is not None:
        try:
            facts = strict_json.loads(stored.outlier_facts)
            return Outlier(stored.outlier_score, stored.outlier_p, **facts).verdict()
        except (ValueError, TypeError) as error:
            raise ArchiveError(f"a stored verdict is damaged ({error}): restore the archive from a backup") from None
    note = "indexed by an earlier medlike: its components and modality are not kept, the threshold is the usual one"
    return {**Outlier(stored.outlier_score, stored.outlier_p, {}).verdict(), "modality": None, "note": note}
