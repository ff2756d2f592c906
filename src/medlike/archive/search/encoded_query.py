"""Queries made ready: as the index answers them, and as a receipt and plain data hold them."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medlike.archive.search.plain import VERSION, array_from_dict, array_to_dict, require_version
from medlike.archive.search.query import TITLE
from medlike.archive.search.query_region import Region
from medlike.archive.search.text_query import TextQuery
from medlike.errors import QueryError
from medlike.types import Json, JsonObject

if TYPE_CHECKING:
    from medlike.codes.fit import Fit

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
    under a fit code. members: the images of a query of several; all else is then of the least unusual one. bundle:
    digest of the bundle that code and content are of; None if they are of a fit, or come from a receipt.
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
    bundle: str | None = None

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
        members = tuple(member.under(fit) for member in self.members)
        return replace(self, code=codes[0], content=vectors[0], members=members, bundle=None)

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
            **({} if self.bundle is None else {"bundle": self.bundle}),
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
                bundle=None if facts.get("bundle") is None else str(facts["bundle"]),
            )
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
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
            title=title_of(text, TITLE if facts["id"] is None else stored_title(facts["id"])),
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


def title_of(text: TextQuery | None, image: str) -> str:
    """Return what a query is called: its words, and what its image is called."""
    if text is None:
        return image
    words = text.text if len(text.text) <= 80 else text.text[:79] + "…"
    return f"{words} · {image}" if image else words


def stored_title(id: str) -> str:
    """Return what a stored image is called as a query."""
    return f"stored {id[:8]}"
