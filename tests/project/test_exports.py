"""The public API is what `medlike.__all__` says, no more and no less."""

import inspect
import subprocess
import sys

import medlike
from medlike import errors

ERRORS = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
PUBLIC = ERRORS | {
    "AddReport", "Archive", "AsyncClient", "Bundle", "Client", "Encoder", "Encodings", "Hit", "Image", "Query",
    "Result", "TextHit", "TextResult", "__version__", "samples",
}  # fmt: skip
VERBS = {
    "add", "backup", "browse", "bundle", "close", "codes", "compact", "create", "drain", "fit", "ids", "ids_of", "info",
    "keep_identifiers", "nearest_texts", "open", "path", "picture", "receive", "reindex", "remove", "repeat", "restore",
    "room", "facets", "id", "generation", "encode", "waiting", "agreement", "facts", "image", "preview", "stamp",
    "search", "search_many", "session", "shared", "source", "sources", "status", "text_bundle", "to_pandas", "vectors",
    "verify", "unchecked", "upgrade", "fit_due",
}  # fmt: skip


def test_public_names_are_pinned():
    assert set(medlike.__all__) == PUBLIC


def test_public_names_can_be_had():
    for name in medlike.__all__:
        assert getattr(medlike, name) is not None
    assert set(dir(medlike)) >= PUBLIC


def test_an_editor_knows_every_public_name():
    source = inspect.getsource(medlike).partition("if TYPE_CHECKING:")[2]
    known = {line.split()[-1] for line in source.splitlines() if " import " in line}
    assert known == PUBLIC - {"__version__"}


def test_an_import_loads_nothing():
    code = "import sys, medlike; print([name for name in ('numpy', 'numba', 'torch', 'pandas') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_archive_shows_its_verbs_and_no_parts(tmp_path, tiny_bundle):
    with medlike.Archive.create(tmp_path / "archive", tiny_bundle, text_bundle=None) as archive:
        assert {name for name in dir(archive) if not name.startswith("_")} == VERBS
