"""What the API's description says of searches and of their answers."""

import re
from functools import lru_cache
from importlib.resources import files
from typing import get_args

from medlike import strict_json
from medlike.archive.search.query import Query
from medlike.archive.search.settings import (
    Codes,
    Collapse,
    Grouping,
    Rank,
    RegionDistance,
    RegionTurns,
    SearchSettings,
)
from medlike.service.search_request import KEYS, PARTS
from medlike.types import Json, JsonObject

_TYPES = {int: "integer", float: "number", str: "string", list: "array", dict: "object", bool: "boolean"}
_CHOICES = {
    "rank": get_args(Rank), "group_by": get_args(Grouping), "collapse": get_args(Collapse), "codes": get_args(Codes),
    "region_distance": get_args(RegionDistance), "region_turns": get_args(RegionTurns), "orientations": (8, 1),
    "scales": (3, 1),
}  # fmt: skip
_ITEMS: dict[str, JsonObject] = {
    "region": {"items": {"type": "number"}, "minItems": 4, "maxItems": 4},
    "like": {"items": {"type": "string"}, "maxItems": 100}, "unlike": {"items": {"type": "string"}, "maxItems": 100},
    "parts": {"items": {"enum": list(PARTS)}},
}  # fmt: skip
_OWN = {
    "encoded": "The `encoded` of an earlier answer, instead of an image or id: it is not uploaded again.",
    "parts": "What the answer holds besides: the agreement maps of its hits, or the encoded query.",
    "sources": "If true, hits say where their images came from; for the owner only, and recorded.",
    "texts": "If true, stored texts are searched, not images.",
}
_SUMMARY: JsonObject = {"type": "object", "description": "How many patients among the hits have which label."}


def request_schema() -> JsonObject:
    """Return the JSON schema of a search."""
    said = {**_attributes(Query), **_attributes(SearchSettings), **_OWN}
    properties: JsonObject = {}
    for name, (kind, _) in KEYS.items():
        choices = _CHOICES.get(name)
        typed: JsonObject = {"type": [_TYPES[kind], "null"]} if choices is None else {"enum": [*choices, None]}
        properties[name] = {**typed, **_ITEMS.get(name, {}), "description": said[name]}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def search_body() -> JsonObject:
    """Return what a search takes as its body, as the description of a route states it."""
    search = request_schema()
    multipart: JsonObject = {
        "type": "object", "additionalProperties": False,
        "properties": {
            "request": {"type": "string", "description": "The same JSON object as a text."},
            "image": {
                "type": "array", "items": {"type": "string", "format": "binary"},
                "description": "1 to 32 files: one image, or several of one study. Nothing of them is stored.",
            },
        },
    }  # fmt: skip
    content = {"application/json": {"schema": search}, "multipart/form-data": {"schema": multipart}}
    return {"requestBody": {"required": True, "content": content}}


def receipt_body() -> JsonObject:
    """Return what a route takes that is sent a receipt."""
    schema = {"type": "object", "description": "The `receipt` of an answer to a search."}
    return {"requestBody": {"required": True, **json_content(schema)}}


@lru_cache(maxsize=1)
def result_schema() -> JsonObject:
    """Return the JSON schema of an answer to a search for images."""
    stated = _schema("result.json")
    result: JsonObject = _inlined(stated, stated, ())
    encoded: JsonObject = {"type": "object", "description": "The encoded query, if it was asked for."}
    unjudged: JsonObject = {"type": ["string", "null"], "description": "Why there is no `familiarity`."}
    result["properties"] |= {"summary": _SUMMARY, "unjudged": unjudged, "encoded": encoded}
    return {name: value for name, value in result.items() if not name.startswith("$")}


def answers(sentence: str) -> dict[int | str, JsonObject]:
    """Return the successful answer of a route that searches.

    Args:
        sentence: What it is.
    """
    texts: JsonObject = {
        "type": "object", "required": ["texts", "receipt"],
        "properties": {"texts": {"type": "array", "items": {"type": "object"}}, "receipt": {"type": "object"}},
    }  # fmt: skip
    schema = {**result_schema(), "required": []} | {"additionalProperties": True}
    schema["properties"] = {**schema["properties"], **texts["properties"]}
    return described(schema, sentence)


def facets_answer() -> dict[int | str, JsonObject]:
    """Return the successful answer of the route that counts images."""
    stated = _schema("facets.json")
    inlined: JsonObject = _inlined(stated, stated, ())
    schema = {name: value for name, value in inlined.items() if not name.startswith("$")}
    return described(schema, "Counts by column and value.")


def described(schema: JsonObject, sentence: str, status: int = 200) -> dict[int | str, JsonObject]:
    """Return the successful answer of a route for the API's description.

    Args:
        schema: JSON schema of the answer.
        sentence: What it is.
        status: Its HTTP status.
    """
    return {status: {"description": sentence, **json_content(schema)}}


def json_content(schema: JsonObject) -> JsonObject:
    """Return a JSON schema as the content of a body."""
    return {"content": {"application/json": {"schema": schema}}}


def object_of(properties: JsonObject) -> JsonObject:
    """Return the JSON schema of an object whose members are all there always.

    Args:
        properties: The JSON schema of each member.
    """
    return {"type": "object", "required": list(properties), "properties": properties}


def _schema(name: str) -> JsonObject:
    text = (files("medlike.archive.search") / "schemas" / name).read_text(encoding="utf-8")
    schema: JsonObject = strict_json.loads(text)
    return schema


def _inlined(value: Json, root: JsonObject, above: tuple[str, ...]) -> Json:
    """Return a schema with what it refers to in place; an object that holds its own kind is only called an object."""
    if isinstance(value, list):
        return [_inlined(each, root, above) for each in value]
    if not isinstance(value, dict):
        return value
    place = value.get("$ref")
    if not isinstance(place, str):
        return {name: _inlined(each, root, above) for name, each in value.items()}
    if place in above or place == "#":
        return {"type": "object"}
    found: Json = root
    for name in place.removeprefix("#/").split("/"):
        found = found[name]
    return _inlined(found, root, (*above, place))


def _attributes(described: type) -> dict[str, str]:
    """Return what the docstring of a class says of each of its attributes."""
    text = (described.__doc__ or "").partition("Attributes:")[2].partition("Raises:")[0]
    return {name: " ".join(said.split()) for name, said in re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", text, re.M)}
