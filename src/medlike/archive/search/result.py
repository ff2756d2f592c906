"""What a search answers: hits in a total order, the verdict on the query, timings, and a receipt."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from medlike.archive.search.plain import VERSION, array_from_dict, array_to_dict, require_version
from medlike.archive.search.query import TITLE
from medlike.errors import InputError, QueryError
from medlike.escaping import printable_json

Picture = NDArray[np.uint8]
Box = tuple[float, float, float, float]


class _Hit(Protocol):
    def as_dict(self) -> dict[str, Any]: ...


Found = TypeVar("Found", bound=_Hit)


@dataclass(frozen=True)
class Hit:
    """One stored image that was found.

    rank: from 1. distance: differing bits, lower is nearer; for a region the share of differing bits.
    similarity: of content, -1 to 1, higher is more alike. box: x0, y0, x1, y1, half-open, pixels of the
    stored image; None for a search by the whole image. metadata: searchable fields. source: path, frame and
    UIDs, None where not permitted. others: further images of the same study or series, best first, where hits
    are grouped; group_size: how many images of it pass the filter, this one included. orientation: how the
    region lies there: 0 to 7, quarter turns anticlockwise, from 4 on mirrored first. scale: its size beside
    the query's. size: width and height of the image. agreement: float32 [14, 14], share of equal local bits
    of each cell, higher is more alike, NaN outside of the match; None where the bundle has no local codes.
    texts: report, caption and the like by kind, as they are stored.

    Where words were searched for: score: of the fused rankings, higher is better. ranks: the place in each ranking
    that the image is in: words, texts, pictures, image. words: those of the query that its texts hold, as written
    there, without "of", "the" and the like. snippet: the text around them, each in square brackets. distance,
    similarity: to the query's image; of a query in words alone those of the cross-modal codes, None where there are
    none.
    """

    rank: int
    id: str
    distance: float | None
    similarity: float | None
    box: Box | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] | None = None
    others: tuple["Hit", ...] = ()
    group_size: int | None = None
    orientation: int | None = None
    scale: float | None = None
    size: tuple[int, int] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    score: float | None = None
    ranks: dict[str, int] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    snippet: str | None = None
    agreement: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it.

        `others` and `group_size` only where hits are grouped, `orientation` and `scale` only with a box, `texts`
        only where there are any, `score`, `ranks`, `words` and `snippet` only where words were searched for.
        """
        facts: dict[str, Any] = {
            "rank": self.rank,
            "id": self.id,
            "distance": self.distance,
            "similarity": self.similarity,
            "box": None if self.box is None else list(self.box),
            "metadata": self.metadata,
            "source": self.source,
        }
        if self.box is not None:
            facts["orientation"], facts["scale"] = self.orientation, self.scale
        if self.texts:
            facts["texts"] = self.texts
        if self.score is not None:
            facts |= {"score": self.score, "ranks": self.ranks, "words": list(self.words), "snippet": self.snippet}
        if self.group_size is not None:
            facts["others"] = [hit.as_dict() for hit in self.others]
            facts["group_size"] = self.group_size
        return facts


    def to_dict(self) -> dict[str, Any]:
        """Return the hit as plain data that loses nothing, as schemas/result.json describes."""
        facts = {name: getattr(self, name) for name in _HIT_FIELDS}
        return {
            **facts,
            "box": None if self.box is None else list(self.box),
            "size": None if self.size is None else list(self.size),
            "words": list(self.words),
            "others": [other.to_dict() for other in self.others],
            "agreement": array_to_dict(self.agreement),
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "Hit":
        """Return the hit that `to_dict` packed. Raises KeyError, TypeError or ValueError where it is none."""
        box, size = facts["box"], facts["size"]
        given = {name: facts[name] for name in _HIT_FIELDS}
        given |= {
            "box": None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
            "size": None if size is None else (int(size[0]), int(size[1])),
            "words": tuple(facts["words"]),
            "others": tuple(cls.from_dict(other) for other in facts["others"]),
            "agreement": array_from_dict(facts["agreement"]),
        }
        return cls(**given)


_HIT_FIELDS = tuple(each.name for each in fields(Hit))


@dataclass(frozen=True, eq=False)
class Answer(Generic[Found]):
    """What every answer holds; it is the sequence of its hits.

    outlier: verdict on the query's image (is_outlier, p_value, score, threshold, components, modality), None where the
    bundle gives none. receipt: generation, bundle, settings and query, with which `Archive.repeat` gives the same
    answer again. seconds: by stage, of all queries that were encoded together. modality: as predicted for the query.
    warnings: what the user should know. erased: images that an earlier search with this receipt saw and that are gone
    for good.
    """

    HITS: ClassVar[str] = "hits"  # the name of the hits in `as_dict`

    hits: list[Found]
    outlier: dict[str, Any] | None = None
    receipt: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    modality: str | None = None
    warnings: tuple[str, ...] = ()
    erased: int = 0

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Found]:
        return iter(self.hits)

    def __getitem__(self, index: int) -> Found:
        return self.hits[index]

    def as_dict(self) -> dict[str, Any]:
        """The hits, outlier, receipt, seconds; and warnings, erased where there is something to say."""
        facts: dict[str, Any] = {
            self.HITS: [hit.as_dict() for hit in self.hits],
            "outlier": self.outlier,
            "receipt": self.receipt,
            "seconds": self.seconds,
        }
        if self.warnings:
            facts["warnings"] = list(self.warnings)
        if self.erased:
            facts["erased"] = self.erased
        return facts


@dataclass(frozen=True)
class ResultPictures:
    """Pictures of a query and its hits, of an archive that is open here; no part of a result's data."""

    query: Callable[[], Picture | None]
    hit: Callable[[str], Picture | None]


@dataclass(frozen=True, eq=False)
class Result(Answer[Hit]):
    """The answer to one query, its hits in the total order.

    title: what sheets and pages call the query; never the name of its file, which may name somebody.
    query_box, query_size: the region searched for, and the width and height of the image it is in. query_text: the
    words searched for; weights: of the rankings that were fused then, by name. pictures: of query and hits, where the
    archive is at hand: neither pickled nor in `to_dict`.
    """

    title: str = TITLE
    query_box: Box | None = None
    query_size: tuple[int, int] | None = None
    query_text: str | None = None
    weights: dict[str, float] | None = None
    pictures: "ResultPictures | None" = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the pictures behind: they are of an archive that is open here."""
        return {**vars(self), "pictures": None}

    def query_picture(self) -> Picture | None:
        """Return what to show of the query: uint8 [H, W] or [H, W, 3]; None where nothing is at hand."""
        return None if self.pictures is None else self.pictures.query()

    def hit_picture(self, id: str) -> Picture | None:
        """Return what to show of a hit: uint8 [H, W] or [H, W, 3]; None where nothing is at hand."""
        return None if self.pictures is None else self.pictures.hit(id)

    @property
    def in_words_only(self) -> bool:
        """Whether the query had words and no image."""
        return self.query_text is not None and self.receipt.get("query", {}).get("kind") == "text"

    def as_dict(self) -> dict[str, Any]:
        """As of every answer; and weights where words were searched for."""
        return super().as_dict() | ({} if self.weights is None else {"weights": self.weights})

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data that loses nothing but its pictures, as schemas/result.json describes."""
        return {
            "version": VERSION,
            **{name: getattr(self, name) for name in _RESULT_FIELDS},
            "hits": [hit.to_dict() for hit in self.hits],
            "warnings": list(self.warnings),
            "query_box": None if self.query_box is None else list(self.query_box),
            "query_size": None if self.query_size is None else list(self.query_size),
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "Result":
        """Return the result that `to_dict` packed.

        Raises:
            QueryError: The data is no result, or of another version.
        """
        try:
            require_version(facts, "the result")
            box, size = facts["query_box"], facts["query_size"]
            given = {name: facts[name] for name in _RESULT_FIELDS} | {
                "hits": [Hit.from_dict(hit) for hit in facts["hits"]],
                "warnings": tuple(facts["warnings"]),
                "query_box": None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                "query_size": None if size is None else (int(size[0]), int(size[1])),
            }
            return cls(**given)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise QueryError(f"this is no result ({error}): give what `Result.to_dict` made") from None

    def to_json(self, indent: int | None = None) -> str:
        """`as_dict` as a JSON text."""
        return printable_json(self.as_dict(), indent=indent)

    def sheet(self, path: str | Path | None = None, **settings: Any) -> Any:
        """A contact sheet as a Pillow picture: query, hits, distances. Written as PNG or JPEG to `path`."""
        return _drawn().sheet(self, None if path is None else Path(path), **settings)

    def page(self, path: str | Path | None = None) -> str:
        """A self-contained HTML page, written to `path` where that is given."""
        return page([self], path)

    def _repr_html_(self) -> str:
        return _drawn().fragment(self)


_RESULT_FIELDS = tuple(each.name for each in fields(Result) if each.name != "pictures")


def page(results: Sequence[Result], path: str | Path | None = None, title: str = "medlike") -> str:
    """Several results as one self-contained HTML page, written to `path` where that is given."""
    return _drawn().page(results, path, title)


class Drawing(Protocol):
    """What draws results. The room `display` lies above this one, and puts itself into `drawing`."""

    def sheet(self, result: Result, path: Path | None, **settings: Any) -> Any: ...
    def page(self, found: Sequence[Result], path: str | Path | None, title: str) -> str: ...
    def fragment(self, result: Result) -> str: ...


drawing: Drawing | None = None


def _drawn() -> Drawing:
    if drawing is None:
        raise InputError("nothing is loaded that draws results: import medlike.display first")
    return drawing
