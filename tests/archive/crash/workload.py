"""What the crash tests run: an endless random use of an archive that tells what it was promised."""

import random
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

# Whatever a child needs is imported here, once: a fork shares it, whoever edits the files meanwhile.
import PIL.Image

import medlike.archive.index.index  # noqa: F401
from medlike.archive.archive import Archive
from medlike.archive.intake import ingest
from medlike.archive.storage.identity import Identity
from medlike.errors import QueryError
from medlike.inference.encoding import Encodings, quantised

PICTURES = 24
PIL.Image.init()


class StandIn:
    """An encoder without a network: 64 bits from 8 x 8 block means, which the picture alone decides."""

    def encode(self, images):
        blocks = np.stack([image.pixels.reshape(8, 28, 8, 28).mean(axis=(1, 3)).ravel() for image in images])
        bits = blocks > blocks.mean(axis=1, keepdims=True)
        return Encodings(np.packbits(bits, axis=1), quantised(blocks[:, :32].astype(np.float32)))


def prepare(folder, seed=0):
    """Pictures, a bundle, and a disk without an archive, in a new folder."""
    from PIL import Image

    from conftest import make_tiny_bundle

    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    numbers = np.random.default_rng(seed)
    for i in range(PICTURES):
        coarse = numbers.integers(0, 256, (8, 8)).astype(np.uint8)
        Image.fromarray(coarse.repeat(6, 0).repeat(6, 1)).save(pictures / f"{i:02}.png")
    make_tiny_bundle(folder / "bundle")
    (folder / "disk").mkdir()


def create(folder):
    """An empty archive on the disk."""
    Archive.create(folder / "disk" / "archive", folder / "bundle", encoder=StandIn()).close()


def ids(folder):
    """Name of a picture -> its public id in the archive, and its code."""
    from medlike import imaging

    identity = Identity(folder / "disk" / "archive" / "private")
    known = {}
    for path in sorted((folder / "pictures").glob("*.png")):
        image = next(imaging.read(str(path)))
        code = StandIn().encode([imaging.prepare(image)])[0].code.tobytes()
        known[path.name] = (identity.public_id(None, 0, image.digest), code)
    return known


def use(folder, known, seed, tell, steps=10**9):
    """Random operations on the archive; tell(event, action, names, generation) before and after each."""
    # Small groups: many commits in a short life.
    ingest.GROUP, ingest.BATCH = 4, 2
    chance = random.Random(seed)
    archive = Archive.open(folder / "disk" / "archive", encoder=StandIn())
    actions = ["add", "add", "receive", "receive", "drain", "remove", "erase", "compact", "reindex", "fit"]
    for _ in range(steps):
        action = chance.choice(actions)
        some = chance.sample(sorted(known), chance.randint(1, 8))
        names = {"add": some, "remove": some[:3], "erase": some[:2], "receive": some[:1]}.get(action, [])
        tell("begin", action, names, 0)
        paths = [folder / "pictures" / name for name in names]
        if action == "add":
            archive.add(paths, pixels=chance.choice(["copy", "reference"]), threads=1)
        elif action == "receive":
            archive.receive(paths[0].read_bytes(), names[0], texts={"caption": f"a picture named {names[0]}"})
        elif action == "drain":
            archive.drain()
        elif action in ("remove", "erase"):
            archive.remove([known[name][0] for name in names], erase=action == "erase")
        elif action == "compact":
            archive.compact()
        elif action == "fit":
            with suppress(QueryError):  # where there are too few pictures
                archive.fit(bits=chance.choice([16, 32]))
        else:
            archive.reindex()
        tell("end", action, names, archive._store.generation())
    archive.close()


class Promises:
    """What the archive must hold: each picture is in, out, received (in the spool or in), or in doubt."""

    def __init__(self, names):
        self.state = dict.fromkeys(names, "out")
        self.generation = 0

    def told(self, event, action, names, generation):
        """One message of `use`, in order."""
        self.generation = max(self.generation, generation)
        if event == "begin" and action in ("add", "drain"):
            # These take in what was received before.
            for name, state in self.state.items():
                if state == "received":
                    self.state[name] = "in"
        for name in names:
            before = self.state[name]
            if action in ("add", "receive"):
                if event == "end":
                    self.state[name] = "in" if action == "add" or before == "in" else "received"
                elif before == "out":
                    self.state[name] = "doubt"
            elif event == "end":
                self.state[name] = "out"
            elif before != "out":
                self.state[name] = "doubt"

    def broken(self, found, generation):
        """Promises not kept, as sentences; then what was in doubt is known. found: names that are in."""
        problems = []
        if generation < self.generation:
            problems.append(f"generation {self.generation} was acknowledged, the archive is at {generation}")
        for name, state in self.state.items():
            if state in ("in", "received") and name not in found:
                problems.append(f"{name} was acknowledged ({state}) and is lost")
            if state == "out" and name in found:
                problems.append(f"{name} was removed and is back")
            self.state[name] = "in" if name in found else "out"
        self.generation = generation
        return problems


def check(folder, known):
    """(problems, names that are in, generation) after a crash: as a reader finds it, then repaired."""
    with Archive.open(folder / "disk" / "archive", encoder=StandIn()) as archive:
        problems = [f"as found: {problem}" for problem in archive.verify()]
        archive.drain()
        problems += [f"repaired: {problem}" for problem in archive.verify()]
        found = []
        for name, (id, code) in known.items():
            row = archive._store.find(id)
            if row is not None:
                found.append(name)
                stored = archive._store.encoding(row.row, archive._folder.bundle.digest)
                if stored is None or stored.code != code:
                    problems.append(f"{name} has another code than it was given")
        return problems, found, archive._store.generation()
