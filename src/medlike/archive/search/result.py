"""Results of a search: hits in a total order, the verdict on the query, timings, and a receipt."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from medlike.archive.search.familiarity import Familiarity
from medlike.archive.search.plain import VERSION, array_from_dict, array_to_dict, require_version
from medlike.archive.search.query import TITLE
from medlike.archive.search.summary import HitSummary, summary
from medlike.errors import InputError, QueryError
from medlike.escaping import printable_json
from medlike.types import Json, JsonObject

Picture = NDArray[np.uint8]
Box = tuple[float, float, float, float]


class _Hit(Protocol):
    def as_dict(self) -> JsonObject: ...


Found = TypeVar("Found", bound=_Hit)


@dataclass(frozen=True)
class Hit:
    """Describe one stored image that a search returned.

    Attributes:
        rank: Place in the result, from 1.
        id: Public id of the image, 32 hex digits.
        distance: Differing bits of the codes, lower is nearer; for a region the share of differing bits, 0 to 1. None
            for a query in words if the archive has no cross-modal codes.
        similarity: Similarity of the content vectors, -1 to 1, higher is more alike. None as for `distance`.
        box: Where the region lies: x0, y0, x1, y1, half-open, in pixels of the stored image. None for a search by the
            whole image.
        metadata: Searchable fields, by name.
        source: Path, frame and UIDs. None if the viewer is not permitted to see them, or there is no link.
        others: Further images of the same study or series, best first, if hits are grouped.
        group_size: Images of the study or series that pass the filter, this one included, if hits are grouped.
        orientation: How the region lies: 0 to 7, in quarter turns anticlockwise, from 4 on mirrored first.
        scale: Size of the region beside the query's.
        size: Width and height of the image in pixels.
        texts: Stored texts of the image, by kind (report, caption and others).
        score: Fused score of a search with words, higher is better.
        ranks: Place of the image in each fused ranking that holds it: words, texts, pictures, image.
        words: Words of the query in the image's texts, as written there, without common words such as "of".
        snippet: The text around these words, each in square brackets.
        agreement: Share of equal local bits of each cell: float32 [14, 14], 0 to 1, NaN outside of the match. None if
            the bundle has no local codes.
        itself: True if the image is the query itself, stored.
        mirrored: True if the query, mirrored left to right, is the image: its local codes agree so, and less as it is.
            Found for about nine of ten such copies, as far as the picture is not symmetric. False for a search by
            region, without local codes, and for a repeated search.
        label_share: Of pairs of the archive's patients that are as similar as query and hit, the share that has the
            same label, 0 to 1. None for a search in words, by region or with marks, or if too few images have labels.
        neighbour_share: Share of the archive's images whose nearest image of another patient is no more similar than
            the hit, 0 to 1. None as for `label_share`, and where that is known, or below 100 patients.
        member: Which of the query's several images the hit is most similar to: 1 for the first. None for other queries.
        patient: Number of the patient among those of this result, from 1 in the order of the hits: images of one
            patient have the same. It means nothing outside of the result. None if the patient is not known.
    """

    rank: int
    id: str
    distance: float | None
    similarity: float | None
    box: Box | None = None
    metadata: JsonObject = field(default_factory=dict)
    source: JsonObject | None = None
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
    itself: bool = False
    mirrored: bool = False
    label_share: float | None = None
    neighbour_share: float | None = None
    member: int | None = None
    patient: int | None = None

    def as_dict(self) -> JsonObject:
        """Return the hit for JSON, without the fields that do not apply.

        Returns:
            A dictionary. "others" and "group_size" are there if hits are grouped, "orientation" and "scale" with a
            box, "label_share" or "neighbour_share" if one is known, "member" if the query has several images,
            "texts" if there are any, "score", "ranks", "words" and "snippet" for a search with words, "itself" if the
            image is the query, and "mirrored" if the query is its mirror image.
        """
        facts: JsonObject = {
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
        for name in ("itself", "mirrored"):
            if getattr(self, name):
                facts[name] = True
        for name in ("label_share", "neighbour_share", "member"):
            if getattr(self, name) is not None:
                facts[name] = getattr(self, name)
        if self.texts:
            facts["texts"] = self.texts
        if self.score is not None:
            facts |= {"score": self.score, "ranks": self.ranks, "words": list(self.words), "snippet": self.snippet}
        if self.group_size is not None:
            facts["others"] = [hit.as_dict() for hit in self.others]
            facts["group_size"] = self.group_size
        return facts


    def to_dict(self, agreement: bool = True) -> JsonObject:
        """Return the hit as plain data that loses nothing, as schemas/result.json describes.

        Args:
            agreement: If false, leave out the agreement map.
        """
        facts = {name: getattr(self, name) for name in _HIT_FIELDS}
        return {
            **facts,
            "box": None if self.box is None else list(self.box),
            "size": None if self.size is None else list(self.size),
            "words": list(self.words),
            "others": [other.to_dict(agreement) for other in self.others],
            "agreement": array_to_dict(self.agreement) if agreement else None,
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Json]) -> "Hit":
        """Return the hit of a dictionary made by `to_dict`.

        Args:
            facts: The dictionary.

        Raises:
            KeyError, TypeError, ValueError: The data is not a hit.
        """
        box, size = facts["box"], facts["size"]
        values = {name: facts[name] for name in _HIT_FIELDS if name in facts or name not in _LATER}
        values |= {
            "box": None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
            "size": None if size is None else (int(size[0]), int(size[1])),
            "words": tuple(facts["words"]),
            "others": tuple(cls.from_dict(other) for other in facts["others"]),
            "agreement": array_from_dict(facts["agreement"]),
        }
        return cls(**values)


# Which earlier results lack.
_LATER = ("itself", "mirrored", "familiarity", "label_share", "neighbour_share", "member", "patient")
_HIT_FIELDS = tuple(each.name for each in fields(Hit))


@dataclass(frozen=True, eq=False)
class Answer(Generic[Found]):
    """Hold what every result has; it is the sequence of its hits.

    Attributes:
        hits: The hits, best first.
        outlier: Verdict on the query's image: is_outlier, p_value, score, threshold, components, modality. None if the
            bundle gives none.
        receipt: Generation, bundle, settings and query; `Archive.repeat` gives the same result for it.
        seconds: Time by stage, of all queries that were encoded together.
        modality: Predicted modality of the query's image.
        warnings: Sentences for the user.
        erased: Images that an earlier search with this receipt could return and that have been erased.
    """

    HITS: ClassVar[str] = "hits"  # the name of the hits in `as_dict`

    hits: list[Found]
    outlier: JsonObject | None = None
    receipt: JsonObject = field(default_factory=dict)
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

    def as_dict(self) -> JsonObject:
        """Return hits, outlier, receipt and seconds for JSON; "warnings" and "erased" if there are any."""
        facts: JsonObject = {
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
    """Hold the result of one query; it is the sequence of its hits.

    Attributes:
        hits: The hits, ordered by (distance, -similarity, id).
        outlier: Verdict on the query's image: is_outlier, p_value, score, threshold, components, modality. None if the
            bundle gives none.
        receipt: Generation, bundle, settings and query; `Archive.repeat` gives the same result for it.
        seconds: Time by stage, of all queries that were encoded together.
        modality: Predicted modality of the query's image.
        warnings: Sentences for the user.
        erased: Images that an earlier search with this receipt could return and that have been erased.
        title: What sheets and pages call the query; never the name of its file.
        query_box: The region of the query: x0, y0, x1, y1, half-open, in pixels of the query's image.
        query_size: Width and height of the query's image in pixels.
        query_text: The words of the query.
        weights: Weights of the fused rankings, by name, for a search with words.
        familiarity: Whether anything in the archive is like the query's image. None for a search with words, by
            region or with marks.
        pictures: Pictures of query and hits while the archive is open. Neither pickled nor in `to_dict`.
    """

    title: str = TITLE
    query_box: Box | None = None
    query_size: tuple[int, int] | None = None
    query_text: str | None = None
    weights: dict[str, float] | None = None
    familiarity: Familiarity | None = None
    pictures: "ResultPictures | None" = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> JsonObject:
        """Leave the pictures behind: they are of an archive that is open here."""
        return {**vars(self), "pictures": None}

    def query_picture(self) -> Picture | None:
        """Return a picture of the query: uint8 [H, W] or [H, W, 3]; None if the archive is not open."""
        return None if self.pictures is None else self.pictures.query()

    def hit_picture(self, id: str) -> Picture | None:
        """Return a picture of a hit: uint8 [H, W] or [H, W, 3]; None if the archive is not open or the pixels are gone.

        Args:
            id: Public id of the hit.
        """
        return None if self.pictures is None else self.pictures.hit(id)

    @property
    def is_outlier(self) -> bool:
        """Return True if the query's image is an outlier: then nothing is said of what its neighbours' labels mean."""
        return bool(self.outlier and self.outlier["is_outlier"])

    @property
    def in_words_only(self) -> bool:
        """Return True if the query had words and no image."""
        return self.query_text is not None and self.receipt.get("query", {}).get("kind") == "text"

    @property
    def unjudged(self) -> str | None:
        """Return a sentence that says why `familiarity` is None; None if it was judged, or why is not known."""
        if self.familiarity is not None or (self.query_text is None and self.query_box is None):
            return None
        kind = "a region" if self.query_text is None else "words"
        return f"Whether anything here is alike is judged for whole images only, not for {kind}"

    def summary(self, field: str = "label", k: int | None = None) -> HitSummary:
        """Return how many patients among the hits have which value of a field, with Wilson's 95 % intervals.

        A patient counts once, with the most frequent value of its hits, that of the first where several are. It says
        what the archive holds near the query, and is no diagnosis. The intervals take patients as drawn at random.

        Args:
            field: A field of `Hit.metadata`.
            k: How many of the first hits count; all unless given. The query itself and the others of groups do not.

        Raises:
            QueryError: `k` is no number of hits.
        """
        return summary(self.hits, field, k)

    def as_dict(self) -> JsonObject:
        """Return the result for JSON.

        Returns:
            A dictionary. "weights" is there for a search with words; "familiarity" if it was judged, else "unjudged"
            says why not; "summary" if a hit has a label and the query is no outlier.
        """
        facts = super().as_dict()
        if (counted := self.summary()).values and not self.is_outlier:
            facts["summary"] = counted.to_dict()
        if self.weights is not None:
            facts["weights"] = self.weights
        if self.familiarity is not None:
            facts["familiarity"] = self.familiarity.to_dict()
        elif self.unjudged is not None:
            facts["unjudged"] = self.unjudged
        return facts

    def to_dict(self, agreement: bool = True) -> JsonObject:
        """Return the result as plain data that loses nothing but its pictures, as schemas/result.json describes.

        Args:
            agreement: If false, leave out the agreement maps of the hits.
        """
        return {
            "version": VERSION,
            **{name: getattr(self, name) for name in _RESULT_FIELDS},
            "hits": [hit.to_dict(agreement) for hit in self.hits],
            "warnings": list(self.warnings),
            "query_box": None if self.query_box is None else list(self.query_box),
            "query_size": None if self.query_size is None else list(self.query_size),
            "familiarity": None if self.familiarity is None else self.familiarity.to_dict(),
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Json]) -> "Result":
        """Return the result of a dictionary made by `to_dict`.

        Args:
            facts: The dictionary.

        Raises:
            QueryError: The data is not a result, or of another version.
        """
        try:
            require_version(facts, "the result")
            box, size, familiarity = facts["query_box"], facts["query_size"], facts.get("familiarity")
            values = {name: facts[name] for name in _RESULT_FIELDS if name not in _LATER} | {
                "hits": [Hit.from_dict(hit) for hit in facts["hits"]],
                "warnings": tuple(facts["warnings"]),
                "query_box": None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                "query_size": None if size is None else (int(size[0]), int(size[1])),
                "familiarity": None if familiarity is None else Familiarity.from_dict(familiarity),
            }
            return cls(**values)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise QueryError(f"this is no result ({error}): give what `Result.to_dict` made") from None

    def to_json(self, indent: int | None = None) -> str:
        """Return `as_dict` as JSON text.

        Args:
            indent: Spaces for each level; None for one line.
        """
        return printable_json(self.as_dict(), indent=indent)

    def sheet(self, path: str | Path | None = None, **settings: Any) -> Any:
        """Draw a contact sheet of the query and its hits.

        Args:
            path: Where to write it as PNG or JPEG; not written unless given.
            **settings: As for `medlike.display.sheet.draw`.

        Returns:
            The sheet as a Pillow picture.
        """
        return _drawn().sheet(self, None if path is None else Path(path), **settings)

    def page(self, path: str | Path | None = None) -> str:
        """Return a self-contained HTML page of the query and its hits.

        Args:
            path: Where to write the page; not written unless given.
        """
        return page([self], path)

    def _repr_html_(self) -> str:
        return _drawn().fragment(self)


_RESULT_FIELDS = tuple(each.name for each in fields(Result) if each.name != "pictures")


def page(results: Sequence[Result], path: str | Path | None = None, title: str = "medlike") -> str:
    """Return several results as one self-contained HTML page.

    Args:
        results: The results, in the order of the page.
        path: Where to write the page; not written unless given.
        title: Title of the page.
    """
    return _drawn().page(results, path, title)


class Drawing(Protocol):
    """What draws results. The room `display` lies above this one, and puts itself into `drawing`."""

    def sheet(self, result: Result, path: Path | None, **settings: Any) -> Any:
        """Draw a contact sheet, and write it if a path is given."""
        ...

    def page(self, results: Sequence[Result], path: str | Path | None, title: str) -> str:
        """Return several results as an HTML page, and write it if a path is given."""
        ...

    def fragment(self, result: Result) -> str:
        """Return one result as HTML for a notebook."""
        ...


drawing: Drawing | None = None


def _drawn() -> Drawing:
    if drawing is None:
        raise InputError("nothing is loaded that draws results: import medlike.display first")
    return drawing
