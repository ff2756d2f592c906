"""How to measure bundles: every setting with its default."""

from dataclasses import dataclass
from typing import Annotated

from medlike.option import Option

#: Headings of the options of `medlike evaluate`.
BUNDLES = "Bundles on a collection"


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of measuring bundles on a collection.

    Attributes:
        k: Cut-off of the figures that have one.
        minimum: Images that a label needs to count.
        everything: If true, every image is a query against all others.
        floors: If true, also measure methods that need no training.
    """

    k: Annotated[int, Option("Cut-off of map_at_k, map_at_k_hits and ndcg_at_k.", min=1)] = 100
    minimum: Annotated[int, Option("Leave out labels with fewer images.", min=2, panel=BUNDLES)] = 40
    everything: Annotated[
        bool,
        Option(
            "Use every image as a query against all others, for collections that no bundle was trained on.",
            panel=BUNDLES,
        ),
    ] = False
    floors: Annotated[
        bool,
        Option(
            "Also measure fingerprints, perceptual hash, ITQ and others that need no training.",
            "--floors/--no-floors",
            panel=BUNDLES,
        ),
    ] = True
