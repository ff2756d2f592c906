"""The service does what its OpenAPI document says, for any request that schemathesis makes up."""

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
)

from medlike.service.access import Access
from medlike.service.app import PREFIX, create_app
from medlike.service.collections import Collection, Collections

from .conftest import OWNER, PEER
from .draining import draining

# Routes that take conditions, regions, a window with its level, or a page within a limit.
REFUSING = {f"GET {PREFIX}/{path}" for path in (
    "facets", "images", "images/{id}/rendered", "images/{id}/agreement",
)}  # fmt: skip
LONG = 900  # characters of a request that may be refused with 413 or 414, which schemathesis does not expect
EXAMPLES = 5  # of each route
# Written so, schemathesis knows it as the token, which it leaves out to see whether a route insists on it.
SENT = {"Authorization": f"Bearer {OWNER}", "Host": "127.0.0.1:8000"}


@pytest.fixture
def described(archive, tmp_path, write_phantoms):
    """The OpenAPI document of a service over some images, as schemathesis reads it."""
    write_phantoms(tmp_path / "images", each=1)
    archive.add(tmp_path / "images" / "manifest.csv", pixels="copy", fit="never")
    collections = Collections([Collection("first", archive.path)])
    app = create_app(collections, Access(OWNER, PEER))
    with draining(archive):
        yield schemathesis.openapi.from_asgi(f"{PREFIX}/openapi.json", app, headers=SENT)
    collections.close()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_answer_is_one_that_is_described(described, mode):
    """All checks of schemathesis, but some routes may refuse what no schema can rule out."""
    assert len(list(described.get_all_operations())) > 20
    failed = {}
    for each in described.get_all_operations():
        operation = each.ok()
        cases = given(case=operation.as_strategy(generation_mode=mode))
        try:
            settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))(
                cases(_conforms)
            )()
        except Unsatisfiable:
            continue  # nothing about this route can be wrong
        except (Exception, BaseExceptionGroup) as error:
            failed[operation.label] = _reasons(error)
    assert not failed, "\n\n".join(f"{label}: {error}" for label, error in failed.items())


def test_answers_with_hits_are_as_described(described, archive):
    """What made-up requests hardly ever get: the routes about an image, for one that is there."""
    first, second = archive.ids()[:2]
    for body in (
        {"id": first}, {"id": first, "parts": ["agreement", "encoded"], "sources": True},
        {"id": first, "k": 3, "rank": "content", "where": {"modality": "CT"}, "include_self": True},
        {"id": first, "like": [second], "collapse": "patient"},
        {"id": first, "region": [2, 2, 20, 20], "region_weight": 0.5},
    ):  # fmt: skip
        answer = _answer(described, "POST", "search", media_type="application/json", body=body)
        assert answer["hits"], body
    receipt = _answer(described, "POST", "receipts", media_type="application/json", body=answer["receipt"])["id"]
    assert _answer(described, "GET", "receipts/{id}", path_parameters={"id": receipt})["hits"] == answer["hits"]
    assert _answer(described, "GET", "receipts/{id}/receipt", path_parameters={"id": receipt})["expires"] is None
    places, mark = {"query": receipt, "image": second}, {"media_type": "application/json", "body": {"mark": "like"}}
    assert _answer(described, "PUT", "marks/{query}/{image}", path_parameters=places, **mark)["mark"] == "like"
    assert _answer(described, "GET", "marks/{query}", path_parameters={"query": receipt})["like"] == [second]
    assert _answer(described, "GET", "marks")["total"] == 1
    for form in ("", "/photometry", "/pixels", "/rendered", "/thumbnail", "/picture", "/agreement"):
        query = {"query": second} if form == "/agreement" else {}
        _answer(described, "GET", "images/{id}" + form, path_parameters={"id": first}, query=query)


def _answer(described, method, path, **request):
    """Send a request of a route, check its answer by the document, and return it."""
    case = described[f"{PREFIX}/{path}"][method].Case(**request)
    response = case.call_and_validate(headers=SENT)
    assert response.status_code in (200, 201), response.text
    return response.json() if "application/json" in response.headers["content-type"] else None


def _conforms(case):
    assume(not any(vanishes(value) for value in (case.query or {}).values()))
    label = case.operation.label
    left_out = [positive_data_acceptance] if label in REFUSING or case.method == "POST" else []
    if label == f"GET {PREFIX}/facets":
        left_out.append(response_schema_conformance)  # schemathesis 4.32 misreads prefixItems
    if max(len(repr(case.query)), len(repr(case.body))) > LONG:
        left_out.append(negative_data_rejection)
    case.call_and_validate(headers=SENT, excluded_checks=left_out)


def vanishes(value):
    """True if a value of the query string, such as an empty list, leaves no trace in an address."""
    return value in ({}, []) or (isinstance(value, list) and all(map(vanishes, value)))


def _reasons(error):
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else [error]
    return "\n".join(f"{type(part).__name__}: {part}" for part in parts) + str(getattr(error, "message", ""))[:2000]
