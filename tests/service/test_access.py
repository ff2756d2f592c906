"""Tokens, the cookie, and the names and pages by which a request may come."""

import pytest
from starlette.testclient import TestClient

from medlike.service.access import Access
from medlike.service.app import create_app
from medlike.service.collections import Collection, Collections

from .conftest import OWNER, PEER, as_owner

HERE = "http://127.0.0.1:8000"


@pytest.fixture
def service(archive):
    """Return a client of a service with some access, without a token; a browser at its own address by default."""
    opened = []

    def make(access=None, address=HERE):
        collections = Collections([Collection("first", archive.path)])
        client = TestClient(create_app(collections, access or Access(OWNER, PEER)), address, follow_redirects=False)
        opened.append((client, collections))
        return client

    yield make
    for client, collections in opened:
        client.close()
        collections.close()


def test_the_printed_address_gives_a_strict_cookie_and_leaves_no_token_behind(service):
    client = service()
    assert client.get("/").status_code == 401
    first = client.get("/", params={"token": OWNER})
    assert first.status_code == 303 and first.headers["location"] == "/"
    assert first.headers["referrer-policy"] == "no-referrer" and first.headers["cache-control"] == "no-store"
    cookie = first.headers["set-cookie"].lower()
    assert cookie.startswith("medlike-8000=")
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "domain" not in cookie and "max-age" not in cookie
    page = client.get("/")
    assert page.status_code == 200 and "not a medical device" in page.text and OWNER not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert client.get("/page.css").headers["content-type"].startswith("text/css")
    assert client.get("/api/v1/archives").status_code == 200


def test_another_token_opens_nothing(service):
    client = service()
    assert client.get("/api/v1/archives", params={"token": OWNER}).status_code == 401, "only the page takes it"
    for token in ("", "wrong", PEER, OWNER + "x", OWNER[:-1], "ä"):
        response = client.get("/", params={"token": token})
        assert response.status_code == 401 and "set-cookie" not in response.headers
        for cookie in (f"medlike-8000={token}", f"medlike-8001={OWNER}", f"medlike-8000={token}; medlike-8001={OWNER}"):
            assert client.get("/api/v1/archives", headers={"cookie": cookie.encode()}).status_code == 401


def test_cookies_of_other_services_on_this_machine_do_not_matter(service):
    cookie = f'odd={{"a": [1,2]}}; =; medlike-8001=x; medlike-8000={OWNER}; "'
    assert service().get("/api/v1/archives", headers={"cookie": cookie}).status_code == 200


def test_from_another_site_the_printed_address_leads_on_by_a_page(service):
    # Along with a redirect that began elsewhere, a browser would not send the strict cookie.
    elsewhere = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    response = service().get("/", params={"token": OWNER}, headers=elsewhere)
    assert response.status_code == 200 and "url=/" in response.text and "set-cookie" in response.headers


def test_a_name_that_is_not_this_machine_is_refused(service):
    # DNS rebinding: a page of another site gives its own name the address 127.0.0.1.
    client = service()
    for name in ("evil.example:8000", "127.0.0.1.evil.example:8000", "127.0.0.1", "127.0.0.1:8001", "localhost.:8000",
                 "10.0.0.1:8000", "", "[::2]:8000", "127.0.0.1:8000@evil"):  # fmt: skip
        for path in ("/api/v1/archives", "/api/v1/health", "/"):
            response = client.get(path, headers={"host": name, **as_owner()})
            assert response.status_code == 403 and "127.0.0.1" in response.json()["detail"], name


def test_each_name_of_this_machine_works(service):
    client = service()
    for name in ("localhost:8000", "LOCALHOST:8000", "[::1]:8000", "127.0.0.1:8000"):
        assert client.get("/api/v1/archives", headers={"host": name, **as_owner()}).status_code == 200
        origin = {"origin": f"http://{name.lower()}"}
        assert client.get("/api/v1/archives", headers={"host": name, **origin, **as_owner()}).status_code == 200


def test_a_page_of_another_origin_is_refused(service):
    client = service()
    client.get("/", params={"token": OWNER})
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9000", "https://127.0.0.1:8000",
                   "http://localhost:8000", ""):  # fmt: skip
        for method in ("GET", "POST", "DELETE"):
            assert client.request(method, "/api/v1/archives", headers={"origin": origin}).status_code == 403


def test_a_form_of_another_site_is_refused(service):
    # Ports belong to the same site, so a page of another service on this machine would send the cookie along.
    client = service()
    client.get("/", params={"token": OWNER})
    for site in ("cross-site", "same-site"):
        link = {"sec-fetch-site": site, "sec-fetch-mode": "navigate"}
        assert client.get("/api/v1/archives", headers=link).status_code == 200
        form = {**link, "content-type": "application/x-www-form-urlencoded"}
        assert client.post("/api/v1/archives", headers=form, content=b"a=b").status_code == 403
        picture = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
        assert client.get("/api/v1/archives", headers=picture).status_code == 403
    own = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "origin": HERE}
    assert client.post("/api/v1/archives", headers=own).status_code == 405, "it reaches the routes"


def test_a_peer_has_no_pages_and_the_owner_none_where_there_is_no_owner(service):
    peer = {"authorization": f"Bearer {PEER}"}
    assert service().get("/", headers=peer).status_code == 403
    machines = service(Access(None, PEER, 443, loopback=False, scheme="https"), "https://search.example")
    assert machines.get("/api/v1/archives", headers=peer).status_code == 200
    assert machines.get("/", headers=peer).status_code == 404
    for headers in (as_owner(), {"authorization": "Bearer None"}, {"authorization": "Bearer "}, {}):
        assert machines.get("/api/v1/archives", headers=headers).status_code == 401
    assert machines.get("/", params={"token": "None"}).status_code == 401
    assert "set-cookie" not in machines.get("/", params={"token": ""}).headers


def test_tokens_are_new_and_hidden():
    first, second = Access(), Access()
    assert first.owner != second.owner and len(first.owner) >= 43
    assert first.owner not in repr(first)
