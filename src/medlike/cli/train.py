"""medlike train: train a bundle on labelled collections."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from medlike import strict_json
from medlike.cli.exits import need
from medlike.cli.options import refuse
from medlike.cli.settings import options_from_settings
from medlike.option import Option
from medlike.training.plan import TrainingPlan

EXAMPLES = """[b]Examples[/b]

medlike train compact --data a/manifest.csv --data b/manifest.csv --out my-bundle

medlike train compact --data a --out my-bundle --bits 128 --set epochs=10 --resume

medlike train acir --data a --out my-acir --recipe paper --stem resnet50.safetensors

medlike train hmar-compact --data a --data b --start my-bundle.run --out my-regions

medlike train itq --data a --out my-floor --stem lite0.safetensors

medlike train mcmfh --data a --image-bundle my-bundle --out my-texts --bits 16
"""

# Options that training of a kind cannot use.
_UNUSED = {
    "itq": {
        "image_bundle", "recipe", "loss", "epochs", "changes", "stage", "start", "resume", "work", "name", "leave_out",
        "device", "precision",
    },
    "mcmfh": {"recipe", "loss", "stage", "start", "resume", "stem", "leave_out", "device", "precision"},
}  # fmt: skip


@dataclass(frozen=True)
class DataOptions:
    """What to train on.

    Attributes:
        data: Collections.
        sources: A CSV file with facts about each source.
        split: A split file.
    """

    data: Annotated[
        tuple[Path, ...],
        Option("A manifest.csv, its folder, or a folder with one subfolder per class. Repeatable."),
    ]
    sources: Annotated[
        Path | None,
        Option(
            "CSV with facts about each source: apart, origin, caution, licence (see docs/evaluation.md).",
            metavar="FILE",
        ),
    ] = None
    split: Annotated[Path | None, Option("Split file. By default a split is made from the data.")] = None


@dataclass(frozen=True)
class RunOptions:
    """Where a run writes, and whether it continues.

    Attributes:
        out: Folder of the new bundle.
        work: Folder for checkpoints, curves and the record of the run.
        cache: Folder for prepared images and feature maps.
        name: The bundle's name.
        resume: If true, the run continues from the checkpoint in `work`.
        replace: If true, an existing bundle at `out` is replaced.
    """

    out: Annotated[Path, Option("Folder of the new bundle.")]
    work: Annotated[
        Path | None, Option("Folder for checkpoints, curves and the record of the run.", shown="OUT.run")
    ] = None
    cache: Annotated[Path | None, Option("Folder for prepared images and feature maps.", shown="in --work")] = None
    name: Annotated[str | None, Option("The bundle's name.", shown="medlike-PRESET-BITS")] = None
    resume: Annotated[bool, Option("Continue from the checkpoint in --work.")] = False
    replace: Annotated[bool, Option("Replace an existing bundle at --out.")] = False


def changes(texts: list[str]) -> dict[str, object]:
    """Read the values of --set.

    Args:
        texts: KEY=VALUE, where VALUE may be JSON.

    Returns:
        The value of each key: what JSON says, or the text if it is not JSON.

    Raises:
        typer.BadParameter: A text is not KEY=VALUE.
    """
    values: dict[str, object] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE, as in --set epochs=10", param_hint="--set")
        try:
            values[key.strip()] = strict_json.loads(value)
        except ValueError:
            values[key.strip()] = value.strip()
    return values


@options_from_settings(DataOptions)
@options_from_settings(RunOptions)
@options_from_settings(TrainingPlan, changes=changes)
def train(
    context: typer.Context,
    data: DataOptions,
    run: RunOptions,
    *,
    bits: Annotated[
        int | None,
        typer.Option(
            "--bits",
            help="Length of the code: a multiple of 8 from 8 to 512; for mcmfh 16, 32, 64 or 128.",
            show_default="64; for mcmfh 16",
        ),
    ] = None,
    image_bundle: Annotated[
        str | None,
        typer.Option(
            "--image-bundle",
            metavar="B",
            help="For mcmfh: name or folder of the image bundle to train the text bundle for.",
            show_default="the default one",
        ),
    ] = None,
    plan: TrainingPlan,
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            help="sch, sch-released, or a loss of another package: medlike-research adds csq, dch, dpsh, dsh, hashnet.",
            show_default="the recipe's",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="Number of epochs.", show_default="the recipe's"),
    ] = None,
) -> None:
    """Train a bundle and print its measured quality."""
    refuse(context, _UNUSED.get(plan.preset, {"image_bundle"}), f"training {plan.preset} has no use for it")
    need("train", "torch", "onnx", "onnxscript", "scipy")
    from medlike.cli.screen import note, print_json
    from medlike.datasets import Split, read_collection, read_sources, with_sources

    facts = read_sources(data.sources) if data.sources else {}
    datasets = [with_sources(read_collection(path), facts) for path in data.data]
    split = Split.load(data.split) if data.split else None
    shortcuts = {"loss": loss, "epochs": epochs}
    if bits is None:
        bits = 16 if plan.preset == "mcmfh" else 64
    changed = {name: value for name, value in shortcuts.items() if value is not None}
    plan = replace(plan, bits=bits, changes={**plan.changes, **changed})
    if plan.preset == "itq":
        from medlike.errors import TrainingError
        from medlike.training.itq import RotationSettings, train_itq

        if plan.stem is None:
            raise TrainingError("itq needs the weights of its stem; give the safetensors file with --stem")
        settings = RotationSettings(bits=plan.bits, seed=plan.seed)
        made = train_itq(
            datasets, run.out, plan.stem, settings=settings, split=split, cache=run.cache, replace=run.replace, say=note
        )
    elif plan.preset == "mcmfh":
        from medlike.training.mcmfh import train_mcmfh

        made = train_mcmfh(
            datasets,
            image_bundle=image_bundle,
            bits=plan.bits,
            changes=plan.changes,
            seed=plan.seed,
            split=split,
            say=note,
            **vars(run),
        )
    else:
        from medlike.training.train import train_network

        made = train_network(datasets, plan=plan, split=split, say=note, **vars(run))
    note(f"{made.name}, {made.bytes / 1e6:.1f} MB, digest {made.digest[:16]}, in {made.path}")
    print_json(made.spec["quality"])
