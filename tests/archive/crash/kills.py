"""kill -9 at random moments of a random use of an archive, again and again on the same archive.

    python tests/archive/crash/kills.py --runs 1000

After each kill `verify` must be clean, before and after the next writer repairs; nothing acknowledged may
be lost, nothing removed may be back. Prints how many kills struck which action. Exit code 1: a promise broke.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import figures
import workload


def in_child(task):
    """Run a task in a forked process; (pid, the end of the pipe its messages come from)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    os.close(reading)
    try:
        task(lambda *message: os.write(writing, json.dumps(message).encode() + b"\n"))
        status = 0
    except BaseException as error:
        import traceback

        traceback.print_exc()
        os.write(writing, json.dumps(["error", repr(error), [], 0]).encode() + b"\n")
        status = 1
    os._exit(status)


def messages(pipe):
    """All whole messages left in a pipe whose writer is gone."""
    with os.fdopen(pipe, "rb") as file:
        return [json.loads(line) for line in file.read().split(b"\n")[:-1]]


def run(folder, runs, seed, longest):
    workload.prepare(folder)
    workload.create(folder)
    known = workload.ids(folder)
    promises = workload.Promises(known)
    chance = random.Random(seed)
    struck = Counter()
    for number in range(runs):
        pid, pipe = in_child(lambda tell, number=number: workload.use(folder, known, seed + number, tell))
        time.sleep(chance.uniform(0.0, longest))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        told = messages(pipe)
        for message in told:
            if message[0] == "error":
                return [f"run {number}: the child failed: {message[1]}"], struck
            promises.told(*message)
        struck[told[-1][1] if told and told[-1][0] == "begin" else "between"] += 1
        pid, pipe = in_child(lambda tell: tell(*workload.check(folder, known), "checked"))
        answer = messages(pipe)[-1]
        os.waitpid(pid, 0)
        if answer[0] == "error":
            return [f"run {number}: the archive cannot be checked: {answer[1]}"], struck
        problems = answer[0] + promises.broken(set(answer[1]), answer[2])
        if problems:
            return [f"run {number}, {told[-1:]}: {problem}" for problem in problems], struck
    return [], struck


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--runs", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--longest", type=float, default=0.25, help="seconds a child lives at most")
    options.add_argument("--figures", type=Path, help="a page to write the figures into")
    options.add_argument("--keep", action="store_true", help="keep the folder")
    chosen = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="medlike-kills-"))
    began = time.monotonic()
    try:
        problems, struck = run(folder, chosen.runs, chosen.seed, chosen.longest)
    finally:
        if not chosen.keep:
            shutil.rmtree(folder, ignore_errors=True)
    for problem in problems:
        print(problem)
    print(f"{sum(struck.values())} kills in {time.monotonic() - began:.0f} s, during: {dict(struck)}")
    print("broken" if problems else "nothing acknowledged was lost, every verify was clean")
    if chosen.figures and not problems:
        figures.write(chosen.figures, "kills", f"{sum(struck.values())} kills: nothing lost")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
