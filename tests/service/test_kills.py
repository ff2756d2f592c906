"""kill -9 of receivers and writers loses nothing that was acknowledged; `make soak` kills five hundred."""

import os
import subprocess
import sys
from pathlib import Path


def test_thirty_kills_lose_nothing(tmp_path):
    # What is lost with a process is the same on any file system; in memory the many syncs take no time.
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else str(tmp_path)
    command = [sys.executable, Path(__file__).with_name("kills.py"), "--runs", "30", "--each", "3"]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TMPDIR": place})
    assert run.returncode == 0 and "30 kills" in run.stdout, run.stdout + run.stderr
