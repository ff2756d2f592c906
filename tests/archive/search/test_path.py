"""The path of a search: each of our files is entered once on the way down, and there are few of them."""

import sys
from pathlib import Path

import pytest

import medlike
from medlike import Query

ROOT = Path(medlike.__file__).parent
MOST = 21  # files of ours that a search by id goes through


def traced(work):
    """Call `work`. Returns our files that ran, and the call stacks that enter one of them a second time."""
    files, crossed = set(), set()

    def place(frame):
        file = Path(frame.f_code.co_filename)
        return str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else None

    def note(frame, event, argument):
        if event != "call" or place(frame) is None:
            return
        stack = []
        while frame is not None:
            name = place(frame)
            if name is not None and (not stack or stack[-1] != name):
                stack.append(name)
            frame = frame.f_back
        files.add(stack[0])
        if len(set(stack)) < len(stack):
            crossed.add(" > ".join(reversed(stack)))

    former = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(former)
    return files, crossed


@pytest.fixture
def folder(archive, pictures):
    made = pictures(6)
    archive.add(made)
    return made


def test_a_search_by_id_goes_through_few_files_each_in_one_run(archive, folder):
    id = archive.search(Query(image=folder / "0000.png"), k=1)[0].id
    archive.search(Query(id=id))  # what is loaded on first use is loaded
    files, crossed = traced(lambda: archive.search(Query(id=id), k=3))
    assert not crossed
    assert len(files) <= MOST, "\n".join(sorted(files))


def test_a_search_by_image_enters_each_file_once_on_the_way_down(archive, folder):
    query = Query(image=folder / "0001.png")
    archive.search(query)
    _, crossed = traced(lambda: archive.search(query, k=3))
    assert not crossed
