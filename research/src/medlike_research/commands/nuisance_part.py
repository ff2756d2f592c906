"""Write a copy of a bundle that knows how content vectors scatter between an image and altered copies of it.

    python -m medlike_research.commands.nuisance_part BUNDLE OUT [--work DIR]

Graph, weights and codes stay as they are. By the scatter, the order of fitted archives puts the original of an altered
copy first. It is learned on the train part of the development collections.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from medlike.bundle import Bundle, rewrite
from medlike.bundle.bundle import NUISANCE
from medlike_research.studies.bench import Bench, open_bench
from medlike_research.studies.nuisance import copies
from medlike_research.studies.settings import BenchSettings


def with_nuisance_part(bench: Bench, out: Path) -> Bundle:
    """Write the bench's bundle with the scatter of altered copies at `out`, and return it.

    Raises:
        BundleError: There is something at `out` already.
    """
    known = copies(bench)
    return rewrite(bench.bundle, out, {NUISANCE: known.factor(set(known.sources)).astype(np.float16)})


def main() -> None:
    """Read the command line and write the copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="name or folder of an image bundle")
    parser.add_argument("out", type=Path, help="folder of the copy")
    parser.add_argument("--work", type=Path, default=Path("runs/study-cache"), help="folder of kept encodings")
    given = parser.parse_args()
    bench = open_bench([], None, given.work, BenchSettings(bundle=given.bundle), print)
    made = with_nuisance_part(bench, given.out)
    print(f"{given.out}: digest {made.digest}, encoder {made.encoder_digest}")


if __name__ == "__main__":
    main()
