"""Searching an archive: from queries to results, and from a receipt to the same result again."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.candidates import Candidates, Field
from medlike.archive.index.filters import Condition, Filter
from medlike.archive.index.index import Part, View
from medlike.archive.index.known_fields import require_fields
from medlike.archive.index.neighbours import NEAREST
from medlike.archive.index.segment import HASH_COLUMNS
from medlike.archive.search.encoded_checks import require_sound
from medlike.archive.search.encoded_query import EncodedQuery
from medlike.archive.search.encoding import encode_queries, preload, query_picture, read_images
from medlike.archive.search.familiarity import LOCAL, SHORTLIST, THRESHOLD, UNITS, Familiarity
from medlike.archive.search.fusion import weights
from medlike.archive.search.grouping import carriers, folded, grouped
from medlike.archive.search.hits import hits
from medlike.archive.search.query import Query
from medlike.archive.search.query_in_words import QueryInWords
from medlike.archive.search.ranking import SHORTLISTED, Answer, WholeRanking, rank, reach
from medlike.archive.search.receipts import compared, fit_of, recalled, receipt
from medlike.archive.search.regions import RegionRanking
from medlike.archive.search.result import Hit, Picture, Result, ResultPictures
from medlike.archive.search.settings import SearchSettings
from medlike.archive.search.text_search import Ranking
from medlike.archive.storage.rows import TEXT_COLUMNS
from medlike.codes import hamming
from medlike.codes.reranking import SHORTLIST_IMAGES
from medlike.codes.templates import ORIENTATIONS, SCALES, Template
from medlike.errors import QueryError
from medlike.types import Json

if TYPE_CHECKING:
    from medlike.archive.index.indexes import CodedImages
    from medlike.archive.index.neighbours import Vicinity
    from medlike.archive.session import Session
    from medlike.imaging import Image

def search_many(session: "Session", queries: Sequence[object], **settings: object) -> list[Result]:
    """Return one result for each query, all as of one generation; the codes are read from memory once for all.

    Args:
        session: The archive.
        queries: Queries, or what the `image` of a Query may be.
        **settings: Fields of `SearchSettings`.

    Raises:
        QueryError: A query or a setting makes no sense; UnknownField if no image has a field of the filter.
        ImageError: The image of a query cannot be read.
    """
    chosen = SearchSettings.of(**settings)
    clock = Clock()
    images = session.images(chosen.codes)
    view = images.index.view(chosen.generation)
    if chosen.where:
        require_fields(chosen.where, session.store, view.parts)
    prepared = [as_query(query) for query in queries]
    turned = chosen.orientations == ORIENTATIONS and chosen.region_turns == "encoded"
    encoded, pictures = _encoded(session, prepared, view, chosen.exclude_own_patient, turned, clock)
    encoded = [query.under(images.fit) for query in encoded]
    if any(query.like or query.unlike for query in prepared):
        from medlike.archive.search.marks import moved

        encoded = moved(session, images.fit, view, prepared, encoded)
    clock.stage("encode")
    if any(query.members for query in encoded):
        of_study = chosen if "group_by" in settings or chosen.grouped else replace(chosen, group_by="study")
        each = [of_study if query.members else chosen for query in encoded]
        results = [
            _answer(session, images, view, [query], own, clock)[0] for query, own in zip(encoded, each, strict=True)
        ]
    else:
        results = _answer(session, images, view, encoded, chosen, clock)
    return [
        _with_pictures(session, result, query.id, image)
        for result, query, image in zip(results, encoded, pictures, strict=True)
    ]


def encode(session: "Session", query: object) -> EncodedQuery:
    """Return a query as the bundle encodes it, not moved by marks; `Archive.encode` explains it."""
    asked = replace(as_query(query), like=(), unlike=())
    view, known = session.index.view(), session.viewer.may("filters") and session.loaded.has_identity()
    return _encoded(session, [asked], view, known, True, Clock())[0][0]


def as_query(query: object) -> Query:
    """Return a query given as a Query, an EncodedQuery, or what the `image` of a Query may be."""
    if isinstance(query, Query):
        return query
    return Query(encoded=query) if isinstance(query, EncodedQuery) else Query(image=query)


def _encoded(
    session: "Session", queries: Sequence[Query], view: View, leave_out_own: bool, turned: bool, clock: "Clock"
) -> "tuple[list[EncodedQuery], list[Image | None]]":
    """Return queries as the bundle encodes them, and the image that is shown for each."""
    singles = [member for query in queries for member in query.members]
    preload(session, singles)
    clock.stage("encode")
    pictures = _read(session, queries)
    clock.stage("read")
    encoded = encode_queries(session, singles, pictures, view, leave_out_own, turned)
    if any(query.images for query in queries):
        from medlike.archive.search.study_query import as_studies

        encoded, pictures = as_studies(queries, encoded, pictures)
    return encoded, pictures


def _read(session: "Session", queries: Sequence[Query]) -> "list[Image | None]":
    if not any(query.images for query in queries):
        return read_images(session, queries)
    from medlike.archive.search.study_query import read_members

    return [image for query in queries for image in read_members(session, query)]


def repeat(session: "Session", stated: Mapping[str, Json]) -> Result:
    """Repeat the search of a receipt, as of its generation.

    The result's `erased` counts the images that the first answer could have and that were erased since.

    Raises:
        QueryError: It is no receipt, or of another bundle, or its generation is not kept.
    """
    chosen, encoded = recalled(session, stated)
    images = session.indexes.coded(fit_of(session, stated))
    layout = images.index.layout
    require_sound(session, encoded, (layout.bits, layout.content))
    result = _answer(session, images, images.index.view(chosen.generation), [encoded], chosen, Clock())[0]
    return compared(session, stated, _with_pictures(session, result, encoded.id))


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


def _answer(
    session: "Session",
    images: "CodedImages",
    view: View,
    encoded: Sequence[EncodedQuery],
    settings: SearchSettings,
    clock: Clock,
) -> list[Result]:
    filter = Filter.of(settings.where, session.store, session.hashed) if settings.where else None
    bases = [Field.of(part, filter) for part in view.parts]
    clock.stage("filter")
    fields_of = [[_narrowed(base, query, settings) for base in bases] for query in encoded]
    radius = settings.radius
    if radius is None and settings.rank == "radius":
        radius = _usual_radius(images.index.layout.bits)
    known = _first(fields_of, encoded, settings, radius)
    invariant = None if images.fit is None else images.fit.invariant
    answers = []
    for number, query in enumerate(encoded):
        template = region_template(session, images, view, query, settings)
        image: Ranking | None = None
        whole: WholeRanking | None = None
        if template is not None:
            weight, shortlist = settings.region_weight, settings.shortlist
            image = RegionRanking(fields_of[number], query, template, settings.rank, weight, shortlist)
        elif not query.in_words_only:
            image = whole = WholeRanking(
                fields_of[number], *query.vectors, settings.rank, radius, known[number], invariant
            )
        texts = None
        if query.text is not None:
            answerable = partial(_answerable, filter, query, settings)
            texts = QueryInWords(session, view, query.text, image, fields_of[number], answerable, settings)
        ranking = image if texts is None else texts.ranking
        assert ranking is not None
        nearest: Candidates | None = None
        if not settings.grouped:
            ranked, groups = ranking.first(_depth(settings)), None
            nearest = None if whole is None or settings.radius is not None or query.members else whole.nearest
            ranked = ranked.take(slice(0, settings.k))
        else:
            ranked, groups = (folded if settings.collapse == "duplicates" else grouped)(
                ranking, fields_of[number], settings
            )
        if texts is None and isinstance(image, RegionRanking):
            ranked = image.shown(ranked)
            groups = None if groups is None else [(image.shown(others), size) for others, size in groups]
        judged: Familiarity | None = None
        if query.text is None and query.region is None and not query.marked:
            fields, narrowed = fields_of[number], filter is not None
            judged = _familiarity(session, images, view, fields, query, nearest, narrowed)
        answers.append((template, ranked, groups, texts, judged))
    clock.stage("search")
    fit = images.index.layout.fit
    results = []
    for query, (template, ranked, groups, texts, judged) in zip(encoded, answers, strict=True):
        if texts is None:
            # What similarities mean was measured on images that the model can judge.
            judging = images if template is None and not query.marked and not query.is_outlier else None
            shown = hits(session, view, query, template, ranked, groups, judging)
        else:
            others_shown = None if groups is None else [(texts.shown(others), size) for others, size in groups]
            shown = texts.explained(hits(session, view, query, template, texts.shown(ranked), others_shown))
        stated = settings if query.text is None else replace(settings, weights=weights(settings.weights))
        results.append(
            Result(
                hits=shown,
                outlier=query.outlier,
                receipt=receipt(session, view.generation, query, stated, [_listed(hit) for hit in shown], fit),
                seconds=clock.seconds,
                modality=query.modality,
                warnings=query.warnings
                + (() if texts is None else texts.warnings)
                + _warnings(query, settings, view, filter, shown)
                + session.unlinked([hit.id for best in shown for hit in (best, *best.others) if hit.source is None]),
                title=query.title,
                query_box=None if query.region is None else query.region.box,
                query_size=query.size,
                query_text=None if query.text is None else query.text.text,
                weights=None if texts is None else texts.weights,
                familiarity=judged,
            )
        )
    clock.stage("metadata")
    return results


def _familiarity(
    session: "Session",
    images: "CodedImages",
    view: View,
    fields: Sequence[Field],
    query: EncodedQuery,
    nearest: Candidates | None,
    filtered: bool,
) -> Familiarity:
    """Judge whether anything is like the image of a query.

    Args:
        session: The archive.
        images: The archive's images by the codes that are searched.
        view: The generation.
        fields: The images that may be returned.
        query: The query; the stored image that is itself the query does not count.
        nearest: At least the first SHORTLIST images and one more of the ranking by code, if they are known.
        filtered: If true, a filter chose the fields.
    """
    if nearest is None:
        nearest = rank(fields, query.code, query.content, SHORTLIST + max(1, len(query.itself)))
    others = nearest.take(slice(0, SHORTLIST + max(1, len(query.itself))))
    for id in query.itself:
        others = others.take((others.ids != np.frombuffer(bytes.fromhex(id), ">u8")).any(axis=1))
    nearest_few = np.sort(others.similarity[:SHORTLIST])[::-1][:NEAREST].astype(np.float64)
    similarity = float(np.float32(nearest_few.sum() / len(nearest_few))) if len(nearest_few) else None
    vicinity = session.loaded.vicinity(images, view)
    units = len(vicinity.closeness)
    if not units:
        return Familiarity(None, similarity, None, None, 0, filtered)
    around = _around(vicinity, query.content)
    # `np.median` would load numpy.ma.
    median = float(around[[(len(around) - 1) // 2, len(around) // 2]].mean())
    if similarity is None:
        return Familiarity(None, None, median, None, units, filtered)
    # A neighbour that is a near-duplicate counts for the query and not for the sample, which errs towards "alike".
    farther = int(np.searchsorted(around, np.float32(similarity), side="right"))
    alike = None if units < UNITS else (1 + farther) / (1 + len(around)) > THRESHOLD
    return Familiarity(alike, similarity, median, farther / len(around), units, filtered)


def _around(vicinity: "Vicinity", content: NDArray[np.int8]) -> NDArray[np.float32]:
    """Return the closeness of the LOCAL sampled images that are most like a content vector, ascending."""
    if len(vicinity.closeness) <= LOCAL:
        return np.sort(vicinity.closeness)
    alike = vicinity.vectors @ content.astype(vicinity.vectors.dtype) / vicinity.lengths
    return np.sort(vicinity.closeness[np.argsort(-alike, kind="stable")[:LOCAL]])


def region_template(
    session: "Session", images: "CodedImages", view: View, query: EncodedQuery, settings: SearchSettings
) -> Template | None:
    """Return what is compared of a query's region; None for a query without one.

    Raises:
        QueryError: The settings are not for a region.
    """
    if query.region is None:
        return None
    if settings.rank == "radius" or settings.radius is not None:
        raise QueryError("radius counts bits of the whole image's code: leave it out where a region is searched")
    scales = SCALES if settings.scales == 3 else SCALES[:1]
    region = query.region
    template = Template.of(region.codes, region.counted, settings.orientations, scales, region.turned)
    if settings.region_distance == "share" or len(scales) == 1:
        return template
    return template.standardised(session.loaded.cells(images, view))


def _narrowed(base: Field, query: EncodedQuery, settings: SearchSettings) -> Field:
    """What a part may answer to this query: without the query itself and, on request, its own patient."""
    if query.row is not None and not settings.include_self:
        base = base.without(base.part.positions(query.row))
    if settings.exclude_own_patient:
        for member in query.members or (query,):
            for name, value in member.own.items():
                base = base.without(carriers(base.part, name, value))
    return base


def _answerable(filter: Filter | None, query: EncodedQuery, settings: SearchSettings, part: Part) -> Field:
    """What a part of any index may answer to this query."""
    return _narrowed(Field.of(part, filter), query, settings)


def _depth(settings: SearchSettings) -> int:
    """Return how many images are ranked: k, and as many as the judgement of the archive needs."""
    if settings.rank in SHORTLISTED:
        return max(settings.k, SHORTLIST_IMAGES)
    return max(settings.k, SHORTLIST + 1) if settings.rank == "content" and settings.radius is None else settings.k


def _usual_radius(bits: int) -> int:
    """Return the radius of a code of some bits, where none was given."""
    return bits // 8


def _first(
    made: Sequence[list[Field]], encoded: Sequence[EncodedQuery], settings: SearchSettings, radius: int | None
) -> Sequence[list[Answer] | None]:
    """Return the nearest rows of each part for all queries at once, where one scan can serve them all."""
    alone = [None] * len(encoded)
    if len(encoded) < 2 or settings.rank in ("radius", "exact") or settings.grouped:
        return alone
    if any(query.region is not None or query.text is not None for query in encoded):
        return alone
    codes = np.stack([query.code for query in encoded])
    first: list[list[Answer]] = [[] for _ in encoded]
    for column in zip(*made, strict=True):
        if any(field.mask is not column[0].mask for field in column):
            return alone
        k = max(reach(field, _depth(settings)) for field in column)
        nearest = hamming.nearest_and_more(column[0].codes, codes, k, column[0].mask, radius)
        for answers, answer in zip(first, nearest, strict=True):
            answers.append(answer)
    return first


def _listed(hit: Hit) -> list[object]:
    scored = [] if hit.score is None else [hit.score]
    return [hit.id, hit.distance, hit.box, [other.id for other in hit.others], *scored]


def _warnings(
    query: EncodedQuery,
    settings: SearchSettings,
    view: View,
    filter: Filter | None,
    shown: Sequence[Hit],
) -> tuple[str, ...]:
    warnings = []
    if settings.rank == "radius" and settings.radius is None and not query.in_words_only:
        warnings.append(
            f"no radius was given: images within {_usual_radius(8 * len(query.code))} bits were searched, "
            "an eighth of the code; give radius (--radius) for another"
        )
    if settings.exclude_own_patient and "patient" not in query.own and not query.in_words_only:
        known = " and ".join(sorted(query.own))
        warnings.append(
            f"the query's patient is not known: only images of its own {known} were left out"
            if known
            else "the query's patient is not known: no image was left out for it"
        )
    if filter is not None and not shown:
        warnings += [_nothing_has(condition, view) for condition in filter.conditions]
    return tuple(warning for warning in warnings if warning)


def _nothing_has(condition: Condition, view: View) -> str:
    """What to say of a filter that no image can pass, because none has the value asked for."""
    if condition.field not in TEXT_COLUMNS or condition.field in HASH_COLUMNS:
        return ""
    if condition.operator not in ("eq", "in"):
        return ""
    values = {value for part in view.parts for value in part.segment.column(condition.field).values}
    sought = [str(value) for value in condition.values]
    if values & set(sought):
        return ""
    listed = ", ".join(sorted(values)[:20]) or "no value at all"
    return f"no image has {condition.field} {', '.join(sought)}; the archive has {listed}"

