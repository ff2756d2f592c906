"""Every route refuses hostile input with a problem, tells nothing of the machine, and changes nothing."""

import json
from urllib.parse import quote

import pytest

from medlike.service.app import PREFIX

from .draining import draining

UNKNOWN = "0" * 32
VALUES = (
    "../../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "..\\..\\key", "/etc/passwd", "a\0b", "\r\nSet-Cookie: a=b",
    "'; DROP TABLE images; --", "{{7*7}}", "<script>alert(1)</script>", "-1", "9" * 400, "1e309", "NaN", "Infinity",
    "\u202egnp", "\ud7ff\U0001f9e0", "x" * 5000, "", " ", "null", "true", "{}", "[]", "[" * 3000,
)  # fmt: skip
BODIES = (
    ("application/json", b""),
    ("application/json", b"{"),
    ("application/json", b"\xff\xfe\x00"),
    ("application/json", b'{"id": 1e999, "k": NaN}'),
    ("application/json", b'{"id": ["a"], "k": true, "where": 5, "region": "x"}'),
    ("application/json", b'{"k": %s}' % (b"9" * 5000)),
    ("application/json", b"[" * 200_000),
    ("application/json", b'{"id": "a\\u0000b", "text": "\\ud800"}'),
    ("application/json", json.dumps({"where": {"x" * 10_000: "y"}}).encode()),
    ("application/json", b'{"id": "a", "id": "b"}'),
    ("text/html", b"<form>"),
    ("multipart/form-data", b"no boundary"),
    ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n"),
    ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="request"\r\n\r\n{\r\n--x--'),
    ("multipart/form-data; boundary=x", b"--x\r\n" * 5000),
    ("multipart/form-data; boundary=" + "y" * 5000, b"--"),
    ("\xff\xfe", b"?"),
)  # fmt: skip
HEADERS = (
    {"range": "bytes=9-1,0-0,-" + "9" * 300},
    {"range": "bytes=" + ",".join(["0-"] * 3000)},
    {"if-none-match": '"' + "x" * 8000},
    {"accept-encoding": "zstd;q=x, gzip;q=-1, *;q=" + "9" * 100},
    {"accept": "\xff/\xfe;q=NaN"},
    {"x-request-id": "x" * 5000},
    {"x-request-id": "<script>"},
    {"x-file-name": "UTF-8''%ff%00..%2f..%2fkey"},
    {"last-event-id": "9" * 400},
    {"last-event-id": "-1"},
    {"authorization": "Bearer " + "x" * 10_000},
    {"authorization": "Bearer \xff"},
    {"cookie": "; ;=;" * 500},
)
SECRETS = ("Traceback", "site-packages", "sqlite3.", "root:x:0")


@pytest.fixture
def quiet(served, archive, write_phantoms, tmp_path):
    """The service over an archive of some images, and a function that holds an answer to what every answer must be."""
    write_phantoms(tmp_path / "images", each=1)
    archive.add(tmp_path / "images", pixels="copy")
    secrets = (*SECRETS, str(archive.path))

    def send(method, path, **request):
        response = served.request(method, path, **request)
        sent = f"{method} {path[:200]} {str(request)[:300]}: {response.status_code} {response.text[:500]}"
        assert response.status_code < 500 or response.status_code in (501, 503), sent
        shown = response.text.replace(quote(path), "").replace(path, "")
        assert not [secret for secret in secrets if secret in shown], sent
        if response.status_code >= 400 and method != "HEAD":
            assert response.headers["content-type"] == "application/problem+json", sent
            assert response.json()["status"] == response.status_code and response.json()["detail"], sent
        return response

    with draining(archive):
        yield send


@pytest.fixture
def operations(served):
    """All routes: method, path below /api/v1 and the names of its parameters in the path and in the query."""
    found = []
    for path, item in served.get("openapi.json").json()["paths"].items():
        for method, facts in item.items():
            parameters = {where: [each["name"] for each in facts.get("parameters", ()) if each["in"] == where]
                          for where in ("path", "query")}  # fmt: skip
            found.append((method.upper(), path.removeprefix(f"{PREFIX}/"), parameters["path"], parameters["query"]))
    assert len(found) > 4
    return found


def filled(path, names, value):
    """A path with a value in place of each of its parameters."""
    for name in names:
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    return path


def test_names_in_paths(quiet, operations, archive):
    before = archive.generation
    for method, path, names, _ in operations:
        for value in filter(None, VALUES) if names else ():  # without a name the path is another one
            response = quiet(method, filled(path, names, value), content=b"{}")
            assert response.status_code >= 400 or method == "DELETE" or path.startswith("marks"), (method, path, value)
    assert archive.generation == before and len(archive) > 0


def test_parameters(quiet, operations):
    for method, path, names, parameters in operations:
        for parameter in parameters:
            for value in VALUES:
                quiet(method, filled(path, names, UNKNOWN), params={parameter: value}, content=b"{}")


def test_bodies(quiet, operations, archive):
    before = archive.generation
    for method, path, names, _ in operations:
        if method in ("POST", "PUT"):
            for kind, body in BODIES:
                quiet(
                    method, filled(path, names, UNKNOWN), content=body, headers={"content-type": kind.encode("latin-1")}
                )
    assert archive.generation == before


def test_headers(quiet, operations, archive):
    known = archive.ids()[0]
    for method, path, names, _ in operations:
        if method == "DELETE":
            continue
        for headers in HEADERS:
            plain = {name: value.encode("latin-1") for name, value in headers.items()}
            response = quiet(method, filled(path, names, known), headers=plain, content=b"{}")
            assert "<script>" not in response.headers["x-request-id"] and len(response.headers["x-request-id"]) <= 64
