"""Crashes lose nothing that was acknowledged: kill -9, power cuts, and the order of what is written before."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CRASH = Path(__file__).parent


def crash(program, *options):
    run = subprocess.run([sys.executable, CRASH / program, *options], capture_output=True, text=True)
    return run.returncode, run.stdout + run.stderr


def test_everything_is_safe_before_an_operation_acknowledges():
    """Data before the rename, the folder after it, and only then the return: recorded below Python and SQLite."""
    status, output = crash("order.py")
    assert status == 0, output
    ended = output.strip().removeprefix("in order: ").split(", ")
    assert {
        "create", "add", "receive", "drain", "index", "remove", "erase", "compact", "reindex",
        "backup", "restore backup", "restore sealed", "upgrade",
    } <= set(ended)  # fmt: skip


def test_no_site_is_excused_that_is_not_there(monkeypatch):
    monkeypatch.syspath_prepend(str(CRASH))
    import sites

    known = {(site.file, site.function, site.call) for site in sites.sites()}
    assert len(known) > 50 and set(sites.COVERED) <= known


@pytest.mark.slow
@pytest.mark.parametrize("site", ["files.py:", "storage/lock.py", "done sync_folders", "store.py"])
def test_a_call_that_syncs_is_missed_when_it_is_switched_off(site):
    """`make crash` does so for every site."""
    status, output = crash("order.py", "--sites", "--only", site)
    assert status == 0 and "yes" in output and "NO" not in output, output


@pytest.mark.slow
def test_two_hundred_kills_lose_nothing():
    status, output = crash("kills.py", "--runs", "200")
    assert status == 0 and "200 kills" in output, output


@pytest.mark.slow
def test_power_cuts_lose_nothing_that_was_acknowledged():
    status, output = crash("powerloss.py", "--cuts", "80")
    assert status == 0, output


@pytest.mark.slow
def test_the_power_cut_test_would_notice():
    status, output = crash("powerloss.py", "--cuts", "20", "--deaf")
    assert status == 1 and "broken" in output, output


@pytest.mark.slow
def test_sixty_flipped_bits_change_no_answer_without_a_word():
    status, output = crash("flips.py", "--flips", "60")
    assert status == 0 and "60 flips" in output and "noticed" in output and "rebuilt" in output, output


@pytest.mark.slow
def test_every_command_survives_a_full_disk():
    """`make soak` fails every write of each command."""
    status, output = crash("full_disk.py", "--each", "1")
    assert status == 0 and "failed writes of 22 commands" in output, output


def test_promises_are_told_from_broken_ones():
    sys.path.insert(0, str(CRASH))
    try:
        from workload import Promises
    finally:
        sys.path.remove(str(CRASH))
    promises = Promises(["a", "b", "c", "d"])
    for line in (
        '["begin", "add", ["a", "b"], 0]', '["end", "add", ["a", "b"], 1]', '["begin", "add", ["c"], 0]',
        '["begin", "remove", ["b"], 0]', '["end", "remove", ["b"], 2]',
    ):  # fmt: skip
        promises.told(*json.loads(line))
    assert promises.state == {"a": "in", "b": "out", "c": "doubt", "d": "out"}
    assert len(promises.broken({"b", "d"}, 1)) == 4
