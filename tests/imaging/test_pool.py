"""Decoding workers: the same images, and files that end, fill or stop a worker."""

import io
import os
import resource
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medlike.errors import ImageError, WorkerError
from medlike.imaging import channel, memory, pool, reading
from medlike.imaging.pool import MemoryShares, WorkerPool

GREY = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)


@pytest.fixture
def workers():
    """workers(...): a pool of its own, closed at the end."""
    made = []

    def make(**settings):
        made.append(WorkerPool(**settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def png(tmp_path):
    path = tmp_path / "good.png"
    PillowImage.fromarray(GREY).save(path)
    return path


def gone(pid):
    """Wait until a process has ended; False if it runs on."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def facts(image):
    return [getattr(image, name) for name in image.__dataclass_fields__ if name != "pixels"] + [image.digest]


def test_a_worker_gives_what_reading_gives(workers, png, write_dicom):
    colour = np.stack([GREY.astype(np.uint8)] * 2 + [GREY.astype(np.uint8) + 1], axis=-1)
    frames = np.stack([GREY, GREY + 1, GREY + 2])
    paths = [
        png,
        write_dicom("frames.dcm", frames, PatientName="Doe^Jane", WindowCenter=40, WindowWidth=400),
        write_dicom("colour.dcm", colour, colour=True),
        write_dicom("signed.dcm", GREY.astype(np.int16) - 1000, PixelPaddingValue=-1000),
    ]  # fmt: skip
    decoding = workers()
    for path in paths:
        direct, through = list(reading.read(path, "all")), list(decoding.read(path, "all"))
        assert [facts(image) for image in through] == [facts(image) for image in direct]
        assert through[0].pixels.flags.writeable
    assert len(decoding.workers()) == 1  # it was used again


def test_reasons_are_those_of_reading(workers, tmp_path, png):
    truncated, text = tmp_path / "cut.png", tmp_path / "notes.png"
    truncated.write_bytes(png.read_bytes()[:60])
    text.write_text("no picture")
    decoding = workers()
    for path in (truncated, text, tmp_path / "absent.png", tmp_path):
        with pytest.raises(ImageError) as direct:
            list(reading.read(path))
        with pytest.raises(ImageError) as through:
            list(decoding.read(path))
        assert str(through.value) == str(direct.value)
    assert len(decoding.workers()) == 1


def test_a_worker_started_early_reads_the_first_file(workers, png):
    made = workers()
    made.start()
    made.start()
    assert not made.workers()
    assert len(list(made.read(png))) == 1
    first = made.workers()
    made.start()  # there is one
    assert len(list(made.read(png))) == 1 and made.workers() == first and len(first) == 1


def test_a_worker_started_early_and_never_used_ends_with_the_pool():
    pool = WorkerPool()
    pool.start()
    process = pool._early.result().process
    pool.close()
    assert process.poll() is not None


def test_relative_path_after_a_change_of_folder(workers, png, monkeypatch):
    decoding = workers()
    assert len(list(decoding.read(png))) == 1
    monkeypatch.chdir(png.parent)
    (image,) = decoding.read("good.png")
    assert image.path == "good.png"


def test_the_consumer_may_stop_early(workers, write_dicom, png):
    path = write_dicom("many.dcm", np.stack([GREY] * 9))
    decoding = workers()
    images = decoding.read(path, "all")
    next(images)
    images.close()
    assert len(list(decoding.read(png))) == 1
    assert len(decoding.workers()) == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("crash", "SIGSEGV"), ("hang", "the limit for an image"), ("allocate", "memory"), ("map", "memory")],
)
def test_a_poisonous_file_costs_one_worker(workers, tmp_path, png, fault, reason):
    poison = tmp_path / "poison.png"
    poison.write_bytes(png.read_bytes())
    decoding = workers(memory=256 << 20, faults={"poison.png": fault})
    assert len(list(decoding.read(png))) == 1
    (before,) = decoding.workers()
    if fault == "hang":
        decoding._idle[0].seconds = 1.0  # the next worker may take its time to start
    with pytest.raises(ImageError, match=reason):
        list(decoding.read(poison))
    if fault != "allocate":  # RLIMIT_DATA may answer it with an exception inside the worker
        assert gone(before)
    (image,) = decoding.read(png)
    assert (image.pixels == GREY).all()


def test_no_fault_without_the_argument(workers, tmp_path, png):
    poison = tmp_path / "poison.png"
    poison.write_bytes(png.read_bytes())
    assert len(list(workers().read(poison))) == 1


def test_a_worker_is_confined(workers, png):
    decoding = workers(memory=512 << 20)
    list(decoding.read(png))
    (pid,) = decoding.workers()
    limits = Path(f"/proc/{pid}/limits").read_text()
    for name in ("Max file size", "Max core file size"):
        (line,) = (line for line in limits.splitlines() if line.startswith(name))
        assert line.removeprefix(name).split()[:2] == ["0", "0"]
    (data,) = (line for line in limits.splitlines() if line.startswith("Max data size"))
    assert int(data.removeprefix("Max data size").split()[0]) < 1 << 30
    assert Path(f"/proc/{pid}/environ").read_bytes() == b""
    assert os.getpgid(pid) != os.getpgid(0)


def test_an_answer_that_is_no_image_is_refused():
    descriptor = channel.shared_memory()
    memory_map = channel.mapped(descriptor)
    os.close(descriptor)
    good = channel.put(memory_map, next(iter([reading.Image(GREY)])))
    assert (channel.take(memory_map, good, "x").pixels == GREY).all()
    for wrong in ({"pixels": ["object", [2, 2]]}, {"pixels": ["uint8", [10**6, 10**6]]}, {"pixels": ["uint8", [-1, 4]]},
                  {"photometry": {}}, {"metadata": 3}, {"boxes": [[1]]}):  # fmt: skip
        with pytest.raises(ImageError):
            channel.take(memory_map, {**good, **wrong}, "x")
    with pytest.raises(OSError):
        os.ftruncate(descriptor := channel.shared_memory(), 0)
    os.close(descriptor)


def test_a_worker_that_answers_wrongly_is_ended(workers, png, monkeypatch):
    decoding = workers()
    list(decoding.read(png))
    (pid,) = decoding.workers()
    with monkeypatch.context() as patch:
        patch.setattr(channel, "KEPT", ())
        with pytest.raises(ImageError, match="gave no image"):
            list(decoding.read(png))
    assert gone(pid)
    assert len(list(decoding.read(png))) == 1


def test_many_open_files(workers, png):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, before[1]), before[1]))
    files = [png.open("rb") for _ in range(1100)]
    try:
        assert len(list(workers().read(png))) == 1
    finally:
        for file in files:
            file.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_shared_memory_without_memfd(workers, png, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    (image,) = workers().read(png)
    assert (image.pixels == GREY).all()


def test_a_worker_that_cannot_start_says_what_to_do(workers, png, monkeypatch):
    monkeypatch.setattr(pool, "_START", "raise SystemExit('no such part')")
    with pytest.raises(WorkerError, match=r"no such part.*inline"):
        list(workers().read(png))
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(WorkerError, match="inline"):
        list(workers().read(png))


def test_a_worker_outlives_the_thread_that_needed_it_first(workers, png):
    decoding = workers()
    images = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: images.extend(decoding.read(png)))
        thread.start()
        thread.join()
        time.sleep(0.1)
    assert len(images) == 2
    assert len(decoding.workers()) == 1


def test_several_threads_have_a_worker_each(workers, write_dicom):
    path = write_dicom("many.dcm", np.stack([GREY] * 3))
    decoding = workers()
    readers = [decoding.read(path, "all") for _ in range(3)]
    assert [next(images).frame for images in readers] == [0, 0, 0]
    assert len(decoding.workers()) == 3
    assert [len(list(images)) for images in readers] == [2, 2, 2]


# One budget of memory


def test_a_worker_waits_for_one_that_decodes():
    shares = MemoryShares(100)
    assert shares.take(1, 80)
    assert not shares.take(2, 101)
    granted = threading.Event()
    thread = threading.Thread(target=lambda: (shares.take(2, 50), granted.set()))
    thread.start()
    assert not granted.wait(0.2)
    shares.rest(1, 10)
    assert granted.wait(10)
    thread.join()


def test_nobody_waits_for_one_that_waits_or_rests():
    shares = MemoryShares(100)
    shares.take(1, 80)
    shares.rest(1, 80)
    assert shares.take(2, 90)  # what the first one holds may not be given back before the second one ends
    first = threading.Thread(target=shares.take, args=(3, 60))
    first.start()
    time.sleep(0.1)
    shares.take(2, 95)
    shares.rest(2, 0)
    first.join(10)
    assert not first.is_alive()


def test_budget_is_that_of_the_cgroup(tmp_path, monkeypatch):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:   1500000 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(memory, "_cgroups", list)
    assert memory.available_memory() == 1500000 << 10
    assert memory.decoding_budget() == (1500000 << 10) // 3  # on a machine of 2 GiB
    group = tmp_path / "group"
    group.mkdir()
    monkeypatch.setattr(memory, "_cgroups", lambda: [(group, "memory.max", "memory.current")])
    assert memory.available_memory() == 1500000 << 10
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text(f"{700 << 20}\n")
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {200 << 20}\n")
    assert memory.available_memory() == 1500000 << 10
    (group / "memory.max").write_text(f"{1 << 30}\n")
    assert memory.available_memory() == (1024 - 700 + 200) << 20


# Sizes that are read before anything is decoded


def tiny_jpeg_2000(side, components):
    """Return a JPEG 2000 codestream of side x side that holds no data at all."""
    size = struct.pack(">HIIIIIIIIH", 0, side, side, 0, 0, side, side, 0, 0, components) + b"\x07\1\1" * components
    style = b"\0" + struct.pack(">BHB", 0, 1, 0) + bytes([0, 4, 4, 0, 1])
    parts = [b"\xff\x4f", b"\xff\x51" + struct.pack(">H", len(size) + 2) + size,
             b"\xff\x52" + struct.pack(">H", len(style) + 2) + style,
             b"\xff\x5c" + struct.pack(">H", 4) + b"\x40\x40",
             b"\xff\x90" + struct.pack(">HHIBB", 10, 0, 0, 0, 1), b"\xff\x93", b"\xff\xd9"]  # fmt: skip
    return b"".join(parts)


def test_a_jpeg_2000_of_155_bytes_is_refused_unread(workers, tmp_path):
    path = tmp_path / "bomb.j2k"
    path.write_bytes(tiny_jpeg_2000(9_999, 4).ljust(155, b"\0"))
    decoding = workers(memory=1 << 30)
    with pytest.raises(ImageError, match=r"9999 x 9999: decoding it takes about \d+ MB .* the limit here is 1007 MB"):
        list(decoding.read(path))
    path.write_bytes(tiny_jpeg_2000(60_000, 1))
    with pytest.raises(ImageError, match="3600000000 pixels"):
        list(decoding.read(path))
    assert len(decoding.workers()) == 1


def test_sizes_are_compared_inline_too(tmp_path, monkeypatch):
    path = tmp_path / "bomb.j2k"
    path.write_bytes(tiny_jpeg_2000(9_999, 4))
    monkeypatch.setattr(memory, "available_memory", lambda: 1500 << 20)
    with pytest.raises(ImageError, match=r"decoding it takes about .* the limit here is 524 MB"):
        list(reading.read(path))


def deflated_bomb(write_dicom, preamble, group_length):
    """Return a deflated DICOM file of 100 MB of zeros, less parts of its header."""
    pixels = np.zeros((10_000, 10_000), np.uint8)
    path = write_dicom("bomb.dcm", pixels, syntax=DeflatedExplicitVRLittleEndian)
    content = path.read_bytes()
    start, content = content[:132], content[132:]
    length = b"\x02\0\0\0UL\x04\0"
    assert content.startswith(length)
    if not group_length:
        content = content[12:]
    path.write_bytes(start + content if preamble else content)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("preamble", [True, False])
@pytest.mark.parametrize("group_length", [True, False])
def test_a_deflated_bomb_is_refused(workers, write_dicom, preamble, group_length):
    path = deflated_bomb(write_dicom, preamble, group_length)
    decoding = workers(memory=256 << 20)
    with pytest.raises(ImageError, match=r"the deflated file unpacks to more than .* the limit here"):
        list(decoding.read(path))
    assert len(decoding.workers()) == 1


# In every kind of program

PROGRAM = """
from medlike.imaging.decoding import read
from medlike.imaging.pool import shared_pool
print(len(list(read({path!r}))), shared_pool().workers(), flush=True)
"""


def run(arguments, code=None, **settings):
    return subprocess.run(
        arguments, input=code, capture_output=True, text=True, timeout=100, start_new_session=True, **settings
    )


def finished(done):
    assert done.returncode == 0, done.stderr
    count, pid = done.stdout.split()
    assert count == "1"
    assert gone(int(pid.strip("[]")))


def test_in_a_script_without_a_guard(tmp_path, png):
    script = tmp_path / "script.py"
    script.write_text(f"print('once') if False else None\n{PROGRAM.format(path=str(png))}")
    finished(run([sys.executable, script]))


def test_in_a_program_from_stdin(png):
    finished(run([sys.executable, "-"], PROGRAM.format(path=str(png))))


def test_in_an_interpreter_like_that_of_a_notebook(png):
    kernel = textwrap.dedent("""
        import asyncio, code, sys
        async def cell():
            shell = code.InteractiveInterpreter({"__name__": "__main__"})
            shell.runcode(compile(sys.argv[1], "<cell>", "exec"))
        asyncio.run(cell())
    """)
    finished(run([sys.executable, "-c", kernel, PROGRAM.format(path=str(png))]))


def test_in_another_thread_and_without_environment(png):
    code = PROGRAM.format(path=str(png)).replace("\n", "\n    ")
    threaded = f"import threading\ndef work():{code}\none = threading.Thread(target=work)\none.start()\none.join()"
    finished(run([sys.executable, "-c", threaded], env={}))


HANGING = """
import sys, threading
from medlike.imaging.pool import WorkerPool
pool = WorkerPool(faults={{"poison.png": "hang"}})
list(pool.read({good!r}))
print(pool.workers()[0], flush=True)
list(pool.read({poison!r}))
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_parent(tmp_path, png, sent):
    poison = tmp_path / "poison.png"
    poison.write_bytes(png.read_bytes())
    code = HANGING.format(good=str(png), poison=str(poison))
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    pid = int(parent.stdout.readline())
    time.sleep(0.2)
    os.killpg(parent.pid, sent)
    parent.communicate(timeout=30)
    assert gone(pid)


def test_nothing_starts_for_arrays(tmp_path):
    code = (
        "import sys, medlike, numpy as np\n"
        "from medlike.imaging import as_image\n"
        "as_image(np.zeros((4, 4), np.uint8), 'process')\n"
        "print('medlike.imaging.pool' in sys.modules)"
    )
    assert run([sys.executable, "-c", code]).stdout.strip() == "False"


@pytest.mark.slow
def test_a_bitonal_png_of_100_million_pixels_fits_in_2_gib(workers, tmp_path):
    path = tmp_path / "large.png"
    PillowImage.new("1", (10_000, 10_000), 1).save(path)
    decoding = workers(memory=500 << 20)  # a third of what such a machine has to spare
    (image,) = decoding.read(path)
    assert image.pixels.shape == (10_000, 10_000)
    assert int(image.pixels.min()) == 255
    # Whoever decodes it inline and renders it stays below as well.
    code = (
        "from pathlib import Path\n"
        "from medlike.imaging import prepare, preview, read\n"
        f"(image,) = read({str(path)!r})\n"
        "prepare(image), preview(image), image.digest\n"
        # Not ru_maxrss, which counts the process that this one was forked from.
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    assert int(run([sys.executable, "-c", code]).stdout) < 1 << 20


def test_samples_of_every_format(workers, tmp_path):
    decoding = workers()
    for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM"):
        data = io.BytesIO()
        PillowImage.fromarray(GREY.astype(np.uint8)).save(data, kind)
        path = tmp_path / f"picture.{kind.lower()}"
        path.write_bytes(data.getvalue())
        (direct,), (through,) = reading.read(path), decoding.read(path)
        assert facts(through) == facts(direct)
