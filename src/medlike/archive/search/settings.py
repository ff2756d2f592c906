"""How to search: every setting with its default, checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypedDict, get_args

from medlike.errors import QueryError
from medlike.option import Option

Rank = Literal["content", "radius", "hamming", "shortlist", "exact", "neighbours"]
DEFAULT_RANK: Rank = "neighbours"
Grouping = Literal["series", "study"]
Collapse = Literal["patient", "duplicates"]
Codes = Literal["fitted", "trained"]
RegionDistance = Literal["standardised", "share"]
RegionTurns = Literal["encoded", "rearranged"]


@dataclass(frozen=True)
class SearchSettings:
    """Settings of a search.

    Attributes:
        k: How many hits to return.
        where: A filter, such as {"modality": "CT"}; `medlike.archive.index.filters` explains it.
        rank: "content" orders by (distance, -similarity, id); "radius" orders all images within `radius` by similarity;
            "hamming" orders by (distance, id); "exact" scans content vectors and orders by (-similarity, id);
            "shortlist" orders the first 1,000 of "content" in this way; "neighbours" re-ranks the first 256 of the
            shortlist by how similar they are to each other, and with fitted codes puts the image first that the query
            is most likely an altered copy of. For a region these three count as "content".
        radius: Largest distance of a hit, in bits; an eighth of the bits for rank="radius" unless given.
        group_by: "series" or "study": return the best image of each, with the best of its other images.
        others: How many other images of a group to return.
        collapse: "patient" returns the best image of each patient, as `group_by` does of a study. "duplicates" returns
            the best of images with nearly the same picture, by their local codes; its group are the others among the
            same 1,000 images of the ranking. Not with `group_by`.
        exclude_own_patient: If true, leave out images of the query's own patient.
        include_self: If true, a query by id can return that image itself.
        generation: Search as of an earlier generation.
        orientations: For a region: 8 to match it turned and mirrored too, or 1.
        scales: For a region: 3 to match it 0.7 and 1.4 times as large too, or 1.
        region_weight: Share of the region in the distance, above 0, at most 1. The rest is the whole image's.
        region_distance: For a region: "standardised" compares windows of different size by how unlikely they are in the
            archive, "share" by their share of differing bits. `Hit.distance` is the share in both.
        region_turns: For a region of an image that is given, and 8 orientations: "encoded" encodes that image in each
            orientation, "rearranged" turns the cells of one encoding, as always for a stored image.
        shortlist: For a region: compare only this many images, the nearest by their whole codes. None compares all.
        weights: For words: weights of the fused rankings, 1 unless given, 0 to leave one out. "words" is the words of
            texts and fields, "texts" the meaning of texts, "pictures" that of pictures, "image" the query's image.
        depth: For words: how many images of each ranking count.
        codes: "fitted" searches by the codes fitted to the archive, "trained" by the bundle's own. None takes the
            fitted ones if the archive has a fit.
    """

    k: Annotated[int, Option("Number of hits.", "-k", min=1)] = 10
    where: Annotated[
        Mapping[str, Any] | None,
        Option(
            'Search only images that match a condition: modality=CT, modality=CT,MR, sex!=M, age>=40, label="a, b". '
            "Repeatable.",
            "--where -w",
            metavar="CONDITION",
            text=list[str],
        ),
    ] = None
    rank: Annotated[
        Rank,
        Option(
            "Order of the hits. content: by distance, ties by content. radius: all within --radius, by content. "
            "hamming: by distance only. The others go by content: exact for all images, shortlist for the first 1,000 "
            "by distance. With neighbours the first 256 of these are re-ranked by how alike they are, and with fitted "
            "codes the likeliest original comes first."
        ),
    ] = DEFAULT_RANK
    radius: Annotated[int | None, Option("Return only hits within this many bits.", min=0)] = None
    group_by: Annotated[Grouping | None, Option("Return one hit for each series or study: its best image.")] = None
    others: int = 10
    collapse: Annotated[
        Collapse | None,
        Option("Return one hit for each patient, or for each of the pictures that are nearly the same (duplicates)."),
    ] = None
    exclude_own_patient: Annotated[bool, Option("Leave out images of the query's patient.")] = False
    include_self: bool = False
    generation: int | None = None
    orientations: Annotated[
        int, Option("With --region: 8 to include rotated and mirrored matches, 1 for upright ones only.")
    ] = 8
    scales: Annotated[
        int, Option("With --region: 3 to include matches 0.7 and 1.4 times as large, 1 for the same size only.")
    ] = 3
    region_weight: Annotated[
        float, Option("With --region: weight of the region in the distance, above 0; the whole image has the rest.")
    ] = 1.0
    region_distance: Annotated[
        RegionDistance,
        Option(
            "With --region: order matches of different size by how unlikely they are by chance (standardised), or by "
            "their share of differing bits, which favours small ones (share)."
        ),
    ] = "standardised"
    region_turns: Annotated[
        RegionTurns,
        Option(
            "With --region of a file: encode the query in all eight orientations (encoded), or turn the codes of one "
            "encoding (rearranged): faster, but finds less of what is turned."
        ),
    ] = "encoded"
    shortlist: Annotated[
        int | None,
        Option(
            "With --region: compare only the N nearest whole images: faster in a very large archive, not exact.", min=1
        ),
    ] = None
    weights: Annotated[
        Mapping[str, float] | None,
        Option(
            "With --text: the weight of a ranking (words, texts, pictures, image); default 1. Repeatable.",
            "--weight",
            metavar="RANKING=NUMBER",
            text=list[str],
        ),
    ] = None
    depth: int = 1000
    codes: Annotated[
        Codes | None,
        Option(
            "Search by the codes fitted to the archive, or by the bundle's own.",
            shown="fitted, if the archive has a fit",
        ),
    ] = None

    def __post_init__(self) -> None:
        # Loaded when needed: a command line that only shows its help reads this class too.
        from medlike.archive.index.filters import conditions
        from medlike.archive.search.fusion import weights

        for field in fields(self):
            object.__setattr__(self, field.name, _plain(getattr(self, field.name)))
        _at_least("k", self.k, 1, "ask for 1 hit or more")
        _at_least("others", self.others, 0, "give 0 or more")
        if self.radius is not None:
            _at_least("radius", self.radius, 0, "give a number of bits, 0 or more")
        if self.shortlist is not None:
            _at_least("shortlist", self.shortlist, 1, "give a number of images")
        _one_of("rank", self.rank, get_args(Rank))
        _one_of("group_by", self.group_by, (None, *get_args(Grouping)))
        _one_of("collapse", self.collapse, (None, *get_args(Collapse)))
        if self.collapse is not None and self.group_by is not None:
            raise QueryError(f"collapse is {self.collapse!r} and group_by {self.group_by!r}: leave one of them out")
        _one_of("orientations", self.orientations, (8, 1))
        _one_of("scales", self.scales, (3, 1))
        if not 0 < self.region_weight <= 1:
            raise QueryError(f"region_weight is {self.region_weight!r}: give a number above 0, at most 1")
        _one_of("region_distance", self.region_distance, get_args(RegionDistance))
        _one_of("region_turns", self.region_turns, get_args(RegionTurns))
        _one_of("codes", self.codes, (None, *get_args(Codes)))
        _at_least("depth", self.depth, 1, "give a number of images")
        if self.weights is not None:
            weights(self.weights)
        if self.where is not None:
            conditions(self.where)

    @property
    def grouped(self) -> bool:
        """Return True if a hit stands for several images."""
        return self.group_by is not None or self.collapse is not None

    @classmethod
    def of(cls, **values: Any) -> "SearchSettings":
        """Return settings from keywords.

        Raises:
            QueryError: A keyword is unknown, or a value makes no sense.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise QueryError(f"{name!r} is no setting of a search: use {', '.join(known)}")
        return cls(**values)


class SearchKeywords(TypedDict, total=False):
    """Type the keywords of a search: the fields of `SearchSettings` without k."""

    where: Mapping[str, Any] | None
    rank: Rank
    radius: int | None
    group_by: Grouping | None
    others: int
    collapse: Collapse | None
    exclude_own_patient: bool
    include_self: bool
    generation: int | None
    orientations: int
    scales: int
    region_weight: float
    region_distance: RegionDistance
    region_turns: RegionTurns
    shortlist: int | None
    weights: Mapping[str, float] | None
    depth: int
    codes: Codes | None


class TextKeywords(TypedDict, total=False):
    """Type the keywords of a search of texts."""

    where: Mapping[str, Any] | None
    generation: int | None
    include_self: bool


def _plain(value: Any) -> Any:
    """Return a value as JSON, and so a receipt, holds it: numbers of NumPy become Python's, collections lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return value
    return [_plain(each) for each in value]


def _at_least(name: str, value: object, least: int, action: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise QueryError(f"{name} is {value!r}: {action}")


def _one_of(name: str, value: object, known: Sequence[object]) -> None:
    if value not in known:
        raise QueryError(f"{name} is {value!r}: use one of {', '.join(str(each) for each in known if each)}")
