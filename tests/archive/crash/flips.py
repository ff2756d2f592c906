"""Flip one bit in one file of an archive, and see whether anybody could notice, again and again.

    python tests/archive/crash/flips.py --flips 1000

Each kind of file is hit equally often, whatever its size. After each flip a reader opens the archive, searches by
id, by words, by region and with a filter, shows what it finds, lists sources, and verifies. Its answers are compared
with those of the sound archive:

    noticed         an ArchiveError, or a problem that `verify` names; no answer was another one before that
    rebuilt         the same answers, and nothing to name any more: the file was derived anew
    harmless        the same answers, and `verify` finds nothing
    free page       the bit lies in a page of SQLite that holds nothing; counted apart
    another answer  an answer differs, and no error said so
    found late      an answer differs, and only `verify` says so
    raw exception   an error that is not one of medlike's

Exit code 1: another answer, or a raw exception.
"""

import argparse
import json
import random
import re
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import figures
import numpy as np
from PIL import Image

from medlike import Archive, Query
from medlike.errors import MedlikeError
from medlike.inference.encoding import Encodings, quantised

PICTURES = 30
BAD = ("another answer", "raw exception")
LABELS = ("chest", "hand", "knee")
# What is written while an archive is used; a flip in it is overwritten or means nothing.
LEFT_OUT = {"writer.lock", "lock"}


class StandIn:
    """An encoder without a network: 64 bits from 8 x 8 block means, and local codes from the cells' pixels."""

    def encode(self, images):
        pixels = np.stack([image.pixels for image in images])
        blocks = pixels.reshape(-1, 8, 28, 8, 28).mean(axis=(2, 4)).reshape(len(images), -1)
        bits = blocks > blocks.mean(axis=1, keepdims=True)
        content = quantised(blocks[:, :32].astype(np.float32))
        cells = pixels.reshape(-1, 14, 16, 14, 16).mean(axis=(2, 4))
        local = (cells * 1e9).astype(np.uint64)[..., None] * np.uint64(0x9E3779B97F4A7C15)
        return Encodings(np.packbits(bits, axis=1), content, local, np.ones((len(images), 14, 14), bool))

    def close(self):
        pass


def prepare(folder):
    """Make an archive that has everything: copies and references, texts, a received file, removed images."""
    from conftest import make_tiny_bundle

    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    numbers = np.random.default_rng(0)
    lines = ["path,label,text,extra"]
    for at in range(PICTURES):
        coarse = numbers.integers(0, 256, (8, 8)).astype(np.uint8)
        Image.fromarray(coarse.repeat(6, 0).repeat(6, 1)).save(pictures / f"{at:02}.png")
        lines.append(f"pictures/{at:02}.png,{LABELS[at % 3]},a picture of a {LABELS[at % 3]} number{at},e{at % 4}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    make_tiny_bundle(folder / "bundle", regional=True)
    archive = Archive.create(folder / "archive", folder / "bundle", encoder=StandIn(), text_bundle=None)
    archive.add(folder / "manifest.csv", pixels="copy", threads=1)
    plain = folder / "plain"
    plain.mkdir()
    for at in range(8):
        coarse = numbers.integers(0, 256, (8, 8)).astype(np.uint8)
        Image.fromarray(coarse.repeat(6, 0).repeat(6, 1)).save(plain / f"{at}.png")
    archive.add(plain, threads=1)
    archive.remove(archive.ids()[-1])
    archive.reindex()
    archive.receive((pictures / "00.png").read_bytes(), "late.png", texts={"caption": "received late"})
    ids = archive.ids()
    archive.close()
    return ids


def answers(archive, ids):
    """Yield (name, answer) of everything that a reader may ask for."""
    for id in (ids[3], ids[-1]):
        yield f"id {id}", told(archive, archive.search(Query(id=id), k=12))
    yield "where", told(archive, archive.search(Query(id=ids[5]), k=12, where={"label": "hand"}))
    yield "extra", told(archive, archive.search(Query(id=ids[5]), k=12, where={"extra": "e1"}))
    yield "words", told(archive, archive.search(Query(text="knee number5"), k=12))
    yield "region", told(archive, archive.search(Query(id=ids[7], region=(6, 6, 30, 30)), k=8))
    yield "past", told(archive, archive.search(Query(id=ids[3]), k=40, generation=2))
    yield "ids", archive.ids()
    yield "info", {name: archive.info()[name] for name in ("images", "texts", "generation", "received")}
    for id in (ids[3], ids[-2]):
        shown = archive.picture(id)
        yield f"picture {id}", None if shown is None else shown.tolist()


def told(archive, result):
    """What a result says, times and file names apart."""
    hits = []
    for hit in result.hits:
        box = None if hit.box is None else [round(float(edge), 3) for edge in hit.box]
        hits.append([hit.id, hit.distance, hit.similarity, hit.metadata, hit.texts, hit.source, box, hit.size])
    return json.loads(json.dumps([hits, list(result.warnings), result.receipt["answer"]], default=str))


def kinds(archive):
    """Return the files of an archive by kind."""
    files = defaultdict(list)
    for path in sorted(archive.rglob("*")):
        if not path.is_file() or path.name in LEFT_OUT or not path.stat().st_size:
            continue
        name = path.relative_to(archive).as_posix()
        kind = re.sub(r"[0-9a-f]{16,64}|\d{20}-[0-9a-f]{16}|(?<=/)[0-9a-f]{2}(?=/)", "*", name)
        if kind.startswith("index/") and path.suffix != ".json" and path.name != "checks.bin":
            kind = f"index/*{path.suffix}"
        files[kind.replace("/words-texts/", "/*/")].append(path)
    return files


def free(path, at):
    """Return whether a byte lies in a page of SQLite that holds nothing."""
    if path.suffix != ".sqlite":
        return False
    with sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True) as connection:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    data = path.read_bytes()
    pages, trunk = set(), int.from_bytes(data[32:36], "big")
    while trunk:
        start = (trunk - 1) * size
        count = int.from_bytes(data[start + 4 : start + 8], "big")
        pages.add(trunk)
        pages |= {int.from_bytes(data[start + 8 + 4 * n : start + 12 + 4 * n], "big") for n in range(count)}
        trunk = int.from_bytes(data[start : start + 4], "big")
    return at // size + 1 in pages


def outcome(folder, ids, expected):
    """Return what a reader makes of a damaged archive, and a word more."""
    late = ""
    try:
        with Archive.open(folder, encoder=StandIn()) as archive:
            for name, answer in answers(archive, ids):
                if answer != expected[name]:
                    late = late or f"{name} differs"
            if late:
                problems = archive.verify()
                return ("found late", f"{late}; {problems[0]}") if problems else ("another answer", late)
            problems = archive.verify()
            return ("noticed", f"verify: {problems[0]}") if problems else ("harmless", "")
    except MedlikeError as error:
        # What was answered before the error was another answer all the same.
        return ("another answer", late) if late else ("noticed", f"{type(error).__name__}: {error}")
    except Exception as error:
        return "raw exception", f"{type(error).__name__}: {error}"


def run(folder, flips, seed, tell=print, only=""):
    """Flip bits, and return how often each outcome was seen, by kind of file."""
    ids = prepare(folder)
    sound = folder / "archive"
    with Archive.open(sound, encoder=StandIn()) as archive:
        expected = dict(answers(archive, ids))
        assert archive.verify() == [], archive.verify()
    files = {kind: paths for kind, paths in kinds(sound).items() if only in kind}
    chance = random.Random(seed)
    seen = defaultdict(Counter)
    for number in range(flips):
        kind = sorted(files)[number % len(files)]
        path = chance.choice(files[kind])
        at, bit = chance.randrange(path.stat().st_size), chance.randrange(8)
        copy = folder / "damaged"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(sound, copy)
        victim = copy / path.relative_to(sound)
        data = bytearray(victim.read_bytes())
        data[at] ^= 1 << bit
        victim.write_bytes(bytes(data))
        result, word = outcome(copy, ids, expected)
        if result == "harmless":
            if free(path, at):
                result = "free page"
            elif not victim.exists() or victim.read_bytes() != bytes(data) or "index/" in kind:
                result = "rebuilt"
        seen[kind][result] += 1
        if result in (*BAD, "found late"):
            tell(f"flip {number}, {kind}, byte {at}, bit {bit}: {result}: {word}"[:300])
    return seen


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--flips", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", default="", help="only files whose kind has this in its name")
    options.add_argument("--figures", type=Path, help="a page to write the figures into")
    chosen = options.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="medlike-flips-") as folder:
        seen = run(Path(folder), chosen.flips, chosen.seed, only=chosen.only)
    for kind, counts in sorted(seen.items()):
        print(f"{kind}: {', '.join(f'{number} {name}' for name, number in sorted(counts.items()))}")
    total = sum(seen.values(), Counter())
    print(f"{sum(total.values())} flips in {time.monotonic() - began:.0f} s: {dict(total)}")
    failed = any(total[name] for name in BAD)
    if chosen.figures and not failed:
        told = ", ".join(f"{number} {name}" for name, number in sorted(total.items()))
        text = f"{sum(total.values())} flips: {told}; no silent other answer, no traceback"
        figures.write(chosen.figures, "flips", text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
