"""What a route knows: the archives, the limits, and who sends the request."""

from dataclasses import dataclass, field
from threading import Event
from typing import Annotated, cast

from fastapi import Depends, Query, Request

from medlike.archive.archive import Archive
from medlike.archive.viewer import OWNER, Private, Viewer
from medlike.service.collections import Collection, Collections, Role
from medlike.service.limits import Limits
from medlike.service.problems import Problem


@dataclass(frozen=True)
class Service:
    """What all requests of a process share.

    Attributes:
        collections: The archives.
        limits: What a request may ask for at most.
        stopping: Set when the process is to end: requests that wait for something end then.
    """

    collections: Collections
    limits: Limits
    stopping: Event = field(default_factory=Event)


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


def service_of(request: Request) -> Service:
    """Return what all requests of this process share."""
    return cast(Service, request.app.state.service)


def role_of(request: Request) -> Role:
    """Return who sends a request, as `access` found out."""
    return cast(Role, request.scope["medlike.role"])


def target(
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


def owner_only(of: OfArchive) -> Target:
    """Return the archive that a request means, if the owner of the archives sends it.

    Raises:
        Problem: Another service sends it.
    """
    if of.role != "owner":
        raise Problem(403, "only the owner may do this: send the token that the service printed at its start")
    return of


#: A parameter of a route that only the owner may use: the archive that the request means.
OwnArchive = Annotated[Target, Depends(owner_only)]
