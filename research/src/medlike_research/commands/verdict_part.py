"""Write a copy of a bundle whose outlier part is calibrated over sources left out in turn; its codes are the same.

    python -m medlike_research.commands.verdict_part BUNDLE OUT [--work DIR]

Graph and weights stay as they are, so the encoder's digest does and archives of the former bundle open with the copy.
The part is that of study `verdicts`: half of each kind of outlier is fitted to, so the study judges the copy fairly.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from medlike.bundle import Bundle, rewrite
from medlike.training.quality import measure_bundle
from medlike.types import Array
from medlike_research.studies.bench import Bench, open_bench
from medlike_research.studies.settings import BenchSettings
from medlike_research.studies.verdicts import fit, material


def with_verdict_part(bench: Bench, out: Path) -> Bundle:
    """Write the bench's bundle with an outlier part fitted to the bench's collections at `out`, and return it.

    Raises:
        BundleError: There is something at `out` already.
    """
    found = material(bench)
    arrays, facts = fit(found, np.ones(len(found.origins), bool), found.fitting)
    names = [name for name in bench.bundle.array_names() if name.startswith("outlier.")]
    nothing: Array = np.zeros(0, np.float32)
    rewrite(bench.bundle, out, dict.fromkeys(names, nothing) | arrays, {"outlier": facts})
    draft = Bundle.load(out)
    quality = measure_bundle(draft, bench.wide, bench.split, bench.data)
    return rewrite(draft, out, None, {"quality": quality}, replace=True)


def main() -> None:
    """Read the command line and write the copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="name or folder of an image bundle")
    parser.add_argument("out", type=Path, help="folder of the copy")
    parser.add_argument("--work", type=Path, default=Path("runs/study-cache"), help="folder of kept features")
    given = parser.parse_args()
    bench = open_bench([], None, given.work, BenchSettings(bundle=given.bundle), print)
    made = with_verdict_part(bench, given.out)
    print(f"{given.out}: digest {made.digest}, encoder {made.encoder_digest}")


if __name__ == "__main__":
    main()
