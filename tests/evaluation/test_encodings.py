"""Encodings kept in files."""

import subprocess
import sys


def test_two_processes_may_keep_one_cache_file(tmp_path):
    code = (
        "import sys, numpy as np; from pathlib import Path; from medlike.evaluation.encodings import keep\n"
        "for n in range(40): keep(Path(sys.argv[1]), {'a': np.zeros(100_000)}); np.load(sys.argv[1])['a']"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "kept.npz")]) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    assert [file.name for file in tmp_path.iterdir()] == ["kept.npz"]
