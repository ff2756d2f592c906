"""Searching an archive: from queries to results, and from a receipt to the same result again."""

import difflib
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medlike.archive.asked import Asked, ask
from medlike.archive.filters import Condition, Filter, conditions, holds_field
from medlike.archive.hits import Groups, hits
from medlike.archive.index import Index, Part, View
from medlike.archive.query import as_query
from medlike.archive.ranking import MODES, Answer, Candidates, Field, members, ordered, rank, reach
from medlike.archive.regions import RegionRanking
from medlike.archive.result import Hit, Result
from medlike.archive.segment import HASH_COLUMNS
from medlike.archive.store import FILTER_COLUMNS, NUMBER_COLUMNS, Store
from medlike.codes import hamming
from medlike.codes.windows import SCALES, Template
from medlike.errors import QueryError

if TYPE_CHECKING:
    from medlike.archive.archive import Archive

GROUPS = ("series", "study")


@dataclass(frozen=True)
class Settings:
    """How to search.

    k: hits wanted. where: a filter (see filters.py). rank: "content" by (distance, -similarity, id); "radius"
    all within `radius` by similarity; "hamming" by (distance, id). radius: largest distance answered, in
    bits; for rank="radius" an eighth of the bits unless given. group_by: "series" or "study": one hit for
    each, the best; the best `others` of its other images behind it. exclude_own_patient: leave out images of
    the query's own patient. include_self: a query by id may find that image itself (by default it does not:
    people ask for more like it). generation: search as of an earlier generation.

    For a query with a region: orientations: 8, turned and mirrored too, or 1. scales: 3, also 0.7 and 1.4
    times as large, or 1. region_weight: share of the region in the distance, above 0, at most 1; the rest
    goes to the whole images' codes. shortlist: look only at so many images, the nearest by their whole codes;
    None: all, exactly.
    """

    k: int = 10
    where: Mapping[str, Any] | None = None
    rank: str = "content"
    radius: int | None = None
    group_by: str | None = None
    others: int = 10
    exclude_own_patient: bool = False
    include_self: bool = False
    generation: int | None = None
    orientations: int = 8
    scales: int = 3
    region_weight: float = 1.0
    shortlist: int | None = None

    def __post_init__(self) -> None:
        _at_least("k", self.k, 1, "ask for 1 hit or more")
        _at_least("others", self.others, 0, "give 0 or more")
        if self.radius is not None:
            _at_least("radius", self.radius, 0, "give a number of bits, 0 or more")
        if self.shortlist is not None:
            _at_least("shortlist", self.shortlist, 1, "give a number of images")
        _one_of("rank", self.rank, MODES)
        _one_of("group_by", self.group_by, (None, *GROUPS))
        _one_of("orientations", self.orientations, (8, 1))
        _one_of("scales", self.scales, (3, 1))
        if not 0 < self.region_weight <= 1:
            raise QueryError(f"region_weight is {self.region_weight!r}: give a number above 0, at most 1")
        conditions(self.where)

    @classmethod
    def of(cls, **given: Any) -> "Settings":
        """From keywords. An unknown one is an error that lists the known ones."""
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise QueryError(f"{name!r} is no setting of a search: use {', '.join(known)}")
        return cls(**given)


def search(archive: "Archive", query: Any, **settings: Any) -> Result:
    """The stored images most like a query. settings: fields of `Settings`.

    query: a Query, or what its `image` may be. Raises QueryError for a query or setting that makes no sense,
    ImageError where the query's image cannot be read.
    """
    return search_many(archive, [query], **settings)[0]


def search_many(archive: "Archive", queries: Sequence[Any], **settings: Any) -> list[Result]:
    """One result a query, all as of one generation; the codes are read from memory once for all."""
    chosen = Settings.of(**settings)
    index, clock = archive.index, Clock()
    with archive.store.snapshot():
        view = index.view(chosen.generation)
        asked = ask(archive, [as_query(query) for query in queries], view, chosen.exclude_own_patient, clock.stage)
    return _answer(archive, index, view, asked, chosen, clock)


def repeat(archive: "Archive", receipt: Mapping[str, Any]) -> Result:
    """The same search again, as of the receipt's generation.

    Raises QueryError where the receipt is none, is of another bundle, or its generation is not kept. The
    result's `erased` says how many images that the first answer could have held were erased since.
    """
    try:
        digest, generation = str(receipt["bundle"]), int(receipt["generation"])
        chosen = replace(Settings.of(**receipt["settings"]), generation=generation)
        asked = Asked.of_facts(receipt["query"])
    except (KeyError, TypeError, ValueError) as error:
        raise QueryError(f"this is no receipt of a search ({error}): give the `receipt` of a result") from None
    index, clock = archive.index, Clock()
    if digest != index.layout.bundle:
        raise QueryError(
            f"the receipt is of bundle {digest[:16]}, the archive now uses {index.layout.bundle[:16]}: "
            "its codes cannot be compared; search anew"
        )
    result = _answer(archive, index, index.view(generation), [asked], chosen, clock)[0]
    erased = archive.store.erased(generation)
    warnings = result.warnings
    if erased:
        warnings += (f"{erased} images that the search could see were erased since",)
    elif result.receipt["answer"] != receipt.get("answer"):
        warnings += ("the answer differs from the receipt's",)
    return replace(result, erased=erased, warnings=warnings)


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
        made: Sequence[Field],
        asked: Asked,
        settings: Settings,
        radius: int | None,
        known: Sequence[Answer] | None,
    ) -> None:
        self.made, self.asked, self.mode, self.radius, self.known = made, asked, settings.rank, radius, known

    def first(self, k: int) -> Candidates:
        return rank(self.made, self.asked.code, self.asked.content, k, self.mode, self.radius, self.known)

    def members(self, positions: Sequence[NDArray[np.int64]]) -> Candidates:
        found = members(self.made, self.asked.code, self.asked.content, positions)
        return found if self.radius is None else found.take(found.distance <= self.radius)


def _answer(
    archive: "Archive", index: Index, view: View, asked: Sequence[Asked], settings: Settings, clock: Clock
) -> list[Result]:
    wanted = conditions(settings.where)
    passes: list[NDArray[np.bool_] | None] = [None] * len(view.parts)
    if wanted:
        made = Filter(wanted, archive.store, archive.identity.hashed)
        passes = [made.mask(part) for part in view.parts]
    clock.stage("filter")
    bases = [Field.of(part, mask) for part, mask in zip(view.parts, passes, strict=True)]
    fields_of = [_fields(bases, query, settings) for query in asked]
    radius = settings.radius
    if radius is None and settings.rank == "radius":
        radius = index.layout.bits // 8
    known = _first(fields_of, asked, settings, radius)
    answers: list[tuple[Template | None, Candidates, Groups | None]] = []
    for number, query in enumerate(asked):
        template = _template(query, settings)
        ranking: _Ranking | RegionRanking
        if template is None:
            ranking = _Ranking(fields_of[number], query, settings, radius, known[number])
        else:
            weight, shortlist = settings.region_weight, settings.shortlist
            ranking = RegionRanking(fields_of[number], query, template, settings.rank, weight, shortlist)
        if settings.group_by is None:
            answers.append((template, ranking.first(settings.k), None))
        else:
            answers.append((template, *_grouped(ranking, fields_of[number], settings)))
    clock.stage("search")
    results = []
    for query, (template, ranked, groups) in zip(asked, answers, strict=True):
        found = hits(archive, view, query, template, ranked, groups)
        results.append(
            Result(
                hits=found,
                outlier=query.outlier,
                receipt=_receipt(index, view, query, settings, found),
                seconds=clock.seconds,
                modality=query.modality,
                warnings=query.warnings + _warnings(archive.store, query, settings, view, wanted, found),
                title=query.title,
                query_box=None if query.region is None else query.region.box,
                query_size=query.size,
                query_picture=query.picture,
                hit_picture=archive.picture,
            )
        )
    clock.stage("metadata")
    return results


def _template(query: Asked, settings: Settings) -> Template | None:
    if query.region is None:
        return None
    if settings.rank == "radius" or settings.radius is not None:
        raise QueryError("radius counts bits of the whole image's code: leave it out where a region is searched")
    scales = SCALES if settings.scales == 3 else SCALES[:1]
    return Template.of(query.region.codes, query.region.counted, settings.orientations, scales)


def _fields(bases: Sequence[Field], query: Asked, settings: Settings) -> list[Field]:
    """What each part may answer to this query: without the query itself and, if asked, its own patient."""
    made = []
    for base in bases:
        part = base.part
        if query.row is not None and not settings.include_self:
            at = part.position(query.row)
            base = base if at is None else base.without(np.asarray([at]))
        if settings.exclude_own_patient:
            for name, value in query.own.items():
                base = base.without(_carriers(part, name, value))
        made.append(base)
    return made


def _carriers(part: Part, name: str, value: Any) -> NDArray[np.int64]:
    """Positions of a part's rows that have a value in a column."""
    column = part.segment.column(name)
    code = column.code(value)
    if not code:
        return np.empty(0, np.int64)
    return np.flatnonzero(column.codes[: part.rows] == column.codes.dtype.type(code))


def _first(
    made: Sequence[list[Field]], asked: Sequence[Asked], settings: Settings, radius: int | None
) -> list[list[Any] | None]:
    """The nearest rows of each part for all queries at once, where one scan can serve them all."""
    alone: list[list[Any] | None] = [None] * len(asked)
    if len(asked) < 2 or settings.rank == "radius" or settings.group_by is not None:
        return alone
    if any(query.region is not None for query in asked):
        return alone
    codes = np.stack([query.code for query in asked])
    first: list[list[Any] | None] = [[] for _ in asked]
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
    ranking: "_Ranking | RegionRanking", made: Sequence[Field], settings: Settings
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


def _receipt(index: Index, view: View, query: Asked, settings: Settings, found: Sequence[Hit]) -> dict[str, Any]:
    given = asdict(settings)
    del given["generation"]
    if settings.where is not None:
        given["where"] = json.loads(json.dumps(settings.where, default=list))
    listed = json.dumps([[hit.id, hit.distance, hit.box, [other.id for other in hit.others]] for hit in found])
    return {
        "generation": view.generation,
        "bundle": index.layout.bundle,
        "settings": given,
        "query": query.facts(),
        "answer": hashlib.sha256(listed.encode()).hexdigest(),
    }


def _warnings(
    store: Store,
    query: Asked,
    settings: Settings,
    view: View,
    wanted: Sequence[Condition],
    found: Sequence[Hit],
) -> tuple[str, ...]:
    warnings = []
    if settings.exclude_own_patient and "patient" not in query.own:
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


def _at_least(name: str, value: Any, least: int, action: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise QueryError(f"{name} is {value!r}: {action}")


def _one_of(name: str, value: Any, known: Sequence[Any]) -> None:
    if value not in known:
        raise QueryError(f"{name} is {value!r}: use one of {', '.join(str(each) for each in known if each)}")
