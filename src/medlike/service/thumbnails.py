"""Small pictures for pages of results, and the memory that the latest are kept in."""

import io
from collections import OrderedDict
from threading import Lock

from medlike.archive.archive import Archive
from medlike.types import Picture

#: Formats of a thumbnail, and their quality.
QUALITY = {"jpeg": 85, "webp": 80}


class Thumbnails:
    """The thumbnails that were used last, within a number of bytes. Safe for many threads."""

    def __init__(self, most: int) -> None:
        """Keep nothing yet.

        Args:
            most: Bytes that are kept.
        """
        self._most, self._size, self._lock = most, 0, Lock()
        self._kept: OrderedDict[tuple[object, ...], bytes] = OrderedDict()

    def get(self, key: tuple[object, ...]) -> bytes | None:
        """Return a thumbnail that is kept, None for any other.

        Args:
            key: What it was kept under.
        """
        with self._lock:
            data = self._kept.get(key)
            if data is not None:
                self._kept.move_to_end(key)
            return data

    def keep(self, key: tuple[object, ...], data: bytes) -> None:
        """Keep a thumbnail, and give up those that were not used for longest.

        Args:
            key: Everything that it depends on.
            data: The file.
        """
        with self._lock:
            self._size += len(data) - len(self._kept.pop(key, b""))
            self._kept[key] = data
            while self._size > self._most:
                _, given_up = self._kept.popitem(last=False)
                self._size -= len(given_up)


def from_preview(preview: bytes, size: int, format: str) -> bytes:
    """Return the thumbnail of a preview.

    Args:
        preview: A JPEG.
        size: Longest side, pixels; it is never enlarged.
        format: "jpeg" or "webp".
    """
    from PIL import Image as Pillow

    picture = Pillow.open(io.BytesIO(preview))
    # JPEG is decoded at a half, a quarter or an eighth of its size in a fraction of the time.
    picture.draft(None, (size, size))
    picture.thumbnail((size, size), Pillow.Resampling.BOX)
    return _encoded(picture, format)


def from_image(archive: Archive, id: str, size: int, format: str) -> bytes | None:
    """Return the thumbnail of an image without a preview; None if its pixels are gone.

    Args:
        archive: The archive.
        id: Public id of the image.
        size: Longest side, pixels; it is never enlarged.
        format: "jpeg" or "webp".
    """
    from PIL import Image as Pillow

    from medlike.imaging import scaled

    shown: Picture | None = archive.picture(id)
    return None if shown is None else _encoded(Pillow.fromarray(scaled(shown, size)), format)


def _encoded(picture: object, format: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, format.upper(), quality=QUALITY[format], **({"method": 1} if format == "webp" else {}))  # type: ignore[attr-defined]
    return file.getvalue()
