"""What a route knows: the archives, the limits, and who sends the request."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from threading import BoundedSemaphore, Event
from typing import Annotated, TypeVar, cast

from fastapi import Depends, Query, Request

from medlike.archive.archive import Archive
from medlike.archive.viewer import OWNER, Private, Viewer
from medlike.service.audit import Audited, log_of
from medlike.service.collections import Collection, Collections, Role
from medlike.service.limits import Limits
from medlike.service.notes import Notes
from medlike.service.problems import Refusal
from medlike.service.requests import request_id
from medlike.service.thumbnails import Thumbnails

T = TypeVar("T")


@dataclass(frozen=True)
class Service:
    """What all requests of a process share.

    Attributes:
        collections: The archives.
        limits: What a request may ask for at most.
        thumbnails: Thumbnails that were made lately.
        renderings: Held by each request that decodes and draws pixels.
        stopping: Set when the process is to end: requests that wait for something end then.
    """

    collections: Collections
    limits: Limits
    thumbnails: Thumbnails
    renderings: BoundedSemaphore
    stopping: Event = field(default_factory=Event)

    @classmethod
    def of(cls, collections: Collections, limits: Limits) -> "Service":
        """Return what the requests of a new process share."""
        return cls(collections, limits, Thumbnails(limits.thumbnails), BoundedSemaphore(limits.renderings))

    @cached_property
    def searching(self) -> ThreadPoolExecutor:
        """Return the threads that search: as many as may at once, each of which keeps its connections open."""
        return ThreadPoolExecutor(self.limits.searches, "search")

    @cached_property
    def notes(self) -> dict[str, Notes]:
        """Return the notebooks that are open, by the name of their archive; see `Target.notes`."""
        return {}


class Unsourced:
    """The owner, in a request that does not ask for sources."""

    def may(self, what: Private) -> bool:
        """Return True for filters alone."""
        return what == "filters"

    def saw(self, what: Private, names: object) -> None:
        """Record nothing: a filter shows the owner nothing new."""


async def in_search_thread(service: Service, work: Callable[[], T]) -> T:
    """Return what a function returns in a thread that searches, once one is free.

    Args:
        service: What the requests of a process share.
        work: The function.
    """
    return await asyncio.get_running_loop().run_in_executor(service.searching, work)


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
        request_id: The id of the request.
    """

    collection: Collection
    archive: Archive
    role: Role
    service: Service
    request_id: str

    @property
    def viewer(self) -> Viewer:
        """Return what the sender may see of the private part."""
        return OWNER if self.role == "owner" else Peer()

    @property
    def notes(self) -> Notes:
        """Return the notebook of the archive; it is made where it is missing.

        Raises:
            ArchiveError: It cannot be made or read.
        """
        opened = self.service.notes
        if self.collection.name not in opened:
            opened.setdefault(self.collection.name, Notes.of(self.archive))
        return opened[self.collection.name]

    def seeing(self, sources: bool) -> Viewer:
        """Return what the sender sees in this answer; sources that are shown are recorded in the access log.

        Args:
            sources: True if the request asks for sources.

        Raises:
            Refusal: The sender may not see sources.
        """
        if self.role != "owner":
            if sources:
                raise Refusal(403, (
                    "sources are shown only to the owner of the archive, and this token is for other services: "
                    "send the owner's token, or leave `sources` out"
                ))  # fmt: skip
            return Peer()
        return Audited(log_of(self.archive.path), self.request_id, self.role) if sources else Unsourced()


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
    return Target(collection, opened, role, service, request_id(request.scope))


#: A parameter of a route: the archive that the request means.
OfArchive = Annotated[Target, Depends(target)]


async def owner_only(of: OfArchive) -> Target:
    """Return the archive that a request means, if the owner of the archives sends it.

    Raises:
        Refusal: Another service sends it.
    """
    if of.role != "owner":
        raise Refusal(403, "only the owner may do this: send the token that the service printed at its start")
    return of


#: A parameter of a route that only the owner may use: the archive that the request means.
OwnArchive = Annotated[Target, Depends(owner_only)]
