"""The application: routes, and what every request passes on its way to them."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response

from medlike import __version__
from medlike.errors import MedlikeError
from medlike.service import document, pages, parameters, problems, static_files
from medlike.service.access import OPEN, Access, Guard
from medlike.service.bounds import Bounds
from medlike.service.collections import Collections
from medlike.service.compression import Compression
from medlike.service.context import Service
from medlike.service.limits import Limits
from medlike.service.notes import forget
from medlike.service.requests import Requests, request_id
from medlike.service.routes import (
    agreement,
    archives,
    facets,
    health,
    images,
    jobs,
    marks,
    pictures,
    receipts,
    removals,
    search,
    uploads,
)

PREFIX = "/api/v1"
# In the order of their use: a request is compared with one route after another.
ROUTERS = (
    search.router, pictures.router, images.router, uploads.router, health.router, archives.router, facets.router,
    receipts.router, marks.router, agreement.router, removals.router, jobs.router,
)  # fmt: skip
log = logging.getLogger("medlike.service")
DESCRIPTION = "Find medical images like this one. A research tool, not a medical device."


def create_app(collections: Collections, access: Access, limits: Limits | None = None) -> FastAPI:
    """Return the ASGI application of a process.

    Args:
        collections: The archives; the caller closes them.
        access: Who may ask.
        limits: What a request may ask for at most.
    """
    limits = limits or Limits()
    app = FastAPI(
        title="medlike", version=__version__, description=DESCRIPTION, openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None, redoc_url=None,
        middleware=[
            Middleware(Compression),
            Middleware(Requests),
            Middleware(Bounds, limits=limits),
            Middleware(Guard, access=access),
        ],
    )  # fmt: skip
    app.state.service = Service.of(collections, limits)
    for each, archive in collections.visible("owner"):
        try:
            forget(archive)
        except MedlikeError as error:  # such as a folder that this user may only read
            log.warning("notes of archive %s were not checked for erased images: %s", each.name, error)
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX)
    document.complete(app, OPEN)
    if access.owner is not None:
        app.include_router(pages.router)
        app.include_router(static_files.router)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    return app


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = {
        404: f"there is nothing at {request.url.path}: {PREFIX}/openapi.json lists what there is",
        405: f"{request.method} is not allowed here: {PREFIX}/openapi.json lists what is",
    }.get(error.status_code, str(error.detail))
    return problems.problem(error.status_code, detail, request_id(request.scope), headers=error.headers)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    detail = parameters.invalid(error.errors()[0])
    return problems.problem(422, detail, request_id(request.scope), error="QueryError")
