"""Viewers: what a user is permitted to see of the private part of an archive, and the hook for auditing."""

from collections.abc import Sequence
from typing import Literal, Protocol

#: What is private: where an image came from (path, frame, UIDs, dates), kept identifiers (names, patient ids), and
#: filters by the true patient, study or series.
Private = Literal["source", "identifiers", "filters"]


class Viewer(Protocol):
    """Decide and record what one user sees. The service makes one for each request; the default is the owner."""

    def may(self, what: Private) -> bool:
        """Return True if the viewer is permitted to see something private. Called before it is read.

        Args:
            what: The kind of private fact.
        """
        ...

    def saw(self, what: Private, names: Sequence[str]) -> None:
        """Record that something private is about to be shown. An exception raised here prevents that.

        Args:
            what: The kind of private fact.
            names: Public ids of the images, or the fields of a filter.
        """
        ...


class Owner:
    """See everything, and record nothing: the owner of the archive."""

    def may(self, what: Private) -> bool:
        """Return True."""
        return True

    def saw(self, what: Private, names: Sequence[str]) -> None:
        """Record nothing."""


OWNER = Owner()
