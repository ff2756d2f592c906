"""Networks by preset: building one, and the record from which it can be built again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields

from medlike.errors import TrainingError
from medlike.models.acir import ImageNetwork
from medlike.models.hmar import RegionalNetwork
from medlike.models.presets import NetworkSettings, preset
from medlike.types import Json, JsonObject

Network = ImageNetwork | RegionalNetwork
LEVELS = ("modality", "region", "label")


def build(
    settings: NetworkSettings | str, bits: int, classes: int | Mapping[str, int], decoder: bool = False
) -> Network:
    """Build a network with random weights.

    Args:
        settings: A preset's name, or settings; with `local_bits` the network has the regional expert as well.
        bits: K, a multiple of 8 from 8 to 512.
        classes: Level -> number of classes, coarsest first, or one number for a single level `label`.
        decoder: Add the decoder.
    """
    if isinstance(settings, str):
        settings = preset(settings)
    sizes = {"label": classes} if isinstance(classes, int) else classes
    network = RegionalNetwork if settings.local_bits else ImageNetwork
    return network(settings, bits, sizes, decoder)


def record(network: Network) -> JsonObject:
    """Return settings, bits, classes and whether there is a decoder, as plain values for JSON.

    Classes are [level, number] pairs, coarsest first: JSON with sorted keys would forget the order of levels.
    """
    return {
        "settings": asdict(network.settings),
        "bits": network.bits,
        "classes": [[level, size] for level, size in network.classes.items()],
        "decoder": network.decoder is not None,
    }


def rebuild(description: JsonObject) -> Network:
    """Build the network that `record` describes, with random weights. TrainingError where it describes none."""
    missing = [name for name in ("settings", "bits", "classes") if name not in description]
    if missing:
        raise TrainingError(f"the record has no {missing[0]!r}; it was not written by this program")
    unknown = sorted(set(description["settings"]) - {field.name for field in fields(NetworkSettings)})
    if unknown:
        raise TrainingError(f"setting {unknown[0]!r} is unknown to this version; train again or use the newer one")
    settings = NetworkSettings(**{name: _tuples(value) for name, value in description["settings"].items()})
    classes = description["classes"]
    if isinstance(classes, Mapping):
        # Sorted by JSON: put the levels back into their order.
        classes = sorted(classes.items(), key=lambda item: (*LEVELS, item[0]).index(item[0]))
    return build(settings, int(description["bits"]), dict(classes), bool(description.get("decoder", False)))


def _tuples(value: Json) -> Json:
    """Return a value with its lists as tuples, which JSON does not know."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
