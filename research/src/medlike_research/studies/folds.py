"""Cells of `cross-domain` that train: groups of sources left out together, as `medlike train` would have trained.

Every source is left out in exactly one fold, related sources together, so a few trainings say what leaving out each
source alone would say, a little more strictly: the network has seen fewer sources than it could have.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medlike import files
from medlike.datasets import PARTS, Dataset, files_digest
from medlike.datasets.labels import apart_sources, can_be_headline, families
from medlike.errors import QueryError
from medlike.evaluation import floors
from medlike.evaluation.encodings import keep
from medlike.evaluation.protocols import Arena, pooled, source_oracle, sources_to_leave_out
from medlike.evaluation.representation import Representation
from medlike.evaluation.tables import ORACLE
from medlike.imaging.letterbox import SIZE
from medlike.metrics import bootstrap_interval
from medlike.types import F32
from medlike_research.studies.bench import Bench
from medlike_research.studies.nuisance import images_to_alter, pictures_of
from medlike_research.studies.study import Cell, Result

if TYPE_CHECKING:
    from medlike.models.presets import NetworkSettings
    from medlike.training.pictures import Pictures
    from medlike.training.plan import TrainingPlan
    from medlike.training.train import PreparedRun

BITS = 64
USUAL = 3
CODES, FEATURES, ROTATED = "trained codes", "trained features (float)", "ITQ on the trained features"
UNTOUCHED, UNTOUCHED_ROTATED = "untouched stem (float)", "ITQ on the untouched stem"
DISCRIMINANT = "discriminant on the untouched stem"
# A third of the sources left out, a training on the others with the shipped recipe: minutes on two cores.
_SECONDS = 900.0


def fold_cells(bench: Bench) -> list[Cell]:
    """One cell a fold and seed: `fold-0` and so on for the first seed, `fold-0-seed-1` for another.

    No more folds than there are families of sources; none where a single family leaves nothing to train on.
    """
    count = min(bench.settings.folds, len(_families(bench.wide)))
    if count < 2:
        return []
    dealt = deal_sources(bench.wide, count)
    of = "" if bench.settings.folds == USUAL else f"-of-{count}"
    found = []
    for seed in bench.settings.seeds:
        for number, away in enumerate(dealt):
            name = f"fold-{number}{of}" + (f"-seed-{seed}" if seed else "")
            found.append(Cell(name, _run(bench, number, away, seed), _SECONDS, "fold", of_bundle=False))
    return found


def deal_sources(data: Dataset, folds: int) -> list[frozenset[str]]:
    """Every source in exactly one of the folds, related ones together, so that no fold leaves out most of a modality.

    Families of related sources are dealt largest first, each where it adds least to the squared shares of images and
    of each modality that the fold leaves out; collections that are kept apart weigh nothing. Raises QueryError for
    fewer than two folds or more than there are families.
    """
    counts: dict[str, Counter[str]] = {}
    for sample in data:
        if not sample.is_ood:
            counts.setdefault(sample.source, Counter())[sample.modality] += not sample.apart
    together = _families(data)
    if not 2 <= folds <= len(together):
        raise QueryError(f"{folds} folds of {len(together)} independent sources; give 2 to {len(together)}")
    modalities = sorted({m for found in counts.values() for m in found})
    sizes = {f: np.array([sum(counts[s][m] for s in f) for m in modalities], float) for f in together}
    total = np.maximum(sum(sizes.values()), 1)
    have = [np.zeros(len(modalities)) for _ in range(folds)]
    dealt: list[set[str]] = [set() for _ in range(folds)]

    def cost(images: np.ndarray) -> float:
        return float(((images / total) ** 2).sum() + len(modalities) * (images.sum() / total.sum()) ** 2)

    for family in sorted(together, key=lambda f: (-sizes[f].sum(), f)):
        added = [cost(h + sizes[family]) - cost(h) for h in have]
        best = int(np.argmin(added))
        have[best] += sizes[family]
        dealt[best].update(family)
    return [frozenset(found) for found in dealt]


#: Modalities whose scanners are of one kind: projection X-ray, cross sections, sound, and the others.
KINDS_OF_SCANNER = (("CT",), ("MR",), ("XR", "MG", "XA"), ("US", "PT", "NM"))
_SOME = 0.1  # share of a source's images that makes the source one of a kind of scanner


def scanners_left_out(data: Dataset) -> dict[str, frozenset[str]]:
    """Return, for each kind of scanner, every source with such images, related ones together.

    A source of several kinds leaves with each. Kinds that leave no source to train on are left out.
    """
    images: dict[str, Counter[str]] = {}
    for sample in data:
        if not sample.is_ood:
            images.setdefault(sample.source, Counter())[sample.modality] += 1
    found: dict[str, frozenset[str]] = {}
    for kind in KINDS_OF_SCANNER:
        shows = {s for s, counts in images.items() if sum(counts[m] for m in kind) >= _SOME * counts.total()}
        away = frozenset(s for family in _families(data) if shows & set(family) for s in family)
        if away and away != images.keys():
            found["+".join(kind)] = away
    return found


def _families(data: Dataset) -> list[tuple[str, ...]]:
    """The sources of in-domain images, related ones together, sorted."""
    return families(sample for sample in data if not sample.is_ood)


def _run(bench: Bench, number: int, away: frozenset[str], seed: int) -> Callable[[], Result]:
    def run() -> Result:
        trained = _train(bench, away, seed)
        methods, known, facts = trained.methods, trained.judged, trained.facts
        judged = away - apart_sources(collection(bench))
        return {
            "fold": number,
            "seed": seed,
            "left_out": sorted(away),
            "sizes": {s: int((known.column("source") == s).sum()) for s in sorted(judged)},
            **facts,
            "bits": {name: r.bits for name, r in methods.items()},
            "bytes": {name: r.bytes_per_image for name, r in methods.items()},
            "protocols": _measure(bench, away, known, methods),
        }

    return run


@dataclass(frozen=True)
class FoldFeatures:
    """What a network trained without some sources, and the untouched stem, say of images.

    train: what it was trained on, in the order of `own` and `own_plain`. judged: every judged image, in the order of
    the others. own, features: its features, float32 [N, D]. bits: sign bits of its codes, uint8 [N, K / 8].
    own_plain, plain: those of the untouched stem, float32 [N, P]. before, altered: features of images that nuisance is
    learned on and of a copy of each, float32 [C, D]. copied: the sources of those. widths: of the blocks of a feature.
    facts: of the training.
    """

    train: Dataset
    judged: Dataset
    own: np.ndarray
    own_plain: np.ndarray
    bits: np.ndarray
    features: np.ndarray
    plain: np.ndarray
    before: np.ndarray
    altered: np.ndarray
    copied: np.ndarray
    widths: tuple[int, ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class _Trained:
    """What a fold's network, and what the untouched stem, say of every judged image."""

    methods: Mapping[str, Representation]
    judged: Dataset
    facts: Mapping[str, Any]


def _train(bench: Bench, away: frozenset[str], seed: int) -> _Trained:
    """Train without the sources by the recipe of `medlike train`; what is fitted beside it never saw them either."""
    fold = fold_features(bench, away, seed)
    sources = [sample.source for sample in fold.train]
    labels = fold.train.column("label")
    methods = {
        CODES: Representation(codes=fold.bits),
        FEATURES: Representation(features=fold.features),
        ROTATED: Representation(codes=floors.fit_itq(fold.own, BITS, seed=seed, sources=sources)(fold.features)),
        UNTOUCHED: Representation(features=fold.plain),
        UNTOUCHED_ROTATED: Representation(
            codes=floors.fit_itq(fold.own_plain, BITS, seed=seed, sources=sources)(fold.plain)
        ),
        DISCRIMINANT: Representation(
            features=floors.fit_discriminant(fold.own_plain, labels)(fold.plain).astype(np.float32)
        ),
    }
    return _Trained(methods, fold.judged, fold.facts)


def fold_features(bench: Bench, away: frozenset[str], seed: int) -> FoldFeatures:
    """Return the features of a training without some sources, kept in the bench's work folder."""
    from medlike.training.feed import FrozenFeed, PictureFeed, served_outputs
    from medlike.training.loop import fit
    from medlike.training.material import material
    from medlike.training.train import check_plan, prepare_run

    judged = collection(bench).where(can_be_headline)
    plan = _plan(bench, away, seed)
    network, recipe = plan.settings()
    # Like the device, the precision does not change what is measured; trainings from before it had a name stay valid.
    named = {name: value for name, value in asdict(plan).items() if name != "precision"}
    facts = [bench.split.digest, [s.path for s in collection(bench)], named, asdict(network), asdict(recipe)]
    facts.append(files_digest(images_to_alter(bench)))
    name = hashlib.sha256(json.dumps([*facts, bench.stem_digest], default=str).encode()).hexdigest()[:16]
    work, cache = bench.work / "runs" / name, bench.work / "maps"
    kept = work / "features.npz"
    if kept.is_file():
        return _kept_features(bench, kept, judged, _widths(network))
    chosen, pairs = images_to_alter(bench), _pairs(bench)
    check_plan(plan, work)
    begun = time.perf_counter()
    ready = prepare_run([collection(bench)], plan, work, cache, bench.split, bench.say)
    trained = fit(
        ready.network, ready.recipe, ready.train, ready.feed, ready.validation, ready.validation_feed, work,
        seed=seed, resume=True, say=bench.say,
    )  # fmt: skip
    spent = time.perf_counter() - begun
    own = served_outputs(ready.feed, len(ready.train), ("feature",))["feature"]
    held = material(judged, bench.split, ready.collection.classes, cache, bench.say)

    def served(pictures: Pictures, *names: str) -> dict[str, F32]:
        feed: FrozenFeed | PictureFeed
        if isinstance(ready.feed, FrozenFeed):
            feed = FrozenFeed(ready.network, _maps(bench, ready, plan, pictures), ready.recipe, ready.feed.device)
        else:
            feed = PictureFeed(ready.network, pictures, ready.recipe, ready.feed.device)
        return served_outputs(feed, len(pictures), names)

    outputs = served(held.pictures, "u", "feature")
    sources = chosen.column("source")
    trained_on = ~np.isin(sources, sorted(away))
    before, altered = served(pairs, "feature")["feature"].reshape(len(chosen), 2, -1)[trained_on].swapaxes(0, 1)
    plain, known = _untouched(bench, ready, plan, ready.train, held)
    said = {
        "images": len(ready.train),
        "sources": len({sample.source for sample in ready.train.dataset}),
        "epochs": len(trained.history),
        "epoch": trained.epoch,
        "train_seconds": spent,
        "recipe": asdict(ready.recipe),
    }
    bits, features = np.packbits(outputs["u"] > 0, axis=1), outputs["feature"]
    made = FoldFeatures(
        ready.train.dataset, judged, own, plain, bits, features, known,
        before, altered, sources[trained_on], _widths(network), said,
    )  # fmt: skip
    arrays = {array: getattr(made, array) for array in _ARRAYS}
    with files.drafted(kept, alone=True) as draft, draft.open("wb") as stream:
        np.savez(stream, paths=[s.path for s in made.train], facts=json.dumps(said), **arrays)
    (work / "checkpoint.pt").unlink(missing_ok=True)  # large, and of no use once its outputs are kept
    return made


_ARRAYS = ("own", "own_plain", "bits", "features", "plain", "before", "altered", "copied")


def _pairs(bench: Bench) -> Pictures:
    """Images that nuisance is learned on, each followed by its altered copy; kept in the bench's work folder."""
    from medlike.training.pictures import Pictures

    chosen = images_to_alter(bench)
    digest = files_digest(chosen)[:16]
    file = bench.work / "maps" / f"pairs-{digest}.npz"
    if not file.is_file():
        pixels = np.concatenate([pictures_of(sample, number, SIZE) for number, sample in enumerate(chosen)])
        keep(file, {"pixels": pixels})
    with np.load(file) as stored:
        pixels = stored["pixels"]
    return Pictures(pixels, np.zeros((len(pixels), 16, 16), np.uint8), f"pairs-{digest}")


def _widths(network: NetworkSettings) -> tuple[int, ...]:
    """Widths of the blocks of a feature: learned, untouched, discriminant; those that there are."""
    depths = network.depth_members * network.depth_outputs if network.linear else 0
    learned = 2 * network.branch_width + network.fusion_outputs + depths
    return tuple(width for width in (learned, network.linear, network.discriminant) if width)


def _kept_features(bench: Bench, file: Path, judged: Dataset, widths: tuple[int, ...]) -> FoldFeatures:
    by_path = {sample.path: sample for sample in collection(bench)}
    with np.load(file) as held:
        train = Dataset("train", tuple(by_path[path] for path in held["paths"].tolist()))
        arrays = {array: held[array] for array in _ARRAYS}
        return FoldFeatures(train, judged, widths=widths, facts=json.loads(str(held["facts"])), **arrays)


def collection(bench: Bench) -> Dataset:
    """Both collections; where the settings limit a study, so many images of every source in every part."""
    if bench.settings.limit is None:
        return bench.wide
    seen: Counter[tuple[str, str]] = Counter()
    part_of = {s.path: part for part in PARTS for s in bench.split.part(bench.wide, part)}

    def keep(sample: Any) -> bool:
        key = (part_of.get(sample.path, ""), sample.source)
        seen[key] += 1
        return seen[key] <= (bench.settings.limit or 0)

    return bench.wide.where(keep)


def _plan(bench: Bench, away: frozenset[str], seed: int) -> TrainingPlan:
    from medlike.training.plan import TrainingPlan
    from medlike_research.studies.frozen import shortened

    settings = bench.settings
    changes = shortened(settings.epochs)
    if settings.limit is not None:
        changes["batch"] = 16  # a thinned collection has few pictures; larger batches would be refused
    return TrainingPlan(
        settings.preset, BITS, "ours", changes, 1, seed, settings.stem, settings.device,
        leave_out=tuple(sorted(away)),
    )


def _maps(bench: Bench, ready: PreparedRun, plan: TrainingPlan, pictures: Pictures, network: Any = None) -> Any:
    from medlike.training.augmentation import augmentation
    from medlike.training.maps import stem_maps

    chosen = augmentation(ready.recipe.augmentation)
    network = ready.network if network is None else network
    return stem_maps(network, pictures, bench.work / "maps", 1, chosen, plan.seed, bench.say)


def _untouched(bench: Bench, ready: PreparedRun, plan: TrainingPlan, *parts: Any) -> list[np.ndarray]:
    """Means of every depth of the stem as it was given, every depth weighing alike by the first part's statistics."""
    import torch

    from medlike.models.networks import build
    from medlike.models.pooling import depth_statistics
    from medlike.training.weights import load_stem

    torch.manual_seed(plan.seed)
    network: Any = build(plan.settings()[0], BITS, ready.network.classes)
    load_stem(network, plan.stem)
    network.to(ready.feed.device).eval()
    found = [np.asarray(_maps(bench, ready, plan, part.pictures, network).pooled[0], np.float32) for part in parts]
    mean, deviation = (t.numpy() for t in depth_statistics(torch.from_numpy(found[0]), network.stem.channels))
    return [(pooled_ - mean) / deviation for pooled_ in found]


def _measure(
    bench: Bench, away: frozenset[str], judged: Dataset, methods: Mapping[str, Representation]
) -> dict[str, dict[str, Result]]:
    """protocol -> method -> figures. Protocols: `within SOURCE`, `unknown alone`, `everything`."""
    sources, units = judged.column("source"), bench.split.units(judged)
    queries = {s.path for s in bench.split.part(judged, "query")}
    known_gallery = {s.path for s in bench.split.part(judged, "gallery")}
    asked = np.array([s.path in queries for s in judged])
    strange = np.isin(sources, sorted(away))
    found_in = strange & ~asked | np.array([s.path in known_gallery for s in judged])
    rows = {
        f"within {source}": (sources == source, sources == source)
        for source in sources_to_leave_out(judged)
        if source in away
    }
    rows |= {"unknown alone": (strange, strange), "everything": (asked, found_in)}
    measured: dict[str, dict[str, Result]] = {}
    for protocol, (of_query, of_gallery) in rows.items():
        q, g = np.flatnonzero(of_query), np.flatnonzero(of_gallery)
        if not len(q) or not len(g):
            continue
        arena = Arena(protocol, judged, judged, units, units).rows(q, g, protocol)
        measured[protocol] = {name: summary_of(pooled(arena, r[q], r[g])) for name, r in methods.items()}
        if not protocol.startswith("within"):
            measured[protocol][ORACLE] = summary_of(source_oracle(arena))
    return measured


def summary_of(found: Any) -> Result:
    """Figures of one retrieval, with every query's average precision for later tests."""
    interval = bootstrap_interval(found.ap, found.units)
    return {
        **{name: found.scores.mean(name) for name in ("map_worst", "map_best", "map_at_k", "map_at_k_hits")},
        "map_expected": interval.mean,
        "interval": [interval.low, interval.high],
        "queries": found.scores.queries,
        "without_relevant": found.scores.without_relevant,
        "ap": [round(float(value), 6) for value in found.ap],
        "units": found.units.tolist(),
    }
