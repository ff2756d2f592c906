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
            help="compact, acir, ... (`medlike model info` lists them); `itq` fits a rotation to an untouched stem; "
            "`mcmfh` makes a text bundle beside an image bundle."
        ),
    ],
    data: Annotated[
        list[Path], typer.Option("--data", help="A manifest.csv, its folder, or a folder a class; may be repeated.")
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
            help="For mcmfh: the image bundle that the text bundle goes with, by name or path.",
            show_default="the default one",
        ),
    ] = None,
    recipe: Annotated[str, typer.Option("--recipe", help="ours, or paper: as published.")] = "ours",
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            help="sch, sch-released, or a loss that a package adds: medlike-research has csq, dch, dpsh, dsh, hashnet.",
            show_default="the recipe's",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="Times through the data.", show_default="the recipe's"),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the recipe or the network; may be repeated."),
    ] = None,
    stage: Annotated[
        int,
        typer.Option(
            "--stage",
            help="2 goes on from a finished stage 1 and trains the decoder. With a regional expert (hmar, "
            "hmar-compact) the stage to begin with: 1 whole images, 2 cells, 3 gate.",
        ),
    ] = 1,
    start: Annotated[
        Path | None,
        typer.Option(
            "--start",
            metavar="RUN",
            help="For hmar and hmar-compact: folder of a finished run (OUT.run) whose network is the whole-image "
            "side, in place of training it again; its codes stay as they are.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --work.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random.")] = 0,
    stem: Annotated[
        str | None,
        typer.Option(
            "--stem",
            envvar="MEDLIKE_STEM",
            metavar="FILE",
            show_default="what ships",
            help="Weights that the stem starts from; `none` for random ones.",
        ),
    ] = None,
    split: Annotated[
        Path | None, typer.Option("--split", help="A split file; without, one is made from the data.")
    ] = None,
    sources: Annotated[
        Path | None,
        typer.Option(
            "--sources",
            metavar="FILE",
            help="CSV with what is known of the sources: apart, origin, caution, licence (docs/evaluation.md).",
        ),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option("--work", help="Folder of the run: checkpoint, curves, record.", show_default="OUT.run"),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder of prepared pictures and maps.", show_default="in --work")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The bundle's name.", show_default="medlike-PRESET-BITS")
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option("--leave-out", metavar="SOURCE", help="A source that takes no part; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda.")] = "auto",
    replace: Annotated[bool, typer.Option("--replace", help="Replace a bundle that is at --out.")] = False,
) -> None:
    """Train a bundle and print what it reaches."""
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
