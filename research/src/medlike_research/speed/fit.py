"""`medlike bench fit`: how long it takes to fit codes to an archive, and to recode its images."""

import time
from collections.abc import Callable
from tempfile import TemporaryDirectory

import numpy as np

from medlike.archive.index.index import Index
from medlike.archive.index.indexes import fitted_layout
from medlike.archive.index.sources import FittedImages
from medlike.archive.intake.fitting import BITS, KNOWING_DIRECTIONS, SAMPLE, fitted
from medlike.archive.storage.folder import FitFacts
from medlike.codes.fit import Fit
from medlike.types import I8
from medlike_research.speed.gallery import codes
from medlike_research.speed.population import populated
from medlike_research.speed.timing import Figures

WIDTHS = (288, 128, 48)  # blocks of the content vectors of the default bundle
IMAGES = 1_000_000
KINDS = 200  # of content vectors
LARGEST = 10_000_000  # images that the figures are for


def bench(quick: bool = False, images: int | None = None, tell: Callable[[str], None] = print) -> Figures:
    """A million content vectors of 464 entries (quick: 100,000; images: so many), 64 bits, 128 directions.

    Such a fit is that of an archive whose bundle knows of nuisance.

    Lines: seconds fit-learn (from a sample of at most 100,000), fit-recode-N (content vectors to codes and fitted
    vectors, on all cores), fit-index-N (an archive without pictures and cells from its store to its index under the
    fit), and fit-recode-10M and fit-index-10M, the same as they grow in proportion.
    """
    number = images or (IMAGES // 10 if quick else IMAGES)
    found = Figures("fit", {"images": number, "bits": BITS, "directions": KNOWING_DIRECTIONS, "quick": quick})
    content = contents(number)
    tell(f"fitting to {min(number, SAMPLE):,} content vectors")
    sample = content[:SAMPLE]
    began = time.perf_counter()
    nuisance = np.eye(sum(WIDTHS))[:, :64]  # of any directions: they do not change the time
    fit = fitted(sample, np.ones(len(sample)), WIDTHS, BITS, nuisance)
    found.seconds("fit-learn", time.perf_counter() - began)
    tell(f"recoding {number:,} content vectors, then an archive of them")
    began = time.perf_counter()
    fit.encode(content)
    spent = {"recode": time.perf_counter() - began, "index": _indexed(fit, content)}
    for stage, seconds in spent.items():
        found.seconds(f"fit-{stage}-{number}", seconds)
        found.seconds(f"fit-{stage}-10M", seconds * LARGEST / number)
    return found


def contents(number: int, seed: int = 0) -> I8:
    """Content vectors around some centres: int8 [number, 464]."""
    random = np.random.default_rng(seed)
    centres = random.integers(-90, 91, (KINDS, sum(WIDTHS)), dtype=np.int8)
    rows = random.integers(-37, 38, (number, sum(WIDTHS)), dtype=np.int8)
    rows += centres[random.integers(KINDS, size=number)]
    return rows


def _indexed(fit: Fit, content: I8) -> float:
    facts = FitFacts(fit.digest, fit.bits, fit.directions.shape[1])
    with TemporaryDirectory() as folder:
        trained = codes("clustered", len(content), BITS)
        with populated(folder, trained, ["a"] * len(content), content=content) as made:
            store, place = made.archive._store, made.archive._folder.index
            index = Index(place, store, fitted_layout(made.facts, facts), FittedImages(store, made.facts.digest, fit))
            began = time.perf_counter()
            index.rebuild()
            return time.perf_counter() - began
