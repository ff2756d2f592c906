"""From labelled collections to a bundle: split, material, stage 1, stage 2, finish."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from medlike import __version__
from medlike.bundle import Bundle
from medlike.datasets import Dataset, Split, join
from medlike.errors import TrainingError
from medlike.files import write_text
from medlike.models.acir import ImageNetwork
from medlike.models.heads import check_bits
from medlike.models.hmar import WEIGHT_STRIDE, RegionalNetwork
from medlike.models.networks import build
from medlike.training.augmentation import augmentation
from medlike.training.decoding import DeepMaps, fit_decoder
from medlike.training.derived import calibrating_split, derived_settings, describe, label_numbers
from medlike.training.duration import about, duration, gain_of, timed_costs
from medlike.training.feed import FrozenFeed, PictureFeed, computes_in, grey_batch, has_bfloat16, served_outputs
from medlike.training.finish import TrainingCollection, finish_bundle
from medlike.training.loop import CHECKPOINT, VALIDATION_GALLERY, Trained, fit
from medlike.training.maps import Maps, stem_maps
from medlike.training.material import Material, classes_of, find_split, material, training_part, unit_count
from medlike.training.objective import hash_loss
from medlike.training.plan import TrainingPlan
from medlike.training.recipe import Recipe
from medlike.training.regional import fit_regional, linear_of_start, require_stage, start_from
from medlike.training.regional_heads import fit_taps
from medlike.training.requirements import (
    require_all,
    require_directions,
    require_free,
    require_gallery,
    require_labels,
    require_positives,
)
from medlike.training.start import start_from_pooled
from medlike.training.verdict import LEAST_CALIBRATION
from medlike.training.weights import StemWeights, load_stem
from medlike.types import I64, JsonObject, Progress

RECORD = "training.json"


@dataclass(frozen=True)
class PreparedRun:
    """A run ready to start: network on its device, both parts and their feeds.

    network: of whole images; regional: that and the regional expert, None where there is none. plan: with the settings
    that were derived from the number of images among its changes.
    """

    network: ImageNetwork
    recipe: Recipe
    train: Material
    validation: Material
    feed: FrozenFeed | PictureFeed
    validation_feed: FrozenFeed | PictureFeed
    collection: TrainingCollection
    stem: StemWeights
    plan: TrainingPlan
    regional: RegionalNetwork | None = None


def train_network(
    datasets: Sequence[Dataset],
    out: str | Path,
    plan: TrainingPlan,
    *,
    split: Split | None = None,
    work: str | Path | None = None,
    cache: str | Path | None = None,
    name: str | None = None,
    resume: bool = False,
    replace: bool = False,
    say: Progress[str] = lambda line: None,
) -> Bundle:
    """Train a preset and write the bundle at `out`.

    Args:
        datasets: The labelled collections; the quality is measured on headline labels of the first.
        out: Where the bundle goes.
        plan: What is trained, and how.
        split: None makes one and keeps it in `work`.
        work: Folder of the run: checkpoint, history.csv, curves.png, training.json. None is OUT.run.
        cache: Folder of prepared pictures and maps. None is a folder in `work`.
        name: Name of the bundle; None derives one from preset and bits.
        resume: Go on from the checkpoint in `work`.
        replace: Replace a bundle that is at `out`.
        say: Takes lines of progress.

    Returns:
        The bundle, with its measured quality.

    Raises:
        TrainingError: The plan or the data do not fit, or training cannot go on.
        DatasetError: The data cannot be read.
        BundleError: The bundle cannot be written.
    """
    out = Path(out)
    work = Path(work) if work else out.with_name(out.name + ".run")
    check_plan(plan, work)
    require_free(out, replace)
    work.mkdir(parents=True, exist_ok=True)
    begun = time.time()
    ready = prepare_run(datasets, plan, work, Path(cache) if cache else work / "cache", split, say)
    plan = ready.plan
    trained = first_stage(ready, plan, work, resume, say)
    network: ImageNetwork | RegionalNetwork = ready.network
    stages = JsonObject()
    if ready.regional is not None:
        stages["regional"] = regional_stages(ready, plan, work, resume, say)
        network = ready.regional
    elif plan.stage == 2:
        stages["decoder"] = _second_stage(ready, plan, work, resume, say)
        network = stages["decoder"].pop("network")
    outputs = served_outputs(ready.feed, len(ready.train), ("pooled", "feature"))
    record = _training_record(ready, plan, trained, begun) | stages
    history = {"history": trained.history}
    write_text(work / RECORD, json.dumps(record | history, indent=1, ensure_ascii=False))
    return finish_bundle(
        network,
        ready.train,
        outputs,
        ready.collection,
        out,
        name=name or f"medlike-{plan.preset}-{plan.bits}",
        preset=plan.preset,
        training=record,
        stem_terms=ready.stem.terms,
        seed=plan.seed,
        replace=replace,
        say=say,
    )


def check_plan(plan: TrainingPlan, work: Path) -> None:
    """Raise TrainingError for a plan that cannot run, before anything is read."""
    settings, recipe = plan.settings()
    plan.cells()
    check_bits(plan.bits)
    augmentation(recipe.augmentation)
    hash_loss(recipe.loss, plan.bits, [1, 1], False)
    computes_in(choose_device(plan.device), plan.precision)
    if settings.local_bits:
        if WEIGHT_STRIDE not in settings.cell_strides:
            raise TrainingError(
                f"cell_strides {list(settings.cell_strides)} lack {WEIGHT_STRIDE}, which the cell weights read; "
                f"have {WEIGHT_STRIDE} among --set cell_strides"
            )
        require_stage(work, plan.stage)
        return
    if plan.start is not None:
        raise TrainingError(f"preset {plan.preset!r} has no regional expert: --start is for hmar and hmar-compact")
    if plan.stage not in (1, 2):
        raise TrainingError(f"stage {plan.stage} is unknown; known: 1, 2")
    if plan.stage == 2 and not (work / CHECKPOINT).is_file():
        raise TrainingError(f"stage 2 goes on from {work / CHECKPOINT}, which is not there; run stage 1 first")


def prepare_run(
    datasets: Sequence[Dataset], plan: TrainingPlan, work: Path, cache: Path, split: Split | None, say: Progress[str]
) -> PreparedRun:
    """Prepare everything a run needs, on its device; the maps of the stem are computed or read."""
    joined = join(*datasets) if len(datasets) > 1 else datasets[0]
    split = split or find_split(
        joined, work, say, lambda images, hashes: calibrating_split(images, hashes, LEAST_CALIBRATION, say)
    )
    everything, left_out = _leave_out(joined, plan.leave_out)
    # In joined collections the samples of the first come first.
    first = {sample.path for sample in joined.samples[: len(datasets[0])]}
    headline_of = everything.where(lambda sample: sample.path in first)
    chosen = training_part(everything, split)
    judged = split.part(everything, "validation").where(lambda sample: not sample.is_ood)
    derived = _derived(plan, chosen)
    defaults, plan = plan.settings(), replace(plan, changes={**plan.changes, **derived})
    settings, recipe = plan.settings()
    checks: list[Callable[[], object]] = [
        lambda: classes_of(chosen),
        lambda: require_labels(chosen, judged, say),
        lambda: require_gallery(headline_of, split),
    ]
    if len(chosen) > 1:
        checks.append(lambda: require_positives(chosen, label_numbers(chosen), recipe))
        if plan.start is None:
            checks.append(lambda: require_directions(chosen, settings))
    require_all(everything, split, checks)
    classes = classes_of(chosen)
    if derived:
        say(describe(derived, *defaults, len(chosen)))
    if (units := unit_count(split, everything, "calibration")) < LEAST_CALIBRATION:
        say(f"{units} units for calibration, {LEAST_CALIBRATION} needed: the bundle will give no outlier verdicts")
    torch.manual_seed(plan.seed)
    whole = build(settings, plan.bits, classes.sizes)
    regional = whole if isinstance(whole, RegionalNetwork) else None
    network = whole.image if isinstance(whole, RegionalNetwork) else whole
    stem = load_stem(network, plan.stem)
    device = choose_device(plan.device)
    whole.to(device).eval()
    say(_estimate(network, plan, len(everything), chosen, len(judged), device))
    arithmetic = computes_in(device, plan.precision)
    if arithmetic == "bfloat16":
        slower = "" if has_bfloat16(device) else ", without instructions for it: float32 would be faster"
        say(f"computing in bfloat16 on {device}{slower}; weights and losses stay in float32")
    train, validation = (material(part, split, classes, cache, say) for part in (chosen, judged))
    say(f"{len(train)} pictures of {classes.sizes['label']} labels to train on, {len(validation)} to validate")
    frozen = recipe.protocol == "frozen"

    def maps_of(part: Material, views: int) -> Maps:
        return stem_maps(network, part.pictures, cache, views, augmentation(recipe.augmentation), plan.seed, say)

    feeds: list[FrozenFeed | PictureFeed] = []
    maps = maps_of(train, recipe.views if frozen else 1) if frozen or settings.linear else None
    if maps is not None and settings.linear and plan.start is None:
        sources = [sample.source for sample in train.dataset]
        start_from_pooled(network, np.asarray(maps.pooled[0]), sources, train.labels["label"], recipe.whitening)
    for part in (train, validation):
        if frozen:
            assert maps is not None
            views = maps if part is train else maps_of(part, 1)
            feeds.append(FrozenFeed(network, views, recipe, device, plan.precision))
        else:
            feeds.append(PictureFeed(network, part.pictures, recipe, device, plan.precision))
    if device.type == "cuda":
        whole.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types have it not
    collection = TrainingCollection(everything, split, classes, headline_of, cache, left_out)
    return PreparedRun(network, recipe, train, validation, feeds[0], feeds[1], collection, stem, plan, regional)


def _derived(plan: TrainingPlan, part: Dataset) -> dict[str, int]:
    """Return the settings that a small training part asks for where the plan says nothing of them."""
    settings, recipe = plan.settings()
    explicit = set(plan.changes)
    derived: dict[str, int] = {}
    if plan.start is not None and settings.linear >= len(part) and "linear" not in explicit:
        # The network has to be that of the run it starts from.
        explicit.add("linear")
        linear = linear_of_start(Path(plan.start), settings.linear)
        derived = {"linear": linear} if linear != settings.linear else {}
    return derived | derived_settings(part, settings, recipe, explicit)


def _estimate(
    network: ImageNetwork, plan: TrainingPlan, images: int, part: Dataset, validation: int, device: torch.device
) -> str:
    """Say how long the run takes."""
    settings, recipe = plan.settings()
    copies = 1 + plan.cells().cell_copies if settings.local_bits else 0
    costs = timed_costs(network, recipe, part, device, plan.precision)
    gain = gain_of(device, recipe.views * len(part))
    seconds = duration(costs, recipe, images, len(part), validation, copies, gain)
    beside = ", and the steps of the regional expert beside that" if settings.local_bits else ""
    return f"this run takes {about(seconds)} on {device}{beside}; less where its cache is filled"


def _leave_out(everything: Dataset, sources: Sequence[str]) -> tuple[Dataset, Dataset | None]:
    """Return the rest, and the in-domain images of the sources. TrainingError for a source that is not there."""
    unknown = sorted(set(sources) - {sample.source for sample in everything})
    if unknown:
        known = ", ".join(sorted({sample.source for sample in everything}))
        raise TrainingError(f"no image has the source {unknown[0]!r}, which is to be left out; known: {known}")
    if not sources:
        return everything, None
    out = everything.where(lambda sample: sample.source in sources and not sample.is_ood)
    return everything.where(lambda sample: sample.source not in sources), out


def choose_device(name: str) -> torch.device:
    """Return a device by name; "auto" is the GPU if there is one. TrainingError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise TrainingError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}; try --device cpu") from None
    return device


def first_stage(
    ready: PreparedRun,
    plan: TrainingPlan,
    work: Path,
    resume: bool,
    say: Progress[str],
    gallery: int = VALIDATION_GALLERY,
) -> Trained:
    """Train the whole-image network or take it from another run; train heads on the taps first, if there are any.

    gallery: training pictures that the validation searches, at most.
    """
    start = None if plan.start is None else start_from(ready.network, Path(plan.start), say)
    if ready.regional is not None and plan.stage == 1:
        # After the start, whose statistics standardise the depths that the heads read.
        fit_taps(ready.regional, plan.cells(), ready.train, _frozen(ready, plan, say)[0].maps, plan.seed, say)
    if start is not None:
        return Trained(ready.network.state_dict(), start["epoch"], start["history"], None)
    return fit(
        ready.network,
        ready.recipe,
        ready.train,
        ready.feed,
        ready.validation,
        ready.validation_feed,
        work,
        seed=plan.seed,
        gallery=gallery,
        resume=resume or plan.stage > 1,
        say=say,
    )


def regional_stages(
    ready: PreparedRun, plan: TrainingPlan, work: Path, resume: bool, say: Progress[str]
) -> JsonObject:
    """Train cell weights, cells and gate of a regional network, from the stage that the plan names."""
    assert ready.regional is not None
    feeds = _frozen(ready, plan, say)
    if plan.stage == 1 and not isinstance(ready.feed, FrozenFeed):
        # Stage 1 has tuned the stem, so the heads must be trained again.
        fit_taps(ready.regional, plan.cells(), ready.train, feeds[0].maps, plan.seed, say)
    return fit_regional(
        ready.regional,
        plan.cells(),
        ready.train,
        feeds[0],
        ready.validation,
        feeds[1],
        work,
        ready.collection.cache,
        first=plan.stage,
        seed=plan.seed,
        resume=resume,
        say=say,
    )


def _frozen(ready: PreparedRun, plan: TrainingPlan, say: Progress[str]) -> list[FrozenFeed]:
    """Return both feeds, from maps of the stem as it is now."""
    feeds = []
    for part, feed in ((ready.train, ready.feed), (ready.validation, ready.validation_feed)):
        if not isinstance(feed, FrozenFeed):
            settings = augmentation(ready.recipe.augmentation)
            maps = stem_maps(ready.network, part.pictures, ready.collection.cache, 1, settings, plan.seed, say)
            feed = FrozenFeed(ready.network, maps, ready.recipe, feed.device, plan.precision)
        feeds.append(feed)
    return feeds


def _second_stage(ready: PreparedRun, plan: TrainingPlan, work: Path, resume: bool, say: Progress[str]) -> JsonObject:
    """Build the network again with a decoder and train that; return it with what is kept of it."""
    settings, recipe = plan.settings()
    first = ready.network
    device = ready.feed.device
    torch.manual_seed(plan.seed)
    network = build(settings, plan.bits, first.classes, decoder=True)
    network.load_state_dict(first.state_dict(), strict=False)
    network.to(device)

    def deep_of(feed: FrozenFeed | PictureFeed) -> DeepMaps:
        if isinstance(feed, FrozenFeed):
            maps = feed.maps
            return lambda rows: torch.from_numpy(np.stack([maps.deep[0][r] for r in rows])).to(device).float()

        def run(rows: I64) -> torch.Tensor:
            return network.stem(grey_batch(feed.pictures, rows, device).expand(-1, 3, -1, -1))[network.deep_index]

        return run

    parts = (ready.train.pictures, deep_of(ready.feed), ready.validation.pictures, deep_of(ready.validation_feed))
    history = fit_decoder(network, recipe, *parts, work, seed=plan.seed, resume=resume, say=say)
    return {"network": network, "history": history, "error": min(row["validation_error"] for row in history)}


def _training_record(ready: PreparedRun, plan: TrainingPlan, trained: Trained, begun: float) -> JsonObject:
    train = ready.train
    scores = [row["map"] for row in trained.history if row["epoch"] == trained.epoch]
    return {
        "data": train.pictures.digest,
        "images": len(train),
        "parts": ["train"],
        "split": ready.collection.split.digest,
        "seed": plan.seed,
        "recipe_name": plan.recipe,
        "recipe": asdict(ready.recipe),
        "changes": dict(plan.changes),
        "left_out": list(plan.leave_out),
        "start": None if plan.start is None else Path(plan.start).name,
        "classes": ready.collection.classes.names,
        "stem": ready.stem.origin,
        "stem_sha256": ready.stem.sha256,
        "epochs": len(trained.history),
        "best_epoch": trained.epoch,
        "validation_map": scores[0] if scores else None,
        "validation_images": len(ready.validation),
        "similarity_histogram": trained.histogram,
        "seconds": round(sum(row["seconds"] for row in trained.history), 1),
        "waiting": round(float(np.mean([row["waiting"] for row in trained.history])), 5),
        "device": str(ready.feed.device),
        "precision": computes_in(ready.feed.device, plan.precision),
        "started": time.strftime("%Y-%m-%d", time.gmtime(begun)),
        "medlike": __version__,
        "torch": torch.__version__,
    }
