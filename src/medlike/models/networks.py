"""Networks by preset: building one, and what must be kept to build it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from medlike.errors import TrainingError
from medlike.models.acir import ImageNetwork
from medlike.models.hmar import RegionalNetwork
from medlike.models.presets import NetworkSettings, preset

Network = ImageNetwork | RegionalNetwork
LEVELS = ("modality", "region", "label")


def build(
    settings: NetworkSettings | str, bits: int, classes: int | Mapping[str, int], decoder: bool = False
) -> Network:
    """A network with random weights.

    settings: a preset's name or settings. bits: K, a multiple of 8 from 8 to 512. classes: level -> number of
    classes, coarsest first, or one number for a single level `label`. With local_bits the network has the
    regional expert as well.
    """
    if isinstance(settings, str):
        settings = preset(settings)
    sizes = {"label": classes} if isinstance(classes, int) else classes
    if settings.local_bits:
        return RegionalNetwork(settings, bits, sizes, decoder)
    return ImageNetwork(settings, bits, sizes, decoder)


def record(network: Network) -> dict[str, Any]:
    """Settings, bits, classes and whether there is a decoder, as plain values for JSON.

    classes: [level, number] pairs, coarsest first: JSON with sorted keys would forget the order of levels.
    """
    return {
        "settings": asdict(network.settings),
        "bits": network.bits,
        "classes": [[level, size] for level, size in network.classes.items()],
        "decoder": network.decoder is not None,
    }


def rebuild(kept: Mapping[str, Any]) -> Network:
    """The network that `record` describes, with random weights. TrainingError where it describes none."""
    missing = [name for name in ("settings", "bits", "classes") if name not in kept]
    if missing:
        raise TrainingError(f"the record has no {missing[0]!r}; it was not written by this program")
    known = {field.name for field in fields(NetworkSettings)}
    unknown = sorted(set(kept["settings"]) - known)
    if unknown:
        raise TrainingError(f"setting {unknown[0]!r} is unknown to this version; train again or use the newer one")
    settings = NetworkSettings(**{name: _tuples(value) for name, value in kept["settings"].items()})
    classes = kept["classes"]
    if isinstance(classes, Mapping):
        # Sorted by JSON: the levels in their own order again.
        classes = sorted(classes.items(), key=lambda item: (*LEVELS, item[0]).index(item[0]))
    return build(settings, int(kept["bits"]), dict(classes), bool(kept.get("decoder", False)))


def _tuples(value: Any) -> Any:
    """JSON knows no tuples."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
