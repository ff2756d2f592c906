"""Stored images as pictures again: from the kept pixels, the original file, or the preview."""

import io
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medlike.archive.storage.identity import Identity, Links
from medlike.archive.storage.pixels import Pixels
from medlike.archive.storage.rows import ImageRow
from medlike.archive.storage.store import Store
from medlike.errors import ImageError

if TYPE_CHECKING:
    from medlike.imaging import Image


@dataclass(frozen=True)
class StoredPictures:
    """Stored images as pictures, asked for by id and generation."""

    store: Store
    pixels: Pixels
    links: Links

    def picture(self, id: str, generation: int | None = None) -> npt.NDArray[np.uint8] | None:
        """Return what to show of an image that lives as of a generation; None where it is not there or gone."""
        row = self.store.find(id, generation)
        return None if row is None else picture(row, self.pixels, self.links)

    def image(self, row: ImageRow) -> "Image | None":
        """Return an image with its own pixels and nothing that names anybody; None if the pixels are gone."""
        read = image(row, self.pixels, self.links)
        return None if read is None else _bare(read, row)

    def other_frame(self, row: ImageRow, frame: int) -> "Image | None":
        """Return another frame of the file that an image was added from; None if the file has moved or changed."""
        from medlike.imaging import decoding

        link = self.links.find([row.id]).get(row.id)
        if link is None or link.path is None:
            return None
        sought: Image | None = None
        unchanged = False
        with suppress(ImageError):
            for candidate in decoding.read(link.path, "all"):
                if candidate.frame == row.frame:
                    unchanged = candidate.digest == row.pixels
                if candidate.frame == frame:
                    sought = candidate
                if sought is not None and candidate.frame >= row.frame:
                    break
        return _bare(sought, row) if unchanged and sought is not None else None

    def stored_frame(self, row: ImageRow, frame: int, identity: Identity) -> ImageRow | None:
        """Return another frame of an image's DICOM file, where it is stored as an image of its own."""
        link = self.links.find([row.id]).get(row.id)
        sop_uid = None if link is None else link.identifiers.get("sop_uid")
        return None if not sop_uid else self.store.find(identity.public_id(str(sop_uid), frame, ""))


def _bare(image: "Image", row: ImageRow) -> "Image":
    return replace(image, metadata=row.metadata, texts={}, identifiers={}, path=None, frames=row.frames)


def image(row: ImageRow, pixels: Pixels, links: Links | None) -> "Image | None":
    """The image with its own pixels; None where neither they nor the unchanged original are there."""
    from medlike import imaging

    stored = pixels.read(row.pixels) if row.kind == "copy" else None
    if stored is not None:
        facts = row.facts
        return imaging.Image(
            pixels=stored,
            photometry=imaging.Photometry.from_dict(facts["photometry"]),
            spacing=None if facts["spacing"] is None else (facts["spacing"][0], facts["spacing"][1]),
            frame=row.frame,
            frames=row.frames,
            metadata=row.metadata,
            boxes=None if facts["boxes"] is None else [tuple(box) for box in facts["boxes"]],
        )
    from medlike.imaging import decoding

    link = links.find([row.id]).get(row.id) if links else None
    if link is None or link.path is None:
        return None
    # The middle frame is the usual one, and the others need not be decoded for it.
    for frames in ("middle", "all"):
        try:
            for candidate in decoding.read(link.path, frames):
                if candidate.frame == row.frame:
                    return candidate if candidate.digest == row.pixels else None
        except ImageError:
            return None
    return None


def preview(row: ImageRow, pixels: Pixels) -> npt.NDArray[np.uint8] | None:
    """The preview as uint8 [H, W] or [H, W, 3], None where there is none."""
    from PIL import Image as Pillow

    data = pixels.read_preview(row.preview) if row.preview else None
    return None if data is None else np.asarray(Pillow.open(io.BytesIO(data)))


def picture(row: ImageRow, pixels: Pixels, links: Links | None) -> npt.NDArray[np.uint8] | None:
    """What to show of an image: uint8 [H, W] or [H, W, 3]; None where nothing is left of it."""
    from medlike import imaging

    shown = preview(row, pixels)
    if shown is None:
        stored = image(row, pixels, links)
        shown = None if stored is None else imaging.render_colour(stored)
    return shown
