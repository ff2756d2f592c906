"""medlike serve: its processes, its address, and what it refuses."""

import datetime
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from medlike import Archive, samples
from medlike.service.supervisor import MEMORY

from .processes import SECONDS, children, serving, started, watched


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_regional_bundle):
    """An empty archive."""
    place = tmp_path_factory.mktemp("served") / "archive"
    Archive.create(place, tiny_regional_bundle).close()
    return place


# A browser that notes what it was called with, and what is there.
BROWSER = """#!/bin/sh
file=${1#file://}
{ echo "$@"; ls -l "$file" | cut -c 1-10; cat "$file"; } > "$NOTES"
"""


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    """What the browser of the service notes."""
    return tmp_path_factory.mktemp("browser") / "notes"


@pytest.fixture(scope="module")
def service(folder, notes):
    """A service of one worker, opened in a browser. Tests only ask it."""
    browser = notes.with_name("browser")
    browser.write_text(BROWSER)
    browser.chmod(0o755)
    words = ("--archive", f"mine={folder}", "--workers", 1, "--open")
    with serving(*words, BROWSER=str(browser), NOTES=str(notes)) as running:
        yield running


def test_says_its_address_in_one_line(service):
    assert service.line.startswith("medlike is running at http://127.0.0.1:")
    assert [each["name"] for each in service.get("api/v1/archives").json()["archives"]] == ["mine"]
    with httpx.Client(follow_redirects=True) as browser:
        page = browser.get(f"{service.address}?token={service.token}")
    assert page.status_code == 200 and str(page.url) == service.address and "mine" in page.text


def test_opens_the_browser_without_showing_the_token_to_other_users(service, notes):
    service.get("api/v1/ready")
    while not notes.exists() or notes.read_text().count("\n") < 2 or "<title>" not in notes.read_text():
        assert service.process.poll() is None
    called, mode, page = notes.read_text().split("\n", 2)
    assert called.startswith("file:///") and service.token not in called and mode == "-rw-------"
    assert f"url={service.address}?token={service.token}" in page


AS_NOBODY = """
import encodings.idna, http.client, os, pathlib, sys  # before it may read Python's own files no longer
port, processes = int(sys.argv[1]), sys.argv[2:]
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
for path in ("/", "/api/v1/archives", "/api/v1/health"):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", path)
    print(connection.getresponse().status)
for process in processes:
    print(pathlib.Path("/proc", process, "cmdline").read_bytes())
    try:
        print(pathlib.Path("/proc", process, "environ").read_bytes())
    except PermissionError:
        print("closed")
"""


def test_another_user_of_this_machine_is_not_let_in(service):
    processes = [str(process) for process in (service.process.pid, *children(service.process.pid))]
    seen = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(service.port), *processes], capture_output=True, text=True, check=True
    ).stdout
    assert seen.splitlines()[:3] == ["401", "401", "200"]
    assert seen.count("closed") == len(processes) >= 2 and service.token not in seen


def test_a_huge_body_is_refused_without_being_read_into_memory(service):
    [worker] = service.workers()

    def most():
        status = Path(f"/proc/{worker}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

    before = most()
    head = f"host: 127.0.0.1:{service.port}\r\nauthorization: Bearer {service.token}\r\n"
    json = "transfer-encoding: chunked\r\ncontent-type: application/json"
    for place, length in (("images", f"content-length: {2 << 30}"), ("jobs", json)):
        with socket.create_connection(("127.0.0.1", service.port), timeout=SECONDS) as connection:
            connection.sendall(f"POST /api/v1/{place} HTTP/1.1\r\n{head}{length}\r\n\r\n".encode())
            megabyte = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
            for _ in range(100):
                connection.sendall(megabyte)
            assert connection.recv(100).split()[1] == b"413"
    # What searches need may be loaded meanwhile.
    assert most() - before < 50_000


def test_freed_memory_is_kept_unless_the_user_says_otherwise(service):
    [worker] = service.workers()
    variables = Path(f"/proc/{worker}/environ").read_text().split("\0")
    assert {f"{name}={os.environ.get(name, value)}" for name, value in MEMORY.items()} <= set(variables)


def test_processes_that_are_killed_are_started_again_and_nothing_is_lost(archive):
    """An upload is acknowledged afterwards, and the job that ran is done again from where it was."""
    image = next((samples() / "images").glob("chest-*.jpg")).read_bytes()
    indexed = {"kind": "index", "sources": [str(samples() / "images" / "head-*")], "fit": "never"}
    with serving("--archive", archive.path, "--workers", 2) as running:
        first = children(running.process.pid)
        assert len(first) == 3 and len(running.workers()) == 2
        job = running.ask("POST", "api/v1/jobs", json=indexed).json()["id"]
        while running.get(f"api/v1/jobs/{job}").json()["state"] == "queued":
            pass
        with watched(*first):
            for process in first:
                os.kill(process, signal.SIGKILL)
        # The supervisor listens, so this waits for a worker.
        response = running.ask("POST", "api/v1/images", content=image)
        assert response.status_code == 202
        ticket = running.get(response.headers["location"].lstrip("/"), params={"wait": 30}).json()
        assert ticket["state"] == "indexed" and len(ticket["ids"]) == 1
        running.get(f"api/v1/jobs/{job}/events")  # which end with the job
        facts = running.get(f"api/v1/jobs/{job}").json()
        assert (facts["state"], facts["deaths"]) == ("done", 1)
        assert len(archive) == 1 + len(list((samples() / "images").glob("head-*"))) > 2
        lines = [running.process.stderr.readline() for _ in first]
        assert sorted(lines) == [
            f"medlike serve: {name} ended with status -9; it is started again\n"
            for name in ("worker 1", "worker 2", "writer of archive")
        ]
        assert set(children(running.process.pid)).isdisjoint(first)
        assert running.token not in running.stop(signal.SIGINT)
        assert running.process.returncode == 0


def test_the_command_line_writes_beside_a_service(archive, tmp_path, run_medlike):
    """What it adds is found, what it erases leaves searches, marks and receipts, and it waits for its turn."""
    files = sorted((samples() / "images").glob("chest-*.jpg"))[:3]
    with serving("--archive", archive.path, "--workers", 1) as running:
        run_medlike("index", *files, "--archive", archive.path)
        first, second, third = [each["id"] for each in running.get("api/v1/images").json()["images"]]
        receipt = running.ask("POST", "api/v1/search", json={"id": first}).json()["receipt"]
        stored = running.ask("POST", "api/v1/receipts", json=receipt).json()["id"]
        for query, marked in ((first, second), (second, third), (second, first)):
            assert running.ask("PUT", f"api/v1/marks/{query}/{marked}", json={"mark": "like"}).status_code == 200
        run_medlike("remove", first, "--erase", "--yes", "--archive", archive.path)
        assert running.get(f"api/v1/images/{first}").status_code == 404
        while running.get(f"api/v1/receipts/{stored}").status_code != 404:
            pass  # the writer looks once a second what others erased
        assert running.get("api/v1/marks").json()["queries"] == [{"query": second, "like": 1, "unlike": 0}]
        held = [path for path in archive.path.rglob("*") if path.is_file() and first.encode() in path.read_bytes()]
        assert not held
        with Archive.open(archive.path) as writing:
            writing._lock.take()
            ticket = running.ask("POST", "api/v1/images", content=files[0].read_bytes()).json()["tickets"][0]
            said = run_medlike("remove", second, "--yes", "--archive", archive.path, code=1)
            assert "is being written by" in said
            assert running.get(f"api/v1/tickets/{ticket}").json()["state"] == "received"
            writing._lock.release(clean=True)
        assert running.get(f"api/v1/tickets/{ticket}", params={"wait": 30}).json()["ids"] == [first]


def test_no_process_outlives_the_supervisor(archive):
    with serving("--archive", archive.path, "--workers", 2) as running:
        processes = children(running.process.pid)
        assert len(processes) == 3
        with watched(*processes):
            running.process.kill()
    from medlike.service.supervisor import claimed

    with claimed(archive.path, "here"):
        pass  # its lock has ended with it


@pytest.fixture
def run_medlike(monkeypatch, capsys):
    """Run a command of `medlike` in this process, and return what it says."""
    from medlike.cli import main

    def run(*words, code=0):
        monkeypatch.setattr(sys, "argv", ["medlike", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = "".join(capsys.readouterr())
        assert (ended.value.code or 0) == code, said
        return said

    return run


@pytest.fixture
def refused(monkeypatch, capsys):
    """Return why a service does not start."""
    from medlike.cli import main

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["medlike", "serve", "--port", "0", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert ended.value.code == 1 and out == ""
        return err

    return run


def test_a_second_service_on_an_archive_is_refused(refused, service, folder, tmp_path):
    said = refused("--archive", folder)
    assert f"{folder} is already served by process {service.process.pid} at {service.address}" in said
    assert service.token not in said
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert "is already served" in refused("--archive", link), "whatever it is called"


def test_what_cannot_be_served_is_refused_in_a_sentence(refused, archive, tmp_path, service):
    missing, peers = tmp_path / "missing", _for_peers(tmp_path)
    for words, sentence in (
        (["--archive", missing], "is not an archive"),
        (["--archive", f"a={archive.path}", "--archive", f"b={archive.path}"], "is given twice"),
        (["--archive", f"a={archive.path}", "--archive", f"a={missing}"], "two archives have the name a"),
        (["--archive", f"A B={archive.path}"], "not a name for an archive"),
        (["--archive", archive.path, *peers, "--hide-from-peers", "other"], "there is no archive of this name"),
        (["--archive", archive.path, "--hide-from-peers", "archive"], "give --peer-token, or leave it out"),
        (["--archive", archive.path, *peers, "--host", "0.0.0.0", "--open"], "0.0.0.0 has no page to open"),
        (["--archive", "http://127.0.0.1:8000"], "is the address of a service: give the folder of an archive"),
        (["--archive", archive.path, "--archive", archive.path], "is given twice"),
        (["--host", "0.0.0.0"], "give --peer-token, --tls-cert and --tls-key"),
        (["--archive", archive.path, "--demo"], "--demo serves the samples alone"),
        (["--archive", archive.path, "--host", "0.0.0.0"], "give --peer-token, --tls-cert and --tls-key"),
        (["--archive", archive.path, "--tls-cert", missing], "give both"),
        (["--archive", archive.path, "--tls-cert", missing, "--tls-key", missing], f"there is no file {missing}"),
        (["--archive", archive.path, "--tls-cert", peers[1], "--tls-key", peers[1]], "not a certificate and its key"),
        (["--archive", archive.path, "--peer-token", missing], "openssl rand -hex 32"),
        (["--archive", archive.path, "--port", str(service.port)], "choose another with --port"),
        (["--archive", archive.path, "--host", "host.invalid", *peers], "host.invalid port 0 cannot be"),
    ):
        said = refused(*words)
        assert sentence in said and said.count("\n") == 1, said


def test_says_what_to_install(refused, monkeypatch):
    monkeypatch.setattr("medlike.cli.exits.find_spec", lambda name: None if name == "fastapi" else name)
    assert refused("--demo") == "medlike: fastapi is not installed; install it with: pip install 'medlike[service]'\n"


def test_a_damaged_archive_is_refused_in_a_sentence(refused, archive):
    archive.close()
    (archive.path / "store.sqlite").write_bytes(b"no database" * 1000)
    said = refused("--archive", archive.path)
    assert "medlike: " in said and "damaged" in said and said.count("\n") == 1, said


def test_a_token_that_others_can_read_or_guess_is_refused(refused, archive, tmp_path):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 2)
    token.chmod(0o644)
    assert f"chmod 600 {token}" in refused("--archive", archive.path, "--peer-token", token)
    token.chmod(0o600)
    for text in ("", "short", "0123456789abcdef " * 3, "ä" * 40):
        token.write_text(text)
        assert "does not contain a token" in refused("--archive", archive.path, "--peer-token", token)


def _for_peers(place):
    """Write a token and a certificate for another address; return the options that name them."""
    token, certificate, key = place / "peer", place / "certificate.pem", place / "key.pem"
    token.touch(0o600)
    token.write_text("p" * 40 + "\n")
    _write_certificate(certificate, key)
    return "--peer-token", token, "--tls-cert", certificate, "--tls-key", key


def _write_certificate(certificate, key):
    """Write a certificate for localhost that is signed by itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    secret, name = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string("CN=localhost")
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(name, name, secret.public_key(), x509.random_serial_number(),
                                   now - datetime.timedelta(days=1), now + datetime.timedelta(days=1))  # fmt: skip
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    signed = made.add_extension(names, critical=False).sign(secret, hashes.SHA256())
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    key.write_bytes(
        secret.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    )


def test_another_address_is_for_services_alone(tmp_path, tiny_regional_bundle):
    import ssl

    for name in ("shown", "hidden"):
        Archive.create(tmp_path / name, tiny_regional_bundle).close()
    archives = ("--archive", tmp_path / "shown", "--archive", tmp_path / "hidden", "--hide-from-peers", "hidden")
    options = _for_peers(tmp_path)
    process = started(*archives, *options, "--host", "0.0.0.0", "--workers", 1)
    try:
        line = process.stdout.readline()
        assert line.startswith("medlike is running for other services at https://0.0.0.0:") and "token" not in line
        port = int(line.rpartition(":")[2].partition("/")[0])
        trust = ssl.create_default_context(cafile=options[3])
        with httpx.Client(verify=trust, base_url=f"https://localhost:{port}") as peer:
            assert peer.get("/api/v1/archives").status_code == 401
            assert peer.get("/").status_code == 401
            peer.headers["authorization"] = f"Bearer {'p' * 40}"
            assert [each["name"] for each in peer.get("/api/v1/archives").json()["archives"]] == ["shown"]
            assert peer.get("/").status_code == 404
    finally:
        process.terminate()
        assert process.communicate(timeout=SECONDS)[1] == ""


def test_stops_at_once_while_requests_wait_for_news_and_writes_no_names_into_its_log(archive):
    with serving("--archive", archive.path, "--workers", 1) as running:
        httpx.get(f"{running.address}?token={running.token}")
        running.get("api/v1/archive?archive=Doe^John")
        running.get("Doe^John")
        with socket.create_connection(("127.0.0.1", running.port)) as odd:
            odd.sendall(b"Doe John\r\n\r\n")
            odd.recv(10)
        [writer] = set(children(running.process.pid)) - set(running.workers())
        os.kill(writer, signal.SIGSTOP)
        job = running.ask("POST", "api/v1/jobs", json={"kind": "verify"}).json()["id"]
        with httpx.Client() as idle, socket.create_connection(("127.0.0.1", running.port)) as silent:
            idle.get(f"{running.address}api/v1/health")
            silent.sendall(b"GET / HT")
            with running.stream(f"api/v1/jobs/{job}/events") as events, watched(*running.workers()):
                assert next(events.iter_lines()).startswith("id: ")
                running.process.terminate()
        os.kill(writer, signal.SIGCONT)
        # A worker that had to cut a request off would say so.
        assert running.process.communicate(timeout=SECONDS)[1] == ""
        assert running.process.returncode == 0


def test_a_request_that_has_begun_ends_before_the_service_does(archive, tmp_path):
    image = next((samples() / "images").glob("chest-*.jpg")).read_bytes()
    with serving("--archive", archive.path, "--workers", 1) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=SECONDS) as connection:
            head = f"POST /api/v1/images HTTP/1.1\r\nhost: 127.0.0.1:{running.port}\r\ncontent-length: {len(image)}\r\n"
            connection.sendall(f"{head}authorization: Bearer {running.token}\r\n\r\n".encode() + image[:1000])
            running.process.terminate()
            with pytest.raises(ConnectionRefusedError):
                while True:
                    socket.create_connection(("127.0.0.1", running.port)).close()
            connection.sendall(image[1000:])
            received = connection.makefile("rb").read()
        assert b" 202 " in received.splitlines()[0]
        assert running.process.communicate(timeout=SECONDS)[1] == "" and running.process.returncode == 0
    ticket = json.loads(received.rpartition(b"\r\n\r\n")[2])["tickets"][0]
    assert archive.status(ticket).state in ("received", "indexed")
