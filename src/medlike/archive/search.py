"""Searching an archive: from queries to results, and from a receipt to the same result again."""

import base64
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medlike.archive.filters import Condition, Filter, conditions
from medlike.archive.index import Index, Part, View
from medlike.archive.query import Query, as_query
from medlike.archive.ranking import MODES, Candidates, Field, members, ordered, rank, reach
from medlike.archive.result import Hit, Picture, Result
from medlike.archive.segment import HASH_COLUMNS
from medlike.archive.store import TEXT_COLUMNS, ImageRow
from medlike.codes import hamming
from medlike.errors import QueryError

if TYPE_CHECKING:
    from medlike.archive.archive import Archive
    from medlike.imaging import Image

GROUPS = ("series", "study")
_OWN = {"patient": "patient_id", "study": "study_uid", "series": "series_uid"}


@dataclass(frozen=True)
class Settings:
    """How to search.

    k: hits wanted. where: a filter (see filters.py). rank: "content" by (distance, -similarity, id); "radius"
    all within `radius` by similarity; "hamming" by (distance, id). radius: largest distance answered, in
    bits; for rank="radius" an eighth of the bits unless given. group_by: "series" or "study": one hit for
    each, the best; the best `others` of its other images behind it. exclude_own_patient: leave out images of
    the query's own patient. include_self: a query by id may find that image itself (by default it does not:
    people ask for more like it). generation: search as of an earlier generation.
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

    def __post_init__(self) -> None:
        if not isinstance(self.k, int | np.integer) or self.k < 1:
            raise QueryError(f"k is {self.k!r}: ask for 1 hit or more")
        if self.rank not in MODES:
            raise QueryError(f"rank is {self.rank!r}: use one of {', '.join(MODES)}")
        if self.group_by is not None and self.group_by not in GROUPS:
            raise QueryError(f"group_by is {self.group_by!r}: use one of {', '.join(GROUPS)}")
        if self.radius is not None and (not isinstance(self.radius, int | np.integer) or self.radius < 0):
            raise QueryError(f"radius is {self.radius!r}: give a number of bits, 0 or more")
        if self.others < 0:
            raise QueryError(f"others is {self.others!r}: give 0 or more")
        conditions(self.where)

    @classmethod
    def of(cls, **given: Any) -> "Settings":
        """From keywords. An unknown one is an error that lists the known ones."""
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise QueryError(f"{name!r} is no setting of a search: use {', '.join(known)}")
        return cls(**given)


@dataclass(frozen=True)
class Asked:
    """A query as the index understands it. row: of the stored image it is, own: its keyed hashes."""

    code: NDArray[np.uint8]
    content: NDArray[np.int8]
    row: int | None
    own: dict[str, str]
    outlier: dict[str, Any] | None
    modality: str | None
    title: str
    picture: Callable[[], Picture | None]
    facts: dict[str, Any]


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
        asked = _ask(archive, [as_query(query) for query in queries], chosen, view, clock)
    return _answer(archive, index, view, asked, chosen, clock)


def repeat(archive: "Archive", receipt: Mapping[str, Any]) -> Result:
    """The same search again, as of the receipt's generation.

    Raises QueryError where the receipt is none, is of another bundle, or its generation is not kept. The
    result's `erased` says how many images that the first answer could have held were erased since.
    """
    try:
        given, digest = dict(receipt["settings"]), receipt["bundle"]
        facts = receipt["query"]
        code = np.frombuffer(bytes.fromhex(facts["code"]), np.uint8)
        content = np.frombuffer(base64.b64decode(facts["content"]), np.int8)
        chosen = replace(Settings.of(**given), generation=int(receipt["generation"]))
        asked = Asked(
            code, content, facts["row"], dict(facts["own"]), receipt.get("outlier"), facts.get("modality"),
            facts.get("title") or "query", lambda: None, dict(facts),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise QueryError(f"this is no receipt of a search ({error}): give the `receipt` of a result") from None
    index, clock = archive.index, Clock()
    if digest != index.layout.bundle:
        raise QueryError(
            f"the receipt is of bundle {digest[:16]}, the archive now uses {index.layout.bundle[:16]}: "
            "its codes cannot be compared; search anew"
        )
    result = _answer(archive, index, index.view(chosen.generation), [asked], chosen, clock)[0]
    erased = archive.store.erased(int(receipt["generation"]))
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


def _ask(archive: "Archive", queries: Sequence[Query], settings: Settings, view: View, clock: Clock) -> list[Asked]:
    for query in queries:
        if query.text is not None:
            raise QueryError("this archive's bundle has no text encoder: search by image or id")
        if query.region is not None:
            raise QueryError("this archive's bundle has no local codes: search by the whole image")
    images = [query.read() if query.image is not None else None for query in queries]
    clock.stage("read")
    encoded = _encoded(archive, [image for image in images if image is not None])
    clock.stage("encode")
    asked = []
    for query, image in zip(queries, images, strict=True):
        if image is not None:
            asked.append(_of_image(archive, query, image, next(encoded), settings))
        else:
            asked.append(_of_stored(archive, query.id or "", view, settings))
    return asked


def _encoded(archive: "Archive", images: "Sequence[Image]") -> Any:
    if not images:
        return iter(())
    from medlike.imaging import prepare

    return iter(archive.encoder.encode([prepare(image) for image in images]))


def _of_image(archive: "Archive", query: Query, image: "Image", encoding: Any, settings: Settings) -> Asked:
    def picture() -> Picture | None:
        from medlike.imaging import render_colour

        return render_colour(image)

    own = {}
    if settings.exclude_own_patient:
        for name, identifier in _OWN.items():
            hashed = archive.identity.hashed(name, image.identifiers.get(identifier))
            if hashed:
                own[name] = hashed
    outlier = None if encoding.outlier is None else encoding.outlier.verdict()
    title = image.path.replace("\\", "/").rsplit("/", 1)[-1] if image.path else "query"
    facts = _facts("image", encoding.code, encoding.content, None, own, encoding.modality, title)
    return Asked(encoding.code, encoding.content, None, own, outlier, encoding.modality, title, picture, facts)


def _of_stored(archive: "Archive", id: str, view: View, settings: Settings) -> Asked:
    store, bundle = archive.store, archive.folder.bundle.digest
    row = store.find(id, view.generation)
    if row is None:
        raise QueryError(f"there is no image {id!r} in the archive: take an id from a search")
    encoding = store.encoding(row.row, bundle)
    if encoding is None:
        raise QueryError(f"image {id} is not encoded under the archive's bundle: run `medlike reindex`")
    own = {}
    if settings.exclude_own_patient:
        own = {name: value for name in _OWN if (value := getattr(row, name))}
    outlier: dict[str, Any] | None = None
    if encoding.outlier_p is not None:
        from medlike.inference.encoding import DEFAULT_THRESHOLD

        outlier = {
            "is_outlier": encoding.outlier_p <= DEFAULT_THRESHOLD,
            "p_value": encoding.outlier_p,
            "score": encoding.outlier_score,
            "threshold": DEFAULT_THRESHOLD,
            "components": {},
            "modality": None,
        }
    code = np.frombuffer(encoding.code, np.uint8)
    content = np.frombuffer(encoding.content, np.int8)
    title = f"stored {id[:8]}"
    facts = _facts("id", code, content, row.row, own, row.predicted_modality, title) | {"id": id}
    return Asked(
        code,
        content,
        row.row,
        own,
        outlier,
        row.predicted_modality,
        title,
        lambda: archive.picture(id),
        facts,
    )


def _facts(
    kind: str, code: Any, content: Any, row: int | None, own: dict[str, str], modality: str | None, title: str
) -> dict[str, Any]:
    return {
        "kind": kind,
        "code": code.tobytes().hex(),
        "content": base64.b64encode(content.tobytes()).decode(),
        "row": row,
        "own": own,
        "modality": modality,
        "title": title,
    }


def _answer(
    archive: "Archive", index: Index, view: View, asked: Sequence[Asked], settings: Settings, clock: Clock
) -> list[Result]:
    found_where = conditions(settings.where)
    passes: list[NDArray[np.bool_] | None] = [None] * len(view.parts)
    if found_where:
        made = Filter(found_where, archive.store, archive.identity.hashed)
        passes = [made.mask(part) for part in view.parts]
    clock.stage("filter")
    bases = [Field.of(part, mask) for part, mask in zip(view.parts, passes, strict=True)]
    fields_of = [_fields(bases, query, settings) for query in asked]
    radius = settings.radius
    if radius is None and settings.rank == "radius":
        radius = index.layout.bits // 8
    first = _first(fields_of, asked, settings, radius)
    answers: list[tuple[Candidates, list[tuple[Candidates, int]] | None]] = []
    for number, query in enumerate(asked):
        if settings.group_by is None:
            ranked = rank(
                fields_of[number], query.code, query.content, settings.k, settings.rank, radius, first[number]
            )
            answers.append((ranked, None))
        else:
            answers.append(_grouped(fields_of[number], query, settings, radius))
    clock.stage("search")
    results = []
    for query, (ranked, groups) in zip(asked, answers, strict=True):
        hits = _hits(archive, view, ranked, groups)
        receipt = _receipt(index, view, query, settings, hits)
        results.append(
            Result(
                hits=hits,
                outlier=query.outlier,
                receipt=receipt,
                seconds=clock.seconds,
                modality=query.modality,
                warnings=_warnings(query, settings, view, found_where, hits),
                title=query.title,
                query_picture=query.picture,
                hit_picture=archive.picture,
            )
        )
    clock.stage("metadata")
    return results


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
    made: Sequence[Field], query: Asked, settings: Settings, radius: int | None
) -> tuple[Candidates, list[tuple[Candidates, int]]]:
    """The best of each study or series, and for each its other images in the same order, and their number."""
    name = settings.group_by or ""
    wanted = 4 * settings.k
    while True:
        ranked = rank(made, query.code, query.content, wanted, settings.rank, radius)
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
    groups = []
    for at in chosen:
        if keys[at] is None:
            groups.append((ranked.take(slice(0, 0)), 1))
            continue
        positions = [_carriers(field.part, name, keys[at]) for field in made]
        everyone = members(made, query.code, query.content, positions)
        if radius is not None:
            everyone = everyone.take(everyone.distance <= radius)
        everyone = ordered(everyone, settings.rank)
        groups.append((everyone.take(slice(1, 1 + settings.others)), len(everyone)))
    return ranked.take(np.asarray(chosen, np.int64)), groups


def _hits(archive: "Archive", view: View, ranked: Candidates, groups: list[tuple[Candidates, int]] | None) -> list[Hit]:
    everything = Candidates.joined([ranked, *(others for others, _ in groups or [])])
    rows = [
        int(view.parts[part].segment.array("rows")[at])
        for part, at in zip(everything.part, everything.position, strict=True)
    ]
    images = archive.store.images(rows)
    sources = archive.sources(sorted({images[row].id for row in rows if row in images}))
    # An image that was erased a moment ago is left out.
    hits = [_hit(everything, at, images[row], sources) if row in images else None for at, row in enumerate(rows)]
    found: list[Hit] = []
    start = len(ranked)
    for number, hit in enumerate(hits[:start]):
        if hit is None:
            continue
        if groups is not None:
            others, size = groups[number]
            behind = [other for other in hits[start : start + len(others)] if other is not None]
            start += len(others)
            hit = replace(
                hit,
                others=tuple(replace(other, rank=place) for place, other in enumerate(behind, 2)),
                group_size=size,
            )
        found.append(replace(hit, rank=len(found) + 1))
    return found


def _hit(found: Candidates, at: int, image: ImageRow, sources: Mapping[str, dict[str, Any]]) -> Hit:
    return Hit(
        rank=0,
        id=image.id,
        distance=int(found.distance[at]),
        similarity=float(found.similarity[at]),
        metadata=image.metadata,
        source=sources.get(image.id),
    )


def _receipt(index: Index, view: View, query: Asked, settings: Settings, hits: Sequence[Hit]) -> dict[str, Any]:
    given = asdict(settings)
    del given["generation"]
    if settings.where is not None:
        given["where"] = json.loads(json.dumps(settings.where, default=list))
    listed = json.dumps([[hit.id, hit.distance, [other.id for other in hit.others]] for hit in hits])
    return {
        "generation": view.generation,
        "bundle": index.layout.bundle,
        "settings": given,
        "query": query.facts,
        "answer": hashlib.sha256(listed.encode()).hexdigest(),
    }


def _warnings(
    query: Asked, settings: Settings, view: View, found: Sequence[Condition], hits: Sequence[Hit]
) -> tuple[str, ...]:
    warnings = []
    if settings.exclude_own_patient and "patient" not in query.own:
        known = " and ".join(sorted(query.own))
        warnings.append(
            f"the query's patient is not known: only images of its own {known} were left out"
            if known
            else "the query's patient is not known: no image was left out for it"
        )
    if not hits:
        warnings += [_nothing_has(condition, view) for condition in found if condition.field in TEXT_COLUMNS]
    return tuple(warning for warning in warnings if warning)


def _nothing_has(condition: Condition, view: View) -> str:
    """What to say of a filter that no image can pass, because none has the value asked for."""
    if condition.operator not in ("eq", "in") or condition.field in HASH_COLUMNS:
        return ""
    values = {value for part in view.parts for value in part.segment.column(condition.field).values}
    wanted = condition.value if condition.operator == "in" else (condition.value,)
    if values & {str(value) for value in wanted}:
        return ""
    listed = ", ".join(sorted(values)[:20]) or "no value at all"
    return f"no image has {condition.field} {', '.join(map(str, wanted))}; the archive has {listed}"
