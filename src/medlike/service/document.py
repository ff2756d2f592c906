"""The OpenAPI document: what holds for every route is written here once."""

from fastapi import FastAPI

from medlike.service.problems import MEDIA_TYPE
from medlike.types import JsonObject

PROBLEM: JsonObject = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "What kind of error it is."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "The value, the limit and what to do."},
        "request_id": {"type": "string", "description": "By this the log of the service names the request."},
        "error": {"type": "string", "description": "The class of medlike's exception."},
    },
}
_REFUSED: JsonObject = {
    "description": "The request is refused, or it failed.",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Refusal"}}},
}
#: What FastAPI adds for requests that it finds invalid; here they are problems like all others.
_REPLACED = ("HTTPValidationError", "ValidationError")


def complete(app: FastAPI, open_paths: tuple[str, ...]) -> None:
    """Describe in an application's document its token and, for every route, the form of its errors.

    Args:
        app: The application, with all its routes.
        open_paths: The paths that need no token.
    """
    plain = app.openapi

    def document() -> JsonObject:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(plain(), open_paths)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _completed(document: JsonObject, open_paths: tuple[str, ...]) -> JsonObject:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in _REPLACED:
        schemas.pop(name, None)
    schemas["Refusal"] = PROBLEM
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, item in document["paths"].items():
        for operation in item.values():
            responses = operation["responses"]
            if "HTTPValidationError" in str(responses.get("422")):
                del responses["422"]
            responses.setdefault("default", _REFUSED)
            if path not in open_paths:
                operation["security"] = [{"token": []}]
    return document
