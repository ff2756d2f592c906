"""What is left of an archive when the power is cut and every write that was not fsynced is lost.

    python tests/archive/crash/powerloss.py --cuts 200

A child uses an archive at random; recorder.c, preloaded into it, records every write, fsync, rename and
unlink below the folder. For each of many moments the folder is then built again as a disk would hold it: a
file's content as of its last fsync, a name as of the last fsync of its folder; or, in every second cut, with
a random part of the rest. Nothing acknowledged before the moment may be lost, `verify` must be clean.
"""

import argparse
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
PAGE = 4096


class File:
    """A file or folder: its content as the process sees it, and as the disk holds it."""

    def __init__(self, folder):
        self.folder = folder
        self.now = bytearray()
        self.safe = b""
        self.loose = []  # since the last fsync: (offset, data), or a size
        self.entries = {}  # of a folder, as the process sees them: name -> File
        self.safe_entries = {}


class Disk:
    """A file system that keeps what was fsynced, and may lose everything else."""

    def __init__(self, root):
        """Start from the files below a folder, which are on the disk for good."""
        self.root = root
        self.inodes = {}
        self.top = self._take_in(root)

    def _take_in(self, path):
        file = self.inodes[path.stat().st_ino] = File(path.is_dir())
        if file.folder:
            file.entries = {inside.name: self._take_in(inside) for inside in path.iterdir()}
            file.safe_entries = dict(file.entries)
        else:
            file.now = bytearray(path.read_bytes())
            file.safe = bytes(file.now)
        return file

    def apply(self, op, inode, a, data):
        if op == b"C":
            folder, name = self._place(data.decode())
            folder.entries[name] = self.inodes[inode] = File(a == 2)
        elif op == b"U":
            folder, name = self._place(data.decode())
            folder.entries.pop(name, None)
        elif op == b"R":
            old, new = data.decode().split("\0")
            folder, name = self._place(old)
            moved = folder.entries.pop(name)
            folder, name = self._place(new)
            folder.entries[name] = moved
        elif op == b"T":
            file = self.inodes[inode]
            _resize(file.now, a)
            file.loose.append(a)
        elif op == b"W":
            file = self.inodes[inode]
            _place(file.now, a, data)
            file.loose.append((a, data))
        elif op == b"S":
            file = self.inodes[inode]
            file.safe_entries = dict(file.entries)
            file.safe, file.loose = bytes(file.now), []

    def _place(self, path):
        """The folder that holds a path, and the name in it."""
        *folders, name = Path(path).relative_to(self.root).parts
        at = self.top
        for part in folders:
            at = at.entries[part]
        return at, name

    def found(self, path):
        """The file at a path as the process sees it."""
        folder, name = self._place(path)
        return folder.entries[name]

    def below(self, file=None, path=""):
        """Every file and folder as the process sees it: (path, file, whether the disk knows this name)."""
        file = file or self.top
        for name, inside in file.entries.items():
            yield f"{path}/{name}", inside, file.safe_entries.get(name) is inside
            yield from self.below(inside, f"{path}/{name}")

    def deleted(self, file=None, path=""):
        """Every name that is gone for the process and not for the disk."""
        file = file or self.top
        for name in file.safe_entries:
            if name not in file.entries:
                yield f"{path}/{name}"
        for name, inside in file.entries.items():
            yield from self.deleted(inside, f"{path}/{name}")

    def write(self, target, chance, file=None):
        """Build what the disk holds. chance: a random.Random that saves some of the rest, or None."""
        file = file or self.top
        entries = dict(file.safe_entries)
        for name in sorted({*file.entries, *entries}) if chance is not None else ():
            if file.entries.get(name) is not entries.get(name) and chance.random() < 0.5:
                entries[name] = file.entries.get(name)
        for name, inside in sorted(entries.items()):
            if inside is None or name.endswith("-shm"):
                continue  # never synced by SQLite; made anew from the log
            if inside.folder:
                (target / name).mkdir(mode=0o700, exist_ok=True)
                self.write(target / name, chance, inside)
            else:
                (target / name).write_bytes(_content(inside, chance))


def _content(file, chance):
    content = bytearray(file.safe)
    for change in file.loose if chance is not None else []:
        if isinstance(change, int):
            if chance.random() < 0.5:
                _resize(content, change)
        else:
            for start in range(0, len(change[1]), PAGE):
                if chance.random() < 0.5:
                    _place(content, change[0] + start, change[1][start : start + PAGE])
    return content


def _resize(content, size):
    del content[size:]
    content.extend(bytes(size - len(content)))


def _place(content, at, data):
    if len(content) < at:
        _resize(content, at)
    content[at : at + len(data)] = data


def records(path):
    """The operations in a recorder's log, in order: (op, inode, a, data)."""
    with path.open("rb") as file:
        while head := file.read(25):
            op, inode, a, length = struct.unpack("<cQQQ", head)
            yield op, inode, a, file.read(length)


def build_recorder(folder):
    """Compile recorder.c; its path."""
    library = folder / "recorder.so"
    subprocess.run(
        ["gcc", "-O1", "-shared", "-fPIC", "-o", library, HERE / "recorder.c", "-lpthread"], check=True
    )
    return library


def use(folder, seed, steps):
    """The child: make and use an archive. What it is promised goes into the record too: see `promises`."""
    import workload

    promises = os.open(folder / "disk" / "promises", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(*message):
        os.write(promises, json.dumps(message).encode() + b"\n")

    workload.create(folder)
    tell("end", "create", [], 0)
    workload.use(folder, workload.ids(folder), seed, tell, steps)


def run(folder, cuts, seed, steps, deaf):
    import kills
    import workload

    workload.prepare(folder)
    root = folder / "disk"
    disk = Disk(root)
    environment = {
        **os.environ,
        "LD_PRELOAD": str(build_recorder(folder)),
        "RECORD_ROOT": str(root),
        "RECORD_LOG": str(folder / "log"),
    }
    command = [sys.executable, __file__, "--use", str(folder), "--seed", str(seed), "--steps", str(steps)]
    subprocess.run(command, env=environment, check=True)
    known = workload.ids(folder)
    history = [record for record in records(folder / "log") if not (deaf and record[0] == b"S")]
    promise_inode = next(
        inode for op, inode, _, data in history if op == b"C" and data.endswith(b"/promises")
    )
    chance = random.Random(seed)
    moments = sorted(chance.sample(range(1, len(history) + 1), min(cuts, len(history))))
    promises = workload.Promises(known)
    created = False
    done = 0
    for number, moment in enumerate(moments):
        for op, inode, a, data in history[done:moment]:
            if inode == promise_inode:
                if op == b"W":
                    promises.told(*json.loads(data))
                    created = True
            else:
                disk.apply(op, inode, a, data)
        done = moment
        left = folder / "left" / "disk"
        shutil.rmtree(left.parent, ignore_errors=True)
        left.mkdir(parents=True)
        disk.write(left, random.Random(number) if number % 2 else None)
        if not created and not (left / "archive" / "archive.json").exists():
            continue
        pid, pipe = kills.in_child(lambda tell: tell(*workload.check(folder / "left", known), "checked"))
        answer = kills.messages(pipe)[-1]
        os.waitpid(pid, 0)
        if answer[0] == "error":
            return [f"cut at {moment} of {len(history)}: {answer[1]}"], len(history)
        kept = workload.Promises(known)
        kept.state, kept.generation = dict(promises.state), promises.generation
        problems = answer[0] + kept.broken(set(answer[1]), answer[2])
        if problems:
            return [f"cut {number} at {moment} of {len(history)}: {text}" for text in problems], len(history)
    return [], len(history)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--cuts", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--steps", type=int, default=60, help="operations of the child")
    options.add_argument("--deaf", action="store_true", help="ignore every fsync: this must break promises")
    options.add_argument("--figures", type=Path, help="a page to write the figures into")
    options.add_argument("--keep", action="store_true", help="keep the folder")
    options.add_argument("--use", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.use:
        use(chosen.use, chosen.seed, chosen.steps)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="medlike-powerloss-"))
    began = time.monotonic()
    try:
        problems, length = run(folder, chosen.cuts, chosen.seed, chosen.steps, chosen.deaf)
    finally:
        if not chosen.keep:
            shutil.rmtree(folder, ignore_errors=True)
    for problem in problems:
        print(problem)
    seconds = time.monotonic() - began
    print(f"{chosen.cuts} power cuts within {length} file operations in {seconds:.0f} s")
    print("broken" if problems else "nothing acknowledged was lost, every verify was clean")
    if chosen.figures and not problems:
        import figures

        figures.write(chosen.figures, "power cuts", f"{chosen.cuts} power cuts: nothing lost")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
