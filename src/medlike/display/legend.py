"""The legend of sheets and pages: what their numbers mean, in words."""

from collections.abc import Sequence

from medlike.archive.search.result import Result

BITS = "bits that differ between the codes of two images; 0 is the same code, lower is more alike"
SHARE = "share of the region's bits that differ; lower is more alike"
SIMILARITY = "how alike two images are in content: 1 is equal, 0 is unrelated, higher is more alike"
PLACES = "place of the image in each ranking of the words, their meaning and the query's image; 1 is best"
LABEL = "share of pairs of this archive's patients, as similar as query and hit, that have the same label"
NEARER = "share of this archive's images whose nearest image of another patient is no more similar than the hit"
P = "share of the images the model knows that are at least as unusual as the query; low means outlier"
USUAL = "mean similarity to the five nearest images of others that half of this archive's images around here exceed"
INTERVAL = "95 % interval of the share of patients with this label near the query; what the archive holds, no diagnosis"


def legend(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Return the terms that results use, and what each means.

    Args:
        results: Results that are shown together.
    """
    hits = [hit for result in results for hit in result.hits]
    compared = [hit for hit in hits if hit.score is None and hit.distance is not None]
    judged = [result.familiarity for result in results if result.familiarity is not None]
    terms = (
        ("bits", BITS, any(not isinstance(hit.distance, float) for hit in compared)),
        ("% of bits", SHARE, any(isinstance(hit.distance, float) for hit in compared)),
        ("similarity", SIMILARITY, bool(compared or judged)),
        ("places", PLACES, any(hit.score is not None for hit in hits)),
        ("share a label", LABEL, any(hit.label_share is not None for hit in hits)),
        ("nearer here", NEARER, any(hit.neighbour_share is not None for hit in hits)),
        ("p", P, any(result.outlier is not None for result in results)),
        ("usual here", USUAL, any(each.alike is not None for each in judged)),
        ("interval", INTERVAL, any(str(result.summary()) for result in results if not result.is_outlier)),
    )
    return [(term, meaning) for term, meaning, used in terms if used]
