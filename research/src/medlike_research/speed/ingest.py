"""`medlike bench ingest`: DICOM files on disk to searchable images, stage by stage, and single images received."""

import os
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medlike import Archive, Query
from medlike.archive.storage import pixels as pixel_files
from medlike.archive.storage import record as records
from medlike.bundle import Bundle, default
from medlike.codes.threads import cores
from medlike.imaging import pool
from medlike_research.speed.drawn import write_files
from medlike_research.speed.timing import Figures, Line, rounds

SAMPLE = 64  # files on which the stages are timed one after the other


def bench(quick: bool = False, images: int | None = None, tell: Callable[[str], None] = print) -> Figures:
    """Take in drawn CT slices of 512 x 512 (2,000; quick 64), one in eight in JPEG 2000, under the default bundle.

    Lines: ratio ingest: images a second over what the core-seconds of all its work allow on these cores (a
    perfect overlap is 1); ratio ingest-workers: wall seconds over those with decoding="inline"; seconds
    ingest-image: wall seconds an image; seconds ingest-STAGE: core-seconds an image of decode, prepare, preview,
    record and encode, each alone on one core, and wall seconds of commit (store, fsync, index); seconds
    ingest-acknowledge: a received image until it is safe, and ratio ingest-acknowledge over writing and fsyncing
    the same bytes alone.
    """
    from medlike import imaging
    from medlike.inference import Encoder

    number = images or (64 if quick else 2000)
    found = Figures("ingest", {"images": number, "side": 512, "quick": quick, "bundle": default()})
    with TemporaryDirectory() as folder:
        tell(f"{number:,} files")
        files = write_files(Path(folder) / "files", number)
        encoder = Encoder(Bundle.load(default()))
        encoder.require_golden()  # once a process, and no part of taking in
        with Archive.create(Path(folder) / "inline", encoder=encoder, text_bundle=None) as inline:
            began = time.perf_counter()
            inline.add(Path(folder) / "files", decoding="inline")
            inline_wall = time.perf_counter() - began
        with Archive.create(Path(folder) / "archive", encoder=encoder, text_bundle=None) as archive:
            idle, busy, began = _idle(), _core_seconds(), time.perf_counter()
            report = archive.add(Path(folder) / "files")
            wall, cpu, idle = time.perf_counter() - began, _core_seconds() - busy, _idle() - idle
            first = archive._store.images(archive._store.select("removed IS NULL", ())[:1])
            if report.added != number or not archive.search(Query(id=next(iter(first.values())).id), k=1).hits:
                raise AssertionError(f"{report.added} of {number} images were taken in: {report.skipped[:3]}")
            tell("stage by stage")
            sample = files[:SAMPLE]
            loaded, decode = _spent(lambda path: next(imaging.read(path)), sample)
            prepared, prepare = _spent(imaging.prepare, loaded)
            _, preview = _spent(pixel_files.encode_preview, loaded)
            identity = archive._bundles.current().identity
            _, record = _spent(lambda image: records.of_image(image, identity, "reference", False, "bench"), loaded)
            with Encoder(encoder.bundle, threads=1) as alone:
                _, encode = _spent(lambda image: alone.encode([image]), prepared)
            _single(found, archive, files[0].read_bytes(), Path(folder), 9 if quick else 49)
        encoder.close()
    stages = {"decode": decode, "prepare": prepare, "preview": preview, "record": record, "encode": encode}
    found.lines["ingest"] = Line("ratio", cpu / (cores() * wall), "higher")
    found.facts["ingest"] = {
        "images_per_second": number / wall, "wall": wall, "core_seconds": cpu,
        "peer_is": "the rate that the core-seconds of its own work allow on these cores",
        # Others take cores away on a busy machine: this counts only those that it had, used or left idle.
        "ratio_of_cores_had": cpu / (cpu + idle), "report_seconds": report.seconds,
        "share_of_core_seconds": {name: value * number / cpu for name, value in stages.items()},
    }  # fmt: skip
    found.lines["ingest-workers"] = Line("ratio", wall / inline_wall)
    found.facts["ingest-workers"] = {"peer_is": "the same with decoding in this process, which ran first"}
    found.seconds("ingest-image", wall / number)
    for name, value in stages.items():
        found.seconds(f"ingest-{name}", value)
    found.seconds("ingest-commit", (report.seconds["commit"] + report.seconds["index"]) / number)
    return found


def _single(found: Figures, archive: Archive, data: bytes, folder: Path, times: int) -> None:
    waits: list[float] = []

    def acknowledged() -> None:
        began = time.perf_counter()
        archive.receive(data, "slice.dcm")
        waits.append(time.perf_counter() - began)

    def written() -> None:
        # The least that any receiver can do: the file, what is said of it, and their folder.
        for name, content in (("file", data), ("said", b"{}")):
            with (folder / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        place = os.open(folder, os.O_RDONLY)
        os.fsync(place)
        os.close(place)

    spent = rounds({"ours": acknowledged, "peer": written}, times)
    found.ratio("ingest-acknowledge", spent["ours"], spent["peer"], "two files and their folder, written and fsynced")
    found.seconds("ingest-acknowledge-time", statistics.median(waits[1:]))
    found.facts["ingest-acknowledge"]["slowest"] = max(waits[1:])


def _spent(work: Callable[[Any], Any], given: Iterable[Any]) -> tuple[list[Any], float]:
    """What came of each, and core-seconds for each but the first, which loads what it needs."""
    given = list(given)
    done = [work(given[0])]
    began = time.process_time()
    done += [work(each) for each in given[1:]]
    return done, (time.process_time() - began) / max(len(given) - 1, 1)


def _core_seconds() -> float:
    """Core-seconds of this process and of its decoding workers."""
    ticks = 0
    for worker in pool.shared_pool().workers():
        after_name = Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(after_name[11]) + int(after_name[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _idle() -> float:
    """Core-seconds that nobody used since the system started; 0 where the system does not say."""
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return 0.0
    return int(first[4]) / os.sysconf("SC_CLK_TCK")
