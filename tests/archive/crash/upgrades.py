"""kill -9 in an upgrade, at one line of it after the other, each time on the same archive of format 1.

    python tests/archive/crash/upgrades.py --kills 40

After each kill the archive opens, answers as before, has what was received, and `verify` is clean; the upgrade is then
run again to its end. Prints how many kills struck. Exit code 1: something was lost.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tarfile
import tempfile
from pathlib import Path

import kills

from medlike import Archive, Query

STORED = Path(__file__).parents[1] / "data" / "format-1.tar.xz"
NEW_COLUMN = "SELECT 1 FROM pragma_table_info('links') WHERE name = 'digest'"
STEPS = ("upgrade.py", "digests.py", "spool.py", "identity.py", "folder.py", "session.py", "files.py", "database.py")


def unpack(folder):
    """Write the stored archive of format 1 into a new folder."""
    with tarfile.open(STORED) as packed:
        members = [member for member in packed if member.name.startswith("format-1/") or member.name == "format-1"]
        packed.extractall(folder.parent, members, filter="data")
    (folder.parent / "format-1").rename(folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)


def prepare(folder):
    """An archive of format 1 with a received file that waits; its ticket, and what a search answers."""
    unpack(folder / "format-1")
    with Archive.open(folder / "format-1") as archive:
        ticket = archive.receive(b"a file that waits", "late.png")
        return folder / "format-1", ticket, answer(archive)


def answer(archive):
    """What a search by the bundle's codes says, the same for the same archive: an upgrade fits others."""
    result = archive.search(Query(id=archive.ids()[0]), codes="trained")
    return json.loads(json.dumps([[hit.as_dict() for hit in result], archive.info()["generation"]], default=str))


def upgraded(path, tell, last=0):
    """Upgrade, and die before the line of this number; tell the number of lines in the end."""
    lines = 0

    def line(frame, event, argument):
        nonlocal lines
        if event == "line":
            lines += 1
            if lines == last:
                os.kill(os.getpid(), signal.SIGKILL)
        return line

    def call(frame, event, argument):
        code = frame.f_code
        return line if Path(code.co_filename).name in STEPS and "medlike/archive" in code.co_filename else None

    archive = Archive.open(path)
    sys.settrace(call)
    archive.upgrade()
    sys.settrace(None)
    archive.close()
    tell("lines", lines)


def look(path, ticket, expected, tell, last=False):
    """Tell what is wrong with an archive, as sentences, and its format. last: after an upgrade that was completed."""
    with Archive.open(path) as archive:
        problems = [str(problem) for problem in archive.verify()]
        if answer(archive) != expected:
            problems.append("it answers otherwise")
        if archive.status(ticket).state != "received":
            problems.append("the received file is lost")
        late = archive.receive(b"one more", "later.png")
        if archive.status(late).state != "received":
            problems.append("nothing can be received")
        format = json.loads((path / "archive.json").read_text())["format"]
        if format == 1 and archive._links.connection.execute(NEW_COLUMN).fetchone():
            problems.append("an earlier medlike opens it and cannot write its links")
        if last and archive.unchecked():
            problems.append("rows without digests are left")
        if last and archive.info()["fit"] is None:
            problems.append("no codes are fitted")
    tell("looked", problems, format)


def in_child(task):
    pid, pipe = kills.in_child(task)
    told = kills.messages(pipe)
    _, status = os.waitpid(pid, 0)
    return told[-1] if told else None, os.waitstatus_to_exitcode(status)


def run(folder, number):
    """Kill that many upgrades, evenly over their lines; problems, and how often a format was found."""
    sound, ticket, expected = prepare(folder)
    shutil.copytree(sound, folder / "whole")
    (_, lines), _ = in_child(lambda tell: upgraded(folder / "whole", tell))
    struck = {1: 0, 3: 0}
    for at in range(number):
        last = 1 + at * (lines - 1) // max(number - 1, 1)
        path = folder / f"killed-{at}"
        shutil.copytree(sound, path)
        _, status = in_child(lambda tell, path=path, last=last: upgraded(path, tell, last))
        if status != -signal.SIGKILL:
            return [f"the upgrade was not killed at line {last} of {lines}: {status}"], struck
        told, _ = in_child(lambda tell, path=path: look(path, ticket, expected, tell))
        problems = told[1]
        struck[told[2]] += 1
        in_child(lambda tell, path=path: upgraded(path, tell))
        again, _ = in_child(lambda tell, path=path: look(path, ticket, expected, tell, last=True))
        problems += [f"upgraded: {problem}" for problem in again[1]] + ([] if again[2] == 3 else ["not upgraded"])
        if problems:
            return [f"killed at line {last} of {lines}: {problem}" for problem in problems], struck
        shutil.rmtree(path)
    return [], struck


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--kills", type=int, default=40)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="medlike-upgrades-") as folder:
        problems, struck = run(Path(folder), chosen.kills)
    for problem in problems:
        print(problem)
    print(f"{sum(struck.values())} kills; found afterwards as format 1: {struck[1]}, as format 3: {struck[3]}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
