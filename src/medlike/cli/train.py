"""medlike train: make a bundle from labelled collections."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medlike import strict_json
from medlike.cli.exits import need
from medlike.cli.options import refuse

if TYPE_CHECKING:
    from medlike.bundle import Bundle
    from medlike.datasets import Dataset, Split

EXAMPLES = """[b]Examples[/b]

medlike train compact --data a/manifest.csv --data b/manifest.csv --out my-bundle

medlike train compact --data a --out my-bundle --bits 128 --set epochs=10 --resume

medlike train acir --data a --out my-acir --recipe paper --stem resnet50.safetensors

medlike train hmar-compact --data a --data b --start my-bundle.run --out my-regions

medlike train itq --data a --out my-floor --stem lite0.safetensors

medlike train mcmfh --data a --image-bundle my-bundle --out my-texts --bits 16
"""


# What training of a kind has no use for.
_VAIN = {
    "itq": {
        "image_bundle", "recipe", "loss", "epochs", "set_", "stage", "start", "resume", "work", "name", "leave_out",
        "device",
    },
    "mcmfh": {"recipe", "loss", "stage", "start", "resume", "stem", "leave_out", "device"},
}  # fmt: skip


def train(
    context: typer.Context,
    preset: Annotated[
        str,
        typer.Argument(
            help="Network to train: compact, acir, ... (`medlike model info` lists them). `itq` fits a rotation to a "
            "pretrained network; `mcmfh` trains a text bundle for an image bundle."
        ),
    ],
    data: Annotated[
        list[Path],
        typer.Option(
            "--data", help="A manifest.csv, its folder, or a folder with one subfolder per class. Repeatable."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new bundle.")],
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
    recipe: Annotated[str, typer.Option("--recipe", help="ours, or paper: the settings as published.")] = "ours",
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
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe or the network. Repeatable."),
    ] = None,
    stage: Annotated[
        int,
        typer.Option(
            "--stage",
            help="2 continues a finished stage 1 and trains the decoder. For hmar and hmar-compact, the first stage to "
            "run: 1 whole images, 2 cells, 3 gate.",
        ),
    ] = 1,
    start: Annotated[
        Path | None,
        typer.Option(
            "--start",
            metavar="RUN",
            help="For hmar and hmar-compact: take the whole-image network from the folder of a finished run (OUT.run). "
            "Its codes do not change.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in --work.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Random seed.")] = 0,
    stem: Annotated[
        str | None,
        typer.Option(
            "--stem",
            envvar="MEDLIKE_STEM",
            metavar="FILE",
            show_default="the shipped weights",
            help="Initial weights of the stem; `none` for random ones.",
        ),
    ] = None,
    split: Annotated[
        Path | None, typer.Option("--split", help="Split file. By default a split is made from the data.")
    ] = None,
    sources: Annotated[
        Path | None,
        typer.Option(
            "--sources",
            metavar="FILE",
            help="CSV with facts about each source: apart, origin, caution, licence (see docs/evaluation.md).",
        ),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work", help="Folder for checkpoints, curves and the record of the run.", show_default="OUT.run"
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Folder for prepared images and feature maps.", show_default="in --work"),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The bundle's name.", show_default="medlike-PRESET-BITS")
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option("--leave-out", metavar="SOURCE", help="Leave a source out of training. Repeatable."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda.")] = "auto",
    replace: Annotated[bool, typer.Option("--replace", help="Replace an existing bundle at --out.")] = False,
) -> None:
    """Train a bundle and print its measured quality."""
    refuse(context, _VAIN.get(preset, {"image_bundle"}), f"training {preset} has no use for it")
    need("train", "torch", "onnx", "onnxscript", "scipy")
    from medlike.cli.screen import note, print_json
    from medlike.datasets import Split, read_collection, read_sources, with_sources

    known = read_sources(sources) if sources else {}
    datasets = [with_sources(read_collection(path), known) for path in data]
    given = Split.load(split) if split else None
    changes = settings(set_ or ())
    changes |= {key: value for key, value in (("loss", loss), ("epochs", epochs)) if value is not None}
    if preset == "itq":
        made = _fit_rotation(datasets, out, 64 if bits is None else bits, stem, given, cache, seed, replace)
    elif preset == "mcmfh":
        from medlike.training.mcmfh import train_mcmfh

        made = train_mcmfh(
            datasets,
            out,
            image_bundle=image_bundle,
            bits=16 if bits is None else bits,
            changes=changes,
            seed=seed,
            split=given,
            work=work,
            cache=cache,
            name=name,
            replace=replace,
            say=note,
        )
    else:
        from medlike.training.train import Plan, train_network

        length = 64 if bits is None else bits
        plan = Plan(preset, length, recipe, changes, stage, seed, stem, device, tuple(leave_out or ()), start)
        made = train_network(
            datasets,
            out,
            plan,
            split=given,
            work=work,
            cache=cache,
            name=name,
            resume=resume,
            replace=replace,
            say=note,
        )
    note(f"{made.name}, {made.bytes / 1e6:.1f} MB, digest {made.digest[:16]}, in {made.path}")
    print_json(made.spec["quality"])


def settings(texts: Sequence[str]) -> dict[str, Any]:
    """Read the texts of --set: KEY=VALUE, the value as JSON where it is some; typer.BadParameter otherwise."""
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE, as in --set epochs=10", param_hint="--set")
        try:
            found[key.strip()] = strict_json.loads(value)
        except ValueError:
            found[key.strip()] = value.strip()
    return found


def _fit_rotation(
    datasets: "list[Dataset]",
    out: Path,
    bits: int,
    stem: str | None,
    split: "Split | None",
    cache: Path | None,
    seed: int,
    replace: bool,
) -> "Bundle":
    from medlike.cli.screen import note
    from medlike.errors import TrainingError
    from medlike.training.itq import RotationSettings, train_itq

    if stem is None:
        raise TrainingError("itq needs the weights of its stem; give the safetensors file with --stem")
    chosen = RotationSettings(bits=bits, seed=seed)
    return train_itq(datasets, out, stem, settings=chosen, split=split, cache=cache, replace=replace, say=note)
