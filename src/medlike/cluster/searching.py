"""The verbs that read: search, repeat, browse, facets and pictures as flows."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from medlike.archive.search.facets import Facets, require_most
from medlike.archive.search.listing import ListedImage, Listing, require_page
from medlike.archive.search.query import Query
from medlike.archive.search.receipts import TEXTS
from medlike.archive.search.result import Result
from medlike.archive.search.settings import SearchSettings
from medlike.archive.search.text_result import TextResult
from medlike.cluster.exchange import Call, Flow, Form, Upload, asked, compact_json
from medlike.cluster.query_files import query_file
from medlike.errors import ImageError, InputError, QueryError
from medlike.types import Json, JsonObject, Picture

_DIGITS = re.compile(r"[0-9a-f]{0,32}")
PAGE = 1000  # images of a page of a listing
#: Fields of a Query that are sent by their names.
_FIELDS = ("id", "text", "title", "region", "like", "unlike")


def search_call(query: object, settings: Mapping[str, Json], sources: bool, texts: bool = False) -> Call:
    """Return the request of a search.

    Args:
        query: A Query, or an image as `Query` takes it.
        settings: Fields of `SearchSettings` that are given.
        sources: True if hits are to have their source.
        texts: True to search texts.

    Raises:
        QueryError: The query or a setting makes no sense.
        ImageError: The query's image cannot be read.
    """
    asked_for = query if isinstance(query, Query) else Query(image=query)
    chosen = SearchSettings.of(**settings)
    body: JsonObject = {name: getattr(chosen, name) for name in settings}
    for name in _FIELDS:
        value = getattr(asked_for, name)
        if value is not None and len(value):
            body[name] = value if isinstance(value, str) else list(value)
    if texts:
        body["texts"] = True
    else:
        body["parts"] = ["agreement"]
    if sources:
        body["sources"] = True
    files = _files(asked_for)
    if not files:
        return Call("POST", "search", json=body, repeatable=True)
    form: Form = (("request", compact_json(body)), *(("image", file) for file in files))
    return Call("POST", "search", form=form, repeatable=True)


def _files(query: Query) -> tuple[Upload, ...]:
    if not query.images:
        return () if query.image is None else (query_file(query.image),)
    files = []
    for number, image in enumerate(query.images, 1):
        try:
            files.append(query_file(image))
        except ImageError as error:
            raise ImageError(f"image {number} of {len(query.images)}: {error}") from error
    return tuple(files)


def search(query: object, settings: Mapping[str, Json], sources: bool) -> Flow[Result]:
    """Search by one query."""
    reply = yield from asked(search_call(query, settings, sources))
    return Result.from_dict(reply.json())


def search_many(queries: Sequence[object], settings: Mapping[str, Json], sources: bool) -> Flow[list[Result]]:
    """Search by several queries, one after the other, all as of the generation that the first one finds."""
    results: list[Result] = []
    as_of = dict(settings)
    for query in queries:
        results.append((yield from search(query, as_of, sources)))
        as_of["generation"] = results[0].receipt["generation"]
    return results


def nearest_texts(query: object, settings: Mapping[str, Json]) -> Flow[TextResult]:
    """Search texts."""
    reply = yield from asked(search_call(query, settings, False, texts=True))
    return TextResult.from_dict(reply.json())


def repeat(receipt: Mapping[str, Json], sources: bool) -> Flow[Result | TextResult]:
    """Repeat the search of a receipt."""
    if not isinstance(receipt, Mapping):
        raise QueryError(f"this is a {type(receipt).__name__}, not a receipt: give the `receipt` of a result")
    params = (("sources", "true"),) if sources else ()
    reply = yield from asked(Call("POST", "receipts/repeat", params, json=dict(receipt), repeatable=True))
    facts = reply.json()
    return TextResult.from_dict(facts) if receipt.get("of") == TEXTS else Result.from_dict(facts)


def browse(
    where: Mapping[str, Json] | None, limit: int, offset: int, prefix: str, sources: bool
) -> Flow[Listing]:
    """List images, as many pages as it takes."""
    require_page(limit, offset, prefix)
    more = (*_filter(where), *_prefixed(prefix), *((("sources", "true"),) if sources else ()))
    images: list[ListedImage] = []
    warnings: dict[str, None] = {}
    while True:
        size = min(limit - len(images), PAGE)
        facts = yield from _page(size, offset + len(images), more)
        images += [_listed(each) for each in facts["images"]]
        warnings |= dict.fromkeys(facts.get("warnings", ()))
        if not facts["images"] or len(images) >= limit or offset + len(images) >= facts["total"]:
            return Listing(images, facts["total"], tuple(warnings))


def ids(prefix: str) -> Flow[list[str]]:
    """List the ids that begin with some digits."""
    if not _DIGITS.fullmatch(prefix):
        return []
    found: list[str] = []
    while True:
        facts = yield from _page(PAGE, len(found), _prefixed(prefix))
        found += [each["id"] for each in facts["images"]]
        if not facts["images"] or len(found) >= facts["total"]:
            return found


def _prefixed(prefix: str) -> tuple[tuple[str, str], ...]:
    return (("ids", prefix),) if prefix else ()


def _page(limit: int, offset: int, more: Sequence[tuple[str, str]]) -> Flow[JsonObject]:
    params = (("limit", str(limit)), ("offset", str(offset)), *more)
    reply = yield from asked(Call("GET", "images", params, repeatable=True))
    facts: JsonObject = reply.json()
    return facts


def _listed(facts: Mapping[str, Json]) -> ListedImage:
    return ListedImage(facts["id"], facts["width"], facts["height"], facts["metadata"], facts.get("source"))


def facets(where: Mapping[str, Json] | None, generation: int | None, most: int) -> Flow[Facets]:
    """Count images by the values of each field."""
    require_most(most)
    as_of = () if generation is None else (("generation", str(generation)),)
    params = (*_filter(where), *as_of, ("most", str(most)))
    reply = yield from asked(Call("GET", "facets", params, repeatable=True))
    # The service states the filter in its longest form.
    plain = SearchSettings(where=where).where
    return replace(Facets.from_dict(reply.json()), where=None if plain is None else dict(plain))


def _filter(where: Mapping[str, Json] | None) -> tuple[tuple[str, str], ...]:
    if not where:
        return ()
    plain = SearchSettings(where=where).where
    return (("where", compact_json(plain)),)


def picture(id: str) -> Flow[Picture | None]:
    """Fetch the picture of a stored image; None if its pixels are gone."""
    if not isinstance(id, str) or not id.isalnum():
        raise InputError(f"there is no image {id!r}: take an id from a search")
    call = Call("GET", f"images/{id}/picture", repeatable=True, expected=(410,))
    reply = yield from asked(call)
    if reply.status == 410:
        return None
    from PIL import Image as PillowImage

    return np.asarray(PillowImage.open(io.BytesIO(reply.content)))


def info() -> Flow[JsonObject]:
    """Say what the archive holds."""
    reply = yield from asked(Call("GET", "archive", repeatable=True))
    facts: JsonObject = reply.json()
    facts.pop("name", None)
    return facts


def archives() -> Flow[list[JsonObject]]:
    """List the archives of the service."""
    reply = yield from asked(Call("GET", "archives", repeatable=True))
    return list(reply.json()["archives"])
