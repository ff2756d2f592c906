"""`medlike study regions`: does the box that a regional search answers lie where the finding is?

Boxes are used here and nowhere in training. Per source, never pooled; gallery images turned and mirrored at random;
calibration, gallery and query parts only, five folds of whole patients. The score is (hit rate - floor) / (ceiling -
floor) over the first ten hits at IoU 0.5: floor is the best of three boxes that know nothing of the picture, ceiling a
window of an allowed shape placed perfectly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from medlike import bundle as bundles
from medlike.bundle import Bundle
from medlike.codes.templates import ORIENTATIONS
from medlike.datasets import files_digest
from medlike.errors import BundleError
from medlike.evaluation.encodings import encode_dataset, keep
from medlike.inference import Encoder
from medlike.metrics import bootstrap_interval
from medlike.metrics.localisation import normalised_score
from medlike.metrics.retrieval import score_codes
from medlike.metrics.ties import Relevance
from medlike_research.studies.bench import Bench
from medlike_research.studies.regions_boxes import (
    Boxed,
    boxed_images,
    ceiling,
    combined,
    guesses,
    some_of,
    turned_back,
    turned_square,
)
from medlike_research.studies.regions_pictures import as_image, row_picture
from medlike_research.studies.regions_search import (
    TOP,
    Cells,
    Correlation,
    Found,
    by_bits,
    by_cosine,
    by_weighted_bits,
    encode_cells,
    hit_share,
    shortlisted,
)
from medlike_research.studies.study import Cell, Result, Study, Summary

QUESTION = "Does a search by a region answer the box that shows the same finding, wherever it lies?"
SEED = 0
# Queries of a source that template correlation takes: a hundred times slower than codes.
CORRELATED = 12
NAMES = {
    "busi": "breast lesion",
    "stu_breast_us": "breast lesion",
    "covid_cxr_lungbox": "lung",
    "hc18": "fetal head",
    "ddti_thyroid_us": "thyroid nodule",
    "ufba_dental": "tooth",
    "mias_mammo": "breast lesion",
}
METHODS = (
    ("bits", "bits (the search's default)", 120),
    ("bits-rearranged", "bits, one encoding of the query, rearranged", 120),
    ("bits-share", "bits, sizes compared by share", 120),
    ("bits-all-parts", "bits, training images searched too", 120),
    ("bits-one-scale", "bits, one scale", 60),
    ("bits-upright", "bits, one scale, not turned", 30),
    ("bits-weighted", "bits, cells weighted", 200),
    ("cosine", "cosine of real codes", 200),
    ("correlation", "template correlation", 300),
    ("turned-90", "bits, query turned by 90 degrees", 120),
    ("rearranged-turned-90", "bits, rearranged, query turned by 90 degrees", 120),
    ("mirrored", "bits, query mirrored", 120),
)
ONE_SCALE = ("bits-one-scale", "bits-upright")
# Images that a search with a shortlist looks at.
SHORTLISTS = (25, 50, 100, 200, 400)
GUESSED = ("random box", "same position", "centre box")
TURNS = {"turned-90": 1, "rearranged-turned-90": 1, "mirrored": 4}
REARRANGED = ("bits-rearranged", "rearranged-turned-90")
GLOBAL = "whole-image"
OTHER = "medlike-compact-64"


class Room:
    """What the cells of the study share: images with boxes, and their codes by the bundle."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    @cached_property
    def boxed(self) -> Boxed:
        """Return the images with boxes of the study's part."""
        self.bench.say("reading images with boxes")
        return boxed_images(self.bench.limited(self.bench.wide), self.bench.split, SEED)

    @cached_property
    def turned(self) -> Cells:
        """Return the codes of the turned images."""
        return self._cells("turned", self.boxed.turned)

    def asked(self, turn: int = 0) -> Cells:
        """Codes of the queries, encoded again where they are turned."""
        rows = self.boxed.queries
        own = self._cells(f"asked-{turn}", np.stack([turned_square(self.boxed.pixels[row], turn) for row in rows]))
        real = np.zeros((len(self.boxed), *own.real.shape[1:]), own.real.dtype)
        real[rows] = own.real
        assert own.code is not None
        code = np.zeros((len(self.boxed), own.code.shape[1]), np.uint8)
        code[rows] = own.code
        if own.weight is None:
            return Cells(real, None, code)
        weight = np.ones((len(self.boxed), *own.weight.shape[1:]), own.weight.dtype)
        weight[rows] = own.weight
        return Cells(real, weight, code)

    def seen(self, turn: int = 0) -> np.ndarray:
        """Return the codes of the queries turned by `turn`, as the network sees them in each orientation.

        uint64 [8,N,14,14,W]; those of a turned picture are brought back to where they lie in the query.
        """
        return np.stack([
            turned_back(self._packed(combined(turn, orientation)), orientation) for orientation in range(ORIENTATIONS)
        ])  # fmt: skip

    def _packed(self, turn: int) -> np.ndarray:
        return self.asked(turn).packed()

    def _cells(self, name: str, pixels: np.ndarray) -> Cells:
        bundle = self.bench.bundle
        if not bundle.local_bits:
            raise BundleError(
                f"bundle {bundle.name} has no local codes; name one with --bundle, for example medlike-hmar-64"
            )
        digest = files_digest(self.boxed.samples)[:16]
        file = self.bench.work / "encodings" / f"regions-{name}-{bundle.digest[:16]}-{digest}.npz"
        if not file.is_file():
            self.bench.say(f"encoding {len(pixels)} images, {name}")
            with Encoder(bundle) as encoder:
                found = encode_cells(encoder, pixels)
            weight = {} if found.weight is None else {"weight": found.weight}
            assert found.code is not None
            keep(file, {"real": found.real, "code": found.code, **weight})
        with np.load(file) as kept:
            return Cells(kept["real"], kept.get("weight"), kept["code"])


def cells(bench: Bench) -> list[Cell]:
    """One cell a way of searching, one for floors and ceilings, one for classes, one for whole images."""
    room = Room(bench)
    found = [Cell("bounds", lambda: _bounds(room), 120, "bounds")]
    found += [Cell(name, _searched(room, name), seconds, "search") for name, _, seconds in METHODS]
    found.append(Cell("classes", lambda: _classes(room), 120, "search"))
    found.append(Cell("shortlist", lambda: _shortlist(room), 120, "search"))
    found.append(Cell(GLOBAL, lambda: _whole(bench), 60, "whole"))
    found.append(Cell("pictures", lambda: _pictures(room), 20, "pictures"))
    return found


def _bounds(room: Room) -> Result:
    boxed = room.boxed
    random = np.random.default_rng(SEED)
    rows = []
    for row in boxed.queries:
        others = some_of(boxed.gallery(row), random)
        found = guesses(boxed, row, others, random)
        found["ceiling"] = ceiling(boxed, row, others)
        found["ceiling of one scale"] = ceiling(boxed, row, others, (1.0,))
        rows.append(found)
    table = {name: [row[name] for row in rows] for name in rows[0]}
    queries = boxed.queries
    return {"source": boxed.sources[queries].tolist(), "unit": boxed.units[queries].tolist(), "values": table}


def _searched(room: Room, name: str) -> Callable[[], Result]:
    def run() -> Result:
        boxed = room.boxed
        search = _search_of(room, name)
        queries = boxed.queries
        taken = Counter[str]()
        shares = np.full(len(queries), np.nan)
        for number, row in enumerate(queries.tolist()):
            source = str(boxed.sources[row])
            taken[source] += 1
            if name == "correlation" and taken[source] > CORRELATED:
                continue
            rows = boxed.gallery(row, everything=name == "bits-all-parts")
            shares[number] = hit_share(boxed, search(row, rows))
        return {"hits": [None if np.isnan(share) else float(share) for share in shares]}

    return run


def _search_of(room: Room, name: str) -> Callable[[int, np.ndarray], Found]:
    boxed = room.boxed
    if name == "correlation":
        return Correlation(boxed).search
    gallery = room.turned
    turn = TURNS.get(name, 0)
    query = room.asked(turn)
    if name == "cosine":
        return lambda row, rows: by_cosine(boxed, query, gallery, row, rows)
    stored = gallery.packed()
    if name == "bits-weighted":
        asked, weight = query.packed(), query.weight
        if weight is None:
            raise BundleError(f"bundle {room.bench.bundle.name} gives no cell weights")
        return lambda row, rows: by_weighted_bits(boxed, asked[row], stored, row, rows, weight[row])
    settings: dict[str, Any] = {"turn": turn}
    if name == "bits-share":
        settings["standardised"] = False
    if name in ("bits-one-scale", "bits-upright"):
        settings["scales"] = (1.0,)
    if name == "bits-upright":
        settings["orientations"] = 1
    seen = query.packed()[None] if name in REARRANGED else room.seen(turn)
    return lambda row, rows: by_bits(boxed, seen[:, row], stored, row, rows, **settings)


def _classes(room: Room) -> Result:
    """Share of the first ten hits of the query's own class, when every image with boxes is searched."""
    boxed = room.boxed
    seen, stored = room.seen(), room.turned.packed()
    shares, chance = [], []
    for row in boxed.queries.tolist():
        rows = boxed.gallery(row, anywhere=True)
        found = by_bits(boxed, seen[:, row], stored, row, rows)
        same = boxed.classes == boxed.classes[row]
        first = found.rows[found.first()]
        shares.append(float(same[first].mean()) if len(first) else None)
        chance.append(float(same[rows].mean()))
    return {"precision": shares, "chance": chance}


def _shortlist(room: Room) -> Result:
    """Share of the first ten hits among all images with boxes that are in the shortlist by whole-image code."""
    boxed = room.boxed
    query, gallery = room.asked(), room.turned
    assert query.code is not None and gallery.code is not None
    seen, stored = room.seen(), gallery.packed()
    recall: dict[str, list[float]] = {str(number): [] for number in SHORTLISTS}
    searched = []
    for row in boxed.queries.tolist():
        rows = boxed.gallery(row, anywhere=True)
        searched.append(len(rows))
        found = by_bits(boxed, seen[:, row], stored, row, rows)
        place = shortlisted(query.code[row], gallery.code, rows, found.rows[found.first()])
        for number in SHORTLISTS:
            recall[str(number)].append(float((place < number).mean()))
    return {"recall": recall, "searched": searched}


def _whole(bench: Bench) -> Result:
    """mAP of whole-image codes on the headline protocol, of this bundle and of the one without regions."""
    arena = bench.arena
    asked, stored = (part.column("label") for part in (arena.queries, arena.gallery))
    relevance = Relevance.of(asked, stored, arena.units, arena.gallery_units)
    found = {}
    for bundle in (*(Bundle.load(name) for name in (OTHER,) if name in bundles.shipped()), bench.bundle):
        work = bench.work / "encodings"
        codes = [encode_dataset(bundle, part, work).code for part in (arena.queries, arena.gallery)]
        found[bundle.name] = float(score_codes(codes[0], codes[1], relevance).mean("map_expected"))
    return {"map": found}


def _pictures(room: Room) -> Result:
    """A good and a bad query of each source that may be shown, as pictures."""
    boxed = room.boxed
    search = _search_of(room, "bits")
    found: dict[str, str] = {}
    for source in np.unique(boxed.sources):
        shown = []
        for row in np.flatnonzero((boxed.sources == source) & boxed.held):
            hits = search(int(row), boxed.gallery(int(row)))
            sheet = row_picture(boxed, int(row), hits)
            if sheet is not None:
                shown.append((hit_share(boxed, hits), sheet))
        shown.sort(key=lambda pair: -pair[0])
        for name, pair in (("good", shown[:1]), ("bad", shown[-1:])):
            for share, sheet in pair:
                title = f"{_name(str(source))}, {name}: {round(TOP * share)} of the first {TOP} hits right"
                found[title] = as_image(sheet, title)
    return {"images": found}


def summarise(bench: Bench, done: Mapping[str, Result]) -> Summary:
    """Scores a source, what each way of searching reaches, classes, whole images; pictures."""
    tables: list[Any] = []
    notes = [
        "Boxes took no part in training. Every image of the calibration, gallery and query parts that has boxes asks "
        "once, with one of its boxes, and is searched for among the images of those parts and its source in the four "
        "other folds, which are turned and mirrored at random; where training images are searched too, as in an "
        "archive that holds them, the row says so. By default the query is encoded in all eight orientations. Score = "
        "(hit rate - floor) / (ceiling - floor): 0 is the best of three guesses, 1 a window of an allowed shape (of "
        "one size where one scale is searched) placed perfectly in every image; above 1 where the search "
        f"chooses images in which its window fits. Bundle {bench.bundle.name}."
    ]
    if "bounds" in done:
        tables += _score_tables(done)
    if "classes" in done and "bounds" in done:
        source = np.array(done["bounds"]["source"])
        rows = []
        for name in np.unique(source):
            own = source == name
            values = [_floats(done["classes"][key])[own] for key in ("precision", "chance")]
            rows.append([_name(str(name)), str(name), float(np.nanmean(values[0])), float(np.nanmean(values[1]))])
        head = ("region", "source", "same class", "by chance")
        tables.append(("Class of the hits, all sources searched", head, rows))
    if "shortlist" in done and "bounds" in done:
        tables.append(_shortlist_table(done))
    if GLOBAL in done:
        rows = [[name, value] for name, value in done[GLOBAL]["map"].items()]
        tables.append(("Whole-image codes, headline protocol", ("bundle", "mAP"), rows))
    images = list(done["pictures"]["images"].items()) if "pictures" in done else []
    if images:
        notes.append(
            "In the pictures blue is labelled, green a found box that reaches IoU 0.5 with it, orange one that does "
            "not; only images whose terms allow it are shown."
        )
    return Summary(tables, images, notes)


def _shortlist_table(done: Mapping[str, Result]) -> Any:
    source = np.array(done["bounds"]["source"])
    recall = {number: np.array(values) for number, values in done["shortlist"]["recall"].items()}
    searched = np.array(done["shortlist"]["searched"])
    rows = []
    for name in np.unique(source):
        own = source == name
        rows.append([_name(str(name)), str(name), round(float(searched[own].mean())),
                     *(float(values[own].mean()) for values in recall.values())])  # fmt: skip
    head = ("region", "source", "images", *(f"shortlist {number}" for number in recall))
    return ("Share of the exact first ten that a shortlist by whole-image code keeps, all sources searched", head, rows)


def _score_tables(done: Mapping[str, Result]) -> list[Any]:
    bounds = done["bounds"]
    source, unit = np.array(bounds["source"]), np.array(bounds["unit"])
    values = {name: _floats(column) for name, column in bounds["values"].items()}
    methods = [(name, title) for name, title, _ in METHODS if name in done]
    scores, rates = [], []
    for name in np.unique(source):
        own = source == name
        guessed = {guess: float(values[guess][own].mean()) for guess in GUESSED}
        floor, top = max(guessed.values()), float(values["ceiling"][own].mean())
        lead = [_name(str(name)), str(name)]
        single = float(values["ceiling of one scale"][own].mean())
        rates.append([*lead, *guessed.values(), top, single])
        best = _rate(done, "bits", own)
        for method, title in methods:
            hits = _floats(done[method]["hits"])
            used = own & ~np.isnan(hits)
            if not used.any():
                continue
            rate = bootstrap_interval(hits[used], unit[used])
            reach = single if method in ONE_SCALE else top
            low, high = (normalised_score(edge, floor, reach) for edge in (rate.low, rate.high))
            score = normalised_score(rate.mean, floor, reach)
            beside = score / normalised_score(best, floor, top) if best is not None and best > floor else None
            interval = None if np.isnan(score) else f"{low:.3f} to {high:.3f}"
            scores.append([*lead, title, int(used.sum()), rate.mean, score, interval, beside])
    head = ("region", "source", "searched by", "queries", "hit rate", "score", "95 %", "of the default's score")
    bound_head = ("region", "source", *GUESSED, "ceiling", "ceiling, one scale")
    return [("Scores", head, scores), ("Floors and ceilings, hit rates", bound_head, rates)]


def _rate(done: Mapping[str, Result], name: str, own: np.ndarray) -> float | None:
    if name not in done:
        return None
    return float(np.nanmean(_floats(done[name]["hits"])[own]))


def _floats(column: list[Any]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in column], np.float64)


def _name(source: str) -> str:
    return NAMES.get(source, source)


STUDY = Study("regions", QUESTION, cells, summarise, of_bundle=True, trains=False)
