"""Health and readiness, for whoever supervises the service. They need no token and tell nothing."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from medlike.service.answers import answer
from medlike.service.context import service_of
from medlike.service.problems import Refusal

router = APIRouter(tags=["health"])


@router.get("/health")
def health() -> Response:
    """Say that this process answers."""
    return answer({"status": "ok"})


@router.get("/ready")
def ready(request: Request) -> Response:
    """Say that every archive can be read."""
    for each, archive in service_of(request).collections.visible("owner"):
        try:
            _ = archive.generation
        except Exception:
            raise Refusal(503, f"archive {each.name} cannot be read: run `medlike verify`") from None
    return answer({"status": "ready"})
