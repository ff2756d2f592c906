"""Viewers: who looks at the private part of an archive, what they may see, and the hook that each look passes."""

from collections.abc import Sequence
from typing import Literal, Protocol

#: What is private: where an image came from (path, frame, UIDs, dates), kept identifiers (names, patient ids), and
#: filters by the true patient, study or series.
Private = Literal["source", "identifiers", "filters"]


class Viewer(Protocol):
    """Somebody who searches. The service gives each request one; an archive's owner is the default."""

    def may(self, what: Private) -> bool:
        """Return whether the viewer may see something private. Asked before it is read."""
        ...

    def saw(self, what: Private, names: Sequence[str]) -> None:
        """Note that something private is shown now. What this raises keeps it from being shown.

        Args:
            what: The kind of what is shown.
            names: Public ids of the images, or the fields of a filter.
        """
        ...


class Owner:
    """The owner of an archive: may see everything, and is not watched."""

    def may(self, what: Private) -> bool:
        """Return True."""
        return True

    def saw(self, what: Private, names: Sequence[str]) -> None:
        """Note nothing."""


OWNER = Owner()
