"""What to train and how: every setting of a run with its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from medlike.errors import TrainingError
from medlike.models.changes import with_changes
from medlike.models.presets import NetworkSettings
from medlike.models.presets import preset as network_preset
from medlike.option import Option
from medlike.training.recipe import Recipe
from medlike.training.recipe import recipe as named_recipe

if TYPE_CHECKING:
    from medlike.training.cells_training import CellRecipe


@dataclass(frozen=True)
class TrainingPlan:
    """Settings of a training run.

    Attributes:
        preset: A name of `medlike.models.presets`.
        bits: Length of the code.
        recipe: A name of `medlike.training.recipe`.
        changes: Settings of the network or the recipe that differ.
        stage: 1 trains the network, 2 continues with its decoder. With a regional expert it is the stage to begin
            with: 1 the whole-image network, 2 the cells, 3 the gate.
        seed: Random seed.
        stem: Initial weights of the stem; `medlike.training.weights` explains them.
        device: "auto" uses a GPU if there is one.
        precision: Arithmetic of the network: "auto", "float32" or "bfloat16". "auto" is bfloat16 on a GPU and float32
            on a CPU.
        leave_out: Sources that are not trained on, to see how images of them differ from the others.
        start: Folder of a finished run whose network is the whole-image part of a regional one, in place of stage 1.
    """

    preset: Annotated[
        str,
        Option(
            "Network to train: compact, acir, ... (`medlike model info` lists them). `itq` fits a rotation to a "
            "pretrained network; `mcmfh` trains a text bundle for an image bundle.",
            argument=True,
        ),
    ]
    bits: int = 64
    recipe: Annotated[str, Option("ours, or paper: the settings as published.")] = "ours"
    changes: Annotated[
        Mapping[str, Any],
        Option(
            "Change a setting of the recipe or the network. Repeatable.",
            "--set",
            metavar="KEY=VALUE",
            text=list[str],
        ),
    ] = field(default_factory=dict)
    stage: Annotated[
        int,
        Option(
            "2 continues a finished stage 1 and trains the decoder. For hmar and hmar-compact, the first stage to "
            "run: 1 whole images, 2 cells, 3 gate."
        ),
    ] = 1
    seed: Annotated[int, Option("Random seed.")] = 0
    stem: Annotated[
        str | Path | None,
        Option(
            "Initial weights of the stem; `none` for random ones.",
            metavar="FILE",
            envvar="MEDLIKE_STEM",
            shown="the shipped weights",
            text=str,
        ),
    ] = None
    device: Annotated[str, Option("auto, cpu, cuda.")] = "auto"
    precision: Annotated[
        str,
        Option(
            "auto (bfloat16 on a GPU, float32 on a CPU), float32, bfloat16. bfloat16 takes half the time on CPUs with "
            "avx512_bf16 or amx."
        ),
    ] = "auto"
    leave_out: Annotated[tuple[str, ...], Option("Leave a source out of training. Repeatable.", metavar="SOURCE")] = ()
    start: Annotated[
        str | Path | None,
        Option(
            "For hmar and hmar-compact: take the whole-image network from the folder of a finished run (OUT.run). "
            "Its codes do not change.",
            metavar="RUN",
            text=Path,
        ),
    ] = None

    def settings(self) -> tuple[NetworkSettings, Recipe]:
        """Network settings and recipe with the changes. TrainingError for what neither knows."""
        from medlike.training.cells_training import CellRecipe

        of_recipe = {field.name for field in fields(Recipe)}
        of_cells = {field.name for field in fields(CellRecipe)}
        mine = {name: value for name, value in self.changes.items() if name in of_recipe}
        rest = {name: value for name, value in self.changes.items() if name not in of_recipe | of_cells}
        unknown = sorted(set(rest) - {field.name for field in fields(NetworkSettings)})
        if unknown:
            known = sorted(of_recipe | of_cells | {field.name for field in fields(NetworkSettings)})
            raise TrainingError(f"setting {unknown[0]!r} is unknown; known: {', '.join(known)}")
        recipe = named_recipe(self.recipe, **mine)
        # The network is built again from its settings alone, so what the recipe decides of it stands there.
        return network_preset(self.preset, **rest, share=recipe.share), recipe

    def cells(self) -> CellRecipe:
        """How the regional expert is trained, with the changes."""
        from medlike.training.cells_training import CellRecipe

        known = {field.name for field in fields(CellRecipe)}
        return with_changes(CellRecipe(), {name: value for name, value in self.changes.items() if name in known})
