"""The network: httpx, time-outs, and which requests are sent again. Nothing else in medlike imports httpx."""

import os
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from medlike import __version__
from medlike.cluster.address import Address
from medlike.cluster.exchange import Call, Reply, compact_json
from medlike.errors import ArchiveError, InputError, MedlikeError

CONNECT = 5.0  # seconds
ATTEMPTS = 3
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between two attempts
#: The connection was not made, so nothing was sent.
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
#: The service is busy, or a proxy before it has lost it.
BUSY = (502, 503, 504)
#: What is raised where no answer comes.
Broken = httpx.RequestError


def connected(options: dict[str, Any], transport: httpx.BaseTransport | None) -> httpx.Client:
    """Return a client of httpx; it connects with the first request.

    Args:
        options: Those of `options`.
        transport: What sends the requests instead of the network.
    """
    return httpx.Client(**options, transport=transport)


def connected_async(options: dict[str, Any], transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    """Return an asynchronous client of httpx; `connected` explains the arguments."""
    return httpx.AsyncClient(**options, transport=transport)


def options(
    address: Address, token: str | None, timeout: float, certificates: str | Path | None
) -> dict[str, Any]:
    """Return the arguments of a client of httpx.

    Args:
        address: The service.
        token: The token, None for none.
        timeout: Seconds for which the service may be silent.
        certificates: File with the certificates of who signs the service's; those of the system unless given.

    Raises:
        InputError: The token or the file cannot be used.
    """
    headers = {"user-agent": f"medlike/{__version__}", "accept": "application/json, */*;q=0.5"}
    if token is not None:
        if not token.isascii() or not token.isprintable() or " " in token:
            raise InputError("the token contains a character that no token has, such as a space: give it as printed")
        headers["authorization"] = f"Bearer {token}"
    return {
        "base_url": address.api,
        "headers": headers,
        "params": {} if address.archive is None else {"archive": address.archive},
        "timeout": httpx.Timeout(timeout, connect=min(CONNECT, timeout)),
        # No proxy, and no .netrc that would send another password in place of the token.
        "trust_env": False,
        "verify": _certificates(certificates) if address.url.startswith("https") else False,
    }


def _certificates(file: str | Path | None) -> ssl.SSLContext:
    given = file or os.environ.get("SSL_CERT_FILE")
    try:
        return ssl.create_default_context(cafile=None if given is None else str(given))
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"{given} contains no readable certificates ({error}): give a PEM file") from None


@contextmanager
def arguments(call: Call, timeout: float) -> Iterator[dict[str, Any]]:
    """Yield the arguments of `build_request`; files stay open meanwhile.

    Args:
        call: The request.
        timeout: The time-out of the client, seconds.
    """
    made: dict[str, Any] = {"params": call.params} if call.params else {}
    if call.seconds:
        made["timeout"] = httpx.Timeout(timeout + call.seconds, connect=min(CONNECT, timeout))
    if call.json is not None:
        made |= {"content": compact_json(call.json), "headers": {"content-type": "application/json"}}
    with ExitStack() as files:
        if call.form:
            made["data"] = {name: value for name, value in call.form if isinstance(value, str)}
            made["files"] = [
                (name, (value.name, files.enter_context(value.open()), "application/octet-stream"))
                for name, value in call.form
                if not isinstance(value, str)
            ]
        yield made


def reply_of(response: httpx.Response) -> Reply:
    """Return a response of httpx, read to its end, as a Reply."""
    return Reply(response.status_code, {k.lower(): v for k, v in response.headers.items()}, response.content)


def pause(call: Call, attempt: int, reply: Reply | None, error: httpx.RequestError | None) -> float | None:
    """Return how many seconds later a request is sent again; None if it is not.

    It is if nothing was sent, or if sending it twice does no more than sending it once and the connection broke or the
    service is busy. After a time-out it is not: the service may still be at it.

    Args:
        call: The request.
        attempt: How many attempts were made before this one.
        reply: The answer, if there was one.
        error: What happened instead.
    """
    if attempt + 1 >= ATTEMPTS:
        return None
    waited = min(FIRST_PAUSE * 4**attempt, LONGEST_PAUSE)
    if error is not None:
        broken = call.repeatable and not isinstance(error, httpx.TimeoutException | httpx.UnsupportedProtocol)
        return waited if isinstance(error, UNSENT) or broken else None
    if reply is None or reply.status not in BUSY or not call.repeatable:
        return None
    after = reply.headers.get("retry-after", "")
    return min(float(after), LONGEST_PAUSE) if after.isdecimal() else waited


def unreachable(url: str, call: Call, error: httpx.RequestError) -> MedlikeError:
    """Return what is said if there is no answer.

    Args:
        url: The address.
        call: The request.
        error: What happened.
    """
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return ArchiveError(f"{url} did not answer in time: check the address, and that the service runs there")
    if isinstance(error, httpx.ConnectError):
        if "certificate" in str(error).lower():
            return ArchiveError(
                f"{url} has a certificate that is not trusted here ({error}): set SSL_CERT_FILE to the "
                "file with the certificate of its issuer"
            )
        if "[SSL" in str(error):
            return ArchiveError(f"{url} does not answer over HTTPS ({error}): write http:// if it has no certificate")
        return ArchiveError(f"no service answers at {url}: start one with `medlike serve`, or check the address")
    done = "" if call.repeatable else "; it may have done what was asked: look before you ask again"
    if isinstance(error, httpx.TimeoutException):
        return ArchiveError(f"{url} did not answer in time: ask again, or with a longer time-out{done}")
    return ArchiveError(f"the connection to {url} was lost ({type(error).__name__}): check that the service runs{done}")
