"""Query: an image, a region of it, several of a study, a stored image, an encoded query, a text with or without one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medlike.errors import QueryError

if TYPE_CHECKING:
    from medlike.imaging import Decoding, Image


#: What a query is called on sheets and pages unless it has a title of its own.
TITLE = "Query"
MOST_MARKS = 100
MOST_IMAGES = 32


@dataclass(frozen=True, eq=False)
class Query:
    """Ask an archive for images like an image, a region of it, a stored image, or a text.

    Attributes:
        image: A path, an array [H, W] or [H, W, 3], a Pillow picture, or an `Image`. Of a file with several frames the
            middle one is used.
        id: Public id of a stored image, instead of `image`.
        like: Ids of stored images that hits are to be more like, with an image or id: they move its content vector.
        unlike: Ids of stored images that hits are to be less like. Both together are at most 100.
        images: 1 to 32 images of one study as one query, instead of `image`. How near a stored image is, is decided by
            the image it is nearest to, and hits are grouped by study unless you pass `group_by`. The verdict on the
            query is that of the least unusual image, the one with the largest p-value.
        encoded: An `EncodedQuery` that `Archive.encode` returned, instead of `image`: a query whose image need not be
            read again. It may stand with text, like, unlike and title.
        region: The box to search for: x0, y0, x1, y1, half-open, in pixels of the query's image.
        text: Words to search by, alone or with an image.
        title: What sheets and pages call the query. They never show the name of its file, which can name a person.
        decoding: "process" decodes a file in a worker process, which a harmful file cannot leave; "inline" in this one.

    Raises:
        QueryError: There is no image, id or text, there are several of image, id and encoded, the region is not a box,
            or there are marks (like, unlike) without an image, with a region, twice or too many; or `images` are none,
            too many, or stand with anything but a title.
    """

    image: object = None
    id: str | None = None
    region: Sequence[float] | None = None
    text: str | None = None
    title: str | None = None
    decoding: "Decoding" = "process"
    like: Sequence[str] = ()
    unlike: Sequence[str] = ()
    images: Sequence[object] = ()
    encoded: object = None

    def __post_init__(self) -> None:
        if self.decoding not in ("process", "inline"):
            raise QueryError(f"decoding is {self.decoding!r}: give 'process' or 'inline'")
        if not isinstance(self.images, tuple) or self.images:
            self._check_images()
            return
        if self.image is not None and self.id is not None:
            raise QueryError("a query has an image or an id, not both: leave one out")
        if self.encoded is not None:
            for name in ("image", "id", "region"):
                if getattr(self, name) is not None:
                    raise QueryError(f"an encoded query has its image and region in it: leave {name} out")
        if self.image is None and self.id is None and self.text is None and self.encoded is None:
            raise QueryError("a query is empty: give image=, images=, id= of a stored image, or text=")
        if self.region is not None:
            if self.image is None and self.id is None:
                raise QueryError("a region needs the image it is in: give image= or id= too")
            object.__setattr__(self, "region", _box(self.region))
        if self.id is not None and not isinstance(self.id, str):
            raise QueryError(f"the id is {self.id!r}: give the 32 hexadecimal digits that a hit shows")
        if self.text is not None and (not isinstance(self.text, str) or not self.text.strip()):
            raise QueryError(f"the text is {self.text!r}: give at least one word")
        if len(self.like) or len(self.unlike):
            self._check_marks()

    def _check_images(self) -> None:
        if isinstance(self.images, str | bytes | Path) or not hasattr(self.images, "__iter__"):
            raise QueryError(f"images is {type(self.images).__name__}: give a list of images, or image= for one")
        object.__setattr__(self, "images", tuple(self.images))
        if not 1 <= len(self.images) <= MOST_IMAGES:
            raise QueryError(f"images has {len(self.images)} images: give 1 to {MOST_IMAGES} of one study")
        alone = (self.image, self.id, self.region, self.text, self.encoded)
        if any(part is not None for part in alone) or len(self.like) or len(self.unlike):
            raise QueryError(
                "several images are compared as they are: leave image, id, region, text, encoded, like and unlike out, "
                "or give one image"
            )

    @property
    def members(self) -> "list[Query]":
        """Return a query for each of `images`; only the query itself where there are none."""
        return [replace(self, images=(), image=image) for image in self.images] or [self]

    def _check_marks(self) -> None:
        for name in ("like", "unlike"):
            ids = getattr(self, name)
            if isinstance(ids, str) or not all(isinstance(id, str) for id in ids):
                raise QueryError(f"{name} is {ids!r}: give a list of ids, as hits show them")
            object.__setattr__(self, name, tuple(dict.fromkeys(ids)))
        if self.region is not None or (self.image is None and self.id is None and self.encoded is None):
            raise QueryError("like and unlike move the query's whole image: give image= or id=, and no region")
        if len(self.like) + len(self.unlike) > MOST_MARKS:
            raise QueryError(f"{len(self.like) + len(self.unlike)} images are marked: mark at most {MOST_MARKS}")
        both = sorted(set(self.like) & set(self.unlike))
        if both:
            raise QueryError(f"image {both[0]} is marked as like and as unlike: leave one out")

    def read(self) -> "Image":
        """Return the image to be encoded.

        Raises:
            ImageError: The image cannot be read.
            QueryError: It is of no kind that can be an image.
        """
        from medlike.imaging import as_image

        image = as_image(self.image, self.decoding)
        if image is None:
            raise QueryError(
                f"{type(self.image).__name__} cannot be searched for: "
                "give a path, an array, a Pillow picture or an Image"
            )
        return image


def _box(region: Sequence[float]) -> tuple[float, float, float, float]:
    try:
        x0, y0, x1, y1 = (float(edge) for edge in region)
    except (TypeError, ValueError):
        raise QueryError(f"the region is {region!r}: give four numbers x0, y0, x1, y1") from None
    edges = (x0, y0, x1, y1)
    if not all(abs(edge) < 1e9 for edge in edges):
        raise QueryError(f"the region is {list(edges)}: its edges must be finite pixel positions")
    if x1 <= x0 or y1 <= y0:
        raise QueryError(f"the region {list(edges)} is empty or inverted: x0 < x1 and y0 < y1 must hold")
    return edges
