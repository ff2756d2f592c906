"""kill -9 of a receiver and of the writer at random moments, again and again on the same archive.

    python tests/service/kills.py --runs 500

A receiver uploads files, some of which are no images, and submits jobs and removals, while a writer works. After each
kill a new writer finishes the work. Nothing acknowledged may be lost: every ticket must end as indexed or as refused,
every image must be there unless its removal was asked for, every job must have ended, and `verify` must be clean.
Exit code 1: a promise broke.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "archive" / "crash"))

import workload
from kills import in_child, messages

from medlike.archive.archive import Archive
from medlike.archive.intake import ingest
from medlike.service import writer as writers
from medlike.service.jobs import ENDED, Queue
from medlike.service.wake import wake
from medlike.service.writer import Writer


class Inline(Archive):
    """An archive that decodes in its own process: starting a decoding worker takes longer than a child lives."""

    def add(self, *sources, **settings):
        return super().add(*sources, **settings, decoding="inline")

    def drain(self, **settings):
        return super().drain(**settings, decoding="inline")


def archive_of(folder):
    return Inline.open(folder / "disk" / "archive", encoder=workload.StandIn())


def receive(folder, known, seed, tell):
    """Upload, submit and remove at random; tell before and after each, as a worker that answers requests."""
    chance = random.Random(seed)
    archive = archive_of(folder)
    queue = Queue(archive.path / "private")
    while True:
        time.sleep(chance.uniform(0.0, 0.01))
        action = chance.choice(["upload"] * 16 + ["junk", "junk", "index", "compact", "remove", "erase"])
        name = chance.choice(sorted(known))
        tell("begin", action, name, None)
        if action in ("upload", "junk"):
            data = (folder / "pictures" / name).read_bytes()
            promise = archive.receive(data if action == "upload" else data[:60], name)
        elif action == "index":
            promise = queue.submit("index", {"sources": [str(folder / "pictures")], "fit": "never"}).id
        elif action == "compact":
            promise = queue.submit("compact", {}).id
        else:
            promise = queue.remove([known[name][0]], action == "erase")
        tell("end", action, name, promise)
        wake(queue.path.parent)


def write(folder):
    ingest.GROUP, ingest.BATCH, writers.POLL = 4, 2, 0.05
    writer = Writer(archive_of(folder))
    writer.run(threading.Event())


def finish(folder):
    """Let a new writer do what is left; what is wrong afterwards."""
    with archive_of(folder) as archive:
        problems = [f"as found: {problem}" for problem in archive.verify()]
        writer = Writer(archive)
        while writer.step():
            pass
        if archive.waiting():
            problems.append(f"{archive.waiting()} received files wait though the writer is done")
        jobs, _ = writer.queue.jobs(1000)
        for job in jobs:
            if job.state not in ENDED:
                problems.append(f"job {job.id} is {job.state}")
            if job.state == "failed" and not job.deaths:
                problems.append(f"job {job.id} failed: {job.error}")
        problems += [f"removal {removal.number} waits" for removal in writer.queue.removals()]
        problems += [f"finished: {problem}" for problem in archive.verify()]
        writer.close()
        return problems


def check(folder, known, told, lost, tell):
    """Finish, then compare what is there with what was promised.

    lost: names of pictures whose removal was begun at any time: they may be there or not, and so may their tickets.
    """
    problems = finish(folder)
    with archive_of(folder) as archive:
        queue = Queue(archive.path / "private")
        here = set(archive.ids())
        for event, action, name, promise in told:
            if event != "end":
                continue
            if action in ("upload", "junk"):
                try:
                    state = archive.status(promise)
                except Exception as error:
                    if name not in lost:
                        problems.append(f"the ticket of {name} is lost: {error}")
                    continue
                if action == "junk" and state.state != "refused":
                    problems.append(f"{name}, cut off, is {state}")
                if action == "upload" and name not in lost:
                    if state.state != "indexed" or state.ids != (known[name][0],):
                        problems.append(f"{name} was acknowledged and is {state}")
                    if known[name][0] not in here:
                        problems.append(f"{name} was acknowledged and is lost")
            elif action in ("index", "compact"):
                if queue.job(promise) is None:
                    problems.append(f"job {promise} was acknowledged and is lost")
            elif (removal := queue.removal(promise)) is None or not removal.done or removal.error:
                problems.append(f"removal {promise} was acknowledged and is {removal}")
    tell("checked", problems)


def run(folder, runs, seed, longest, each):
    workload.prepare(folder)
    workload.create(folder)
    known = workload.ids(folder)
    chance = random.Random(seed)
    struck, acknowledged = Counter(), Counter()
    told, lost = [], set()  # since the last check
    for number in range(runs):
        writing, pipe = in_child(lambda tell: write(folder))
        receiving, told_by = in_child(lambda tell, number=number: receive(folder, known, seed + number, tell))
        time.sleep(chance.uniform(0.02, longest))
        victims = [writing, receiving]
        chance.shuffle(victims)
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
        now = messages(told_by)
        problems = [f"a child failed: {message}" for message in (*messages(pipe), *now) if message[0] == "error"]
        struck[now[-1][1] if now and now[-1][0] == "begin" else "between"] += 1
        if not problems:
            acknowledged.update(action for event, action, *_ in now if event == "end")
            told += now
            lost |= {name for _, action, name, _ in now if action in ("remove", "erase")}
        due = (number + 1) % each == 0 or number + 1 == runs
        if due and not problems:
            child, pipe = in_child(lambda tell, told=told, lost=lost: check(folder, known, told, lost, tell))
            answer = messages(pipe)[-1]
            os.waitpid(child, 0)
            problems = answer[1] if answer[0] == "checked" else [f"the archive cannot be checked: {answer[1]}"]
        if problems:
            return [f"run {number}, {now[-1:]}: {problem}" for problem in problems], struck, acknowledged
        if due:
            told, lost = [], set()
    return [], struck, acknowledged


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--runs", type=int, default=500)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--longest", type=float, default=0.4, help="seconds a child lives at most")
    options.add_argument("--each", type=int, default=1, help="kills between two checks of what is there")
    options.add_argument("--figures", type=Path, help="a page to write the figures into")
    options.add_argument("--keep", action="store_true", help="keep the folder")
    chosen = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="medlike-service-kills-"))
    began = time.monotonic()
    try:
        problems, struck, acknowledged = run(folder, chosen.runs, chosen.seed, chosen.longest, chosen.each)
    finally:
        if not chosen.keep:
            shutil.rmtree(folder, ignore_errors=True)
    for problem in problems:
        print(problem)
    print(f"{sum(struck.values())} kills in {time.monotonic() - began:.0f} s, during: {dict(struck)}")
    print(f"acknowledged: {dict(acknowledged)}")
    print("broken" if problems else "nothing acknowledged was lost, every ticket ended as indexed or refused")
    if chosen.figures and not problems:
        import figures

        told = f"{sum(struck.values())} kills of receiver and writer: nothing lost"
        figures.write(chosen.figures, "service kills", told)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
