"""Fitting codes to an archive: when to, on which of its images, and the switch to codes under the fit.

Codes under a fit are derived: they live in the index alone, which is built beside the one in use; then archive.json is
replaced in one step. Sessions under the former fit go on.
"""

import hashlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.index import Index
from medlike.archive.index.indexes import Indexes, fitted_layout
from medlike.archive.index.sources import FittedImages
from medlike.archive.intake import labels as labelling
from medlike.archive.session import Bundles
from medlike.archive.storage import fits, room
from medlike.archive.storage.database import EACH, each, log_emptied, require_sound
from medlike.archive.storage.fits import FitReport, LabelTrial, StoredFit
from medlike.archive.storage.folder import FitFacts, Folder
from medlike.archive.storage.store import Store
from medlike.codes.fit import Fit, Labelled, learned
from medlike.errors import ArchiveError, BundleError, QueryError
from medlike.types import F64, I8, I64, Array, JsonObject, Mask, Progress

FIRST_IMAGES, FIRST_UNITS = 500, 200  # images and patients from which an archive is fitted by itself
GROWTH = 4  # so many times as many images as the fit knew make it fit again
FORMAT = 3  # of archives, from which there are fits
ERASED = 0.05  # share of a fit's images that may be erased
SAMPLE = 100_000  # images that a fit is made from at most
SEED = 0
BITS, LEAST_BITS, MOST_BITS = 64, 8, 512
DIRECTIONS, POWER = 64, 0.0
# Where the bundle knows of nuisance: directions, and damping of the scatter of altered copies. Decided by trials on the
# copies of `study known-item`: a damping of 3 finds fewer of the originals.
KNOWING_DIRECTIONS, DAMPING = 128, 0.5
#: Lengths of the learned, the linear and the discriminant part of a content vector, decided by `study adaptation`: half
#: of the whole is the linear part, which no training has narrowed to the sources it saw.
WEIGHTS = (1.0, 1.4, 1.0)
_PAGE = 1000  # rows read at a time


class FitSample(NamedTuple):
    """Images to fit on, and how many images and units there are.

    content: int8 [S, D]. weights: float64 [S], how much each counts. rows: int64 [S], the store's. owners: int64 [S], a
    number for each unit.
    """

    content: I8
    weights: F64
    images: int
    units: int
    rows: I64
    owners: I64


def due(store: Store, folder: Folder) -> str | None:
    """Return why an archive is to be fitted now ("first", "growth" or "erasure"), None if it is not.

    Args:
        store: The archive's store.
        folder: Names the format, before 3 of which there are no fits, and the fit in use.
    """
    if folder.format < FORMAT:
        return None
    fit = folder.fit
    rows = store.number("SELECT max(row) FROM images")  # no fewer than live images, and known without counting
    if fit is None:
        units = "SELECT count(*) FROM (SELECT DISTINCT coalesce(patient, id) FROM images WHERE removed IS NULL LIMIT ?)"
        enough = rows >= FIRST_IMAGES and store.count() >= FIRST_IMAGES
        return "first" if enough and store.number(units, (FIRST_UNITS,)) >= FIRST_UNITS else None
    facts = fits.facts_of(store, fit.digest)
    if facts is None:
        return None
    if fits.erased_share(store, fit.digest) > ERASED:
        return "erasure"
    least = GROWTH * int(facts["images"])
    return "growth" if rows >= least and store.count() >= least else None


def fit(
    bundles: Bundles,
    reason: str,
    bits: int | None = None,
    progress: Progress[FitReport] | None = None,
    labels: str | None = None,
) -> FitReport:
    """Fit codes to an archive's images and switch to them; the caller holds the writer's lock.

    Args:
        bundles: The archive.
        reason: Why, for the report.
        bits: Length of a code; that of the fit in use unless given, else 64.
        progress: Called with the report so far.
        labels: Field with labels to fit with, "none" for none; that of the fit in use unless given.

    Raises:
        QueryError: The bits make no sense, there are too few images, or the labels given cannot be used.
        ArchiveError: The archive is of an earlier format.
    """
    folder, store = bundles.current().folder, bundles.store
    report, facts = learn(store, folder, reason, bits, progress, labels)
    began = time.perf_counter()
    if facts == folder.fit:
        bundles.reopen(folder)  # where the stored fit was damaged, what was opened with it is opened anew
    else:

        def recoded(rows: int) -> None:
            report.recoded += rows
            if progress:
                progress(report)

        source = FittedImages(store, folder.bundle.digest, fits.get(store, facts.digest).fit, recoded)
        Index(folder.index, store, fitted_layout(folder.bundle, facts), source).rebuild()
        bundles.use(folder.with_fit(facts))
    report.seconds["recode"] = time.perf_counter() - began
    return report


def learn(
    store: Store,
    folder: Folder,
    reason: str,
    bits: int | None = None,
    progress: Progress[FitReport] | None = None,
    labels: str | None = None,
) -> tuple[FitReport, FitFacts]:
    """Fit to an archive's images, and keep the fit in the store; nothing uses it yet."""
    began = time.perf_counter()
    if bits is None:
        bits = BITS if folder.fit is None else folder.fit.bits
    require_bits(bits)
    if folder.format < FORMAT:
        raise ArchiveError(f"{folder.path} is of format {folder.format}, without fits: run `medlike upgrade` first")
    report = FitReport(reason, images=store.count())
    room.to_fit(folder, report.images).require()
    if progress:
        progress(report)
    generation = store.generation()
    sample = drawn(store, folder.bundle.digest)
    if len(sample.content) < 2:
        raise QueryError(f"{folder.path} has {sample.images} images: add some first, a fit needs images that differ")
    known = None if folder.fit is None else fits.facts_of(store, folder.fit.digest)
    widths, nuisance = _known_of_bundle(store, folder)

    def learns(mask: Mask, labelled: Labelled | None) -> Fit:
        if labelled is not None:
            labelled = Labelled(labelled.labels[mask], labelled.sources[mask])
        return fitted(sample.content[mask], sample.weights[mask], widths, bits, nuisance, labelled)

    labelled, report.labels = _labelled(store, sample, learns, labels, known)
    made = learns(np.ones(len(sample.content), bool), labelled)
    facts: JsonObject = {"images": sample.images, "units": sample.units, "sample": len(sample.content)}
    if report.labels is not None:
        facts["labels"] = report.labels.facts()
    fits.put(store, StoredFit(made, folder.bundle.digest, generation, facts, nuisance))
    report.digest, report.bits, report.directions = made.digest, made.bits, made.directions.shape[1]
    report.images, report.units, report.sample = sample.images, sample.units, len(sample.content)
    report.seconds["fit"] = time.perf_counter() - began
    return report, FitFacts(report.digest, report.bits, report.directions)


def fitted(
    content: I8,
    images: F64,
    widths: Sequence[int],
    bits: int = BITS,
    nuisance: Array | None = None,
    labelled: Labelled | None = None,
) -> Fit:
    """Return the fit that an archive of some content vectors gets; arguments and errors are those of `learned`."""
    weights = WEIGHTS if len(widths) == len(WEIGHTS) else (1.0,) * len(widths)
    directions = DIRECTIONS if nuisance is None else KNOWING_DIRECTIONS
    return learned(content, images, widths, bits, weights, directions, POWER, SEED, nuisance, DAMPING, labelled)


def _known_of_bundle(store: Store, folder: Folder) -> tuple[tuple[int, ...], Array | None]:
    """Return the widths of the blocks of a content vector, and what is known of nuisance.

    To fit again after an erasure, the bundle need not be there: a fit of the same bundle knows them too.
    """
    try:
        bundle = folder.bundle.load()
    except BundleError:
        known = None if folder.fit is None else fits.facts_of(store, folder.fit.digest)
        if known is None or folder.fit is None or known["bundle"] != folder.bundle.digest:
            raise
        return tuple(known["widths"]), fits.get(store, folder.fit.digest).nuisance
    return bundle.content_blocks, bundle.nuisance


def _labelled(
    store: Store, sample: FitSample, learns: labelling.Learns, field: str | None, known: JsonObject | None
) -> tuple[Labelled | None, LabelTrial | None]:
    """Return the labels to fit with, if any, and what is known of them.

    Args:
        store: The archive's store.
        sample: The images.
        learns: As for `labels.trial`.
        field: The field that is asked for. Without one, that of the fit in use is tried again, and not insisted on.
        known: The facts of the fit in use.

    Raises:
        QueryError: The field asked for cannot be used.
    """
    former = ((known or {}).get("labels") or {}).get("field")
    name = former if field is None else field
    if name is None or name == labelling.NO_FIELD:
        return None, None
    try:
        used = labelling.usable(labelling.read(store, name, sample.rows), sample.owners)
        refused = labelling.refusal(name, used)
        if refused:
            raise QueryError(refused)
    except QueryError as error:
        if field is not None:
            raise
        return None, LabelTrial(name, reason=str(error))
    trial = labelling.trial(name, used, sample.content, sample.owners, learns)
    return used.labelled if trial.used else None, trial


def require_bits(bits: int) -> None:
    """Raise QueryError unless codes can have this many bits."""
    if isinstance(bits, bool) or bits % 8 or not LEAST_BITS <= bits <= MOST_BITS:
        raise QueryError(f"bits is {bits!r}: give a multiple of 8 from {LEAST_BITS} to {MOST_BITS}")


def drawn(store: Store, bundle: str, most: int = SAMPLE) -> FitSample:
    """Draw the images that a fit is made from, each patient weighing alike.

    Of a large archive one image of each patient is drawn first, then a second one, and so on, in random order.

    Args:
        store: The archive's store.
        bundle: Digest of the bundle whose content vectors are drawn.
        most: How many images to draw at most.
    """
    sql = (
        "SELECT row, coalesce(patient, id) FROM images NOT INDEXED WHERE removed IS NULL AND row > :last "
        "ORDER BY row LIMIT :size"
    )
    numbers: list[I64] = [np.empty(0, np.int64)]
    owners: list[NDArray[np.uint64]] = [np.empty(0, np.uint64)]
    with store.snapshot():
        for page in store.pages(sql, {}):
            numbers.append(np.array([row for row, _ in page], np.int64))
            owners.append(np.array([_short(owner) for _, owner in page], np.uint64))
        rows, (units, owner) = np.concatenate(numbers), np.unique(np.concatenate(owners), return_inverse=True)
        images = len(rows)
        if images > most:
            chosen = _by_turns(owner)[:most]
            chosen.sort()
            rows, owner = rows[chosen], owner[chosen]
        contents: dict[int, bytes] = {}
        sql = f"SELECT row, content, {store.sound('encodings')} FROM encodings WHERE bundle = ? AND row IN {EACH}"
        for start in range(0, len(rows), _PAGE):
            for row, content, sound in store.query(sql, (bundle, each(rows[start : start + _PAGE].tolist()))):
                require_sound(store.path, "encodings", row, sound)
                contents[row] = content
    present = np.array([row in contents for row in rows.tolist()], bool)
    rows, owner = rows[present], owner[present]
    counts = np.bincount(owner, minlength=1)
    joined = np.frombuffer(b"".join(contents[row] for row in rows.tolist()), np.int8)
    content = joined.reshape(len(rows), -1 if len(rows) else 0)
    return FitSample(content, 1.0 / counts[owner], images, len(units), rows, owner)


def _by_turns(owner: I64) -> I64:
    """Return all positions so that one of each owner comes first, then a second one of each, in random order."""
    turn = np.random.default_rng(SEED).permutation(len(owner))
    by_owner = np.lexsort((turn, owner))
    starts = np.flatnonzero(np.diff(owner[by_owner], prepend=-1))
    lengths = np.diff(starts, append=len(owner))
    place = np.empty(len(owner), np.int64)
    place[by_owner] = np.arange(len(owner)) - np.repeat(starts, lengths)
    order: I64 = np.lexsort((turn, place))
    return order


def _short(owner: str) -> int:
    return int.from_bytes(hashlib.blake2b(owner.encode(), digest_size=8).digest(), "big")


def after_erasure(bundles: Bundles) -> FitReport | None:
    """Fit again where more than a twentieth of a fit's images are erased, and forget such fits.

    Returns:
        The report of the fit that took the place of the one in use, None if that one stays.
    """
    store, folder = bundles.store, bundles.current().folder
    doomed = [digest for digest in fits.kept(store) if fits.erased_share(store, digest) > ERASED]
    report: FitReport | None = None
    if folder.fit is not None and folder.fit.digest in doomed:
        try:
            report = fit(bundles, "erasure")
        except QueryError:
            # Too few are left: the bundle's own codes serve again.
            report = FitReport("erasure", images=store.count())
            Indexes.of(folder.with_fit(None), store).rebuild()
            bundles.use(folder.with_fit(None))
    if doomed:
        fits.drop(store, [digest for digest in doomed if report is None or digest != report.digest])
        # A reader that holds the log only delays it.
        log_emptied(store.connection, patience=1.0)
    return report
