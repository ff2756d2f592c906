"""medlike train: make a bundle from labelled collections."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from medlike.errors import MissingExtra, TrainingError

EXAMPLES = """[b]Examples[/b]

medlike train itq --data a/manifest.csv --data b/manifest.csv --stem lite0.safetensors --out my-bundle

medlike train itq --data a/manifest.csv --stem lite0.safetensors --out my-bundle --split split.json
"""


def train(
    preset: Annotated[str, typer.Argument(help="What to train; `itq` fits a rotation to an untouched stem.")],
    data: Annotated[
        list[Path], typer.Option("--data", help="A manifest.csv or its folder; may be repeated.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new bundle.")],
    stem: Annotated[
        Path, typer.Option("--stem", envvar="MEDLIKE_STEM", help="ImageNet weights of the stem, a file.")
    ],
    bits: Annotated[int, typer.Option("--bits", min=8, max=512, help="Length of the code.")] = 64,
    split: Annotated[
        Path | None, typer.Option("--split", help="A split file; without, one is made from the data.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder that keeps the stem's features between runs.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the fit.")] = 0,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a bundle that is at --out.")] = False,
) -> None:
    """Train a bundle and print what it reaches."""
    for package in ("torch", "onnx", "onnxscript"):
        if find_spec(package) is None:
            raise MissingExtra(package, "train")
    if preset != "itq":
        raise TrainingError(f"preset {preset!r} cannot be trained by this command; known: itq")
    from medlike.cli.screen import note, print_json
    from medlike.datasets import Split, read_manifest
    from medlike.training.itq import RotationSettings, train_itq

    datasets = [read_manifest(path) for path in data]
    made = train_itq(
        datasets,
        out,
        stem,
        settings=RotationSettings(bits=bits, seed=seed),
        split=Split.load(split) if split else None,
        cache=cache,
        replace=replace,
        say=note,
    )
    note(f"{made.name}, {made.bytes / 1e6:.1f} MB, digest {made.digest[:16]}, in {made.path}")
    print_json(made.spec["quality"])
