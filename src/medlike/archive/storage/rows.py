"""Rows of the store: what is kept of an image, its encoding and its texts, and which fields are columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from medlike.types import Json, JsonObject

# Metadata fields that are columns of their own: a filter on them goes to the derived index.
TEXT_COLUMNS = (
    "modality", "region", "label", "sex", "study", "series", "patient",
    "manufacturer", "model", "body_part", "view", "source", "predicted_modality",
)  # fmt: skip
NUMBER_COLUMNS = ("age", "year", "width", "height", "frame", "frames")
FILTER_COLUMNS = (*TEXT_COLUMNS, *NUMBER_COLUMNS)


@dataclass(frozen=True)
class ImageRow:
    """One image as the store knows it. `removed` is None while it is live; hashes, never true identifiers."""

    row: int
    id: str
    added: int
    removed: int | None
    modality: str | None
    region: str | None
    label: str | None
    sex: str | None
    age: float | None
    year: float | None
    study: str | None
    series: str | None
    patient: str | None
    manufacturer: str | None
    model: str | None
    body_part: str | None
    view: str | None
    source: str | None
    predicted_modality: str | None
    width: int
    height: int
    frame: int
    frames: int
    pixels: str
    kind: str
    preview: str | None
    facts: JsonObject = field(default_factory=dict)
    metadata: JsonObject = field(default_factory=dict)


class Shown(NamedTuple):
    """What a hit says of an image."""

    id: str
    width: int
    height: int
    metadata: JsonObject


@dataclass(frozen=True)
class EncodingRow:
    """One stored encoding, raw bytes as in `Encodings` (C order, little endian).

    code uint8 [K/8]; content int8 [D]; cells uint64 [14, 14, L/64]; cell_mask bool [14, 14] packed to
    25 bytes (np.packbits); cross uint8; cross_embedding float32; modality as predicted. outlier_facts: JSON,
    components, threshold and modality of the verdict. features int8 [F]: what a verdict is computed from. Parts the
    bundle lacks are None.
    """

    code: bytes
    content: bytes
    cells: bytes | None = None
    cell_mask: bytes | None = None
    cross: bytes | None = None
    cross_embedding: bytes | None = None
    outlier_score: float | None = None
    outlier_p: float | None = None
    modality: str | None = None
    outlier_facts: str | None = None
    features: bytes | None = None


@dataclass(frozen=True)
class NewImage:
    """What one commit writes for one image: columns of `images`, its encoding, its texts (kind -> text)."""

    columns: Mapping[str, Json]
    encoding: EncodingRow
    texts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TextFacts:
    """What the index of texts knows of one beside its image's columns.

    images: the row of its image. lengths: words. coded: 1 where it has a cross-modal code, else 0.
    """

    images: int
    lengths: int
    coded: int
