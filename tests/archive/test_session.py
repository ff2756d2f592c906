"""A session is of one pair of bundles and one generation, whatever happens to the archive meanwhile."""

import threading

import pytest
from tests.conftest import make_tiny_bundle

from medlike import Query
from medlike.errors import QueryError


@pytest.fixture
def other_bundle(tmp_path):
    return make_tiny_bundle(tmp_path / "other-64", "other-64", seed=1)


def test_a_session_sees_one_generation(archive, pictures):
    archive.add(pictures(3, seed=1, name="one"))
    with archive.session() as session:
        worker = threading.Thread(target=archive.add, args=(pictures(2, seed=2, name="two"),))
        worker.start()
        worker.join()
        assert session.store.count() == 3 and len(session.index.view()) == 3
    with archive.session() as session:
        assert session.store.count() == 5


@pytest.mark.slow
def test_switching_bundles_beside_searches_never_changes_an_answer_half_way(
    archive, pictures, tiny_bundle, other_bundle
):
    folder = pictures(12)
    archive.add(folder)
    bundles, stop = (tiny_bundle, other_bundle), threading.Event()
    digests = {bundle.digest for bundle in bundles}
    results, failures = [], []

    def search(number):
        query = Query(image=folder / f"{number:04}.png")
        while not stop.is_set():
            try:
                results.append(archive.search(query, k=5))
            except Exception as error:  # told below, in the thread that can fail the test
                failures.append(error)
                return

    threads = [threading.Thread(target=search, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(50):
            archive.reindex(bundles[(turn + 1) % 2])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[0]
    assert {result.receipt["bundle"] for result in results} == digests
    used = archive._folder.bundle.digest
    for result in results:
        assert [hit.rank for hit in result] == [1, 2, 3, 4, 5]
        if result.receipt["bundle"] == used:
            again = archive.repeat(result.receipt)
            assert [(hit.id, hit.distance) for hit in again] == [(hit.id, hit.distance) for hit in result]
            assert again.receipt["answer"] == result.receipt["answer"]
        else:
            with pytest.raises(QueryError, match="is of bundle"):
                archive.repeat(result.receipt)
            break


def test_a_session_under_a_former_bundle_ends_under_it(archive, pictures, other_bundle):
    archive.add(pictures(4))
    with archive.session() as session:
        former = session.folder.bundle.digest
        worker = threading.Thread(target=archive.reindex, args=(other_bundle,))
        worker.start()
        worker.join()
        assert session.folder.bundle.digest == former and len(session.index.view()) == 4
    assert archive._folder.bundle.digest == other_bundle.digest
