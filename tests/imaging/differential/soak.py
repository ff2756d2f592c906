"""Print how often medlike and an independent decoder agree about generated files, and every disagreement.

    python tests/imaging/differential/soak.py --runs 2000
    python tests/imaging/differential/soak.py --family "JPEG 2000" --seed 17 --runs 1

Exit code 1: a disagreement.
"""

import argparse
import sys
from collections import Counter

from comparison import FAMILIES, compare


def main():
    parser = argparse.ArgumentParser(description="Compare medlike with independent decoders on generated files.")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="first seed; the n-th round has seed + n")
    parser.add_argument("--family", choices=FAMILIES, action="append")
    options = parser.parse_args()
    families = options.family or FAMILIES
    agreed, disagreed = Counter(), Counter()
    for run in range(options.runs):
        family, seed = families[run % len(families)], options.seed + run // len(families)
        try:
            wrong, words = compare(family, seed)
        except Exception as error:
            wrong, words = f"{type(error).__name__}: {error}", []
        (disagreed if wrong else agreed)[family] += 1
        if wrong:
            print(f'--family "{family}" --seed {seed}: {", ".join(words)}\n    {wrong}', flush=True)
    for family in families:
        print(f"{family:<20} {agreed[family]:>5} agree  {disagreed[family]:>5} disagree")
    return 1 if disagreed else 0


if __name__ == "__main__":
    sys.exit(main())
