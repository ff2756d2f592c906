"""`medlike bench service`: the HTTP API on loopback, on cores that it shares with the load."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from medlike import Archive, Query
from medlike.archive.storage.folder import BundleFacts
from medlike.bundle import Bundle
from medlike.codes.threads import cores
from medlike_research.speed.drawn import write_files
from medlike_research.speed.gallery import codes
from medlike_research.speed.load import Call, Load, Reply
from medlike_research.speed.population import populated
from medlike_research.speed.serving import Service, bare, serving
from medlike_research.speed.timing import Figures, Line

BUNDLE = "medlike-itq-64"  # it has no cells, as the drawn archive
USERS = 20
INTERVAL = 1.0  # seconds between two requests of a user
K = 10
CONNECTIONS = 8
COMPARED = 50
ROOT = "/api/v1"


@dataclass(frozen=True)
class Sizes:
    """How much of everything the bench does.

    Attributes:
        searches: Different ids that are searched by.
        seconds: Seconds for which the users search.
        uploads: Files that are uploaded one by one.
        more: Files that are uploaded besides, whose thumbnails are fetched too.
        rounds: How often each thumbnail is fetched.
    """

    searches: int
    seconds: int
    uploads: int
    more: int
    rounds: int

    @classmethod
    def of(cls, quick: bool) -> "Sizes":
        """Return the sizes of the whole bench, or of a quick one."""
        return cls(200, 10, 10, 30, 10) if quick else cls(1000, 60, 50, 250, 10)


def bench(quick: bool = False, images: int | None = None, tell: Callable[[str], None] = print) -> Figures:
    """Serve a drawn archive of 1 M images without cells (quick 100,000), one worker a core, as `medlike serve` does.

    Lines: seconds service-start: from the command to the first answer; service-search-20-p50 and -p95: search by id
    with the default settings, 20 users, one request a second each, from the moment at which it was due;
    service-search-1, service-in-process-1 and service-bare-1: medians one after the other over one connection, in this
    process without HTTP, and of a route that answers the same bytes; service-added: the first less the second;
    service-upload-p50 and -p95: from sending a DICOM file until a search for it has answered; service-thumbnail: of as
    many as one second brings. ratio service-throughput: requests a second that core-seconds of a search in this process
    and of a bare request, its sender included, allow on these cores, over those that 8 connections got: 1 is best.
    check same-answers: 50 searches give the hits that they give in this process.
    """
    number = images or (100_000 if quick else 1_000_000)
    sizes = Sizes.of(quick)
    found = Figures("service", {"images": number, "users": USERS, "k": K, "quick": quick, "bundle": BUNDLE})
    with TemporaryDirectory() as folder:
        tell(f"an archive of {number:,} images")
        _make(Path(folder), number)
        place = Path(folder) / "archive"
        ids = [f"{1 + int(row):032x}" for row in np.random.default_rng(5).integers(0, number, sizes.searches)]
        with Archive.open(place) as archive:
            payload, search_cpu = _in_process(found, archive, ids)
            with serving("--archive", str(place), "--workers", str(cores())) as service:
                found.seconds("service-start", service.seconds)
                _same_answers(found, archive, service.load, ids[:COMPARED])
                tell(f"{USERS} users")
                _users(found, service, ids, sizes.seconds)
                tell("one connection, then as many requests as it answers")
                _one(found, service.load, ids)
                rate = _saturated(found, service, ids)
                tell("uploads and thumbnails")
                _uploads(found, service.load, Path(folder) / "files", sizes)
        (Path(folder) / "payload").write_bytes(payload)
        with bare(Path(folder) / "payload") as nothing:
            bare_cpu = _bare(found, nothing, ids)
    found.lines["service-throughput"] = Line("ratio", cores() / (search_cpu + bare_cpu) / rate)
    found.facts["service-throughput"] |= {
        "peer_is": "the rate that a search in this process and a bare request allow on these cores, "
        "the sender of the requests included",
        "core_seconds_search": search_cpu, "core_seconds_bare": bare_cpu,
    }  # fmt: skip
    return found


def _make(folder: Path, number: int) -> None:
    """Write the drawn archive, fitted as one of its size is, of a bundle that is here, so that images can be added."""
    facts = BundleFacts.of(Bundle.load(BUNDLE))
    content = np.random.default_rng(6).integers(-127, 128, (number, facts.content_dim), dtype=np.int8)
    drawn = codes("clustered", number, facts.bits)
    with populated(folder, drawn, ["a"] * number, content=content, facts=facts) as made:
        made.archive.fit()  # else the first upload would do it


def _search(id: str) -> Call:
    return Call("POST", f"{ROOT}/search", json.dumps({"id": id, "k": K}).encode())


def _in_process(found: Figures, archive: Archive, ids: Sequence[str]) -> tuple[bytes, float]:
    """Time searches in this process; return an answer as JSON, and the core-seconds of a search."""
    for id in ids[:5]:
        result = archive.search(Query(id=id), k=K)
    spent, busy = [], time.process_time()
    for id in ids:
        began = time.perf_counter()
        archive.search(Query(id=id), k=K)
        spent.append(time.perf_counter() - began)
    busy = time.process_time() - busy
    found.seconds("service-in-process-1", statistics.median(spent))
    return json.dumps(result.to_dict(), separators=(",", ":")).encode(), busy / len(ids)


def _same_answers(found: Figures, archive: Archive, load: Load, ids: Sequence[str]) -> None:
    replies = _answered(load.one_by_one([_search(id) for id in ids]))
    ours = [archive.search(Query(id=id), k=K).to_dict()["hits"] for id in ids]
    theirs = [[{**hit, "source": None} for hit in json.loads(reply.body)["hits"]] for reply in replies]
    found.checks["same-answers"] = theirs == [[{**hit, "source": None} for hit in hits] for hits in ours]


def _users(found: Figures, service: Service, ids: Sequence[str], seconds: int) -> None:
    by_user = [[_search(ids[(user * seconds + at) % len(ids)]) for at in range(seconds)] for user in range(USERS)]
    busy = service.core_seconds()
    replies = _answered(service.load.paced(by_user, INTERVAL))
    waits = [reply.seconds for reply in replies]
    found.seconds(f"service-search-{USERS}-p50", statistics.median(waits))
    found.seconds(f"service-search-{USERS}-p95", float(np.percentile(waits, 95)))
    found.facts[f"service-search-{USERS}-p95"] = {
        "requests": len(replies), "slowest": max(waits),
        "core_seconds_a_request": (service.core_seconds() - busy) / len(replies),
    }  # fmt: skip


def _one(found: Figures, load: Load, ids: Sequence[str]) -> None:
    waits = [reply.seconds for reply in _answered(load.one_by_one([_search(id) for id in ids]))]
    found.seconds("service-search-1", statistics.median(waits))
    found.seconds("service-added", statistics.median(waits) - found.lines["service-in-process-1"].value)


def _saturated(found: Figures, service: Service, ids: Sequence[str]) -> float:
    """Return the searches a second that as many connections get as keep all cores busy."""
    busy, own, began = service.core_seconds(), time.process_time(), time.perf_counter()
    parts = [[_search(id) for id in ids[at::CONNECTIONS]] for at in range(CONNECTIONS)]
    for replies in service.load.all_at_once(parts):
        _answered(replies)
    wall = time.perf_counter() - began
    found.facts["service-throughput"] = {
        "requests_per_second": len(ids) / wall,
        "core_seconds_of_the_service": (service.core_seconds() - busy) / len(ids),
        "core_seconds_of_the_sender": (time.process_time() - own) / len(ids),
    }  # fmt: skip
    return len(ids) / wall


def _uploads(found: Figures, load: Load, folder: Path, sizes: Sizes) -> None:
    files = write_files(folder, sizes.uploads + sizes.more)
    waits, stored = [], []
    _uploaded(load, files[-1])  # the writer loads its encoder
    for path in files[: sizes.uploads]:
        began = time.perf_counter()
        id = _uploaded(load, path)
        hits = json.loads(_answered(load.one_by_one([_search(id)]))[0].body)["hits"]
        waits.append(time.perf_counter() - began)
        stored.append(id)
        if not hits:
            raise AssertionError(f"the search for an uploaded image found nothing: {path}")
    found.seconds("service-upload-p50", statistics.median(waits))
    found.seconds("service-upload-p95", float(np.percentile(waits, 95)))
    found.facts["service-upload-p95"] = {"uploads": len(waits), "slowest": max(waits)}
    tickets = [_ticket(load, path) for path in files[sizes.uploads : -1]]
    stored += [_indexed(load, ticket) for ticket in tickets]
    _thumbnails(found, load, stored, sizes.rounds)


def _thumbnails(found: Figures, load: Load, ids: Sequence[str], rounds: int) -> None:
    calls = [Call("GET", f"{ROOT}/images/{id}/thumbnail") for id in ids]
    spent = []
    for _ in range(rounds):
        began = time.perf_counter()
        for replies in load.all_at_once([calls[at::CONNECTIONS] for at in range(CONNECTIONS)]):
            _answered(replies)
        spent.append((time.perf_counter() - began) / len(calls))
    found.seconds("service-thumbnail", statistics.fmean(spent))
    found.facts["service-thumbnail"] = {
        "per_second": 1 / statistics.fmean(spent), "per_second_at_first": 1 / spent[0],
        "per_second_at_last": 1 / spent[-1],
    }  # fmt: skip


def _bare(found: Figures, service: Service, ids: Sequence[str]) -> float:
    """Return the core-seconds of a request to a service that only answers, of both ends."""
    calls = [Call("POST", "/", _search(id).body) for id in ids]
    _answered(service.load.one_by_one(calls))
    busy, own = service.core_seconds(), time.process_time()
    waits = [reply.seconds for reply in _answered(service.load.one_by_one(calls))]
    busy, own = service.core_seconds() - busy, time.process_time() - own
    found.seconds("service-bare-1", statistics.median(waits))
    return (busy + own) / len(calls)


def _ticket(load: Load, path: Path) -> str:
    call = Call("POST", f"{ROOT}/images", path.read_bytes(), "application/dicom")
    return str(json.loads(_answered(load.one_by_one([call]))[0].body)["tickets"][0])


def _indexed(load: Load, ticket: str) -> str:
    until = time.perf_counter() + 120
    while time.perf_counter() < until:
        status: dict[str, Any] = json.loads(
            _answered(load.one_by_one([Call("GET", f"{ROOT}/tickets/{ticket}?wait=30")]))[0].body
        )
        if status["state"] == "indexed":
            return str(status["ids"][0])
        if status["state"] == "refused":
            break
    raise AssertionError(f"an upload was not indexed: {status}")


def _uploaded(load: Load, path: Path) -> str:
    return _indexed(load, _ticket(load, path))


def _answered(replies: Sequence[Reply]) -> Sequence[Reply]:
    for reply in replies:
        if reply.status >= 300:
            raise AssertionError(f"the service answered {reply.status}: {reply.body[:300]!r}")
    return replies
