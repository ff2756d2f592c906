"""The fits of an archive as its store keeps them. A stored fit is the truth: it is never computed again."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from medlike import strict_json
from medlike.archive.storage import digests
from medlike.archive.storage.database import EACH, each, require_sound, storage_errors, transaction
from medlike.archive.storage.store import Store
from medlike.codes.fit import Fit
from medlike.errors import ArchiveError, QueryError
from medlike.types import Array, JsonObject


@dataclass(frozen=True)
class StoredFit:
    """A fit, and what is known of it.

    Attributes:
        fit: What makes codes.
        bundle: Digest of the bundle whose content vectors it takes.
        generation: Newest generation of the images that it was fitted on.
        facts: images and units that lived then, sample, the number of images in the sample, and widths, weights and
            shift of the fit; labels, what is known of them, if they were asked for.
        nuisance: What the bundle knows of altered copies: the next fit needs it where the bundle is gone. None if it
            was not known.
    """

    fit: Fit
    bundle: str
    generation: int
    facts: JsonObject
    nuisance: Array | None = None


@dataclass(frozen=True)
class LabelTrial:
    """Whether a fit used labels, and what they did for queries of patients that the fit did not see.

    Attributes:
        field: The field with the labels.
        used: If true, the fit was made with them; else without.
        reason: Why not; empty if they were used.
        labels: How many labels could be used.
        patients: How many patients have them.
        queries: How many images of held-out patients were searched with.
        map_without: Mean average precision of a fit without labels, by the default order, 0 to 1.
        map_with: The same with labels.
        precision_without: Share of the same label among the first ten, without labels.
        precision_with: The same with labels.
        gain: Mean over patients of what labels add to the average precision, and its 95 % interval.
        left_out: Labels that were not used since one source alone has them.
    """

    field: str
    used: bool = False
    reason: str = ""
    labels: int = 0
    patients: int = 0
    queries: int = 0
    map_without: float | None = None
    map_with: float | None = None
    precision_without: float | None = None
    precision_with: float | None = None
    gain: tuple[float, float, float] | None = None
    left_out: tuple[str, ...] = ()

    def facts(self) -> JsonObject:
        """Return what is kept with the fit: no label by its name."""
        facts = asdict(self)
        del facts["left_out"]
        return facts


@dataclass
class FitReport:
    """Report what `Archive.fit` did, or a write that fitted at its end.

    Attributes:
        reason: Why: "asked", "first", "growth", "erasure", "bundle" (another one) or "upgrade".
        digest: Digest of the fit.
        bits: Length of a code.
        directions: Entries of a fitted vector.
        images: Images that lived when it was fitted.
        units: Their patients; an image of an unknown patient counts as one.
        sample: How many of the images it was fitted on.
        recoded: Rows that have their new codes; 0 if the fit in use came out again.
        seconds: Time by stage: fit, recode.
        labels: What labels did for it, None for a fit without.
        note: What a fit holds of the images.
    """

    reason: str
    digest: str = ""
    bits: int = 0
    directions: int = 0
    images: int = 0
    units: int = 0
    sample: int = 0
    recoded: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    labels: LabelTrial | None = None
    note: str = "a fit is an aggregate of the images it was fitted on: a mean, directions and a rotation"


def put(store: Store, stored: StoredFit) -> None:
    """Keep a fit, unless it is kept already. The caller holds the writer's lock."""
    from safetensors.numpy import save

    fit = stored.fit
    facts = {**stored.facts, "widths": list(fit.widths), "weights": list(fit.weights), "shift": fit.shift}
    kept_arrays: dict[str, Array] = {"directions": fit.directions, "offset": fit.offset, "rotation": fit.rotation}
    if fit.invariant is not None:
        kept_arrays["invariant"] = fit.invariant
    if stored.nuisance is not None:
        kept_arrays["nuisance"] = stored.nuisance
    arrays = save(kept_arrays)
    values = (fit.digest, stored.bundle, stored.generation, json.dumps(facts, sort_keys=True), arrays)
    connection = store.connection
    with storage_errors(store.path), transaction(connection):
        # In place of one that is damaged, too.
        connection.execute(
            "INSERT OR REPLACE INTO fits(fit, bundle, generation, facts, arrays) VALUES (?, ?, ?, ?, ?)", values
        )
        digests.seal(connection, "fits", "fit = ?", (fit.digest,))


def get(store: Store, digest: str) -> StoredFit:
    """Return a fit.

    Raises:
        ArchiveError: It is missing or damaged.
    """
    sql = f"SELECT bundle, generation, facts, arrays, {store.sound('fits')} FROM fits WHERE fit = ?"
    row = store.first(sql, (digest,))
    if row is None:
        raise ArchiveError(f"fit {digest[:16]} is missing in {store.path}: run `medlike fit`")
    bundle, generation, facts, arrays, sound = row
    require_sound(store.path, "fits", digest[:16], sound)
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        known, loaded = strict_json.loads(facts), load(arrays)
        invariant = loaded.get("invariant")
        fit = Fit(
            tuple(int(width) for width in known["widths"]),
            tuple(float(weight) for weight in known["weights"]),
            loaded["directions"].astype(np.int16, casting="equiv"),
            loaded["offset"].astype(np.int64, casting="equiv"),
            int(known["shift"]),
            loaded["rotation"].astype(np.int16, casting="equiv"),
            None if invariant is None else invariant.astype(np.int16, casting="equiv"),
        )
        if fit.digest != digest:
            raise ValueError("it has another digest")
    except (SafetensorError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ArchiveError(
            f"fit {digest[:16]} in {store.path} is damaged ({error}): run `medlike fit`, or restore the archive from a "
            "backup"
        ) from error
    return StoredFit(fit, str(bundle), int(generation), known, loaded.get("nuisance"))


def facts_of(store: Store, digest: str) -> JsonObject | None:
    """Return the facts of a fit, with bundle and generation; None if it is not kept, or its row is damaged."""
    sql = f"SELECT bundle, generation, facts, {store.sound('fits')} FROM fits WHERE fit = ?"
    row = store.first(sql, (digest,))
    if row is None or not row[3]:
        return None
    try:
        return {**strict_json.loads(row[2]), "bundle": row[0], "generation": row[1]}
    except (ValueError, TypeError):
        return None


def require(store: Store, digest: str, bundle: str) -> None:
    """Raise QueryError unless a fit of a bundle's content vectors is kept."""
    sql = "SELECT 1 FROM fits WHERE fit = ? AND bundle = ?"
    if store.first(sql, (digest, bundle)) is None:
        raise QueryError(f"fit {digest[:16]} is no longer kept, so its codes cannot be made: search anew")


def kept(store: Store) -> list[str]:
    """Return the digests of all fits, oldest first."""
    return [digest for (digest,) in store.query("SELECT fit FROM fits ORDER BY generation, fit")]


def erased_share(store: Store, digest: str) -> float:
    """Return which share of the images that a fit was fitted on is erased, 0 to 1.

    The sample of a large archive is drawn at random, so the share among all images of its generation is taken.
    """
    facts = facts_of(store, digest)
    return 0.0 if facts is None else store.erased(int(facts["generation"])) / max(int(facts["images"]), 1)


def drop(store: Store, doomed: Sequence[str]) -> None:
    """Delete fits. The caller holds the writer's lock."""
    with storage_errors(store.path), transaction(store.connection):
        store.connection.execute(f"DELETE FROM fits WHERE fit IN {EACH}", (each(doomed),))
