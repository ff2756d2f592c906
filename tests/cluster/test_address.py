"""Addresses of services: what they may hold, and where a token may go."""

import pytest

from medlike import Client
from medlike.cluster.address import Address, is_address
from medlike.errors import InputError


def test_an_address_may_name_an_archive_and_lie_below_a_path():
    assert Address.of("http://127.0.0.1:8000/") == Address("http://127.0.0.1:8000")
    assert Address.of("https://pacs.example/medlike/?archive=ct") == Address("https://pacs.example/medlike", "ct")
    assert Address.of("http://[::1]:80", "mine").api == "http://[::1]:80/api/v1/"
    assert Address.of("http://localhost:8000/api/v1/").url == "http://localhost:8000"
    assert str(Address.of("http://localhost:1?archive=ct")) == "http://localhost:1?archive=ct"


def test_the_printed_address_holds_the_token_and_nobody_is_shown_it():
    address = Address.of("http://127.0.0.1:8000/?token=secret-1")
    assert address.token == "secret-1" and "secret" not in repr(address) + str(address)
    with Client("http://127.0.0.1:8000/?token=secret-1") as client:
        assert "secret" not in repr(client) + client.url
        assert client._http.headers["authorization"] == "Bearer secret-1"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ftp://127.0.0.1", "not the address of a service"), ("http://", "not the address of a service"),
        ("http://127.0.0.1:port", "not an address"), ("http://me:secret@127.0.0.1", "leave the rest out"),
        ("http://127.0.0.1/#secret", "leave the rest out"), ("http://127.0.0.1?archiv=ct", "leave the rest out"),
        ("http://pacs.example:8000", "use https://"), ("http://10.0.0.1", "use https://"),
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_a_reason(text, reason):
    with pytest.raises(InputError, match=reason):
        Client(text)


def test_a_token_with_a_line_break_is_refused():
    with pytest.raises(InputError, match="give it as printed"):
        Client("http://127.0.0.1:8000", "two\nlines")


def test_the_token_comes_from_the_environment_unless_it_is_given(monkeypatch):
    monkeypatch.setenv("MEDLIKE_TOKEN", " from-there\n")
    with Client("http://127.0.0.1:8000") as first, Client("http://127.0.0.1:8000", "mine") as second:
        assert first._http.headers["authorization"] == "Bearer from-there"
        assert second._http.headers["authorization"] == "Bearer mine"


def test_folders_are_no_addresses():
    assert is_address("HTTP://127.0.0.1") and is_address("https://x")
    assert not any(map(is_address, ("archive", "/data/http", "httpd/", "c:/x")))
