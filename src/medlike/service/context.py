"""What a route knows: the archives, the limits, and who sends the request."""

from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import Annotated, cast

from fastapi import Depends, Query, Request

from medlike.archive.archive import Archive
from medlike.archive.viewer import OWNER, Private, Viewer
from medlike.service.collections import Collection, Collections, Role
from medlike.service.limits import Limits
from medlike.service.problems import Problem
from medlike.service.thumbnails import Thumbnails


@dataclass(frozen=True)
class Service:
    """What all requests of a process share.

    Attributes:
        collections: The archives.
        limits: What a request may ask for at most.
        thumbnails: Thumbnails that were made lately.
        renderings: Held by each request that decodes and draws pixels.
    """

    collections: Collections
    limits: Limits
    thumbnails: Thumbnails
    renderings: BoundedSemaphore

    @classmethod
    def of(cls, collections: Collections, limits: Limits) -> "Service":
        """Return what the requests of a new process share."""
        return cls(collections, limits, Thumbnails(limits.thumbnails), BoundedSemaphore(limits.renderings))


class Unsourced:
    """The owner, in a request that does not ask for sources."""

    def may(self, what: Private) -> bool:
        """Return True for filters alone."""
        return what == "filters"

    def saw(self, what: Private, names: object) -> None:
        """Record nothing: a filter shows the owner nothing new."""


class Peer:
    """Another service: it sees nothing private."""

    def may(self, what: Private) -> bool:
        """Return False."""
        return False

    def saw(self, what: Private, names: object) -> None:
        """Record nothing: nothing is shown."""


@dataclass(frozen=True)
class Target:
    """The archive that a request means, and who sends it.

    Attributes:
        collection: Its name and visibility.
        archive: The archive.
        role: Who sends the request.
        service: What all requests share.
    """

    collection: Collection
    archive: Archive
    role: Role
    service: Service

    @property
    def viewer(self) -> Viewer:
        """Return what the sender may see of the private part."""
        return OWNER if self.role == "owner" else Peer()

    def seeing(self, sources: bool) -> Viewer:
        """Return what the sender sees in this answer.

        Args:
            sources: True if the request asks for sources.

        Raises:
            Problem: The sender may not see sources.
        """
        if sources and self.role != "owner":
            raise Problem(403, "sources are shown only to the owner of the archive: leave `sources` out")
        return self.viewer if sources or self.role != "owner" else Unsourced()


def service_of(request: Request) -> Service:
    """Return what all requests of this process share."""
    return cast(Service, request.app.state.service)


def role_of(request: Request) -> Role:
    """Return who sends a request, as `access` found out."""
    return cast(Role, request.scope["medlike.role"])


async def target(
    request: Request,
    archive: Annotated[
        str | None, Query(description="Name of the archive; the first one unless given.", max_length=63)
    ] = None,
) -> Target:
    """Return the archive that a request means.

    Raises:
        UnknownArchive: The service has none of this name that the sender may see.
    """
    service, role = service_of(request), role_of(request)
    collection, opened = service.collections.find(archive, role)
    return Target(collection, opened, role, service)


#: A parameter of a route: the archive that the request means.
OfArchive = Annotated[Target, Depends(target)]
