"""The archives that a service holds, each under a name and with its own visibility."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medlike.errors import InputError, MedlikeError

if TYPE_CHECKING:
    from medlike.archive.archive import Archive


#: Who sends a request: the owner of the archives, with the token of this start, or another service, with a peer token.
Role = Literal["owner", "peer"]
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class UnknownArchive(InputError):
    """Raised if a request names an archive that the service does not hold, or that its sender may not see."""


@dataclass(frozen=True)
class Collection:
    """An archive that a service holds.

    Attributes:
        name: Its name in the API.
        path: Its folder.
        peers: True if other services may search it.
    """

    name: str
    path: Path
    peers: bool = True

    def visible(self, role: Role) -> bool:
        """Return True if a role sees the collection at all.

        Args:
            role: Who sends the request.
        """
        return role == "owner" or self.peers

    @classmethod
    def of(cls, text: str, peers: bool = True) -> "Collection":
        """Return the collection of NAME=DIR or DIR, which is named after its folder.

        Raises:
            InputError: The name is none.
        """
        name, equals, place = text.partition("=")
        folder = Path(place if equals else text).expanduser()
        name = name if equals else re.sub(r"[^a-z0-9._-]+", "-", folder.resolve().name.lower()).strip("-.") or "archive"
        if not _NAME.fullmatch(name):
            raise InputError(f"{name!r} is not a name for an archive: use up to 63 of a-z, 0-9, `.`, `-` and `_`")
        return cls(name, folder, peers)


class Collections:
    """The open archives of one process, by name; the first is the one that requests mean unless they name one."""

    def __init__(self, collections: Sequence[Collection]) -> None:
        """Open the archives; encoders and indexes are loaded with the first search.

        Raises:
            ArchiveError: One of them is missing or damaged.
            InputError: Two have one name.
        """
        from medlike.archive.archive import Archive

        self._held = {each.name: each for each in collections}
        if len(self._held) < len(collections) or not collections:
            raise InputError("give at least one archive, and each a name of its own: --archive NAME=DIR")
        self._archives: dict[str, Archive] = {}
        try:
            for each in collections:
                self._archives[each.name] = Archive.open(each.path)
                _ = self._archives[each.name].generation  # a damaged store is found out now
        except MedlikeError:
            self.close()
            raise

    def visible(self, role: Role) -> Iterator[tuple[Collection, "Archive"]]:
        """Yield the collections that a role sees, each with its archive.

        Args:
            role: Who sends the request.
        """
        for name, each in self._held.items():
            if each.visible(role):
                yield each, self._archives[name]

    def find(self, name: str | None, role: Role) -> tuple[Collection, "Archive"]:
        """Return a collection and its archive.

        Args:
            name: Its name; the first that the role sees unless given.
            role: Who sends the request.

        Raises:
            UnknownArchive: There is none of this name, or the role does not see it.
        """
        for each, archive in self.visible(role):
            if name in (None, each.name):
                return each, archive
        known = ", ".join(each.name for each, _ in self.visible(role)) or "none"
        raise UnknownArchive(f"this service has no archive {name!r}: use one of {known}")

    def warm(self) -> None:
        """Load what searches need, so that the first ones do not take longer; errors are left to the searches."""
        from medlike.archive.search.query import Query

        for archive in list(self._archives.values()):
            with suppress(Exception):
                for image in archive.browse(limit=1).images:
                    archive.search(Query(id=image.id), k=1)
                with archive.session() as session:
                    _ = session.loaded.encoder

    def close(self) -> None:
        """Close all archives."""
        for archive in self._archives.values():
            archive.close()
