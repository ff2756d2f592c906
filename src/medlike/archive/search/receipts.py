"""Receipts: what was searched for, how and when, so that it can be searched for again and the answers compared."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TypeVar

from medlike.archive.search.encoded_query import EncodedQuery
from medlike.archive.search.settings import SearchSettings
from medlike.errors import QueryError

if TYPE_CHECKING:
    from medlike.archive.search.result import Result
    from medlike.archive.search.text_result import TextResult
    from medlike.archive.session import Session

TEXTS = "texts"  # under "of", where texts were searched and not images

Answered = TypeVar("Answered", "Result", "TextResult")


def receipt(
    session: "Session", generation: int, encoded: EncodedQuery, settings: SearchSettings, answer: Sequence[Any]
) -> dict[str, Any]:
    """The receipt of a search. answer: what must come out again, as JSON holds it."""
    return {
        "archive": session.archive_id,
        "generation": generation,
        "bundle": session.folder.bundle.digest,
        "settings": {name: value for name, value in asdict(settings).items() if name != "generation"},
        "query": encoded.facts(),
        "answer": hashlib.sha256(json.dumps(answer).encode()).hexdigest(),
    }


def recalled(session: "Session", given: Mapping[str, Any]) -> tuple[SearchSettings, EncodedQuery]:
    """The settings, as of its generation, and the query of a receipt.

    Raises QueryError where it is none, or of a bundle that the archive does not use.
    """
    try:
        digest, generation = str(given["bundle"]), int(given["generation"])
        chosen = replace(SearchSettings.of(**given["settings"]), generation=generation)
        encoded = EncodedQuery.of_facts(given["query"])
    except (KeyError, TypeError, ValueError) as error:
        raise QueryError(f"this is no receipt of a search ({error}): give the `receipt` of a result") from None
    archive = given.get("archive")
    if archive not in (None, session.archive_id):
        raise QueryError(
            f"the receipt is of archive {str(archive)[:16]}, this is {session.archive_id[:16]}: "
            "repeat it there, or search anew"
        )
    used = session.index.layout.bundle
    if digest != used:
        raise QueryError(
            f"the receipt is of bundle {digest[:16]}, the archive now uses {used[:16]}: "
            "its codes cannot be compared; search anew"
        )
    text = None if session.folder.text is None else session.folder.text.digest
    if encoded.text is not None and encoded.text.bundle not in (None, text):
        raise QueryError(
            f"the receipt is of text bundle {encoded.text.bundle[:16]}, which the archive no longer uses: search anew"
        )
    return chosen, encoded


def compared(session: "Session", given: Mapping[str, Any], result: Answered) -> Answered:
    """The result of searching again, with what is to be said where it cannot be or is not the receipt's answer."""
    erased = session.store.erased(int(given["generation"]))
    warnings = result.warnings
    if given.get("archive") is None:
        warnings += ("the receipt names no archive: it is of an earlier medlike, and taken for one of this archive",)
    if erased:
        warnings += (f"{erased} images that the search could see were erased since",)
    elif result.receipt["answer"] != given.get("answer"):
        warnings += ("the answer differs from the receipt's",)
    return replace(result, erased=erased, warnings=warnings)
