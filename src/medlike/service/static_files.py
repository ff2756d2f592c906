"""Files of the pages: scripts and styles, as they lie in the package."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath

from fastapi import APIRouter, Request
from starlette.responses import Response

from medlike.service.conditional import unchanged
from medlike.service.problems import Refusal

router = APIRouter(include_in_schema=False)
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class StaticFile:
    """A file of the pages.

    Attributes:
        content: Its bytes.
        kind: Its media type.
        tag: Its ETag.
    """

    content: bytes
    kind: str
    tag: str


@cache
def static_files() -> dict[str, StaticFile]:
    """Return the files of the pages, by their path below /static."""
    held: dict[str, StaticFile] = {}
    folders = [(files("medlike.service") / "static", "")]
    while folders:
        folder, path = folders.pop()
        for each in folder.iterdir():
            name = f"{path}{each.name}"
            if each.is_dir():
                folders.append((each, f"{name}/"))
            elif kind := KINDS.get(PurePosixPath(name).suffix):
                content = each.read_bytes()
                held[name] = StaticFile(content, kind, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return held


@router.get("/static/{path:path}")
def static_file(path: str, request: Request) -> Response:
    """Return a file of the pages; a browser asks each time whether it has changed."""
    file = static_files().get(path)
    if file is None:
        raise Refusal(404, f"there is no file {path[:80]!r} of the pages: reload the page")
    headers = {"etag": file.tag, "cache-control": "private, no-cache"}
    return unchanged(request, headers) or Response(file.content, 200, headers, file.kind)
