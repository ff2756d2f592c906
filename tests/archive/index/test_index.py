"""The index says what the store says, whatever was added, removed, merged, purged, by whichever process."""

import errno
import os
import resource
import sqlite3
import threading
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medlike.archive.index import index as index_module
from medlike.archive.index.index import Index, Layout
from medlike.archive.index.segment import CHECKS
from medlike.archive.storage.rows import FILTER_COLUMNS
from medlike.errors import QueryError


def opened(population):
    facts = population.bundle
    layout = Layout(facts.digest, facts.bits, facts.content_dim, facts.local_bits)
    return Index(population.archive._folder.index, population.store, layout)


def ids(view):
    found = set()
    for part in view.parts:
        alive = np.setdiff1d(np.arange(part.rows), part.dead)
        found |= {part.segment.array("ids")[at].tobytes().hex() for at in alive}
    return found


def test_a_view_holds_the_live_images_of_any_generation(population):
    first = population.add(5, modality="CT")
    second = population.add(3, modality=["MR", None, "CT"], age=[40.5, None, 40.5])
    population.remove([first[1], second[0]])
    index = opened(population)
    for generation in range(population.store.generation() + 1):
        assert ids(index.view(generation)) == set(population.alive(generation))
    assert len(index.view()) == 6
    assert index.verify() == []


def test_removals_are_known_after_opening_anew(population):
    stored = population.add(12)
    population.remove(stored[3:5])
    opened(population).rebuild()
    # The files are of the newest generation and hold the removed rows too.
    assert ids(opened(population).view()) == set(population.alive())
    assert ids(opened(population).view(1)) == set(stored)


def test_columns_give_back_what_was_stored(population):
    stored = population.add(
        4,
        modality=["CT", None, "MR", "CT"],
        age=[1.5, 2.0, None, 1.5],
        study=["ab" * 16, "01" * 16, None, "ab" * 16],
    )
    part = opened(population).view().parts[0]
    for name in FILTER_COLUMNS:
        column = part.segment.column(name)
        assert [column.value(at) for at in range(4)] == [population.rows[id].get(name) for id in stored]


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4), st.booleans()), min_size=1, max_size=12))
def test_any_course_of_commits_and_refreshes(population, monkeypatch, course):
    # Small limits, so that segments are written and merged in a test's time.
    monkeypatch.setattr(index_module, "WORTH_A_FILE", 8)
    monkeypatch.setattr(index_module, "FAN", 2)
    index = opened(population)
    for number, gone, anew in course:
        population.add(number, modality=str(number), series=f"{number:032x}")
        population.remove(list(population.alive())[:gone])
        if anew:
            index = opened(population)
        assert ids(index.view()) == set(population.alive())
    assert index.verify() == []
    assert opened(population).verify() == []
    oldest = population.store.oldest_generation()
    for generation in range(oldest, population.store.generation() + 1):
        assert ids(index.view(generation)) == set(population.alive(generation))
    assert ids(opened(population).view()) == set(population.alive())


def test_many_rows_become_segments_on_disk_and_few_stay_in_memory(population, monkeypatch):
    monkeypatch.setattr(index_module, "WORTH_A_FILE", 10)
    population.add(9)
    index = opened(population)
    index.refresh()
    assert not list(index.folder.glob("*/segment.json"))
    population.add(1)
    index.refresh()
    segments = list(index.folder.glob("*/segment.json"))
    assert len(segments) == 1
    population.add(10)
    index.refresh()
    assert segments[0].exists(), "adding rewrote an older segment"
    assert len(list(index.folder.glob("*/segment.json"))) == 2


def test_neighbouring_segments_are_merged(population, monkeypatch):
    monkeypatch.setattr(index_module, "WORTH_A_FILE", 4)
    monkeypatch.setattr(index_module, "FAN", 3)
    index = opened(population)
    for round in range(9):
        population.add(4, modality=f"M{round}", patient=f"{round:032x}")
        index.refresh()
    assert len(list(index.folder.glob("*/segment.json"))) < 5
    assert index.verify() == []
    assert opened(population).verify() == []


def test_reading_what_is_new_does_not_go_through_what_is_old(population):
    def steps():
        """A hundred instructions of SQLite a step, to read the three newest images."""
        population.add(3)
        taken = []
        population.store.connection.set_progress_handler(lambda: taken.append(1), 100)
        new = list(population.store.rows(population.bundle.digest, population.store.generation() - 1))
        population.store.connection.set_progress_handler(None, 0)
        assert len(new) == 3
        return len(taken)

    few = steps()
    population.add(2000)
    assert steps() <= few + 2


def test_rows_purged_by_another_process_are_not_seen(population):
    population.add(6)
    doomed = population.add(2)
    index = opened(population)
    index.view()
    index.rebuild()
    population.remove(doomed)
    # What compaction does, with the index of this process knowing nothing of it.
    with population.store.commit("compact") as commit:
        commit.connection.execute("DELETE FROM images WHERE removed IS NOT NULL")
        commit.set("oldest_generation", str(commit.generation))
    assert ids(index.view()) == set(population.alive())
    assert ids(opened(population).view()) == set(population.alive())
    with pytest.raises(QueryError, match="keeps"):
        index.view(1)
    index.rebuild()
    assert index.verify() == []
    assert not any(id.encode() in path.read_bytes() for id in doomed for path in index.folder.rglob("*.*"))


def test_a_damaged_segment_is_built_anew(population):
    population.add(20, modality="CT")
    index = opened(population)
    index.rebuild()
    file = next(index.folder.glob("*/codes.bin"))
    file.write_bytes(file.read_bytes()[:-1])
    fresh = opened(population)
    assert ids(fresh.view()) == set(population.alive())
    assert fresh.verify() == []


def test_a_wrong_byte_is_found_by_verify(population):
    population.add(20)
    opened(population).rebuild()
    file = next(population.archive._folder.index.glob("*/*/content.bin"))
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(bytes(data))
    index = opened(population)
    assert [f"{file} is damaged" in problem for problem in index.verify()] == [True]
    # Where the checksum was made of the wrong byte, the store says so.
    checks = file.with_name(CHECKS)
    segment = index.view().parts[0].segment
    names = sorted([*(f"{name}.bin" for name in segment._arrays), *(f"{name}.values" for name in segment._values)])
    sums = np.frombuffer(checks.read_bytes(), "<u4").copy()
    filled = [name for name in names if file.with_name(name).stat().st_size]
    sums[filled.index("content.bin")] = zlib.crc32(data)
    checks.write_bytes(sums.tobytes())
    assert ["differs from the store" in problem for problem in opened(population).verify()] == [True]


def test_a_reader_who_may_not_write_searches_in_memory(population, monkeypatch):
    monkeypatch.setattr(index_module, "WORTH_A_FILE", 4)
    population.add(10)
    index = opened(population)
    index.folder.parent.mkdir(exist_ok=True)
    index.folder.write_text("in the way")
    assert ids(index.view()) == set(population.alive())


@pytest.mark.parametrize("largest", [0, 30, 100, 1000])
def test_a_reader_on_a_full_disk_searches_in_memory(population, monkeypatch, largest):
    monkeypatch.setattr(index_module, "WORTH_A_FILE", 4)
    population.add(100, label=[f"{at:03}" for at in range(100)])
    index = opened(population)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, limits[1]))  # bytes of a file
    try:
        assert ids(index.view()) == set(population.alive())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [path for path in index.folder.iterdir() if path.is_dir()]


def test_a_reader_whose_disk_fails_searches_in_memory(population, monkeypatch):
    monkeypatch.setattr(index_module, "WORTH_A_FILE", 4)
    population.add(10)

    def broken(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    assert ids(opened(population).view()) == set(population.alive())


def test_two_processes_do_not_publish_over_each_other(population, monkeypatch):
    monkeypatch.setattr(index_module, "WORTH_A_FILE", 4)
    mine, other = opened(population), opened(population)
    for turn in range(6):
        population.add(5)
        (mine if turn % 2 else other).refresh()
        population.add(5)
    for index in (mine, other, opened(population)):
        assert ids(index.view()) == set(population.alive())
        assert index.verify() == []


def in_another_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_a_reader_of_an_earlier_snapshot_leaves_the_index_as_it_is(population, monkeypatch):
    first = population.add(6)
    index = opened(population)
    index.view()

    def others():
        population.add(5)
        population.remove(first[:2])
        index.view()

    with population.store.snapshot():
        past = population.store.generation()
        in_another_thread(others)
        monkeypatch.setattr(index, "_build", None)  # nothing is built anew
        view = index.view()
        assert view.generation == past and ids(view) == set(population.alive(past))
        with pytest.raises(QueryError, match="keeps 0 to 1"):
            index.view(past + 1)
    assert ids(index.view()) == set(population.alive())
    assert index.verify() == []


def test_files_that_are_newer_than_the_snapshot_are_taken_as_they_are(population, monkeypatch):
    monkeypatch.setattr(index_module, "WORTH_A_FILE", 4)
    population.add(6)
    doomed = population.add(2)
    opened(population).rebuild()
    population.remove(doomed)
    # Whoever opens the files must look for rows that were deleted.
    with population.store.commit("compact") as commit:
        commit.connection.execute("DELETE FROM images WHERE removed IS NOT NULL")

    def others():
        population.add(5)
        opened(population).view()

    with population.store.snapshot():
        past = population.store.generation()
        in_another_thread(others)
        index = opened(population)
        assert index.generation > past and ids(index.view()) == set(population.alive(past))
    assert ids(index.view()) == set(population.alive())
    assert ids(opened(population).view()) == set(population.alive())


def test_a_store_that_was_put_back_has_the_index_made_anew(population, tmp_path):
    population.add(3)
    earlier = set(population.alive())
    with sqlite3.connect(tmp_path / "copy.sqlite") as copy:
        population.store.connection.backup(copy)
        population.add(4)
        index = opened(population)
        index.rebuild()
        copy.backup(population.store.connection)
    assert ids(index.view()) == earlier and ids(opened(population).view()) == earlier
    later = earlier | set(population.add(2))
    assert ids(index.view()) == later
