"""Changing the bundles of an archive: everything is encoded under the new ones, then one rename switches."""

from pathlib import Path
from typing import TYPE_CHECKING

from medlike.archive.intake import fitting, text_codes
from medlike.archive.intake.reindex import ReindexReport, encode_images, settle
from medlike.archive.intake.settings import IntakeSettings
from medlike.archive.session import Bundles
from medlike.archive.storage import room
from medlike.archive.storage.folder import (
    SENTENCES,
    BundleFacts,
    TextBundleFacts,
    default_text_bundle,
    encode_alike,
    loaded_bundle,
    loaded_text_bundle,
)
from medlike.archive.text_encoder import TextEncoder
from medlike.errors import BundleError
from medlike.inference.encoding import Encodes
from medlike.types import Progress

if TYPE_CHECKING:
    from medlike.bundle import Bundle

NONE, DEFAULT = "none", "default"


def text_facts(text_bundle: "str | Path | Bundle | None", images: "Bundle") -> TextBundleFacts | None:
    """The text bundle asked for, where it goes with an image bundle; "default": the shipped one or none.

    Raises BundleError where it goes with another image bundle.
    """
    if text_bundle is None or text_bundle == NONE:
        return None
    if text_bundle == DEFAULT:
        default = default_text_bundle(images)
        return None if default is None else TextBundleFacts.of(default)
    facts = TextBundleFacts.of(loaded_text_bundle(text_bundle))
    if not facts.fits(images):
        raise BundleError(
            f"text bundle {facts.name} goes with images encoded by {facts.images[:16]}, not with those of "
            f"{images.name} ({images.encoder_digest[:16]}): give one that was made for {images.name}"
        )
    return facts


def reindex(
    bundles: Bundles,
    bundle: "str | Path | Bundle | None",
    text_bundle: "str | Path | Bundle | None",
    encoder: Encodes | None,
    progress: Progress[ReindexReport | text_codes.TextReport] | None,
    drop_lost: bool,
) -> ReindexReport:
    """As `Archive.reindex`; the caller holds the writer's lock."""
    store, known = bundles.store, bundles.current()
    report = ReindexReport(generation=store.generation())
    if bundle is None and text_bundle is None:
        room.to_reindex(known.folder, store.count()).require()
        bundles.drop_indexes()
        bundles.current().indexes.rebuild()
        return report
    folder = known.folder
    chosen = folder.bundle.load() if bundle is None else loaded_bundle(bundle)
    text = folder.text if text_bundle is None else text_facts(text_bundle, chosen)
    made, sentences = encoder is None, 0
    if bundle is not None:
        if encoder is None:
            from medlike.inference import Encoder

            encoder = Encoder(chosen)
        folder = folder.under(BundleFacts.of(chosen))
        room.to_reindex(known.folder, store.count(), folder.bundle).require()
        workers = IntakeSettings().workers
        report = encode_images(
            store, bundles.links, bundles.pictures.pixels, encoder, folder.bundle.digest, workers, progress
        )
        if report.lost and not drop_lost:
            return report
        if text is not None and not text.fits(chosen):
            # Its codes are made from content vectors that there are no more.
            report.text_dropped, text = text.name, None
    if text is not None:
        text_encoder = TextEncoder(text)
        report.text = text_codes.encode_all(store, text_encoder, folder.bundle.digest, progress)
        sentences = SENTENCES if text_encoder.reads else 0
    if bundle is not None:
        report.generation = settle(store, folder.bundle.digest, report.lost)
        if folder.fit is not None:
            report.fit, fit = fitting.learn(store, folder, "bundle")
            folder = folder.with_fit(fit)
    folder = folder.with_text(text, sentences)
    from medlike.archive.index.indexes import Indexes

    Indexes.of(folder, store).rebuild()
    bundles.use(folder, encoder if bundle is not None else None, made)
    report.switched = True
    return report


def renew_text(bundles: Bundles) -> text_codes.TextReport | None:
    """Encode images and texts under the default text bundle, from content vectors, and switch to it.

    This is done in an archive of format 1, which has no text bundle yet, and where the shipped one that it names is no
    longer shipped.

    Args:
        bundles: The archive; the caller holds the writer's lock.

    Returns:
        What was encoded; None if nothing is to be done, or a bundle or the sentence encoder is not here.
    """
    folder = bundles.current().folder
    try:
        if folder.text is None:
            wanting = folder.format == 1
        else:
            wanting = folder.text.path is None and not encode_alike(
                folder.text, TextBundleFacts.of(loaded_text_bundle(folder.text.name))
            )
        if not wanting or text_facts(DEFAULT, folder.bundle.load()) is None:
            return None
        return reindex(bundles, None, DEFAULT, None, None, drop_lost=False).text
    except BundleError:
        return None


def encode_again(bundles: Bundles, progress: Progress[ReindexReport]) -> ReindexReport:
    """Encode every image under the default bundle, and all for its text bundle, and switch to them at once.

    Args:
        bundles: The archive; the caller holds the writer's lock.
        progress: Called with the report so far.

    Returns:
        What was encoded; nothing where the archive's bundle gives the same codes.
    """
    folder, chosen = bundles.current().folder, loaded_bundle(None)
    if encode_alike(folder.bundle, BundleFacts.of(chosen)):
        return ReindexReport(generation=bundles.store.generation())
    text = None if folder.text is not None and folder.text.fits(chosen) else DEFAULT

    def report(so_far: ReindexReport | text_codes.TextReport) -> None:
        if isinstance(so_far, ReindexReport):
            progress(so_far)

    return reindex(bundles, chosen, text, None, report, drop_lost=False)


def encode_sentences(
    bundles: Bundles, progress: Progress[text_codes.TextReport] | None = None
) -> text_codes.TextReport | None:
    """Encode the fields of images as sentences, in an archive that lacks them, and search them from now on.

    Args:
        bundles: The archive; the caller holds the writer's lock.
        progress: Called with the report so far.

    Returns:
        What was encoded; None if nothing is to be done, or the text bundle or its sentence encoder is not here.
    """
    folder = bundles.current().folder
    if folder.text is None or folder.sentences:
        return None
    text_encoder = TextEncoder(folder.text)
    if not text_encoder.reads:
        return None
    try:
        report = text_codes.encode_all(bundles.store, text_encoder, folder.bundle.digest, progress)
    except BundleError:
        return None
    finally:
        text_encoder.close()
    folder = folder.with_text(folder.text, SENTENCES)
    from medlike.archive.index.indexes import Indexes

    Indexes.of(folder, bundles.store).rebuild()
    bundles.use(folder)
    return report
