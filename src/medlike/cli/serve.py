"""medlike serve: answer searches over HTTP, for browsers and programs."""

import os
import secrets
import stat
import sys
import tempfile
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medlike.cli.exits import need
from medlike.cli.options import archive_folder
from medlike.cli.settings import options_from_settings
from medlike.errors import InputError
from medlike.option import Option

if TYPE_CHECKING:
    from medlike.service.collections import Collection

EXAMPLES = """[b]Examples[/b]

medlike serve --demo --open

medlike serve --archive archive/

medlike serve --archive ct=/data/ct --archive mr=/data/mr --port 8080
"""
_SHORTEST = 32  # characters of a peer token
_LARGEST = 4096  # bytes of its file


@dataclass(frozen=True)
class AddressOptions:
    """Where the service listens, and with how many processes.

    Attributes:
        host: The address or name to listen on.
        port: The port; 0 for any that is free.
        workers: How many processes answer requests.
    """

    host: Annotated[
        str,
        Option("Address to listen on. One that other machines reach needs --peer-token, --tls-cert and --tls-key."),
    ] = "127.0.0.1"
    port: Annotated[int, Option("Port to listen on; 0 for any that is free.", "--port -p", min=0, max=65535)] = 8000
    workers: Annotated[
        int | None,
        Option("Processes that answer requests.", min=1, max=64, shown="one for each processor, at most 2"),
    ] = None


@dataclass(frozen=True)
class PeerOptions:
    """What lets other services search the archives.

    Attributes:
        peer_token: File with the token that they send.
        tls_cert: File of the TLS certificate.
        tls_key: File of its private key.
        hide_from_peers: Names of archives that they cannot search.
    """

    peer_token: Annotated[
        Path | None,
        Option(
            f"Let other services search with the token in this file, of at least {_SHORTEST} characters.",
            metavar="FILE",
        ),
    ] = None
    tls_cert: Annotated[Path | None, Option("Certificate for HTTPS, as PEM.", metavar="FILE")] = None
    tls_key: Annotated[Path | None, Option("Private key of the certificate, as PEM.", metavar="FILE")] = None
    hide_from_peers: Annotated[
        tuple[str, ...], Option("Name of an archive that other services cannot search. Repeatable.", metavar="NAME")
    ] = ()


@options_from_settings(AddressOptions)
@options_from_settings(PeerOptions)
def serve(
    archive: Annotated[
        list[str] | None,
        typer.Option(
            "--archive",
            "-a",
            metavar="[NAME=]DIR",
            help="Folder of an archive, and its name in the API. Repeatable; the first is the default.",
            show_default="that of MEDLIKE_ARCHIVE, or an archive in your data directory",
        ),
    ] = None,
    *,
    address: AddressOptions,
    peers: PeerOptions,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in your browser.")] = False,
    demo: Annotated[bool, typer.Option("--demo", help="Serve the sample images that come with medlike.")] = False,
) -> None:
    """Serve archives over HTTP, for browsers and programs on this machine.

    The printed address holds a token that is new with each start. Open the address in a browser, or send the token
    with each request: `Authorization: Bearer TOKEN`. Ctrl-C stops the service.
    """
    need("service", "fastapi", "uvicorn", "python_multipart", "zstandard")
    from medlike.cli.screen import note, out
    from medlike.codes.threads import cores
    from medlike.service.plan import ServicePlan
    from medlike.service.supervisor import Supervisor, claimed, listen

    loopback = _is_loopback(address.host)
    _require_safe(address.host, peers, open_page)
    plan = ServicePlan(
        _collections(archive or [], demo, peers.hide_from_peers),
        address.port,
        owner=secrets.token_urlsafe(32) if loopback else None,
        peer=None if peers.peer_token is None else _peer_token(peers.peer_token),
        loopback=loopback,
        **_certificate(peers),
    )
    with ExitStack() as stack:
        listening = stack.enter_context(listen(address.host, address.port))
        plan = replace(plan, port=listening.getsockname()[1])
        host = f"[{address.host}]" if ":" in address.host else address.host
        place = f"{plan.scheme}://{host}:{plan.port}/"
        for each in plan.collections:
            stack.enter_context(claimed(each.path, place))

        def started() -> None:
            if plan.owner is None:
                out().print(f"medlike is running for other services at {place}api/v1", soft_wrap=True, markup=False)
                return
            printed = f"{place}?token={plan.owner}"
            out().print(f"medlike is running at {printed}", soft_wrap=True, markup=False)
            if open_page and not stack.enter_context(_opened(printed)):
                note("medlike: no browser was found; open the address above in one")

        Supervisor(plan, listening, address.workers or min(2, cores())).run(started)


def _is_loopback(host: str) -> bool:
    return host in ("127.0.0.1", "localhost", "::1")


def _require_safe(host: str, peers: PeerOptions, open_page: bool) -> None:
    """Raise InputError if options do not go together."""
    if peers.hide_from_peers and peers.peer_token is None:
        raise InputError("--hide-from-peers is for services with a peer token: give --peer-token, or leave it out")
    if _is_loopback(host):
        return
    if peers.peer_token is None or peers.tls_cert is None or peers.tls_key is None:
        raise InputError(
            f"{host} is not 127.0.0.1, localhost or ::1: only other services may use another address, so give "
            "--peer-token, --tls-cert and --tls-key, or leave --host out to serve this machine"
        )
    if open_page:
        raise InputError(f"{host} has no page to open: leave out --open, or --host to serve this machine")


def _collections(given: Sequence[str], demo: bool, hidden: Sequence[str]) -> "list[Collection]":
    """Return the archives that are to be served; each is one."""
    from medlike.archive.storage.folder import Folder
    from medlike.cluster.address import is_address
    from medlike.service.collections import Collection

    if demo and not given:
        collections = [Collection("samples", _samples())]
    elif demo:
        raise InputError("--demo serves the samples alone: leave out --archive, or --demo")
    else:
        # A variable of a repeatable option would be split at its blanks.
        usual = os.environ.get("MEDLIKE_ARCHIVE") or str(archive_folder(None))
        for place in given:
            if is_address(place) or is_address(place.partition("=")[2]):
                shown = place.partition("?")[0]  # without a token
                raise InputError(f"{shown} is the address of a service: give the folder of an archive")
        collections = [Collection.of(each) for each in given or [usual]]
    places = [each.path.resolve() for each in collections]
    for path in places:
        if places.count(path) > 1:
            raise InputError(f"{path} is given twice: give each archive once")
    names = [each.name for each in collections]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two archives have the name {name}: give another, --archive NAME=DIR")
    for name in hidden:
        if name not in names:
            raise InputError(f"--hide-from-peers {name}: there is no archive of this name, only {', '.join(names)}")
    for each in collections:
        Folder.open(each.path)
    return [
        replace(each, path=path, peers=each.name not in hidden)
        for each, path in zip(collections, places, strict=True)
    ]


def _samples() -> Path:
    """Return the archive of the samples in the user's cache, complete and fitted."""
    from platformdirs import user_cache_path

    from medlike.cli.demo import indexed
    from medlike.files import make_own_folder

    folder = user_cache_path("medlike", appauthor=False) / "demo"
    make_own_folder(folder)
    archive, _ = indexed(folder / "archive")
    archive.close()
    return folder / "archive"


def _peer_token(file: Path) -> str:
    """Return the token in a file that only its owner can read."""
    advice = f"make one with: (umask 077; openssl rand -hex 32 > {file})"
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise InputError(f"{file} can be read by other users of this machine: chmod 600 {file}")
        with file.open("rb") as opened:
            token = opened.read(_LARGEST).decode("ascii").strip()
    except UnicodeDecodeError:
        raise InputError(f"{file} does not contain a token, which is ASCII text: {advice}") from None
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): {advice}") from error
    if len(token) < _SHORTEST or any(character.isspace() for character in token):
        raise InputError(f"{file} does not contain a token of at least {_SHORTEST} characters without spaces: {advice}")
    return token


def _certificate(peers: PeerOptions) -> dict[str, str]:
    """Return the files of the certificate and its key, if both are given and fit."""
    import ssl

    if peers.tls_cert is None and peers.tls_key is None:
        return {}
    if peers.tls_cert is None or peers.tls_key is None:
        raise InputError("HTTPS needs a certificate and its key: give both --tls-cert and --tls-key")
    for file in (peers.tls_cert, peers.tls_key):
        if not file.is_file():
            raise InputError(f"there is no file {file}: give the certificate and its key as PEM files")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(peers.tls_cert, peers.tls_key, password="")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{peers.tls_cert} and {peers.tls_key} are not a certificate and its key without a passphrase ({error}): "
            "give PEM files that belong together"
        ) from error
    return {"certificate": str(peers.tls_cert.resolve()), "key": str(peers.tls_key.resolve())}


@contextmanager
def _opened(address: str) -> Iterator[bool]:
    """Open an address in the browser by a file that leads to it: other users see the arguments of processes."""
    with tempfile.TemporaryDirectory(prefix="medlike-") as folder:
        page = Path(folder) / "open.html"
        page.touch(0o600)
        page.write_text(
            f'<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
            f'<meta http-equiv="refresh" content="0; url={address}"><title>medlike</title>'
        )
        # Without a screen it would be a text browser, which takes the terminal for itself.
        screen = sys.platform != "linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
        found = False
        with suppress(webbrowser.Error):
            found = screen and webbrowser.open(page.as_uri())
        yield found
