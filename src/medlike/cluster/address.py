"""Addresses of services, and the token that goes with them."""

import ipaddress
import os
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from medlike.errors import InputError

TOKEN = "MEDLIKE_TOKEN"  # the environment variable
API = "/api/v1/"
TIMEOUT = 60.0  # seconds for which a service may be silent, unless its client says otherwise


def is_address(text: str) -> bool:
    """Return True if a text is the address of a service and not the path of a folder.

    Args:
        text: What was given as the archive.
    """
    return text.lower().startswith(("http://", "https://"))


@dataclass(frozen=True)
class Address:
    """Where a service is.

    Attributes:
        url: Scheme, host and port, and a path if it lies below one; no slash at the end.
        archive: The name of one of its archives; None for the first.
        token: The token, where the address holds one as `medlike serve` prints it.
    """

    url: str
    archive: str | None = None
    token: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, text: str, archive: str | None = None) -> "Address":
        """Return the address that a text gives: http://HOST:PORT, with ?archive=NAME, ?token=TOKEN or both.

        Args:
            text: The text.
            archive: The name of an archive, unless the text has one.

        Raises:
            InputError: It is not the address of a service, or the token would be sent where others can read it.
        """
        try:
            parts = urlsplit(text)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise InputError(f"{text!r} is not an address ({error}): give one like http://127.0.0.1:8000") from None
        if parts.scheme not in ("http", "https") or not host:
            raise InputError(f"{text!r} is not the address of a service: give one like http://127.0.0.1:8000")
        asked = parse_qs(parts.query, keep_blank_values=True)
        if parts.username or parts.password or parts.fragment or set(asked) - {"archive", "token"}:
            raise InputError(
                "the address holds more than host, port, ?archive=NAME and ?token=TOKEN: leave the rest out"
            )
        if parts.scheme == "http" and not _loopback(host):
            raise InputError(
                f"the token would cross the network readably to {host}: use https://, or a tunnel to 127.0.0.1"
            )
        named = asked.get("archive", [archive])[-1]
        path = parts.path.rstrip("/").removesuffix(API.rstrip("/"))
        token = asked.get("token", [""])[-1]
        return cls(f"{parts.scheme}://{parts.netloc}{path}", named or None, token or None)

    @property
    def api(self) -> str:
        """Return where the routes begin."""
        return self.url + API

    @property
    def local(self) -> bool:
        """Return True if the service is on this machine."""
        return _loopback(urlsplit(self.url).hostname or "")

    def __str__(self) -> str:
        return self.url if self.archive is None else f"{self.url}?archive={self.archive}"


def token_from_environment() -> str | None:
    """Return the token that the environment gives."""
    return os.environ.get(TOKEN, "").strip() or None


def _loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
