"""Encoding every image again under another bundle, beside the encodings in use.

Searches go on under the old bundle until the last image is done; then archive.json is replaced in one step.
Interrupted, it goes on where it stopped.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medlike.archive.intake.ingest import BATCH, GROUP
from medlike.archive.intake.reader import read
from medlike.archive.intake.text_codes import TextReport
from medlike.archive.storage import digests, pictures
from medlike.archive.storage import record as records
from medlike.archive.storage.fits import FitReport
from medlike.archive.storage.identity import Links
from medlike.archive.storage.pixels import Pixels
from medlike.archive.storage.rows import ImageRow
from medlike.archive.storage.store import Store
from medlike.errors import ImageError
from medlike.inference.encoding import Encodes, Encoding, image_size, require_golden

if TYPE_CHECKING:
    from medlike.imaging import Prepared


@dataclass
class ReindexReport:
    """encoded: images encoded now. from_preview: those of them whose own pixels are gone.

    lost: ids of which neither pixels nor preview are left. switched: whether the archive now uses the bundle.
    text: what was encoded under the text bundle. text_dropped: the text bundle that goes with the old image bundle
    only, and is no longer used. fit: the fit that was made under the new bundle, where the archive had one.
    """

    encoded: int = 0
    from_preview: int = 0
    lost: list[str] = field(default_factory=list)
    switched: bool = False
    generation: int = 0
    text: TextReport | None = None
    text_dropped: str | None = None
    fit: FitReport | None = None

    @property
    def done(self) -> int:
        """Images that were gone through."""
        return self.encoded + len(self.lost)


def encode_images(
    store: Store,
    links: Links,
    pixels: Pixels,
    encoder: Encodes,
    bundle: str,
    threads: int,
    progress: Callable[[ReindexReport], None] | None = None,
) -> ReindexReport:
    """Store an encoding under `bundle` (digest) of each live image that has none."""
    require_golden(encoder)
    report = ReindexReport(generation=store.generation())
    batch: list[tuple[ImageRow, Prepared]] = []
    group: list[tuple[ImageRow, Encoding]] = []

    def load(row: int) -> "list[tuple[ImageRow, Prepared | None, bool]]":
        image = store.images([row])[row]
        return [(image, *_prepared(image, pixels, links, image_size(encoder)))]

    def encode() -> None:
        if batch:
            encodings = encoder.encode([prepared for _, prepared in batch])
            group.extend((image, encodings[i]) for i, (image, _) in enumerate(batch))
            batch.clear()

    def commit() -> None:
        encode()
        if group:
            with store.commit("encode") as transaction:
                for image, encoding in group:
                    transaction.encode(image.row, bundle, records.of_encoding(encoding))
                transaction.rows = len(group)
            report.encoded += len(group)
            report.generation = transaction.generation
            group.clear()
        if progress:
            progress(report)

    for _, item in read(store.unencoded(bundle), load, threads, lambda seconds: None):
        if item is None:
            continue
        image, prepared, from_preview = item
        if prepared is None:
            report.lost.append(image.id)
            continue
        report.from_preview += from_preview
        batch.append((image, prepared))
        if len(batch) >= BATCH:
            encode()
        if len(group) >= GROUP:
            commit()
    commit()
    return report


def settle(store: Store, bundle: str, lost: list[str]) -> int:
    """Make a bundle's word count: its predicted modalities, and no image it could not encode. Generation."""
    with store.commit("reindex") as commit:
        for id in lost:
            commit.remove(id)
        # A row that is damaged keeps the digest that says so.
        commit.connection.execute(
            "UPDATE images SET predicted_modality = (SELECT modality FROM encodings"
            " WHERE encodings.row = images.row AND bundle = ?),"
            f" digest = CASE WHEN {digests.SOUND['images']} THEN NULL ELSE digest END WHERE removed IS NULL",
            (bundle,),
        )
        digests.seal(commit.connection, "images", "digest IS NULL AND removed IS NULL", ())
    return commit.generation


def _prepared(row: ImageRow, pixels: Pixels, links: Links, size: int) -> "tuple[Prepared | None, bool]":
    from medlike import imaging

    try:
        stored = pictures.image(row, pixels, links)
        if stored is not None:
            return imaging.prepare(stored, size), False
        shown = pictures.preview(row, pixels)
        return (None, False) if shown is None else (imaging.prepare(imaging.from_array(shown), size), True)
    except ImageError:
        return None, False
