"""The fits of an archive as its store keeps them. A stored fit is the truth: it is never computed again."""

import json
from dataclasses import dataclass

import numpy as np

from medlike import strict_json
from medlike.archive.storage import digests
from medlike.archive.storage.database import require_sound, storage_errors, transaction
from medlike.archive.storage.store import Store
from medlike.codes.fit import Fit
from medlike.errors import ArchiveError, QueryError
from medlike.types import JsonObject


@dataclass(frozen=True)
class StoredFit:
    """A fit, and what is known of it.

    Attributes:
        fit: What makes codes.
        bundle: Digest of the bundle whose content vectors it takes.
        generation: Newest generation of the images that it was fitted on.
        facts: images and units that lived then, sample, the number of images in the sample, and widths, weights and
            shift of the fit.
    """

    fit: Fit
    bundle: str
    generation: int
    facts: JsonObject


def put(store: Store, stored: StoredFit) -> None:
    """Keep a fit, unless it is kept already. The caller holds the writer's lock."""
    from safetensors.numpy import save

    fit = stored.fit
    facts = {**stored.facts, "widths": list(fit.widths), "weights": list(fit.weights), "shift": fit.shift}
    arrays = save({"directions": fit.directions, "offset": fit.offset, "rotation": fit.rotation})
    values = (fit.digest, stored.bundle, stored.generation, json.dumps(facts, sort_keys=True), arrays)
    connection = store.connection
    with storage_errors(store.path), transaction(connection):
        # In place of one that is damaged, too.
        connection.execute(
            "INSERT OR REPLACE INTO fits(digest, bundle, generation, facts, arrays) VALUES (?, ?, ?, ?, ?)", values
        )
        digests.seal(connection, "fits", "digest = ?", (fit.digest,))


def get(store: Store, digest: str) -> StoredFit:
    """Return a fit.

    Raises:
        ArchiveError: It is missing or damaged.
    """
    sql = f"SELECT bundle, generation, facts, arrays, {store.sound('fits')} FROM fits WHERE digest = ?"
    row = store.first(sql, (digest,))
    if row is None:
        raise ArchiveError(f"fit {digest[:16]} is missing in {store.path}: run `medlike fit`")
    bundle, generation, facts, arrays, sound = row
    require_sound(store.path, "fits", digest[:16], sound)
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        known, loaded = strict_json.loads(facts), load(arrays)
        fit = Fit(
            tuple(int(width) for width in known["widths"]),
            tuple(float(weight) for weight in known["weights"]),
            loaded["directions"].astype(np.int16, casting="equiv"),
            loaded["offset"].astype(np.int64, casting="equiv"),
            int(known["shift"]),
            loaded["rotation"].astype(np.int16, casting="equiv"),
        )
        if fit.digest != digest:
            raise ValueError("it has another digest")
    except (SafetensorError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ArchiveError(
            f"fit {digest[:16]} in {store.path} is damaged ({error}): run `medlike fit`, or restore the archive from a "
            "backup"
        ) from error
    return StoredFit(fit, str(bundle), int(generation), known)


def facts_of(store: Store, digest: str) -> JsonObject | None:
    """Return the facts of a fit, with bundle and generation, without reading its arrays; None if it is not kept."""
    row = store.first("SELECT bundle, generation, facts FROM fits WHERE digest = ?", (digest,))
    if row is None:
        return None
    return {**strict_json.loads(row[2]), "bundle": row[0], "generation": row[1]}


def require(store: Store, digest: str, bundle: str) -> None:
    """Raise QueryError unless a fit of a bundle's content vectors is kept."""
    sql = "SELECT 1 FROM fits WHERE digest = ? AND bundle = ?"
    if store.first(sql, (digest, bundle)) is None:
        raise QueryError(f"fit {digest[:16]} is no longer kept, so its codes cannot be made: search anew")


def kept(store: Store) -> list[str]:
    """Return the digests of all fits, oldest first."""
    return [digest for (digest,) in store.query("SELECT digest FROM fits ORDER BY generation, digest")]


def drop_others(store: Store, digest: str | None) -> int:
    """Delete all fits but one, and return how many there were. The caller holds the writer's lock."""
    with storage_errors(store.path), transaction(store.connection):
        return store.connection.execute("DELETE FROM fits WHERE digest IS NOT ?", (digest,)).rowcount
