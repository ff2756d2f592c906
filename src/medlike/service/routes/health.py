"""Health and readiness, for whoever supervises the service. They need no token and tell nothing."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from medlike.service import standstill
from medlike.service.answers import answer
from medlike.service.context import service_of
from medlike.service.jobs import FOLDER
from medlike.service.problems import Refusal

router = APIRouter(tags=["health"])


@router.get("/health")
def health() -> Response:
    """Say that this process answers."""
    return answer({"status": "ok"})


@router.get("/ready")
def ready(request: Request) -> Response:
    """Say that every archive can be read, and whether what was received can be indexed."""
    writing = True
    for _, archive in service_of(request).collections.visible("owner"):
        try:
            _ = archive.generation
            writing = writing and not standstill.reason(archive.path / "private" / FOLDER)
        except Exception:
            raise Refusal(503, "an archive cannot be read: its owner finds out which by `medlike verify`") from None
    return answer({"status": "ready", "writing": writing})
