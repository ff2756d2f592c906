"""Compiled kernels give the same answers where the processor has no vector instructions to speak of."""

import os
import platform
import subprocess
import sys

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
