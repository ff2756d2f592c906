"""Studies by name: each a question, cells that resume after a kill, and a report."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from medlike.errors import QueryError

if TYPE_CHECKING:
    from medlike_research.studies.study import Study

# Loaded on first use: most studies need torch or a bundle, and the list must not.
_MODULES = {
    "methods": "methods",
    "ablation": "ablation",
    "bits": "bits",
    "ood": "detection",
    "verdicts": "verdicts",
    "familiar": "familiar",
    "known-item": "known_item",
    "robustness": "robustness",
    "pretraining": "pretraining",
    "cross-domain": "cross_domain",
    "adaptation": "adaptation",
    "published": "published",
    "perception": "perception",
    "regions": "regions",
    "text": "text",
    "speed": "speed",
}
NAMES = tuple(_MODULES)


def find_study(name: str) -> Study:
    """The study of that name; QueryError lists the known ones."""
    if name not in _MODULES:
        raise QueryError(f"study {name!r} is unknown; known: {', '.join(NAMES)}")
    found: Study = import_module(f"medlike_research.studies.{_MODULES[name]}").STUDY
    return found
