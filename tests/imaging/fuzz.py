"""Print what becomes of damaged files: read, refused with a reason, or the end of a decoding worker.

    python tests/imaging/fuzz.py --files 20000 --figures docs/reliability.md

Files of every kind are cut, overwritten, shuffled and joined by chance. Exit code 1: one gave anything else.
"""

import argparse
import io
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import tifffile
from PIL import Image as PillowImage

from medlike.errors import ImageError
from medlike.imaging.pool import WorkerPool

sys.path.insert(0, str(Path(__file__).parents[1] / "archive" / "crash"))

import figures

LARGEST = 400_000  # bytes of a file to damage


def samples() -> dict[str, bytes]:
    """A small file of each kind."""
    y, x = np.mgrid[0:40, 0:36]
    soft = (x * 3 + y * 2).astype(np.uint8)
    files = {}
    for kind, options in {
        "PNG": {},
        "JPEG": {},
        "TIFF": {"compression": "tiff_lzw"},
        "BMP": {},
        "WEBP": {},
        "GIF": {},
    }.items():
        out = io.BytesIO()
        PillowImage.fromarray(soft).save(out, kind, **options)
        files[kind] = out.getvalue()
    out = io.BytesIO()
    tifffile.imwrite(out, soft.astype(np.float64))
    files["TIFF64"] = out.getvalue()
    data = Path(pydicom.__file__).parent / "data" / "test_files"
    for name in (
        "MR_small_RLE.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_jp2klossless.dcm",
        "SC_rgb_small_odd_jpeg.dcm",
    ):
        files[name] = (data / name).read_bytes()
    return files


def intact():
    """Return the files to damage: one of each kind, and pydicom's own test files."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    small = [path for path in sorted(folder.glob("*.dcm")) if path.stat().st_size <= LARGEST]
    return [*samples().values(), *(path.read_bytes() for path in small)]


def damaged(content, other, chance):
    """Return a file's bytes after one to three kinds of damage; `other` is a file to join it with."""
    content = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        if not content:
            break
        at = chance.randrange(len(content))
        kind = chance.choice(("cut", "flip", "overwrite", "numbers", "move", "join"))
        if kind == "cut":
            del content[at:]
        elif kind == "flip":
            for _ in range(chance.randint(1, 12)):
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        elif kind == "overwrite":
            content[at : at + chance.randint(1, 64)] = chance.randbytes(chance.randint(1, 64))
        elif kind == "numbers":  # lengths and sizes at their limits
            at = min(at, 1024) if chance.random() < 0.7 else at
            content[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f"))
        elif kind == "move":
            piece = content[at : at + 256]
            del content[at : at + 256]
            content[chance.randrange(len(content) + 1) : 0] = piece
        else:
            content[at:] = other[chance.randrange(len(other)) :]
    return bytes(content)


def run(files, seed=0):
    """Read so many damaged files; return how often each thing happened, and what should not have."""
    chance = random.Random(seed)
    whole, counts, wrong = intact(), Counter(), []
    pool = WorkerPool(seconds=20)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged"
        for number in range(files):
            path.write_bytes(damaged(chance.choice(whole), chance.choice(whole), chance))
            workers = pool.workers()
            try:
                for _ in pool.read(path, frames="all"):
                    pass
                counts["read"] += 1
            except ImageError as refusal:
                lost = bool(workers) and pool.workers() != workers
                counts["the end of their worker" if lost else "refused with a reason"] += 1
                if not str(refusal):
                    wrong.append(f"file {number} of seed {seed}: refused without a reason")
            except Exception as error:  # what this program looks for
                wrong.append(f"file {number} of seed {seed}: {type(error).__name__}: {error}")
    pool.close()
    return counts, wrong


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--files", type=int, default=2000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--figures", type=Path, help="a page to write the figures into")
    chosen = options.parse_args()
    counts, wrong = run(chosen.files, chosen.seed)
    print(*wrong, sep="\n")
    text = f"{chosen.files:,} damaged files: " + ", ".join(f"{count:,} {what}" for what, count in counts.most_common())
    text += f"; {len(wrong) or 'no'} traceback{'' if len(wrong) == 1 else 's'}"
    print(text)
    if chosen.figures and not wrong:
        figures.write(chosen.figures, "damaged files", text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
