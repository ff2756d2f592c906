"""The service does what its OpenAPI document says, for any request that schemathesis makes up."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from medlike.service.access import Access
from medlike.service.app import PREFIX, create_app
from medlike.service.collections import Collection, Collections

from .conftest import OWNER, PEER
from .draining import draining

EXAMPLES = 10  # of each route
# Written so, schemathesis knows it as the token, which it leaves out to see whether a route insists on it.
SENT = {"Authorization": f"Bearer {OWNER}", "Host": "127.0.0.1:8000"}


@pytest.fixture
def described(archive):
    """The OpenAPI document of a service over `archive`, as schemathesis reads it."""
    collections = Collections([Collection("first", archive.path)])
    app = create_app(collections, Access(OWNER, PEER))
    with draining(archive):
        yield schemathesis.openapi.from_asgi(f"{PREFIX}/openapi.json", app, headers=SENT)
    collections.close()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_answer_is_one_that_is_described(described, mode):
    """All checks of schemathesis; but which keys of a body go together, no schema says, so bodies may be refused."""
    failed = {}
    for each in described.get_all_operations():
        operation = each.ok()

        @settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def conforms(case):
            left_out = [positive_data_acceptance] if case.method == "POST" else []
            case.call_and_validate(headers=SENT, excluded_checks=left_out)

        try:
            conforms()
        except Unsatisfiable:
            continue  # nothing about this route can be wrong
        except (Exception, BaseExceptionGroup) as error:
            failed[operation.label] = _reasons(error)
    assert not failed, "\n\n".join(f"{label}: {error}" for label, error in failed.items())


def _reasons(error):
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else [error]
    notes = "\n".join(getattr(error, "__notes__", []))
    return "\n".join(f"{type(part).__name__}: {part}" for part in parts) + notes[:2000]
