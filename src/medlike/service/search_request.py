"""What a search is asked for: the keys of a JSON body, checked, as a query and its settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from medlike.archive.search.encoded_query import EncodedQuery
from medlike.archive.search.query import Query
from medlike.archive.search.settings import SearchSettings
from medlike.errors import QueryError
from medlike.service.limits import Limits
from medlike.types import Json, JsonObject

PARTS = ("agreement", "encoded")
GROUP_HITS = 20  # hits of a grouped search with those of its groups, as a multiple of the limit of k
LONGEST_TITLE = 1000  # characters
LARGEST = 1 << 62  # of whole numbers

_WHOLE, _NUMBER, _TEXT, _LIST, _OBJECT, _SWITCH = (
    (int, "a whole number"), (float, "a number"), (str, "a text"), (list, "a list"), (dict, "an object"),
    (bool, "true or false"),
)  # fmt: skip
_QUERY: dict[str, tuple[type, str]] = {
    "id": _TEXT, "text": _TEXT, "region": _LIST, "like": _LIST, "unlike": _LIST, "title": _TEXT, "encoded": _OBJECT,
}  # fmt: skip
_SETTINGS: dict[str, tuple[type, str]] = {
    "k": _WHOLE, "where": _OBJECT, "rank": _TEXT, "radius": _WHOLE, "group_by": _TEXT, "others": _WHOLE,
    "collapse": _TEXT, "exclude_own_patient": _SWITCH, "include_self": _SWITCH, "generation": _WHOLE,
    "orientations": _WHOLE, "scales": _WHOLE, "region_weight": _NUMBER, "region_distance": _TEXT,
    "region_turns": _TEXT, "shortlist": _WHOLE, "weights": _OBJECT, "depth": _WHOLE, "codes": _TEXT,
}  # fmt: skip
_ANSWER: dict[str, tuple[type, str]] = {"parts": _LIST, "sources": _SWITCH, "texts": _SWITCH}
_OF_TEXTS = ("k", "where", "generation", "include_self")
KEYS = {**_QUERY, **_SETTINGS, **_ANSWER}
assert set(_SETTINGS) == {each.name for each in fields(SearchSettings)}


@dataclass(frozen=True)
class SearchRequest:
    """A search that is asked for.

    Attributes:
        query: Fields of `Query`, by name, without its images.
        settings: Fields of `SearchSettings`, by name.
        parts: What the answer holds besides: "agreement", "encoded".
        sources: If true, hits say where their images came from.
        texts: If true, stored texts are searched, not images.
    """

    query: JsonObject = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    sources: bool = False
    texts: bool = False

    @classmethod
    def of(cls, facts: Mapping[str, Json], limits: Limits) -> "SearchRequest":
        """Return the search that a JSON object asks for; null counts as not given.

        Args:
            facts: The object.
            limits: What may be asked for at most.

        Raises:
            QueryError: A key is unknown, or a value is of another kind or beyond a limit.
        """
        given = {name: value for name, value in facts.items() if value is not None}
        for name, value in given.items():
            _check(name, value)
        parts = tuple(given.get("parts", ()))
        for part in parts:
            if part not in PARTS:
                raise QueryError(f"parts holds {str(part)[:80]!r}: use {' and '.join(PARTS)}")
        settings = {name: given[name] for name in _SETTINGS if name in given}
        made = cls(
            {name: given[name] for name in _QUERY if name in given}, settings, parts,
            given.get("sources", False), given.get("texts", False),
        )  # fmt: skip
        require_bounded(settings, limits)
        if len(made.query.get("title", "")) > LONGEST_TITLE:
            raise QueryError(f"the title has {len(made.query['title'])} characters: give at most {LONGEST_TITLE}")
        if made.texts:
            made._require_of_texts()
        return made

    def _require_of_texts(self) -> None:
        for name in self.settings:
            if name not in _OF_TEXTS:
                raise QueryError(f"{name} is not a setting of a search for texts: use {', '.join(_OF_TEXTS)}")
        if "agreement" in self.parts:
            raise QueryError("texts have no agreement map: leave it out of parts")

    def asked(self, images: Sequence[object] = ()) -> Query:
        """Return the query.

        Args:
            images: Its images, where they were uploaded: one, or several of a study.

        Raises:
            QueryError: The query makes no sense.
        """
        given = {"image": images[0]} if len(images) == 1 else {"images": images} if images else {}
        stated = dict(self.query)
        if "encoded" in stated:
            stated["encoded"] = EncodedQuery.from_dict(stated["encoded"])
        return Query(**stated, **given)


def require_bounded(settings: Mapping[str, Json], limits: Limits) -> None:
    """Raise QueryError if settings of a search ask for more than a service answers.

    Args:
        settings: Fields of `SearchSettings`, by name.
        limits: What may be asked for at most.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    for name, value in given.items():
        if name in _SETTINGS:
            _check(name, value)
    k, others = given.get("k", 10), given.get("others", 10)
    if k > limits.k:
        raise QueryError(f"k is {k}: ask for at most {limits.k} hits")
    most = GROUP_HITS * limits.k
    if others > limits.k or (("group_by" in given or "collapse" in given) and k * (1 + others) > most):
        raise QueryError(f"k is {k} and others {others}: ask for at most {most} hits with those of their groups")
    if given.get("depth", 0) > 100 * limits.k:
        raise QueryError(f"depth is {given['depth']}: give at most {100 * limits.k} images")
    for name in ("radius", "shortlist", "generation"):
        if abs(given.get(name, 0)) >= LARGEST:
            raise QueryError(f"{name} is {given[name]}: give a smaller number")


def _check(name: str, value: Json) -> None:
    """Raise QueryError unless a key is known and its value of the right kind."""
    if name not in KEYS:
        raise QueryError(f"{name[:80]!r} is not a key of a search: use {', '.join(KEYS)}")
    kind, shown = KEYS[name]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise QueryError(f"{name} is {str(value)[:80]!r}: give {shown}")
