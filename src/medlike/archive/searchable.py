"""Searchable: what can be searched like an archive, wherever it lies."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, Unpack

from medlike.types import Json, JsonObject, Picture

if TYPE_CHECKING:
    from medlike.archive.search.facets import Facets
    from medlike.archive.search.listing import Listing
    from medlike.archive.search.query import Query
    from medlike.archive.search.result import Result
    from medlike.archive.search.settings import SearchKeywords, TextKeywords
    from medlike.archive.search.text_result import TextResult


class Searchable(Protocol):
    """Search images: an Archive in a folder of this machine, or the Client of a service that holds one.

    Code that takes a Searchable works on both, and gets the same results. `Archive` explains every method.
    """

    def search(self, query: "Query", k: int = 10, **settings: Unpack["SearchKeywords"]) -> "Result":
        """Return the k stored images most like the query, best first."""
        ...

    def search_many(
        self, queries: "Sequence[Query]", k: int = 10, **settings: Unpack["SearchKeywords"]
    ) -> "list[Result]":
        """Return one result for each query, all as of one generation."""
        ...

    def repeat(self, receipt: Mapping[str, Json]) -> "Result | TextResult":
        """Repeat the search of a receipt as of its generation."""
        ...

    def nearest_texts(self, query: "Query", k: int = 10, **settings: Unpack["TextKeywords"]) -> "TextResult":
        """Return the k stored texts nearest in meaning."""
        ...

    def browse(
        self, where: Mapping[str, Json] | None = None, limit: int = 100, offset: int = 0, *, prefix: str = ""
    ) -> "Listing":
        """Return a page of the stored images that match a filter."""
        ...

    def facets(
        self, where: Mapping[str, Json] | None = None, generation: int | None = None, most: int = 100
    ) -> "Facets":
        """Return how many stored images have which value of each filter column."""
        ...

    def picture(self, id: str) -> Picture | None:
        """Return a stored image for showing; None if its pixels are gone."""
        ...

    def ids(self, prefix: str = "") -> list[str]:
        """Return the public ids of the stored images, in the order they were added."""
        ...

    def info(self) -> JsonObject:
        """Return counts and states of the archive."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...

    def __len__(self) -> int:
        """Return the number of stored images."""
        ...
