"""Searching an archive: from queries to results, and from a receipt to the same result again."""

import difflib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.candidates import Candidates, Field, ordered
from medlike.archive.index.filters import Condition, Filter, conditions, holds_field
from medlike.archive.index.index import Index, Part, View
from medlike.archive.index.segment import HASH_COLUMNS
from medlike.archive.search.encoded_query import EncodedQuery, encode_queries, query_picture, read_images
from medlike.archive.search.fusion import FusedRanking, weights
from medlike.archive.search.hits import Groups, hits
from medlike.archive.search.query import Query
from medlike.archive.search.ranking import Answer, members, rank, reach
from medlike.archive.search.receipts import compared, recalled, receipt
from medlike.archive.search.regions import RegionRanking
from medlike.archive.search.result import Hit, Picture, Result, ResultPictures
from medlike.archive.search.settings import SearchSettings
from medlike.archive.search.text_search import Ranking, TextViews, aligned, described, rankings, told
from medlike.archive.storage.rows import FILTER_COLUMNS, NUMBER_COLUMNS
from medlike.archive.storage.store import Store
from medlike.codes import hamming
from medlike.codes.templates import SCALES, Template
from medlike.errors import QueryError

if TYPE_CHECKING:
    from medlike.archive.session import Session
    from medlike.imaging import Image

def search(session: "Session", query: Any, **settings: Any) -> Result:
    """The stored images most like a query. settings: fields of `SearchSettings`.

    query: a Query, or what its `image` may be. Raises QueryError for a query or setting that makes no sense,
    ImageError where the query's image cannot be read.
    """
    return search_many(session, [query], **settings)[0]


def search_many(session: "Session", queries: Sequence[Any], **settings: Any) -> list[Result]:
    """One result a query, all as of one generation; the codes are read from memory once for all."""
    chosen = SearchSettings.of(**settings)
    index, clock = session.index, Clock()
    view = index.view(chosen.generation)
    given = [query if isinstance(query, Query) else Query(image=query) for query in queries]
    images = read_images(session, given)
    clock.stage("read")
    encoded = encode_queries(session, given, images, view, chosen.exclude_own_patient)
    clock.stage("encode")
    results = _answer(session, index, view, encoded, chosen, clock)
    return [
        _with_pictures(session, result, query.id, image)
        for result, query, image in zip(results, encoded, images, strict=True)
    ]


def repeat(session: "Session", given: Mapping[str, Any]) -> Result:
    """The same search again, as of the receipt's generation.

    Raises QueryError where the receipt is none, is of another bundle, or its generation is not kept. The
    result's `erased` says how many images that the first answer could have held were erased since.
    """
    chosen, encoded = recalled(session, given)
    index, clock = session.index, Clock()
    result = _answer(session, index, index.view(chosen.generation), [encoded], chosen, clock)[0]
    return compared(session, given, _with_pictures(session, result, encoded.id))


def _with_pictures(session: "Session", result: Result, id: str | None, image: "Image | None" = None) -> Result:
    """The result with pictures of its query and hits, drawn when they are asked for."""
    stored = partial(session.pictures.picture, generation=result.receipt["generation"])

    def query() -> Picture | None:
        if image is not None:
            return query_picture(image)
        return None if id is None else stored(id)

    return replace(result, pictures=ResultPictures(query, stored))


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stage(self, name: str) -> None:
        """The time since the last stage went into this one."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


class _Ranking:
    """One query by its whole code; `RegionRanking` has the same two methods."""

    def __init__(
        self,
        fields: Sequence[Field],
        encoded: EncodedQuery,
        settings: SearchSettings,
        radius: int | None,
        known: Sequence[Answer] | None,
    ) -> None:
        self.fields, self.encoded, self.mode, self.radius, self.known = fields, encoded, settings.rank, radius, known

    def first(self, k: int) -> Candidates:
        return rank(self.fields, self.encoded.code, self.encoded.content, k, self.mode, self.radius, self.known)

    def members(self, positions: Sequence[NDArray[np.int64]]) -> Candidates:
        found = members(self.fields, self.encoded.code, self.encoded.content, positions)
        return found if self.radius is None else found.take(found.distance <= self.radius)


def _answer(
    session: "Session",
    index: Index,
    view: View,
    encoded: Sequence[EncodedQuery],
    settings: SearchSettings,
    clock: Clock,
) -> list[Result]:
    wanted = conditions(settings.where) if settings.where else ()
    chosen = Filter(wanted, session.store, session.hashed) if wanted else None
    bases = [_base(part, chosen) for part in view.parts]
    clock.stage("filter")
    fields_of = [[_narrowed(base, query, settings) for base in bases] for query in encoded]
    radius = settings.radius
    if radius is None and settings.rank == "radius":
        radius = index.layout.bits // 8
    known = _first(fields_of, encoded, settings, radius)
    answers = []
    for number, query in enumerate(encoded):
        template = _template(query, settings)
        image: Ranking | None = None
        if template is not None:
            weight, shortlist = settings.region_weight, settings.shortlist
            image = RegionRanking(fields_of[number], query, template, settings.rank, weight, shortlist)
        elif not query.in_words_only:
            image = _Ranking(fields_of[number], query, settings, radius, known[number])
        texts = None
        if query.text is not None:
            texts = _InWords(session, view, query, image, fields_of[number], chosen, settings)
        ranking = image if texts is None else texts.ranking
        assert ranking is not None
        if settings.group_by is None:
            ranked, groups = ranking.first(settings.k), None
        else:
            ranked, groups = _grouped(ranking, fields_of[number], settings)
        answers.append((template, ranked, groups, texts))
    clock.stage("search")
    results = []
    for query, (template, ranked, groups, texts) in zip(encoded, answers, strict=True):
        if texts is None:
            found = hits(session, view, query, template, ranked, groups)
        else:
            shown = None if groups is None else [(texts.shown(others), size) for others, size in groups]
            found = texts.told(hits(session, view, query, template, texts.shown(ranked), shown))
        stated = settings if query.text is None else replace(settings, weights=weights(settings.weights))
        results.append(
            Result(
                hits=found,
                outlier=query.outlier,
                receipt=receipt(session, view.generation, query, stated, [_listed(hit) for hit in found]),
                seconds=clock.seconds,
                modality=query.modality,
                warnings=query.warnings + _warnings(session.store, query, settings, view, wanted, found),
                title=query.title,
                query_box=None if query.region is None else query.region.box,
                query_size=query.size,
                query_text=None if query.text is None else query.text.text,
                weights=None if texts is None else texts.weights,
            )
        )
    clock.stage("metadata")
    return results


class _InWords:
    """One query in words: its rankings made one, and what there is to say of its hits."""

    def __init__(
        self,
        session: "Session",
        view: View,
        query: EncodedQuery,
        image: Ranking | None,
        fields: Sequence[Field],
        chosen: Filter | None,
        settings: SearchSettings,
    ) -> None:
        assert query.text is not None
        if settings.rank == "radius" or settings.radius is not None:
            raise QueryError("radius counts bits of the image's code: leave it out where words are searched for")
        self.session, self.view, self.text, self.image, self.fields = session, view, query.text, image, fields
        self.views = TextViews.of(session, view.generation)
        wanted = weights(settings.weights)

        def narrowed(part: Part) -> Field:
            return _narrowed(_base(part, chosen), query, settings)

        found = rankings(session, self.views, self.text, image, wanted, settings.depth, narrowed)
        self.weights = {name: wanted[name] for name in found}
        self.ranking = FusedRanking(fields, found, wanted)

    def shown(self, ranked: Candidates) -> Candidates:
        """The same images with the distance and similarity that are shown: to the query's image, else to its text."""
        if self.image is None:
            return described(self.fields, ranked, self.views, self.text)
        positions = [np.sort(ranked.position[ranked.part == number]) for number in range(len(self.fields))]
        return aligned(ranked, self.image.members(positions))

    def told(self, found: Sequence[Hit]) -> list[Hit]:
        """The hits with scores, places and words."""
        return told(self.session, self.ranking, self.text, found, self.view)


def _base(part: Part, chosen: Filter | None) -> Field:
    return Field.of(part, None if chosen is None else chosen.mask(part))


def _template(query: EncodedQuery, settings: SearchSettings) -> Template | None:
    if query.region is None:
        return None
    if settings.rank == "radius" or settings.radius is not None:
        raise QueryError("radius counts bits of the whole image's code: leave it out where a region is searched")
    scales = SCALES if settings.scales == 3 else SCALES[:1]
    return Template.of(query.region.codes, query.region.counted, settings.orientations, scales)


def _narrowed(base: Field, query: EncodedQuery, settings: SearchSettings) -> Field:
    """What a part may answer to this query: without the query itself and, on request, its own patient."""
    if query.row is not None and not settings.include_self:
        base = base.without(base.part.positions(query.row))
    if settings.exclude_own_patient:
        for name, value in query.own.items():
            base = base.without(_carriers(base.part, name, value))
    return base


def _carriers(part: Part, name: str, value: Any) -> NDArray[np.int64]:
    """Positions of a part's rows that have a value in a column."""
    column = part.segment.column(name)
    code = column.code(value)
    if not code:
        return np.empty(0, np.int64)
    return np.flatnonzero(column.codes[: part.rows] == column.codes.dtype.type(code))


def _first(
    made: Sequence[list[Field]], encoded: Sequence[EncodedQuery], settings: SearchSettings, radius: int | None
) -> list[list[Any] | None]:
    """The nearest rows of each part for all queries at once, where one scan can serve them all."""
    alone: list[list[Any] | None] = [None] * len(encoded)
    if len(encoded) < 2 or settings.rank == "radius" or settings.group_by is not None:
        return alone
    if any(query.region is not None or query.text is not None for query in encoded):
        return alone
    codes = np.stack([query.code for query in encoded])
    first: list[list[Any] | None] = [[] for _ in encoded]
    for column in zip(*made, strict=True):
        if any(field.mask is not column[0].mask for field in column):
            return alone
        k = max(reach(field, settings.k) for field in column)
        for answers, answer in zip(
            first, hamming.nearest_and_more(column[0].codes, codes, k, column[0].mask, radius), strict=True
        ):
            assert answers is not None
            answers.append(answer)
    return first


def _grouped(
    ranking: Ranking, made: Sequence[Field], settings: SearchSettings
) -> tuple[Candidates, Groups]:
    """The best of each study or series, and for each its other images in the same order, and their number."""
    name = settings.group_by or ""
    wanted = 4 * settings.k
    while True:
        ranked = ranking.first(wanted)
        keys = [
            made[part].part.segment.column(name).value(int(at))
            for part, at in zip(ranked.part, ranked.position, strict=True)
        ]
        best: dict[Any, int] = {}
        for at, key in enumerate(keys):
            # An image without a study is one of its own.
            best.setdefault(at if key is None else key, at)
        if len(best) >= settings.k or len(ranked) < wanted:
            break
        wanted *= 4
    chosen = sorted(best.values())[: settings.k]
    groups: Groups = []
    for at in chosen:
        if keys[at] is None:
            groups.append((ranked.take(slice(0, 0)), 1))
            continue
        everyone = ranking.members([_carriers(field.part, name, keys[at]) for field in made])
        everyone = ordered(everyone, settings.rank)
        groups.append((everyone.take(slice(1, 1 + settings.others)), len(everyone)))
    return ranked.take(np.asarray(chosen, np.int64)), groups


def _listed(hit: Hit) -> list[Any]:
    scored = [] if hit.score is None else [hit.score]
    return [hit.id, hit.distance, hit.box, [other.id for other in hit.others], *scored]


def _warnings(
    store: Store,
    query: EncodedQuery,
    settings: SearchSettings,
    view: View,
    wanted: Sequence[Condition],
    found: Sequence[Hit],
) -> tuple[str, ...]:
    warnings = []
    if settings.exclude_own_patient and "patient" not in query.own and not query.in_words_only:
        known = " and ".join(sorted(query.own))
        warnings.append(
            f"the query's patient is not known: only images of its own {known} were left out"
            if known
            else "the query's patient is not known: no image was left out for it"
        )
    if not found:
        warnings += [_nothing_has(condition, view, store) for condition in wanted]
    return tuple(warning for warning in warnings if warning)


def _nothing_has(condition: Condition, view: View, store: Store) -> str:
    """What to say of a filter that no image can pass, because none has the field or the value asked for."""
    if condition.field not in FILTER_COLUMNS:
        if holds_field(store, condition.field):
            return ""
        near = difflib.get_close_matches(condition.field, FILTER_COLUMNS, 1)
        meant = f"; did you mean {near[0]}?" if near else f"; columns are {', '.join(FILTER_COLUMNS)}"
        return f"no image has the field {condition.field}{meant}"
    if condition.operator not in ("eq", "in") or condition.field in (*HASH_COLUMNS, *NUMBER_COLUMNS):
        return ""
    values = {value for part in view.parts for value in part.segment.column(condition.field).values}
    wanted = condition.value if condition.operator == "in" else (condition.value,)
    if values & {str(value) for value in wanted}:
        return ""
    listed = ", ".join(sorted(values)[:20]) or "no value at all"
    return f"no image has {condition.field} {', '.join(map(str, wanted))}; the archive has {listed}"

