"""The service does what its OpenAPI document says, for any request that schemathesis makes up."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from medlike.service.access import Access
from medlike.service.app import PREFIX, create_app
from medlike.service.collections import Collection, Collections

from .conftest import OWNER, PEER, as_owner

EXAMPLES = 10  # of each route


@pytest.fixture
def described(archive):
    """The OpenAPI document of a service over `archive`, as schemathesis reads it."""
    collections = Collections([Collection("first", archive.path)])
    app = create_app(collections, Access(OWNER, PEER))
    yield schemathesis.openapi.from_asgi(f"{PREFIX}/openapi.json", app, headers=as_owner())
    collections.close()


def test_every_answer_is_one_that_is_described(described):
    failed = {}
    for each in described.get_all_operations():
        operation = each.ok()

        @settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def conforms(case):
            case.call_and_validate(headers=as_owner())

        try:
            conforms()
        except Exception as error:
            failed[operation.label] = str(error)
    assert not failed, "\n\n".join(f"{label}\n{error}" for label, error in failed.items())
