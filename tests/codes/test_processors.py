"""Compiled kernels give the same answers where the processor has no vector instructions to speak of."""

import os
import platform
import subprocess
import sys

import llvmlite.binding
import pytest

ANSWERS = """
import hashlib
import numpy as np
from medlike.codes import hamming
from medlike.codes.dots import dots, products
from medlike.codes.windows import match
from medlike.codes.templates import Template

random = np.random.default_rng(0)
digest = hashlib.sha256()

def told(*arrays):
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())

for bits in (16, 64, 128, 512):
    codes = random.integers(0, 4, (3000, bits // 8), dtype=np.uint8)
    mask = random.random(3000) < 0.3
    told(hamming.distances(codes, codes[5], "compiled"))
    for chosen in (None, mask):
        for distance, row in hamming.nearest_many(codes, codes[:3], 40, chosen, engine="compiled"):
            told(distance, row)
    for distance, row in hamming.within_blocks(codes, codes[7], bits // 16, mask, "compiled"):
        told(distance, row)
vectors = random.integers(-127, 128, (500, 464), dtype=np.int8)
told(*dots(vectors, np.arange(500), vectors[3]))
wide = random.integers(-30000, 30000, (500, 256), dtype=np.int16)
told(products(wide, np.arange(500), wide[3]))
for words in (1, 2):
    cells = random.integers(0, 1 << 64, (300, 14, 14, words), dtype=np.uint64)
    masks = np.packbits(random.random((300, 196)) < 0.95, axis=1)
    found = match(cells, masks, Template.of(cells[9, 2:5, 3:7]), engine="compiled")
    told(found.rows, found.distance, found.arrangement, found.top, found.left)
print(digest.hexdigest())
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names a processor of another kind")
@pytest.mark.slow
def test_a_processor_without_vectors_gives_the_same_answers(tmp_path):
    def answers(**settings):
        given = {**os.environ, **settings}
        ran = subprocess.run([sys.executable, "-c", ANSWERS], env=given, capture_output=True, text=True, check=True)
        return ran.stdout.strip()

    # Features left empty: none beyond those of the named processor, which has SSE2 and no instruction that counts bits.
    plain = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    assert answers(**plain) == answers()


WINDOWS = """
import hashlib
import sys
import numpy as np
from medlike.codes import cell_vectors
from medlike.codes.templates import Template
from medlike.codes.windows import match

random = np.random.default_rng(0)
digest = hashlib.sha256()
for words in (1, 2):
    cells = random.integers(0, 1 << 64, (75, 14, 14, words), dtype=np.uint64)
    masks = np.packbits(random.random((75, 196)) < 0.95, axis=1)
    found = match(cells, masks, Template.of(cells[9, 2:5, 3:7]), engine=sys.argv[1])
    for array in (found.rows, found.distance, found.arrangement, found.top, found.left):
        digest.update(np.ascontiguousarray(array).tobytes())
print(cell_vectors.USED, digest.hexdigest())
"""


@pytest.mark.slow
def test_a_processor_that_looks_up_bits_gives_the_same_answers_as_numpy(tmp_path):
    features = llvmlite.binding.get_host_cpu_features() if platform.machine() == "x86_64" else {}
    if not features.get("avx2"):
        pytest.skip("there is no AVX2 here")

    def answers(engine, **settings):
        command = [sys.executable, "-c", WINDOWS, engine]
        ran = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=True)
        return ran.stdout.split()

    present = [name for name, there in features.items() if there]
    without = ",".join(f"{'-' if name.startswith('avx512') else '+'}{name}" for name in present)
    settings = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": without, "NUMBA_CACHE_DIR": str(tmp_path)}
    used, looked_up = answers("compiled", **settings)
    assert used == "True"
    assert looked_up == answers("numpy")[1]
