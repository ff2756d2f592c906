"""What a service is to do: its archives, its address, and who may ask. The supervisor hands it to each process."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from medlike.service.collections import Collection
from medlike.types import JsonObject

#: Names by which a browser on this machine may call the service.
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class ServicePlan:
    """What all processes of a service know.

    Attributes:
        collections: The archives.
        port: The port of the address.
        owner: The owner's token; None if only other services may ask.
        peer: The token of other services; None if none may ask.
        loopback: True if the address is this machine's own, so that only its names may be used.
        certificate: File of the TLS certificate; None for HTTP.
        key: File of its private key.
    """

    collections: Sequence[Collection]
    port: int
    owner: str | None = field(default=None, repr=False)
    peer: str | None = field(default=None, repr=False)
    loopback: bool = True
    certificate: str | None = None
    key: str | None = None

    @property
    def scheme(self) -> str:
        """Return http or https."""
        return "https" if self.certificate else "http"

    def to_dict(self) -> JsonObject:
        """Return the plan as plain data."""
        held = [{"name": each.name, "path": str(each.path), "peers": each.peers} for each in self.collections]
        return {**asdict(self), "collections": held}

    @classmethod
    def from_dict(cls, facts: JsonObject) -> "ServicePlan":
        """Return the plan that `to_dict` wrote."""
        held = [Collection(each["name"], Path(each["path"]), each["peers"]) for each in facts["collections"]]
        return cls(**{**facts, "collections": held})
