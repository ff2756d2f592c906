"""Whether each operation has everything on the disk before it acknowledges, with each sync switched off in turn.

    python tests/archive/crash/order.py            every operation, in order, once
    python tests/archive/crash/order.py --sites    the same with each call site that syncs switched off

A child performs the operations one by one under recorder.c, and writes a mark before and after each. In what was
recorded a draft must be fsynced before it is renamed, and what it names before that. When the mark of the end is
written, every file must be as the disk holds it and every name durable. Exit code 1: an order is broken, or nothing
notices that a site is switched off.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import powerloss

# SQLite never syncs its shared memory; index locks hold nothing; a library renames its own past the recorder.
NEVER_SYNCED = re.compile(r"-shm$|/lock$|/waiting$|/\.tmp[^/]*$")
LOCK = "writer.lock"
# After these nothing may come back.
DELETING = ("erase",)


def operations(folder, mark):
    """Every operation that promises something, on a disk that holds nothing yet."""
    import workload

    from medlike import Archive, Query, bundle, imaging
    from medlike.archive.index import index
    from medlike.archive.storage.identity import Identity

    index.WORTH_A_FILE = 2
    disk, pictures = folder / "disk", sorted((folder / "pictures").glob("*.png"))
    identity = None

    def id_of(path):
        return identity.public_id(None, 0, next(imaging.read(str(path))).digest)

    def step(name, work, *given, **named):
        mark(f"begin {name}")
        result = work(*given, **named)
        mark(f"end {name}")
        return result

    made = bundle.Bundle.load(folder / "bundle")
    for name in ("bundle", "bundle replaced"):
        step(name, bundle.rewrite, made, disk / "bundle", {}, {"note": name}, replace=True)
    archive = step("create", Archive.create, disk / "archive", folder / "bundle", encoder=workload.StandIn())
    identity = Identity(disk / "archive" / "private")
    step("add", archive.add, pictures[:6], threads=1)
    step("add copies", archive.add, pictures[6:12], pixels="copy", threads=1)
    step("receive", archive.receive, pictures[12].read_bytes(), "12.png", texts={"caption": "clear lungs"})
    ticket = step("receive damaged", archive.receive, pictures[13].read_bytes(), "13.png")
    with (disk / "archive" / "private" / "spool" / f"{ticket}.json").open("w") as damaged:
        damaged.write("{")
        damaged.flush()
        os.fsync(damaged.fileno())
    step("set aside", archive.drain)
    step("receive refused", archive.receive, b"no picture", "x.png")
    step("drain", archive.drain)
    step("index", archive.search, Query(image=str(pictures[0])), 3)
    step("remove", archive.remove, [id_of(pictures[0])])
    step("erase", archive.remove, [id_of(pictures[6])], erase=True)
    step("compact", archive.compact)
    step("reindex", archive.reindex)
    step("backup", archive.backup, disk / "backup", links=True, with_id_key=True)
    step("backup without names", archive.backup, disk / "bare")
    step("backup under a passphrase", archive.backup, disk / "sealed", links=True, passphrase="open sesame")
    step("close", archive.close)
    given = {
        "backup": {},
        "bare": {"key": disk / "archive" / "private" / "key"},
        "sealed": {"passphrase": "open sesame"},
    }
    for name, secret in given.items():
        target, encoder = disk / f"restored {name}", workload.StandIn()
        again = step(f"restore {name}", Archive.restore, disk / name, target, encoder=encoder, **secret)
        step(f"close {name}", again.close)


def child(folder, off):
    """Perform the operations, with a site switched off or None; marks go into a file of the recorded disk."""
    import sites

    marks = os.open(folder / "disk" / "promises", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if off is not None:
        sites.switch_off(sites.sites()[off])
    operations(folder, lambda text: os.write(marks, text.encode()))


def record(folder, off=None):
    """Run the child under the recorder. Returns the disk before it, and what was recorded.

    Raises RuntimeError where the operations came to no end.
    """
    (folder / "disk").mkdir()
    disk = powerloss.Disk(folder / "disk")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(folder.parent / "recorder.so"),
        "RECORD_ROOT": str(folder / "disk"),
        "RECORD_LOG": str(folder / "log"),
    }
    command = [sys.executable, __file__, "--child", str(folder)] + ([] if off is None else ["--off", str(off)])
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(ran.stderr[-2000:])
    return disk, list(powerloss.records(folder / "log"))


def broken(disk, history):
    """What is out of order in a record, as sentences, and the operations that came to their end."""
    marks, problems, ended, operation = None, {}, [], "before"
    for op, inode, a, data in history:
        found = []
        if op == b"C" and data.endswith(b"/promises"):
            marks = inode
        elif inode == marks and marks is not None:
            if op == b"W":
                event, operation = data.decode().split(" ", 1)
                if event == "end":
                    ended.append(operation)
                    found = unsafe(disk, deletions=operation in DELETING)
        else:
            if op == b"R":
                old, new = data.decode().split("\0")
                found = [*early(disk, old, new), *published(disk, new)]
            elif op == b"W":
                found = unlocked(disk, inode)
            elif op == b"U":
                found = orphaned(disk, data.decode())
            # To know all problems the record goes on.
            found = list(found)
            disk.apply(op, inode, a, data)
        for text in found:
            problems.setdefault(text, f"{operation}: {text}")
    return list(problems.values()), ended


def early(disk, old, new):
    """A draft that takes its place before its content is on the disk."""
    if not old.endswith(".partial"):
        return
    draft = disk.found(old)
    if draft.loose:
        yield f"the draft of {shown(new)} is renamed before it is synced"
    for path, file, known in disk.below(draft):
        if file.loose:
            yield f"{shown(new + path)} is not synced when its folder is renamed"
        if not known and not NEVER_SYNCED.search(path):
            yield f"{shown(new + path)} is not yet in its folder when that is renamed"


def published(disk, new):
    """What a file names that takes its place now: a reader trusts it, so all of it must be on the disk before."""
    if not new.endswith(("/index.json", "/archive.json")):
        return
    for path, file, known in disk.below(disk.found(str(Path(new).parent))):
        if file.folder and not known:
            yield f"{shown(new)} is published before the folder {shown(path)} is safe"
        elif file.loose and not NEVER_SYNCED.search(path) and not path.endswith((LOCK, "-wal", ".partial")):
            yield f"{shown(new)} is published before the content of {shown(path)} is safe"


def orphaned(disk, path):
    """A received file that is deleted while the disk still has the sidecar that names it."""
    archive = disk.top.entries.get("archive")
    private = archive and archive.entries.get("private")
    spool = private and private.entries.get("spool")
    name = Path(path).stem + ".json"
    if spool and Path(path).parent.name == "spool" and not path.endswith(".json") and name in spool.safe_entries:
        yield f"{shown(path)} is deleted before its sidecar is gone for good"


def unlocked(disk, inode):
    """A write beside a lock that a power cut would hide: the next writer must learn that this one died."""
    archive = disk.top.entries.get("archive")
    lock = archive and archive.entries.get(LOCK)
    if lock and lock.now and disk.inodes.get(inode) is not lock:
        if any(isinstance(change, tuple) for change in lock.loose):
            yield "the writer's name in its lock is not safe when it begins to write"
        if archive.safe_entries.get(LOCK) is not lock:
            yield "the name of the lock is not safe when the writer begins to write"


def unsafe(disk, deletions):
    """What a power cut would take now: contents and names; deleted names too, where those must not come back."""
    for path, file, known in disk.below():
        if NEVER_SYNCED.search(path):
            continue
        # A lock or a log that was emptied may be full again: both are read as what ended in a crash.
        emptied = path.endswith((LOCK, "-wal")) and all(isinstance(change, int) for change in file.loose)
        if file.loose and not emptied:
            yield f"the content of {shown(path)} is not safe"
        # SQLite syncs the folder of a log with the first commit in it.
        if not known and (file.now or not path.endswith("-wal")):
            yield f"the name {shown(path)} is not safe"
    for path in disk.deleted() if deletions else ():
        if not NEVER_SYNCED.search(path):
            yield f"{shown(path)} is deleted and may come back"


def shown(path):
    """A path without the random parts of names."""
    return re.sub(r"[0-9a-f]{8,}", "*", path.rpartition("/disk/")[2].removeprefix("/"))


def prepared(folder):
    """Pictures, a bundle and the recorder, for any number of runs beside each other."""
    import workload

    workload.prepare(folder)
    (folder / "disk").rmdir()
    powerloss.build_recorder(folder)
    return folder


def run(folder, name, off=None):
    """(problems, operations) of one run in a folder of its own."""
    place = folder / name
    place.mkdir()
    for part in ("pictures", "bundle"):
        (place / part).symlink_to(folder / part)
    try:
        return broken(*record(place, off))
    except RuntimeError as error:
        return [f"the operations came to no end: {error}"], []
    finally:
        shutil.rmtree(place)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--sites", action="store_true", help="switch off each call site that syncs, in turn")
    options.add_argument("--only", help="sites whose name holds this")
    options.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--off", type=int, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.child:
        child(chosen.child, chosen.off)
        return 0
    with tempfile.TemporaryDirectory(prefix="medlike-order-") as place:
        folder = prepared(Path(place) / "order")
        problems, ended = run(folder, "all")
        print("\n".join(problems) or f"in order: {', '.join(ended)}")
        if problems or not chosen.sites:
            return 1 if problems else 0
        return switched_off(folder, chosen.only or "")


def switched_off(folder, only):
    """Print which sites are noticed when they are switched off; 1 where one is not."""
    from sites import sites

    numbers = [(number, site) for number, site in enumerate(sites()) if only in str(site)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda pair: run(folder, f"without {pair[0]}", pair[0])[0], numbers)
        silent = 0
        for (_, site), problems in zip(numbers, found, strict=True):
            silent += not problems and not site.covered
            verdict = "yes" if problems else "-" if site.covered else "NO"
            print(f"{verdict:4} {site!s:62} {problems[0] if problems else site.covered}"[:200], flush=True)
    print(f"{silent} of {len(numbers)} sites are missed by nobody")
    return 1 if silent else 0


if __name__ == "__main__":
    sys.exit(main())
