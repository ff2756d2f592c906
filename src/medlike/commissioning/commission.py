"""Measure a bundle on a site's own unlabelled images before it goes live.

Nothing here needs a label. Retrieval is judged by studies: the other images of a study should come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medlike.bundle import Bundle
from medlike.commissioning.site import Site, read_site
from medlike.datasets.image_names import image_name
from medlike.datasets.near_duplicates import NEAR, near_pairs
from medlike.inference.encoder import Encoder
from medlike.inference.encoding import similarity
from medlike.metrics.outliers import auroc
from medlike.metrics.statistics import bootstrap_interval
from medlike.types import F64, I64, JsonObject

Progress = Callable[[int], None]

# Scanners with fewer images are not reported.
LEAST_OF_SCANNER = 20
NEIGHBOURS = 10
LISTED = 50
# From this AUROC on against the calibration scores, images of a scanner look unlike what the bundle was fitted to.
DRIFTED = 0.75


@dataclass(frozen=True)
class Commissioned:
    """Hold a report that may be passed on, and what its names stand for, which may not.

    Attributes:
        report: Plain values for JSON; images are "image 1", files that are refused "file 1".
        names: (name, path, frame) of every image, then (name, path, "") of every file that is refused.
    """

    report: JsonObject
    names: list[tuple[str, str, int | str]]


def commission(
    bundle: Bundle, sources: Iterable[str | Path], progress: Progress = lambda count: None
) -> Commissioned:
    """Measure a bundle on a site's images: false alarms, retrieval, near-duplicates, drift, modality, advice.

    Images need no label. All count as in-distribution, so each outlier verdict is a false alarm, and images of one
    study should find each other. `medlike.commissioning.page.page` shows the report as a page.

    Args:
        bundle: An image bundle with outlier verdicts.
        sources: Folders, files or manifests.
        progress: Called with the number of images read so far.

    Raises:
        InputError: No image can be read.
        BundleError: The bundle gives no verdicts, or its golden bits differ on this machine.
    """
    with Encoder(bundle) as encoder:
        encoder.require_golden()
        site = read_site(encoder, sources, tick=progress)
    report: JsonObject = {
        "bundle": {"name": bundle.name, "digest": bundle.digest, "bits": bundle.bits},
        "images": len(site),
        "units": len(set(site.units.tolist())),
        "patients": len(set(site.patients) - {""}),
        "studies": len(set(site.studies) - {""}),
        "skipped": [{"name": f"file {n}", "reason": reason} for n, (_, reason) in enumerate(site.refused, 1)],
        "false_alarms": false_alarms(site),
        "modality": modality_agreement(site),
        "retrieval": study_retrieval(site),
        "near_duplicates": near_duplicates(site),
        "scanners": scanner_drift(site, bundle),
    }
    report["advice"] = advice(report)
    pairs = zip(site.paths, site.frames, strict=True)
    names: list[tuple[str, str, int | str]] = [(image_name(row), *pair) for row, pair in enumerate(pairs)]
    names += [(f"file {number}", path, "") for number, (path, _) in enumerate(site.refused, 1)]
    return Commissioned(report, names)


def false_alarms(site: Site) -> JsonObject:
    """Return the share flagged, by unit with its 95 % interval and by image, over all and by predicted modality."""
    outlier = site.outlier
    flagged = outlier.is_outlier.astype(float)
    names = np.array([name or "unsure" for name in site.modality])
    order = np.lexsort((-outlier.score, outlier.p))
    strangest = order[outlier.is_outlier[order]][:LISTED].tolist()
    return {
        "threshold": outlier.threshold,
        **_share(flagged, site.units),
        "by_modality": {name: _share(flagged[names == name], site.units[names == name]) for name in sorted(set(names))},
        "p_values": np.histogram(outlier.p, bins=20, range=(0, 1))[0].tolist(),
        "flagged": [
            {"name": image_name(i), "p_value": float(outlier.p[i]), "score": float(outlier.score[i])} for i in strangest
        ],
    }


def modality_agreement(site: Site) -> JsonObject:
    """Return how often the predicted modality is the stated one, where both are known."""
    stated = [str(facts.get("modality", "")) for facts in site.facts]
    both = [(p, s) for p, s in zip(site.modality, stated, strict=True) if p is not None and s]
    differing = Counter(f"{s} as {p}" for p, s in both if p != s)
    return {
        "known": len(both),
        "agree": sum(p == s for p, s in both) / len(both) if both else None,
        "differing": dict(differing.most_common(10)),
        "unsure": sum(p is None for p in site.modality),
    }


def study_retrieval(site: Site) -> JsonObject:
    """Return how often images find others of their study: as the first hit, and among the first ten.

    Only images whose study has others are queries. Hits are ordered by Hamming distance, then content similarity.
    `chance_first` is the share expected of a random first hit.
    """
    pairs = zip(site.studies, site.patients, strict=True)
    studies = np.array([study or (f"patient {patient}" if patient else "") for study, patient in pairs])
    sizes = Counter(studies.tolist())
    queries = [row for row, study in enumerate(studies.tolist()) if study and sizes[study] > 1]
    if not queries:
        return {"queries": 0}
    same = [studies[nearest_others(site, row, NEIGHBOURS)] == studies[row] for row in queries]
    hits = np.array(same, np.float64)
    chance = [(sizes[study] - 1) / (len(site) - 1) for study in studies[queries].tolist()]
    units = site.units[queries]
    return {
        "queries": len(queries),
        "studies": len(set(studies[queries].tolist())),
        "first": _interval(hits[:, 0], units),
        "within_10": _interval(hits.max(axis=1), units),
        "chance_first": float(np.mean(chance)),
    }


def nearest_others(site: Site, row: int, count: int) -> I64:
    """Return the rows of the nearest other images: by Hamming distance, then content similarity, then row.

    Args:
        site: The images.
        row: The query's.
        count: How many rows to return, fewer if the site has fewer.
    """
    codes, content = site.encodings.code, site.encodings.content
    away = np.bitwise_count(codes ^ codes[row]).sum(axis=1, dtype=np.int64)
    order = np.lexsort((np.arange(len(codes)), -similarity(content[row], content), away))
    return order[order != row][:count]


def near_duplicates(site: Site) -> JsonObject:
    """Return pairs of nearly equal pictures (perceptual hash within 6 bits), and how many are of different patients."""
    pairs = []
    for left, right in near_pairs(site.hashes, NEAR).tolist():
        patients = {site.patients[left], site.patients[right]}
        pairs.append({
            "one": image_name(left),
            "other": image_name(right),
            "equal": site.digests[left] == site.digests[right],
            "patients_differ": len(patients) == 2 and "" not in patients,
        })  # fmt: skip
    pairs.sort(key=lambda pair: (not pair["patients_differ"], not pair["equal"]))
    return {
        "pairs": len(pairs),
        "equal": sum(bool(pair["equal"]) for pair in pairs),
        "patients_differ": sum(bool(pair["patients_differ"]) for pair in pairs),
        "listed": pairs[:LISTED],
    }


def scanner_drift(site: Site, bundle: Bundle) -> list[JsonObject]:
    """Return for each scanner with enough images its false alarms, its drift, and how far it finds its own images.

    `drift` is the AUROC of the scanner's outlier scores against those of the calibration: 0.5 means none, 1 means that
    every score lies beyond. `own_neighbours` is the share of neighbours from the same scanner; `own_by_chance` is what
    chance gives.
    """
    outlier = site.outlier
    scanners = np.array([scanner(facts) for facts in site.facts])
    calibration = bundle.array("outlier.calibration").astype(np.float64)
    rows = []
    for name in sorted(set(scanners.tolist())):
        own = np.flatnonzero(scanners == name)
        if len(own) < LEAST_OF_SCANNER:
            continue
        near = [(scanners[nearest_others(site, row, NEIGHBOURS)] == name).mean() for row in own.tolist()]
        rows.append(
            {
                "scanner": name or "not stated",
                "images": len(own),
                **_share(outlier.is_outlier[own].astype(float), site.units[own]),
                "drift": float(auroc(calibration, outlier.score[own])),
                "own_neighbours": float(np.mean(near)),
                "own_by_chance": (len(own) - 1) / max(1, len(site) - 1),
            }
        )
    return rows


def scanner(facts: Mapping[str, object]) -> str:
    """Return manufacturer and model, "" where neither is known."""
    return " ".join(str(facts[key]) for key in ("manufacturer", "model") if facts.get(key))


def advice(report: JsonObject) -> list[str]:
    """Return what the figures ask for, as sentences; empty where nothing does."""
    said = []
    alarms = report["false_alarms"]
    if alarms["low"] > alarms["threshold"]:
        said.append(
            f"{alarms['share']:.1%} of units are flagged where {alarms['threshold']:.1%} are promised: look at what is "
            "listed, and if it belongs here, run `medlike calibrate` on these images."
        )
    drifted = [row["scanner"] for row in report["scanners"] if row["drift"] >= DRIFTED]
    if drifted:
        said.append(f"Images of {', '.join(drifted)} look unlike what the bundle was fitted to: `medlike calibrate`.")
    if report["near_duplicates"]["patients_differ"]:
        said.append(
            f"{report['near_duplicates']['patients_differ']} pairs of nearly equal pictures carry different patients: "
            "the same image under two names, or plain pictures."
        )
    agree = report["modality"]["agree"]
    if agree is not None and agree < 0.95:
        said.append(f"The predicted modality is the stated one on {agree:.1%} only: check windowing and exports.")
    if not report["retrieval"]["queries"]:
        said.append("No study has two images here, so retrieval was not judged: give whole studies.")
    if report["units"] < 100:
        said.append(f"{report['units']} units are few: intervals are wide; some 500 images of many patients say more.")
    return said


def _share(values: F64, units: I64) -> JsonObject:
    """Return the share flagged, each unit counting once, with a 95 % interval; and by image."""
    _, place = np.unique(units, return_inverse=True)
    each = np.bincount(place, weights=values) / np.bincount(place)
    return {
        **_interval(each, np.arange(len(each))),
        "units": len(each),
        "images_flagged": int(values.sum()),
    }


def _interval(values: F64, units: I64) -> JsonObject:
    interval = bootstrap_interval(values, units)
    return {"share": interval.mean, "low": interval.low, "high": interval.high}


def sentences(report: JsonObject) -> Sequence[tuple[str, str]]:
    """Return the report in short: (what, how much)."""
    alarms, retrieval, modality = report["false_alarms"], report["retrieval"], report["modality"]
    rows = [
        ("images", f"{report['images']} of {report['units']} units, {len(report['skipped'])} refused"),
        (
            "false alarms",
            f"{alarms['share']:.1%} of units ({alarms['low']:.1%} to {alarms['high']:.1%}); "
            f"{alarms['threshold']:.1%} promised",
        ),
    ]
    if modality["agree"] is not None:
        rows.append(("modality", f"as stated on {modality['agree']:.1%} of {modality['known']}"))
    if retrieval["queries"]:
        first, ten = retrieval["first"], retrieval["within_10"]
        rows.append(
            (
                "same study",
                f"first on {first['share']:.1%}, in the first ten on {ten['share']:.1%} of {retrieval['queries']} "
                f"(chance {retrieval['chance_first']:.1%})",
            )
        )
    pairs = report["near_duplicates"]
    rows.append(("near-duplicates", f"{pairs['pairs']} pairs, {pairs['patients_differ']} of different patients"))
    for row in report["scanners"]:
        figures = f"{row['images']} images, flagged {row['share']:.1%}, drift {row['drift']:.2f}"
        rows.append((f"scanner {row['scanner']}", figures))
    return rows
