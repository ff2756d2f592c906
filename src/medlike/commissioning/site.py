"""A site's own images: what a bundle makes of them, and fitting its outlier verdicts to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medlike.bundle import Bundle, rewrite
from medlike.datasets.near_duplicates import components, near_pairs
from medlike.errors import BundleError, ImageError, InputError
from medlike.imaging import Frames, Image, Prepared, discover, load, perceptual_hash, prepare
from medlike.inference.encoder import Encoder
from medlike.inference.encoding import Encodings, Outliers
from medlike.inference.outlier import CONTRAST, OutlierScorer, extend_outlier
from medlike.types import F32

BATCH = 64
# Whose images count as one unit, the first of these that an image has.
UNIT_KEYS = ("patient_id", "study_uid", "series_uid")


@dataclass(frozen=True)
class Site:
    """Hold N images of a site, encoded.

    Attributes:
        paths: File of each image.
        frames: Frame of each image, from 0.
        encodings: What the bundle returns, with outlier verdicts.
        features: float32 [N, F], what the outlier score is computed from.
        errors: Reconstruction errors, float32 [N]; None if the bundle has none.
        units: int64 [N]; images of one patient (else study, series, manifest group) or nearly equal images share one.
        hashes: Perceptual hashes, uint64 [N].
        owners: Patient, study or series with its source, "" where unknown.
        patients: Patient identifiers, "" where unknown.
        studies: Study identifiers, "" where unknown.
        digests: Digest of the pixels of each image.
        facts: Searchable metadata of each image.
        refused: (path, reason) of each file that could not be read.
    """

    paths: list[str]
    frames: list[int]
    encodings: Encodings
    features: F32
    errors: F32 | None
    units: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]
    owners: list[str]
    patients: list[str]
    studies: list[str]
    digests: list[str]
    facts: list[dict[str, str | int | float]]
    refused: list[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def outlier(self) -> Outliers:
        """Return the outlier verdicts; a site is only read with a bundle that gives them."""
        assert self.encodings.outlier is not None
        return self.encodings.outlier

    @property
    def modality(self) -> list[str | None]:
        """Return the predicted modality of each image, None where it is unsure."""
        return self.encodings.modality or [None] * len(self)


def read_site(
    encoder: Encoder,
    sources: Iterable[str | Path],
    frames: Frames = "middle",
    tick: Callable[[int], None] = lambda count: None,
) -> Site:
    """Read and encode every image of folders, files or manifests; what cannot be read is listed, not raised.

    Args:
        encoder: Encodes under an image bundle with outlier verdicts.
        sources: Folders, files or manifests.
        frames: Which frames of a file with several are read.
        tick: Called with the number of images done.

    Raises:
        InputError: No image could be read.
        BundleError: The bundle has no outlier part.
    """
    if OutlierScorer.of(encoder.bundle) is None:
        raise BundleError(f"bundle {encoder.bundle.name} gives no outlier verdicts; use one that does")
    refused: list[tuple[str, str]] = []
    images: list[Image] = []
    hashes: list[int] = []
    parts: list[Encodings] = []
    features: list[F32] = []
    errors: list[F32] = []
    for batch in _batches(_images(sources, frames, refused)):
        prepared = [ready for _, ready in batch]
        outputs = encoder.outputs(prepared)
        parts.append(encoder.encodings(outputs, prepared))
        features.append(outputs["outlier_features"])
        if "reconstruction_error" in outputs:
            errors.append(outputs["reconstruction_error"])
        hashes.extend(int(perceptual_hash(ready.pixels)) for ready in prepared)
        images.extend(image for image, _ in batch)
        tick(len(images))
    if not images:
        reason = f"; the first reason: {refused[0][0]}: {refused[0][1]}" if refused else ""
        raise InputError(f"no image could be read{reason}; give a folder, files or a manifest")
    owners = [_owner(image) for image in images]
    return Site(
        paths=[image.path or "" for image in images],
        frames=[image.frame for image in images],
        encodings=Encodings.concatenate(parts),
        features=np.concatenate(features),
        errors=np.concatenate(errors) if errors else None,
        units=_units(owners, np.array(hashes, np.uint64)),
        hashes=np.array(hashes, np.uint64),
        owners=owners,
        patients=[image.identifiers.get("patient_id", "") for image in images],
        studies=[image.identifiers.get("study_uid", "") for image in images],
        digests=[image.identifiers["pixels"] for image in images],
        facts=[dict(image.metadata) for image in images],
        refused=refused,
    )


def calibrate(bundle: Bundle, site: Site, out: str | Path, seed: int = 0, overwrite: bool = False) -> Bundle:
    """Write a copy of a bundle whose outlier verdicts are fitted to a site; its codes are the same.

    Half of the site's units join the reference; one image of each other unit calibrates. Every unit calibrates if the
    bundle holds no reference, because it judges by the contrast.

    Args:
        bundle: The bundle that `site` was read with.
        site: The site's images.
        out: Folder of the copy.
        seed: Decides which units join the reference.
        overwrite: Replace a bundle at `out`.

    Returns:
        The copy.

    Raises:
        InputError: The site has too few units.
    """
    order = np.random.default_rng(seed).permutation(np.unique(site.units))
    joining = 0 if CONTRAST in bundle.spec["outlier"]["components"] else len(order) // 2
    known = np.isin(site.units, order[:joining])
    shuffled = np.random.default_rng(seed).permutation(np.flatnonzero(~known))
    judges = np.sort(shuffled[np.unique(site.units[shuffled], return_index=True)[1]])
    names = [name for name in bundle.array_names() if name.startswith("outlier.")]
    arrays, facts = extend_outlier(
        {name: bundle.array(name) for name in names},
        bundle.spec["outlier"],
        site.features[known],
        [site.modality[i] for i in np.flatnonzero(known).tolist()],
        site.features[judges],
        [site.modality[i] for i in judges.tolist()],
        None if site.errors is None else site.errors[judges],
    )
    return rewrite(bundle, out, arrays, {"outlier": facts | {"fitted_to_a_site": True}}, replace=overwrite)


def _images(
    sources: Iterable[str | Path], frames: Frames, refused: list[tuple[str, str]]
) -> Iterator[tuple[Image, Prepared]]:
    """Yield each image without its pixels (a site of any size must fit), and what the encoder takes."""
    for source in discover(sources, frames):
        try:
            for image in load(source):
                known = {**image.identifiers, "pixels": image.digest}
                yield replace(image, pixels=image.pixels[:1, :1].copy(), identifiers=known), prepare(image)
        except ImageError as error:
            refused.append((source.path, str(error)))


def _batches(images: Iterator[tuple[Image, Prepared]]) -> Iterator[list[tuple[Image, Prepared]]]:
    while batch := list(islice(images, BATCH)):
        yield batch


def _owner(image: Image) -> str:
    """Return what names the patient or case within its source, empty where nothing does."""
    for key in UNIT_KEYS:
        if image.identifiers.get(key):
            return f"{image.metadata.get('source', '')}/{key}/{image.identifiers[key]}"
    return f"file/{image.path}" if image.frames > 1 else ""


def _units(owners: list[str], hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    first: dict[str, int] = {}
    same = [(first.setdefault(owner, row), row) for row, owner in enumerate(owners) if owner]
    pairs = np.concatenate([near_pairs(hashes), np.array(same, np.int64).reshape(-1, 2)])
    return components(len(owners), pairs)
