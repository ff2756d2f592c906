"""The bench of the service sends what it says, counts what it costs, and compares answers."""

import sys

import pytest

from medlike_research.speed import service
from medlike_research.speed.load import Call
from medlike_research.speed.serving import bare

pytestmark = pytest.mark.slow


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_load_is_sent_and_answered(tmp_path):
    (tmp_path / "payload").write_bytes(b'{"hits": []}')
    call = Call("POST", "/", b"{}")
    with bare(tmp_path / "payload") as running:
        assert running.seconds > 0
        replies = running.load.one_by_one([call] * 5 + [Call("GET", "/")])
        assert [reply.status for reply in replies] == [200] * 5 + [405]
        assert {reply.body for reply in replies[:5]} == {b'{"hits": []}'}
        before = running.core_seconds()
        together = running.load.all_at_once([[call] * 200] * 4)
        assert [len(each) for each in together] == [200] * 4
        assert running.core_seconds() > before
        paced = running.load.paced([[call] * 2] * 5, 0.2)
        assert len(paced) == 10 and all(reply.status == 200 and reply.seconds > 0 for reply in paced)


def test_seconds_count_from_when_a_request_was_due(tmp_path):
    """All requests of one user are due at once: each one has waited for those before."""
    (tmp_path / "payload").write_bytes(b"0" * 1_000_000)
    with bare(tmp_path / "payload") as running:
        waits = [reply.seconds for reply in running.load.paced([[Call("POST", "/", b"{}")] * 20], 1e-9)]
        assert waits == sorted(waits)


def test_the_bench_prints_its_lines(monkeypatch):
    monkeypatch.setattr(service.Sizes, "of", lambda quick: service.Sizes(20, 2, 2, 2, 2))
    found = service.bench(quick=True, images=1000, tell=lambda text: None)
    names = [" ".join(line.split()[:2]) for line in found.printed()]
    assert {
        "seconds service-start", "seconds service-search-20-p50", "seconds service-search-20-p95",
        "seconds service-search-1", "seconds service-in-process-1", "seconds service-added", "seconds service-bare-1",
        "ratio service-throughput", "seconds service-upload-p50", "seconds service-upload-p95",
        "seconds service-thumbnail",
    } == set(names[:-1])  # fmt: skip
    assert found.printed()[-1] == "check same-answers yes"
    assert all(line.value > 0 for name, line in found.lines.items() if name != "service-added")
    assert found.as_dict()["checks"] == {"same-answers": True}
