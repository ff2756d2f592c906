"""Queries made ready: read, encoded or looked up, so that the index can answer them and a receipt can hold them."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medlike import strict_json
from medlike.archive.index.index import View
from medlike.archive.search.plain import VERSION, array_from_dict, array_to_dict, require_version
from medlike.archive.search.query import TITLE, Query
from medlike.archive.search.query_region import Region, region_of, turned_cells
from medlike.archive.search.result import Picture
from medlike.archive.search.text_query import TextQuery, text_query
from medlike.archive.storage.rows import EncodingRow
from medlike.codes.packing import unpack_grids
from medlike.codes.templates import GRID
from medlike.errors import ArchiveError, QueryError
from medlike.types import Json, JsonObject

if TYPE_CHECKING:
    from medlike.archive.session import Session
    from medlike.codes.fit import Fit
    from medlike.imaging import Image, Prepared
    from medlike.inference.encoding import Encoding

# The keyed hashes that tell whose an image is, and the identifiers they are made from.
OWN = {"patient": "patient_id", "study": "study_uid", "series": "series_uid"}


@dataclass(frozen=True)
class EncodedQuery:
    """A query as the index understands it.

    code: uint8 [bits / 8]; content: int8 [D]; both of the bundle, or of the fit that is searched under. row: of the
    stored image it is, None for an image given. own: keyed hashes of its patient, study and series, where they are to
    be left out. cells, mask: of the whole image, where the bundle has local codes; they are not in a receipt. size:
    width and height in pixels. warnings: about the query. text: what it asks in words; code and content are empty
    where it asks nothing else.
    copy: id of the stored image that an image given is. like, unlike: ids of the marked images that moved content, and
    under a fit code. members: the images of a query of several; all else is then of the least unusual one.
    """

    code: NDArray[np.uint8]
    content: NDArray[np.int8]
    row: int | None
    own: dict[str, str]
    title: str = TITLE
    id: str | None = None
    outlier: JsonObject | None = None
    modality: str | None = None
    region: Region | None = None
    cells: NDArray[np.uint64] | None = None
    mask: NDArray[np.bool_] | None = None
    size: tuple[int, int] | None = None
    warnings: tuple[str, ...] = ()
    text: TextQuery | None = None
    copy: str | None = None
    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    members: "tuple[EncodedQuery, ...]" = ()

    @property
    def itself(self) -> tuple[str, ...]:
        """Return the ids of the stored images that the query is."""
        return tuple(id for member in self.members or (self,) if (id := member.id or member.copy))

    @property
    def vectors(self) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
        """Return code and content; of several images one row for each."""
        if not self.members:
            return self.code, self.content
        codes, contents = zip(*((member.code, member.content) for member in self.members), strict=True)
        return np.stack(codes), np.stack(contents)

    @property
    def in_words_only(self) -> bool:
        """Whether there is no image to compare with."""
        return not self.code.size

    @property
    def is_outlier(self) -> bool:
        """Return True if the bundle judges the query's image to be an outlier."""
        return bool(self.outlier and self.outlier["is_outlier"])

    @property
    def marked(self) -> bool:
        """Whether marked images moved the query, so that it is no longer that of an image."""
        return bool(self.like or self.unlike)

    def under(self, fit: "Fit | None") -> "EncodedQuery":
        """Return the query with the code and the fitted vector of a fit, given the bundle's own."""
        if fit is None or self.in_words_only:
            return self
        codes, vectors = fit.encode(self.content[None])
        return replace(self, code=codes[0], content=vectors[0])

    def to_dict(self) -> JsonObject:
        """Return the query as plain data that loses nothing, as schemas/encoded-query.json describes."""
        return {
            "version": VERSION,
            **self.facts(),
            "title": self.title,
            "cells": array_to_dict(self.cells),
            "mask": array_to_dict(self.mask),
            "warnings": list(self.warnings),
            "text_warnings": [] if self.text is None else list(self.text.warnings),
            **({"members": [member.to_dict() for member in self.members]} if self.members else {}),
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Json]) -> "EncodedQuery":
        """Return the query that `to_dict` packed.

        Raises:
            QueryError: The data is no encoded query, or of another version.
        """
        try:
            require_version(facts, "the encoded query")
            query = cls.of_facts(facts)
            text = query.text and replace(query.text, warnings=tuple(str(word) for word in facts["text_warnings"]))
            return replace(
                query,
                title=str(facts["title"]),
                cells=array_from_dict(facts["cells"]),
                mask=array_from_dict(facts["mask"]),
                warnings=tuple(str(warning) for warning in facts["warnings"]),
                text=text,
                members=tuple(cls.from_dict(member) for member in facts.get("members", ())),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise QueryError(f"this is no encoded query ({error}): give what `EncodedQuery.to_dict` made") from None

    def facts(self) -> JsonObject:
        """What a receipt holds: enough to ask the same again; no pixel, and no file name, which may name someone.

        The words of a query are in it as they were given.
        """
        return {
            "kind": self._kind,
            "id": self.id,
            "row": self.row,
            "code": self.code.tobytes().hex(),
            "content": base64.b64encode(self.content.tobytes()).decode(),
            "region": None if self.region is None else self.region.facts(),
            "own": self.own,
            "modality": self.modality,
            "outlier": self.outlier,
            "size": None if self.size is None else list(self.size),
            **({} if self.text is None else {"text": self.text.facts()}),
            **({} if self.copy is None else {"copy": self.copy}),
            **({"members": [member.facts() for member in self.members]} if self.members else {}),
            **({"like": list(self.like), "unlike": list(self.unlike)} if self.marked else {}),
        }

    @property
    def _kind(self) -> str:
        if self.members:
            return "images"
        return "text" if self.in_words_only else "image" if self.row is None else "id"

    @classmethod
    def of_facts(cls, facts: Mapping[str, Json]) -> "EncodedQuery":
        """From a receipt. Raises KeyError, TypeError or ValueError where it is none."""
        stated = facts.get("text")
        text = None if stated is None else TextQuery.of_facts(stated)
        return cls(
            code=np.frombuffer(bytes.fromhex(facts["code"]), np.uint8),
            content=np.frombuffer(base64.b64decode(facts["content"]), np.int8),
            row=facts["row"],
            own=dict(facts["own"]),
            title=_title(text, TITLE if facts["id"] is None else _stored_title(facts["id"])),
            id=facts["id"],
            outlier=facts["outlier"],
            modality=facts["modality"],
            region=None if facts["region"] is None else Region.of_facts(facts["region"]),
            size=None if facts["size"] is None else (int(facts["size"][0]), int(facts["size"][1])),
            text=text,
            copy=facts.get("copy"),
            like=tuple(facts.get("like", ())),
            unlike=tuple(facts.get("unlike", ())),
            members=tuple(cls.of_facts(member) for member in facts.get("members", ())),
        )


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
        else:
            encoded = EncodedQuery(np.empty(0, np.uint8), np.empty(0, np.int8), None, {}, title="")
        encoded = encoded if query.text is None else _in_words(session, encoded, query.text)
        encoded_queries.append(encoded if query.title is None else replace(encoded, title=query.title))
    return encoded_queries


def _in_words(session: "Session", encoded: EncodedQuery, words: str) -> EncodedQuery:
    text = text_query(session, words, None if encoded.in_words_only else encoded.content)
    warnings = encoded.warnings + text.warnings
    return replace(encoded, text=text, title=_title(text, encoded.title), warnings=warnings)


def _title(text: TextQuery | None, image: str) -> str:
    if text is None:
        return image
    words = text.text if len(text.text) <= 80 else text.text[:79] + "…"
    return f"{words} · {image}" if image else words


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
    hashed = {name: identity.hashed(name, image.identifiers.get(identifier)) for name, identifier in OWN.items()}
    twin = session.store.find(identity.public_id(image.identifiers.get("sop_uid"), image.frame, image.digest))
    hashes = {name: hashed[name] or (getattr(twin, name) if twin else None) for name in OWN}
    return {name: value for name, value in hashes.items() if value}


def _stored_copy(session: "Session", image: "Image", view: View) -> str | None:
    """Return the id under which an image is stored; None if it is not, or the id key cannot be read here."""
    try:
        identity = session.loaded.identity
    except ArchiveError:
        return None
    id = identity.public_id(image.identifiers.get("sop_uid"), image.frame, image.digest)
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
        title=_stored_title(id),
        id=id,
        outlier=_stored_verdict(stored),
        modality=row.predicted_modality,
        region=region,
        cells=cells,
        mask=mask,
        size=(row.width, row.height),
        warnings=warnings,
    )


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


def _stored_title(id: str) -> str:
    return f"stored {id[:8]}"
