"""Archives of a service: which there are, and what each holds."""

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from medlike.service import standstill
from medlike.service.answers import answer
from medlike.service.context import OfArchive, role_of, service_of
from medlike.service.parameters import known_parameters

router = APIRouter(tags=["archives"], dependencies=[Depends(known_parameters)])


@router.get("/archives")
def archives(request: Request) -> Response:
    """List the archives that you may search, with the number of their images."""
    role = role_of(request)
    visible = service_of(request).collections.visible(role)
    return answer({"archives": [
        {"name": each.name, "images": len(archive), "id": archive.id} for each, archive in visible
    ]})  # fmt: skip


@router.get("/archive")
def archive(of: OfArchive) -> Response:
    """Say what an archive holds: images, bytes by part, bundles, fit, generation."""
    facts = {"name": of.collection.name, **of.archive.info()}
    if of.role == "owner":
        facts |= standstill.waiting(of.archive.path) if facts["received"] else {}
    else:
        del facts["refused"]  # the names of files may name somebody
    return answer(facts)
