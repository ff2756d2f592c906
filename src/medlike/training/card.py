"""The model card of a bundle, written from its specification and, if given, an evaluation's results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from medlike.bundle import Bundle
from medlike.errors import InputError
from medlike.types import JsonObject

NOTICE = "A research tool. **Not a medical device**: not for diagnosis, triage of patients or any clinical decision."


def model_card(bundle: Bundle, results: JsonObject | None = None) -> str:
    """Return the model card of a bundle as Markdown.

    Args:
        bundle: The bundle.
        results: The results.json of `medlike evaluate` on this bundle.

    Raises:
        InputError: The results are of another bundle.
    """
    spec = bundle.spec
    training = spec.get("training") or {}
    parts = [
        f"# {bundle.name}",
        NOTICE,
        _facts(bundle),
        "## What it does",
        _purpose(bundle),
        "## Data and their terms",
        _data(training, spec),
        "## How it was made",
        _making(training),
        regional_part(training),
        "## Quality",
        quality_part(spec.get("quality") or {}),
        _evaluated(bundle, results) if results is not None else "",
        "## Limits",
        _limits(bundle, training),
        "## Terms",
        str(spec.get("terms") or "None stated."),
        f"Written by `medlike bundle card {bundle.name}` from the bundle's own specification; do not edit.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(bundle: Bundle) -> str:
    if bundle.kind == "text":
        sides = bundle.spec["text"]
        return table(
            ("", ""),
            [
                ("bits", bundle.bits),
                ("float vector", f"{sides['embedding_dim']} numbers"),
                ("preset", bundle.preset),
                ("size", f"{bundle.bytes / 1e6:.1f} MB"),
                ("digest", f"`{bundle.digest}`"),
                ("images", f"content vectors of {sides['image_bundle']}"),
                ("its encoder", f"`{sides['image_encoder_digest']}`"),
                ("sentences", f"all-MiniLM-L6-v2, {sides['sentence_width']} numbers; English"),
            ],
        )
    rows = [
        ("bits", bundle.bits),
        ("content vector", f"{bundle.content_dim} numbers, int8"),
        ("local codes", f"{bundle.local_bits} bits a cell, 14x14 cells" if bundle.local_bits else "none"),
        ("preset", bundle.preset),
        ("size", f"{bundle.bytes / 1e6:.1f} MB"),
        ("digest", f"`{bundle.digest}`"),
        ("input", "one grey picture of 224x224, letterboxed; DICOM windows applied"),
        ("modalities told apart", ", ".join(bundle.modalities) or "none"),
    ]
    return table(("", ""), rows)


def _purpose(bundle: Bundle) -> str:
    if bundle.kind == "text":
        return (
            f"Gives images and texts codes of {bundle.bits} bits and float vectors in one space, so that words find "
            "images and images find texts. It takes the content vectors that the image bundle has made already."
        )
    text = f"Gives an image a code of {bundle.bits} bits and a content vector, so that images like it can be found."
    if bundle.spec.get("outlier"):
        threshold = float(bundle.spec["outlier"]["threshold"])
        text += (
            f" Says of each image whether it is like anything the bundle knows: p at most {threshold:g} is an outlier, "
            f"so about {threshold:.0%} of usual images are flagged by mistake."
        )
    return text


def _data(training: JsonObject, spec: JsonObject) -> str:
    sources: JsonObject = training.get("sources") or {}
    parts = [f"Trained on {training.get('images', 'an unstated number of')} images."]
    if sources:
        parts.append(
            table(
                ("source", "images", "terms as stated"),
                [(name, facts["images"], "; ".join(facts["terms"])) for name, facts in sources.items()],
            )
        )
        parts.append("Images whose terms forbid commercial use or derivatives took no part.")
    tree = spec.get("labels") or {}
    if tree:
        rows = [
            (modality, region, len(labels), ", ".join(labels))
            for modality, regions in tree.items()
            for region, labels in regions.items()
        ]
        parts.append("Labels it learned from:")
        parts.append(table(("modality", "region", "labels", "names"), rows))
    return "\n\n".join(parts)


def _making(training: JsonObject) -> str:
    rows = [
        (name, training[key])
        for name, key in (
            ("stem from", "stem"),
            ("recipe", "recipe_name"),
            ("seed", "seed"),
            ("epochs", "epochs"),
            ("best epoch", "best_epoch"),
            ("validation mAP", "validation_map"),
            ("images by digest", "data"),
            ("split", "split"),
            ("parts", "parts"),
            ("device", "device"),
            ("medlike", "medlike"),
            ("torch", "torch"),
        )
        if training.get(key) not in (None, "")
    ]
    changes = training.get("changes") or {}
    rows += [(f"setting {name}", value) for name, value in changes.items()]
    text = table(("", ""), [(name, ", ".join(value) if isinstance(value, list) else value) for name, value in rows])
    histogram = training.get("similarity_histogram")
    if histogram:
        text += "\n\nPairs by similarity H of their fingerprints, 0 to 1 in 20 bins, as the hash loss saw them:\n\n"
        text += table(("", *(f"{i / 20:.2f}" for i in range(20))), _shares(histogram))
    return text


def regional_part(training: JsonObject) -> str:
    """Return what training the regional expert reports: entropy of its bits, learned gate; "" without one."""
    report = training.get("regional") or {}
    parts = []
    if entropy := report.get("entropy"):
        parts.append(
            "Entropy of a bit of the local codes over content cells, 1 at most: "
            f"{_number(entropy['mean'])} on average, {_number(entropy['worst'])} the least."
        )
    if gate := report.get("gate"):
        parts.append(
            "The learned gate beside the hard one, which answers a crop by local codes and all else by global ones; "
            "relevant is what has the same label:"
        )
        rows = [
            (name, *(_number(gate[key][figure]) for figure in ("local_share", "map_blended", "map_hard")))
            for name, key in (("with a crop", "with_crop"), ("without", "without_crop"))
        ]
        parts.append(table(("training queries", "learned local share", "mAP, learned", "mAP, hard"), rows))
    return "\n\n".join(parts)


def _shares(histogram: Sequence[Sequence[float]]) -> list[tuple[str, ...]]:
    rows = []
    for name, counts in zip(("same class", "other class"), histogram, strict=False):
        total = sum(counts) or 1
        rows.append((name, *(f"{100 * count / total:.1f} %" for count in counts)))
    return rows


def quality_part(quality: JsonObject) -> str:
    """Return the measured quality of a bundle, as it stands in its specification."""
    if not quality:
        return "Not measured."
    if "single" in quality:
        return _text_quality(quality)
    if "query" not in quality:
        return str(quality["how"]).capitalize() + "."
    parts = [
        f"{quality['query']} queries against a gallery of {quality['gallery']} images, {quality['labels']} labels, "
        f"parts that took no part in making it; {quality['how']}."
    ]
    rows = [("codes", _number(quality["map_expected"])), ("content vectors", _number(quality["map_expected_content"]))]
    parts.append(table(("ranked by", "mAP"), rows))
    outliers = quality.get("outliers") or {}
    within = quality.get("map_expected_within_source") or {}
    alarms = outliers.get("false_alarms_by_source") or {}
    names = sorted(set(within) | set(alarms))
    if names:
        parts.append("By source (mAP of codes among the source's own images; share of its images flagged by mistake):")
        rows_ = [(name, _number(within.get(name)), _percent(alarms.get(name))) for name in names]
        parts.append(table(("source", "mAP within", "false alarms"), rows_))
    if outliers:
        parts.append(
            f"Outliers, {outliers['outside']} grey pictures of other kinds against {outliers['inside']} known ones: "
            f"AUROC {outliers['auroc']:.3f}, {_percent(outliers['detected'])} flagged, with "
            f"{_percent(outliers['false_alarms_by_unit'])} of known units flagged by mistake; "
            f"{_percent(outliers['detected_at_3_percent'])} found at 3 % false alarms."
        )
    for name, facts in (quality.get("left_out") or {}).items():
        parts.append(
            f"Left out of training and treated as outliers, {name} ({facts['images']} images): AUROC "
            f"{facts['auroc']:.3f}, {_percent(facts['detected'])} flagged."
        )
    return "\n\n".join(parts)


def _text_quality(quality: JsonObject) -> str:
    rows = [
        (f"{direction}, {seen}", *(_number(quality[protocol][direction][key]) for key in _TEXT_KEYS))
        for protocol, seen in (("single", "one side seen"), ("paired", "the query's other half seen too"))
        for direction in quality[protocol]
    ]
    text = (
        f"{quality['query']} images and {quality['query_texts']} texts against {quality['gallery']} images "
        f"and {quality['gallery_texts']} texts, {quality['labels']} labels, parts that took no part in making it; "
        f"{quality['how']}."
    )
    head = ("", "mAP@50, codes", "mAP@50, float", "mAP, codes", "mAP, float")
    return f"{text}\n\n{table(head, rows)}"


_TEXT_KEYS = ("map_at_k_codes", "map_at_k_float", "map_expected_codes", "map_expected_float")


def _evaluated(bundle: Bundle, results: JsonObject) -> str:
    methods: JsonObject = results.get("methods") or {}
    if bundle.name not in methods:
        known = ", ".join(methods) or "none"
        raise InputError(f"the results do not speak of {bundle.name}, but of: {known}; evaluate this bundle")
    rows = []
    for name, facts in methods.items():
        low, high = facts["map_interval"]
        interval = f"{_number(low)} to {_number(high)}"
        figures = (_number(facts["map_expected"]), interval, _number(facts["map_within_source"]))
        rows.append((name, facts.get("bits") or "", *figures))
    head = ("method", "bits", "mAP", "95 % interval", "within source")
    parts = ["### Beside other methods", table(head, rows)]
    by_source = methods[bundle.name].get("by_source") or {}
    if by_source:
        parts.append(table(("source", "mAP"), [(name, _number(value)) for name, value in sorted(by_source.items())]))
    return "\n\n".join(parts)


def _limits(bundle: Bundle, training: JsonObject) -> str:
    if bundle.kind == "text":
        lines = [
            "Research and teaching only; nobody has shown that it helps or does no harm in a clinic.",
            "What the training texts do not speak of is found by chance: see the sources above. English only.",
            "Denials count little: `no effusion` lies near `effusion`.",
            "Few bits tell coarse things apart (what was imaged and how); the float vector orders within them.",
        ]
        return "\n".join(f"- {line}" for line in lines)
    lines = [
        "Research and teaching only; nobody has shown that it helps or does no harm in a clinic.",
        "Alike in looks, anatomy and acquisition is not the same disease. Read the table by source: the figure over "
        "all sources is helped by scanners and by differences between collections.",
        "Images of sources, scanners and diseases that it never saw are found less well; the outlier verdict tells of "
        "outlier pictures, not of rare diseases.",
        "Colour is not seen: every image is made grey. Fine detail under about 1/224 of the picture's side is lost.",
        "False alarms hold for images like those calibrated on; at another place run `medlike commission` and "
        "`medlike calibrate`.",
    ]
    units = ((bundle.spec.get("outlier") or {}).get("calibration_units")) or {}
    few = sorted(name for name, count in units.items() if name != "pooled" and count < 34)
    if few:
        lines.append(f"Hardly any calibration images of {', '.join(few)}: verdicts on them are rough.")
    sources = training.get("sources") or {}
    small = sorted(name for name, facts in sources.items() if facts["images"] < 40)
    if small:
        lines.append(f"Fewer than 40 training images of {', '.join(small)}.")
    return "\n".join(f"- {line}" for line in lines)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; bars in cells are escaped."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
