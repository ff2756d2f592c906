"""Use a service of its own processes for minutes, as several people and machines do, and watch its memory.

    python tests/service/soak.py --minutes 10

Two search, by id and with an image. One uploads files and waits until they are found, one removes the oldest uploads,
so that the archive stays as large as it is. One pages through the images and views them. Every answer must be good.
Memory is that of all processes, shared pages counted once. It counts as flat if its median over the last third of the
time lies within 5 % of that over the middle third. Exit code 1: an error, or memory that grows.
"""

import argparse
import io
import itertools
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "archive" / "crash"))
sys.path.insert(0, str(Path(__file__).parent))

import figures
import numpy as np
from PIL import Image
from running import running

PICTURES = 400  # in the archive from the start
HELD = 50  # uploads that the archive keeps
FLAT = 0.05
SAMPLING = 2.0  # seconds
PAUSE = 0.05  # seconds between two requests of one sender


class Load:
    """Senders of requests, each in a thread of its own, until they are told to stop.

    Attributes:
        done: How many requests of each kind were answered well.
        errors: What went wrong.
    """

    def __init__(self, service):
        self.service = service
        self.done = Counter()
        self.errors = []
        self.uploads = deque()
        self.stopped = threading.Event()
        with service.client() as client:
            self.ids = [each["id"] for each in client.get("images", params={"limit": 1000}).json()["images"]]

    def run(self, seconds):
        """Send for so many seconds; return the memory in MB with the time of each sample."""
        senders = (self.search, self.search_by_image, self.add, self.remove, self.view)
        threads = [threading.Thread(target=self.repeat, args=(send,)) for send in senders]
        for thread in threads:
            thread.start()
        samples, began = [], time.monotonic()
        while (now := time.monotonic() - began) < seconds and not self.errors:
            samples.append((now, self.service.megabytes()))
            self.stopped.wait(SAMPLING)
        self.stopped.set()
        for thread in threads:
            thread.join()
        return samples

    def repeat(self, send):
        """Call one of the senders again and again, with a client of its own."""
        with self.service.client() as client:
            for turn in itertools.count():
                if self.stopped.is_set():
                    return
                try:
                    send(client, turn)
                except Exception as error:
                    self.errors.append(f"{send.__name__}: {type(error).__name__}: {error}")
                    self.stopped.set()
                self.stopped.wait(PAUSE)

    def search(self, client, turn):
        """Search by id, with a filter now and then."""
        asked = {"id": self.ids[turn % len(self.ids)], "k": 10}
        if turn % 3 == 0:
            asked["where"] = {"width": {"gte": 1}}
        self.good(client.post("search", json=asked), "searches")

    def search_by_image(self, client, turn):
        """Search with an image that the archive does not hold."""
        self.good(client.post("search", files={"image": picture(1_000_000 + turn)}), "searches")

    def add(self, client, turn):
        """Upload an image, and wait until a search by its id answers."""
        sent = self.good(client.post("images", content=picture(2_000_000 + turn)), "uploads")
        state = self.good(client.get(f"tickets/{sent['tickets'][0]}", params={"wait": 30}), "tickets")
        if state["state"] != "indexed":
            raise AssertionError(f"after 30 s the upload is not indexed: {state}")
        self.good(client.post("search", json={"id": state["ids"][0], "k": 1}), "searches")
        self.uploads.append(state["ids"][0])

    def remove(self, client, turn):
        """Remove the oldest upload, and erase every second one."""
        if len(self.uploads) > HELD:
            params = {"erase": "true"} if turn % 2 else {}
            self.good(client.delete(f"images/{self.uploads.popleft()}", params=params), "removals")

    def view(self, client, turn):
        """List images, and look at one of them in every form."""
        page = self.good(client.get("images", params={"limit": 20, "offset": 20 * (turn % 20)}), "views")
        id = page["images"][turn % len(page["images"])]["id"]
        if id not in self.ids:
            return  # an upload, which may be removed before it is viewed
        for form in ("", "/thumbnail", "/rendered", "/pixels", "/photometry"):
            self.good(client.get(f"images/{id}{form}"), "views")

    def good(self, response, kind):
        """Count an answer, and return its JSON if it is some."""
        if response.status_code >= 300:
            raise AssertionError(f"{response.request.method} {response.url}: {response.status_code} {response.text}")
        self.done[kind] += 1
        return response.json() if "json" in response.headers.get("content-type", "") else None


def picture(seed):
    """Return a drawn picture as PNG; each seed gives another one."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse.repeat(16, 0).repeat(16, 1)).save(file, "png")
    return file.getvalue()


def make(folder):
    """Write an archive of drawn pictures under the default bundle, and return its folder."""
    from medlike import Archive

    pictures = folder / "pictures"
    pictures.mkdir()
    for seed in range(PICTURES):
        (pictures / f"{seed:04}.png").write_bytes(picture(seed))
    with Archive.create(folder / "archive") as archive:
        archive.add(pictures, pixels="copy", fit="never")
    return folder / "archive"


def growth(samples, seconds):
    """Return the memory in MB of the middle and of the last third of the time."""
    return [
        statistics.median(value for at, value in samples if part * seconds / 3 <= at < (part + 1) * seconds / 3)
        for part in (1, 2)
    ]


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--figures", type=Path, help="a page to write the figures into")
    chosen = options.parse_args()
    seconds = 60 * chosen.minutes
    with tempfile.TemporaryDirectory(prefix="medlike-soak-") as folder:
        place = make(Path(folder))
        with running("--archive", place, "--workers", chosen.workers) as service:
            load = Load(service)
            samples = load.run(seconds)
    for error in load.errors:
        print(error)
    if load.errors:
        return 1
    before, after = growth(samples, seconds)
    told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(load.done.items()))
    print(f"{chosen.minutes:g} minutes: {told}; 0 errors; memory {before:.0f} MB, later {after:.0f} MB")
    failed = after > (1 + FLAT) * before
    if chosen.figures and not failed:
        text = f"{chosen.minutes:g} minutes: {told}; no errors; memory {before:.0f} MB, later {after:.0f} MB"
        figures.write(chosen.figures, "service", text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
