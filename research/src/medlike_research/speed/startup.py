"""`medlike bench startup`: how long a fresh process takes until it has an answer."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medlike_research.speed.gallery import codes
from medlike_research.speed.population import populated
from medlike_research.speed.timing import Figures, Line, children

SMALL = 200  # images drawn for the small archive
HEAVY = ("onnxruntime", "numba", "torch")

_SEARCH = """
import json, sys
from medlike.cli import main
sys.argv = ["medlike", "search", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
finally:
    print("loaded", json.dumps([name for name in %r if name in sys.modules]), file=sys.stderr)
""" % (HEAVY,)  # noqa: UP031 - braces are the program's own
_OPEN = """
import sys, time
from medlike import Archive
import medlike.archive.search.search
began = time.perf_counter()
with Archive.open(sys.argv[1]) as archive:
    number = len(archive._indexes.images.view())
    print(time.perf_counter() - began, number)
"""
_IMPORT = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"


def bench(quick: bool = False, images: int | None = None, tell: Callable[[str], None] = print) -> Figures:
    """Time fresh processes, taking turns.

    images: in the archive that is opened (10 M; quick 100,000); of the small one that is searched, 200 at most.

    Lines: ratio startup-import: `import medlike` over `import numpy`; seconds startup-import; startup-first:
    `medlike search` with an image on a small archive, with every cache that Python and the compiler keep empty;
    startup-second: the same again; startup-id: by id; startup-open: Archive.open to the view that is searched.
    facts: seconds of CPU of each, and which of onnxruntime, numba and torch the two searches had loaded.
    """
    times = 3 if quick else 9
    number = images or (100_000 if quick else 10_000_000)
    found = Figures("startup", {"images": number, "small": min(SMALL, number), "rounds": times, "quick": quick})
    with TemporaryDirectory() as folder:
        small, image, id = _small(Path(folder) / "small", min(SMALL, number))
        fresh = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        fresh |= {"PYTHONPYCACHEPREFIX": f"{folder}/bytecode", "NUMBA_CACHE_DIR": f"{folder}/kernels"}
        archive = ["--archive", str(small)]
        runs: dict[str, Callable[[], Any]] = {
            "import": lambda: _python(_IMPORT.format("medlike")),
            "import-numpy": lambda: _python(_IMPORT.format("numpy")),
            "second": lambda: _python(_SEARCH, image, *archive, environment=fresh),
            "id": lambda: _python(_SEARCH, "--id", id, *archive, environment=fresh),
        }
        tell("the first search, caches empty")
        wall, cpu, _ = children(runs["second"])
        found.seconds("startup-first", wall)
        found.facts["startup-first"] = {"cpu": cpu}
        runs["id"]()  # what only a search by id needs is compiled now
        spent: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for _ in range(times):
            for name, run in runs.items():
                wall, cpu, (out, err) = children(run)
                if name.startswith("import"):
                    wall = float(out)
                else:
                    found.facts.setdefault(f"startup-{name}", {})["loaded"] = json.loads(err.split("loaded")[-1])
                spent[name].append((wall, cpu))
        for name, rounds in spent.items():
            if name != "import-numpy":
                found.seconds(f"startup-{name}", statistics.median(wall for wall, _ in rounds))
            facts = {"least": min(wall for wall, _ in rounds), "cpu": statistics.median(cpu for _, cpu in rounds)}
            found.facts.setdefault(f"startup-{name}", {}).update(facts)
        peer = statistics.median(wall for wall, _ in spent["import-numpy"])
        found.lines["startup-import-over-numpy"] = Line("ratio", found.lines["startup-import"].value / peer)
    tell(f"an archive of {number:,} images")
    with TemporaryDirectory() as folder:
        with populated(folder, codes("clustered", number, 64), ["a", "b"] * (number // 2) + ["a"] * (number % 2)):
            pass
        opened = [_python(_OPEN, f"{folder}/archive")[0].split() for _ in range(times)]
    if any(int(count) != number for _, count in opened):
        raise AssertionError("the archive opened with other images")
    found.seconds("startup-open", statistics.median(float(wall) for wall, _ in opened))
    return found


def _small(folder: Path, number: int) -> tuple[Path, str, str]:
    """A small archive of drawn images: its folder, an image file, the id of a stored image."""
    from medlike import Archive
    from medlike_research.speed.drawn import write_files

    files = write_files(folder / "images", number)
    with Archive.create(folder / "archive", text_bundle=None) as archive:
        archive.add(folder / "images")
        row = archive._store.select("removed IS NULL", ())[0]
        return folder / "archive", str(files[0]), archive._store.images([row])[row].id


def _python(code: str, *arguments: str, environment: dict[str, str] | None = None) -> tuple[str, str]:
    """Run a program in a fresh interpreter: (stdout, stderr). RuntimeError with what it said where it fails."""
    ran = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"a fresh process failed: {ran.stderr[-2000:]}")
    return ran.stdout, ran.stderr
