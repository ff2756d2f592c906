"""From an image to texts: the stored texts nearest in meaning to an image, to words, or to both."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from medlike.archive.index.candidates import Field
from medlike.archive.index.filters import Filter
from medlike.archive.index.index import Part
from medlike.archive.index.known_fields import require_fields
from medlike.archive.search.encoded_checks import require_sound
from medlike.archive.search.encoded_query import EncodedQuery
from medlike.archive.search.encoding import encode_queries, read_images
from medlike.archive.search.receipts import TEXTS, compared, recalled, receipt
from medlike.archive.search.search import Clock, as_query
from medlike.archive.search.settings import SearchSettings
from medlike.archive.search.text_query import content_query
from medlike.archive.search.text_result import TextHit, TextResult
from medlike.archive.search.text_search import TextViews, nearest, text_warnings
from medlike.errors import QueryError
from medlike.types import Json

if TYPE_CHECKING:
    from medlike.archive.session import Session


def nearest_texts(
    session: "Session",
    query: object,
    k: int = 10,
    where: Mapping[str, Json] | None = None,
    generation: int | None = None,
    include_self: bool = False,
) -> TextResult:
    """The k stored texts nearest in meaning, in the order (distance, -similarity, id of the image).

    query: a Query, or what its `image` may be; of a stored image its own texts are left out unless `include_self`.
    Raises QueryError without a text bundle, or where the archive holds no texts.
    """
    settings = SearchSettings(k=k, where=where, generation=generation, include_self=include_self)
    query = as_query(query)
    if query.region is not None:
        raise QueryError("texts belong to whole images: leave the region out")
    if query.images:
        raise QueryError("texts are searched by one image: give image= instead of images=")
    if query.like or query.unlike:
        raise QueryError("marks move a search for images, not one for texts: leave like and unlike out")
    clock, view = Clock(), session.index.view(generation)
    _require(session)
    if settings.where:
        require_fields(settings.where, session.store, view.parts)
    images = read_images(session, [query])
    clock.stage("read")
    encoded = encode_queries(session, [query], images, view, False)[0]
    clock.stage("encode")
    if encoded.region is not None or encoded.members:
        raise QueryError("texts are searched by one whole image: encode the query without a region and other images")
    text = encoded.text or content_query(session, encoded.content)
    if text.code is None and not text.unrelated:
        raise QueryError("; ".join(text.warnings) or "the text says nothing that could be compared")
    return _answer(session, view.generation, replace(encoded, text=text), settings, clock)


def repeat(session: "Session", stated: Mapping[str, Json]) -> TextResult:
    """The same texts asked for again, as of the receipt's generation. Raises QueryError as `search.repeat`."""
    settings, encoded = recalled(session, stated)
    if encoded.text is None or (encoded.text.code is None and not encoded.text.unrelated):
        raise QueryError("this is no receipt of a search for texts: give the `receipt` of a result")
    require_sound(session, encoded, (session.folder.bundle.bits, session.folder.bundle.content_dim))
    view = session.index.view(settings.generation)
    _require(session)
    return compared(session, stated, _answer(session, view.generation, encoded, settings, Clock()))


def _require(session: "Session") -> None:
    if not session.indexes.has_texts():
        raise QueryError("this archive has no texts: add images with texts, such as a manifest with a column text")
    if session.loaded.text_encoder is None:
        raise QueryError(
            "this archive has no text bundle, so texts are found by their words only: run "
            "`medlike reindex --text-bundle` with one that goes with its image bundle"
        )


def _answer(
    session: "Session", generation: int, encoded: EncodedQuery, settings: SearchSettings, clock: Clock
) -> TextResult:
    assert encoded.text is not None
    filter = Filter.of(settings.where, session.store, session.hashed) if settings.where else None

    def narrowed(part: Part) -> Field:
        field = Field.of(part, filter)
        if encoded.row is None or settings.include_self:
            return field
        return field.without(part.positions(encoded.row))

    hits: list[TextHit] = []
    for number, distance, similarity in nearest(TextViews.of(session, generation), encoded.text, settings.k, narrowed):
        text = session.store.text(number)
        if text is not None:
            id, kind, words = text
            hits.append(TextHit(len(hits) + 1, id, kind, words, distance, similarity))
    clock.stage("search")
    answer = [[hit.id, hit.kind, hit.distance] for hit in hits]
    return TextResult(
        hits,
        outlier=encoded.outlier,
        receipt={"of": TEXTS, **receipt(session, generation, encoded, settings, answer)},
        seconds=clock.seconds,
        modality=encoded.modality,
        warnings=encoded.warnings + text_warnings(encoded.text),
    )
