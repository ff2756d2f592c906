"""The fixtures of medlike's own tests that these tests share."""

from tests.conftest import _make_tiny_bundle, collections, tiny_bundle, tiny_regional_bundle
from tests.evaluation.conftest import collection

__all__ = ["_make_tiny_bundle", "collection", "collections", "tiny_bundle", "tiny_regional_bundle"]
