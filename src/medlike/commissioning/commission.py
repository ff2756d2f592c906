"""Before going live: how a bundle does on a place's own unlabelled images.

Nothing here needs a label. Retrieval is judged by studies: the other images of a study should come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medlike.bundle import Bundle
from medlike.commissioning.site import Site, read_site
from medlike.datasets.image_names import image_name
from medlike.datasets.near_duplicates import NEAR, near_pairs
from medlike.inference.encoder import Encoder
from medlike.inference.encoding import similarity
from medlike.inference.outlier import OutlierScorer
from medlike.metrics.outliers import auroc
from medlike.metrics.statistics import bootstrap_interval

Progress = Callable[[int], None]

# Under this many images nothing is said of a scanner.
LEAST_OF_SCANNER = 20
NEIGHBOURS = 10
LISTED = 50
# From this AUROC on against the calibration scores, images of a scanner look unlike what the bundle was fitted to.
DRIFTED = 0.75


@dataclass(frozen=True)
class Commissioned:
    """A report that may be passed on, and what its names stand for, which may not.

    report: plain values for JSON; images are "image 1", files that are refused "file 1". names: (name, path, frame)
    of every image, then (name, path, "") of every file that is refused.
    """

    report: dict[str, Any]
    names: list[tuple[str, str, int | str]]


def commission(
    bundle: Bundle, sources: Iterable[str | Path], progress: Progress = lambda count: None
) -> Commissioned:
    """Judge a bundle on a place's images; see commission_page for the report as a page.

    False alarms (all images are taken to be usual), retrieval of the same study, near-duplicates, drift by
    scanner, agreement of predicted and stated modality, and what to do. Raises InputError where no image can be
    read, BundleError for a bundle that gives no verdicts or whose golden bits differ here.
    """
    with Encoder(bundle) as encoder:
        encoder.require_golden()
        site = read_site(encoder, sources, tick=progress)
    report: dict[str, Any] = {
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


def false_alarms(site: Site) -> dict[str, Any]:
    """Share flagged, by unit with its 95 % interval and by image, over all and by predicted modality."""
    outlier = site.encodings.outlier
    assert outlier is not None
    flagged = outlier.is_outlier.astype(float)
    names = np.array([name or "unsure" for name in site.encodings.modality or [None] * len(site)])
    order = np.lexsort((-outlier.score, outlier.p))
    worst = [i for i in order.tolist() if flagged[i]][:LISTED]
    return {
        "threshold": outlier.threshold,
        **_share(flagged, site.units),
        "by_modality": {name: _share(flagged[names == name], site.units[names == name]) for name in sorted(set(names))},
        "p_values": np.histogram(outlier.p, bins=20, range=(0, 1))[0].tolist(),
        "flagged": [
            {"name": image_name(i), "p_value": float(outlier.p[i]), "score": float(outlier.score[i])}
            for i in worst
        ],
    }


def modality_agreement(site: Site) -> dict[str, Any]:
    """How often the predicted modality is the stated one, where both are known."""
    predicted = site.encodings.modality or [None] * len(site)
    stated = [str(facts.get("modality", "")) for facts in site.facts]
    both = [(p, s) for p, s in zip(predicted, stated, strict=True) if p is not None and s]
    differing = Counter(f"{s} as {p}" for p, s in both if p != s)
    return {
        "known": len(both),
        "agree": sum(p == s for p, s in both) / len(both) if both else None,
        "differing": dict(differing.most_common(10)),
        "unsure": sum(p is None for p in predicted),
    }


def study_retrieval(site: Site) -> dict[str, Any]:
    """Of images whose study has others: share whose first, and one of whose first ten, answers is of the study.

    Order: Hamming distance, then content similarity. Chance: the share expected of a random first answer.
    """
    pairs = zip(site.studies, site.patients, strict=True)
    studies = np.array([study or (f"patient {patient}" if patient else "") for study, patient in pairs])
    sizes = Counter(studies.tolist())
    asked = [row for row, study in enumerate(studies.tolist()) if study and sizes[study] > 1]
    if not asked:
        return {"queries": 0}
    first, within, chance = [], [], []
    for row in asked:
        near = nearest_others(site, row, NEIGHBOURS)
        hits = studies[near] == studies[row]
        first.append(float(hits[:1].any()))
        within.append(float(hits.any()))
        chance.append((sizes[str(studies[row])] - 1) / (len(site) - 1))
    units = site.units[asked]
    at_one = bootstrap_interval(np.array(first), units)
    at_ten = bootstrap_interval(np.array(within), units)
    return {
        "queries": len(asked),
        "studies": len({str(studies[row]) for row in asked}),
        "first": {"share": at_one.mean, "low": at_one.low, "high": at_one.high},
        "within_10": {"share": at_ten.mean, "low": at_ten.low, "high": at_ten.high},
        "chance_first": float(np.mean(chance)),
    }


def nearest_others(site: Site, row: int, count: int) -> npt.NDArray[np.int64]:
    """The nearest other images: by Hamming distance, then content similarity, then place."""
    codes, content = site.encodings.code, site.encodings.content
    away = np.bitwise_count(codes ^ codes[row]).sum(axis=1, dtype=np.int64)
    order = np.lexsort((np.arange(len(codes)), -similarity(content[row], content), away))
    return order[order != row][:count]


def near_duplicates(site: Site) -> dict[str, Any]:
    """Pairs of nearly equal pictures (perceptual hash within 6), and those among them of different patients."""
    found = []
    across = equal = 0
    for left, right in near_pairs(site.hashes, NEAR).tolist():
        same = site.digests[left] == site.digests[right]
        whose = {site.patients[left], site.patients[right]}
        strangers = len(whose) == 2 and "" not in whose
        equal, across = equal + same, across + strangers
        found.append({"one": image_name(left), "other": image_name(right), "equal": same, "patients_differ": strangers})
    found.sort(key=lambda pair: (not pair["patients_differ"], not pair["equal"]))
    return {"pairs": len(found), "equal": equal, "patients_differ": across, "listed": found[:LISTED]}


def scanner_drift(site: Site, bundle: Bundle) -> list[dict[str, Any]]:
    """For each scanner with enough images: false alarms, how far its scores lie from the calibration's, and how
    much more often than by chance its neighbours are its own.

    drift: AUROC of its scores against the calibration scores; 0.5 is none, 1 is all of it beyond.
    """
    outlier = site.encodings.outlier
    assert outlier is not None
    scorer = OutlierScorer.of(bundle)
    assert scorer is not None
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


def scanner(facts: Mapping[str, Any]) -> str:
    """Manufacturer and model, "" where neither is known."""
    return " ".join(str(facts[key]) for key in ("manufacturer", "model") if facts.get(key))


def advice(report: dict[str, Any]) -> list[str]:
    """What the figures ask for, as sentences; empty where nothing does."""
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
    retrieval = report["retrieval"]
    if not retrieval["queries"]:
        said.append("No study has two images here, so retrieval was not judged: give whole studies.")
    if report["units"] < 100:
        said.append(f"{report['units']} units are few: intervals are wide; some 500 images of many patients say more.")
    return said


def _share(values: npt.NDArray[np.float64], units: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Share flagged, each unit counting once, with a 95 % interval; and by image."""
    _, place = np.unique(units, return_inverse=True)
    each = np.bincount(place, weights=values) / np.bincount(place)
    found = bootstrap_interval(each, np.arange(len(each)))
    return {
        "share": found.mean,
        "low": found.low,
        "high": found.high,
        "units": found.units,
        "images_flagged": int(values.sum()),
    }


def sentences(report: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """The report in short: (what, how much)."""
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
        rows.append((row["scanner"], f"{row['images']} images, flagged {row['share']:.1%}, drift {row['drift']:.2f}"))
    return rows
