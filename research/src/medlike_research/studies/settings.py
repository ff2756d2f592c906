"""How to run a study: every setting with its default."""

from dataclasses import dataclass
from typing import Annotated

from medlike.option import Option


@dataclass(frozen=True)
class BenchSettings:
    """Settings of a study.

    Attributes:
        bundle: The bundle to study, for studies of a finished one.
        stem: File of ImageNet weights.
        preset: Network of the cells that train.
        bits: Lengths of the codes.
        seeds: Seeds of the runs of each trained cell.
        epochs: Epochs of trained cells; None for the recipe's.
        device: "cpu" or "cuda".
        limit: Images a part at most, to try a study; printed in its report. None for all.
        folds: Groups of sources that are left out together; 0 for none. Cells of other numbers have other names.
    """

    bundle: Annotated[str | None, Option("Name or folder of the bundle to study.", "--bundle -b", metavar="B")] = None
    stem: Annotated[
        str | None, Option("ImageNet weights, for cells that train.", metavar="FILE", envvar="MEDLIKE_STEM")
    ] = None
    preset: Annotated[str, Option("Network of the cells that train.")] = "compact"
    bits: Annotated[
        tuple[int, ...], Option("Code lengths, separated by commas.", shown="16,32,64,128", text=str)
    ] = (16, 32, 64, 128)
    seeds: Annotated[tuple[int, ...], Option("Runs of every trained cell.", min=1, shown="3", text=int)] = (0, 1, 2)
    epochs: Annotated[int | None, Option("Epochs of trained cells, instead of the recipe's.", min=1)] = None
    device: Annotated[str, Option("cpu or cuda.")] = "cpu"
    limit: Annotated[
        int | None,
        Option(
            "Use at most this many images per part, to try a study. Cells that train need about 200.", min=20
        ),
    ] = None
    folds: Annotated[
        int, Option("cross-domain: groups of sources left out together; 0 for none.", min=0)
    ] = 3
