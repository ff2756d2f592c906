"""Receipts: what was searched for, how and when, so that it can be searched for again and the answers compared."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, TypeVar

from medlike.archive.search.encoded_checks import require_bundle
from medlike.archive.search.encoded_query import EncodedQuery
from medlike.archive.search.settings import SearchSettings
from medlike.archive.storage import fits
from medlike.errors import QueryError
from medlike.types import Json, JsonObject

if TYPE_CHECKING:
    from medlike.archive.search.result import Result
    from medlike.archive.search.text_result import TextResult
    from medlike.archive.session import Session

TEXTS = "texts"  # under "of", where texts were searched and not images
FORMER_DISTANCE = "share"  # the distance of regions in receipts that name none
FORMER_TURNS = "rearranged"  # and how they were turned

Answered = TypeVar("Answered", "Result", "TextResult")


def receipt(
    session: "Session",
    generation: int,
    encoded: EncodedQuery,
    settings: SearchSettings,
    answer: Sequence[Json],
    fit: str | None = None,
) -> JsonObject:
    """Return the receipt of a search.

    Args:
        session: The archive.
        generation: As of which the search ran.
        encoded: The query.
        settings: How it was searched.
        answer: What must come out again, as JSON holds it.
        fit: Digest of the fit whose codes were searched, None for the bundle's own: then nothing is said of it, as in
            receipts from before there were fits.
    """
    unstated = {"generation", "codes"}
    if encoded.region is None or settings.region_distance == FORMER_DISTANCE:
        # Receipts from before there was a choice say nothing of it.
        unstated.add("region_distance")
    if encoded.region is None or encoded.region.turned is None:
        unstated.add("region_turns")
    if settings.collapse is None:
        unstated.add("collapse")
    stated = {name: value for name, value in asdict(settings).items() if name not in unstated}
    return {
        "archive": session.loaded.archive_id,
        "branch": session.loaded.branch_of(generation),
        "generation": generation,
        "bundle": session.folder.bundle.digest,
        **({} if fit is None else {"fit": fit}),
        "settings": stated if fit is None else {**stated, "codes": "fitted"},
        "query": encoded.facts(),
        "answer": hashlib.sha256(json.dumps(answer).encode()).hexdigest(),
    }


def recalled(session: "Session", stated: Mapping[str, Json]) -> tuple[SearchSettings, EncodedQuery]:
    """Return the settings, as of its generation, and the query of a receipt.

    Raises:
        QueryError: It is no receipt, or one of another archive, or of a bundle that the archive does not use.
    """
    try:
        digest, generation = str(stated["bundle"]), int(stated["generation"])
        settings = {"region_distance": FORMER_DISTANCE, "region_turns": FORMER_TURNS, **stated["settings"]}
        chosen = replace(SearchSettings.of(**settings), generation=generation)
        encoded = EncodedQuery.of_facts(stated["query"])
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise QueryError(f"this is no receipt of a search ({error}): give the `receipt` of a result") from None
    archive = stated.get("archive")
    if archive not in (None, session.loaded.archive_id):
        raise QueryError(
            f"the receipt is of archive {str(archive)[:16]}, this is {session.loaded.archive_id[:16]}: "
            "repeat it there, or search anew"
        )
    if archive is not None and stated.get("branch") != session.loaded.branch_of(generation):
        raise QueryError(
            f"the receipt is of generation {generation} of another copy of this archive, one restored from a backup or "
            "the one backed up: repeat it there, or search anew"
        )
    require_bundle(session, digest, "the receipt", "search anew")
    text = None if session.folder.text is None else session.folder.text.digest
    if encoded.text is not None and encoded.text.bundle not in (None, text):
        raise QueryError(
            f"the receipt is of text bundle {encoded.text.bundle[:16]}, which the archive no longer uses: search anew"
        )
    if encoded.text is not None and encoded.text.sentences not in (0, session.folder.sentences):
        raise QueryError(
            "the receipt is of a search among the fields of images as sentences, which the archive no longer has in "
            "that form: search anew"
        )
    return chosen, encoded


def fit_of(session: "Session", stated: Mapping[str, Json]) -> str | None:
    """Return the digest of the fit whose codes a receipt's search was by, None for the bundle's own.

    Raises:
        QueryError: The archive no longer keeps the fit.
    """
    digest = stated.get("fit")
    if digest is None:
        return None
    fits.require(session.store, str(digest), session.folder.bundle.digest)
    return str(digest)


def compared(session: "Session", stated: Mapping[str, Json], result: Answered) -> Answered:
    """Return the result of searching again, with warnings if it is not or may not be the receipt's answer."""
    erased = session.store.erased(int(stated["generation"]))
    warnings = result.warnings
    if stated.get("archive") is None:
        warnings += ("the receipt names no archive: it is of an earlier medlike, and taken for one of this archive",)
    if erased:
        warnings += (f"{erased} images that the search could see were erased since",)
    elif result.receipt["answer"] != stated.get("answer"):
        warnings += ("the answer differs from the receipt's",)
    return replace(result, erased=erased, warnings=warnings)
