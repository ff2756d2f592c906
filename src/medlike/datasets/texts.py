"""Drop placeholders from the texts of a collection."""

from __future__ import annotations

import re

# Left in by the authors of cases: form prompts, unfinished rows, bare figure numbers.
_PLACEHOLDER = re.compile(
    r"""^\W*(
        replace\ this\b.*            # "Replace this - DESCRIPTION OF THE IMAGE OR FINDINGS."
      | in\ progress
      | (to\ be\ (added|done|determined)|tba|tbd|todo|n/?a|none|null|nan|unknown|test|xx+)
      | (no\ )?(caption|description|findings?|text|image|figure|fig|ct\ image|mri?\ image)
        (\ (available|given|provided))?\W*\d*
      | description\ of\ the\ image.*
      | lorem\ ipsum\b.*
      | enter\ (text|caption|description|findings)\b.*
    )\W*$""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)


def is_placeholder(text: str) -> bool:
    """Return True for empty text and for text that a form left behind ("Replace this", "IN PROGRESS")."""
    stripped = " ".join(text.split())
    return len(stripped) < 3 or bool(_PLACEHOLDER.match(stripped))


def meaningful(text: str) -> str:
    """Return the text with white space tidied, or "" if it is a placeholder."""
    return "" if is_placeholder(text) else " ".join(text.split())
