"""The access log: one line for each answer that shows where images came from."""

import json

import pytest

from medlike import Query
from medlike.errors import ArchiveError
from medlike.service import audit
from medlike.service.audit import Audited, log_of, record


@pytest.fixture
def log(tmp_path):
    return tmp_path / "private" / "service" / "access.log"


def lines(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_readings_of_sources_are_recorded_and_nothing_else(served, archive, tmp_path, write_phantoms):
    write_phantoms(tmp_path / "images", each=1)
    archive.add(tmp_path / "images", pixels="copy")
    id, log = archive.ids()[0], log_of(archive.path)
    served.post("search", json={"id": id, "where": {"patient": "x"}})
    served.get("facets")
    assert not log.exists()
    shown = served.post("search", json={"id": id, "k": 3, "sources": True}, headers={"x-request-id": "mine"}).json()
    served.get(f"images/{id}", params={"sources": True})
    first, second = [line for line in lines(log) if line["shown"] == "source"]
    assert first["request"] == "mine" and first["role"] == "owner" and first["time"].endswith("Z")
    assert sorted(first["ids"]) == sorted(hit["id"] for hit in shown["hits"]) and second["ids"] == [id]
    assert log.stat().st_mode & 0o777 == 0o600
    before = log.read_text()
    assert archive.search(Query(id=id), k=2)[0].source and log.read_text() == before  # in the process nothing is


def test_what_cannot_be_recorded_is_not_shown(log):
    log.parent.mkdir(parents=True)
    log.mkdir()
    with pytest.raises(ArchiveError, match=r"access.log cannot be written .*: nothing private is shown without it"):
        Audited(log, "r", "owner").saw("source", ["a" * 32])
    Audited(log, "r", "owner").saw("filters", ["patient"])  # of filters nothing is recorded


def test_the_log_is_bounded_and_follows_no_link(log, tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "LARGEST", 1000)
    for number in range(60):
        record(log, f"r{number}", "owner", "source", [f"{number:032x}"])
    assert sum(path.stat().st_size for path in log.parent.iterdir()) < 2600
    assert {path.name for path in log.parent.iterdir()} == {"access.log", "access.log.1"}
    assert lines(log)[-1]["request"] == "r59"
    shown = audit.shown(log)
    assert f"{59:032x}" in shown and f"{0:032x}" not in shown
    audit.forget(log, sorted(shown)[:3])
    assert audit.shown(log) == set(sorted(shown)[3:])
    assert [line["request"] for line in lines(log)][-1] == "r59"
    log.unlink()
    log.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArchiveError):
        record(log, "r", "owner", "source", [])
    assert not (tmp_path / "elsewhere").exists()
