"""What the archive keeps of an image and of its encoding, as rows of the store and the link table."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from medlike.archive.storage.identity import Identity, Link, permitted
from medlike.archive.storage.rows import TEXT_COLUMNS, EncodingRow
from medlike.types import Json, JsonObject

if TYPE_CHECKING:
    from medlike.imaging import Image
    from medlike.inference.encoding import Encoding

# The keyed hashes that group hits; each is made from the identifier of that name.
_HASHED = {"study": "study_uid", "series": "series_uid", "patient": "patient_id"}
# Fields of an Image that have a place of their own; all others are facts needed to show it again.
_ELSEWHERE = {"pixels", "metadata", "texts", "identifiers", "path", "digest", "frame", "frames", "replaced"}


@dataclass(frozen=True)
class Record:
    """One image to be stored. by_pixels: its id comes from its pixels, not from a SOP instance UID.

    texts: without what names somebody, as far as the rules know; replaced: how many passages were taken out.
    """

    columns: JsonObject
    texts: Mapping[str, str]
    link: Link
    by_pixels: bool
    replaced: int = 0

    @property
    def id(self) -> str:
        """Return the public id."""
        return str(self.columns["id"])


def of_image(
    image: "Image", identity: Identity, kind: str, keep_identifiers: bool, path: str | None
) -> Record:
    """The record of an image. path: where it stays, None for a received one."""
    sop_uid = image.identifiers.get("sop_uid") or None
    from medlike.imaging import deidentify, nameless

    # A manifest's cells too; its groups are often words that a label has, so that ids are not looked for here.
    facts = nameless(image.metadata, image.identifiers, numbers=False)
    metadata = {name: plain(value) for name, value in facts.items() if plain(value) is not None}
    height, width = image.pixels.shape[:2]
    columns: JsonObject = {
        "id": identity.public_id(sop_uid, image.frame, image.digest),
        **{name: _text(metadata.get(name)) for name in TEXT_COLUMNS if name not in _HASHED},
        **{
            name: identity.hashed(name, image.identifiers.get(identifier))
            for name, identifier in _HASHED.items()
        },
        "age": _number(metadata.get("age")),
        "year": _number(metadata.get("year")),
        "width": width,
        "height": height,
        "frame": image.frame,
        "frames": image.frames,
        "pixels": image.digest,
        "kind": kind,
        "facts": {
            field.name: plain(getattr(image, field.name))
            for field in fields(image)
            if field.name not in _ELSEWHERE
        },
        "metadata": metadata,
    }
    link = Link(columns["id"], path, image.frame, permitted(image.identifiers, keep_identifiers))
    clean = {kind: deidentify(str(text), image.identifiers) for kind, text in image.texts.items() if text}
    texts = {kind: cleaned.text for kind, cleaned in clean.items() if cleaned.text}
    replaced = image.replaced + sum(cleaned.count for cleaned in clean.values())
    return Record(columns, texts, link, sop_uid is None, replaced)


def of_encoding(encoding: "Encoding") -> EncodingRow:
    """The row of an encoding: little-endian bytes."""
    cells, mask, cross = encoding.cells, encoding.cell_mask, encoding.cross
    embedding, outlier = encoding.cross_embedding, encoding.outlier
    facts = None
    if outlier is not None:
        verdict = outlier.verdict()
        facts = json.dumps({name: verdict[name] for name in ("components", "threshold", "modality")})
    return EncodingRow(
        code=encoding.code.tobytes(),
        content=encoding.content.tobytes(),
        cells=None if cells is None else cells.astype("<u8").tobytes(),
        cell_mask=None if mask is None else np.packbits(mask).tobytes(),
        cross=None if cross is None else cross.tobytes(),
        cross_embedding=None if embedding is None else embedding.astype("<f4").tobytes(),
        outlier_score=None if outlier is None else float(outlier.score),
        outlier_p=None if outlier is None else float(outlier.p_value),
        modality=encoding.modality,
        outlier_facts=facts,
    )


def same(a: object, b: object) -> bool:
    """Whether two values are equal once stored as JSON."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def plain(value: Json) -> Json:
    """A value as JSON holds it: numpy scalars and arrays, tuples, dataclasses and paths become plain ones."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer | np.bool_ | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return str(value)


def _text(value: object) -> str | None:
    return None if value is None or value == "" else str(value)


def _number(value: Json) -> float | None:
    try:
        number = None if value is None or value == "" else float(value)
        return number if number is None or math.isfinite(number) else None
    except (TypeError, ValueError, OverflowError):
        return None
