"""Decide what an image's terms allow: training of published weights, and being drawn in a report."""

from __future__ import annotations

import re

from medlike.datasets.sample import Sample

_RESTRICTED = re.compile(
    r"\b(NC|ND)\b|non-?\s?commercial|no\s?deriv|research (purposes|use) only|academic use only", re.IGNORECASE
)
_OPEN = re.compile(r"^(CC0|CC[ -]BY(-SA)?\b|PDDL|public domain|MIT\b|Apache-2|BSD-[23])(?!-N)", re.IGNORECASE)
_UNSURE = re.compile(r"not stated|none given|file terms vary|\bterms not\b|\(repo\)|for code", re.IGNORECASE)


def image_terms(licence: str) -> str:
    """Return the terms of the image: what follows `image:` if boxes and image have different terms."""
    return licence.split("image:", 1)[1].strip() if "image:" in licence else licence.strip()


def may_train(sample: Sample) -> bool:
    """Return False if the terms say non-commercial, no derivatives or research only: not for shipped weights."""
    return not _RESTRICTED.search(image_terms(sample.licence))


def may_draw(sample: Sample) -> bool:
    """Return True if the terms are stated and allow the picture to be shown in a published report."""
    terms = image_terms(sample.licence)
    return bool(_OPEN.match(terms)) and not _RESTRICTED.search(terms) and not _UNSURE.search(terms)
