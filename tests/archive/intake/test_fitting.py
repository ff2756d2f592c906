"""Codes fitted to an archive: when, how they are searched, and what becomes of receipts, kills and erasures."""

import os
import signal
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from medlike import Archive, Query
from medlike.archive.intake import fitting
from medlike.archive.intake.settings import IntakeSettings
from medlike.archive.storage import fits
from medlike.bundle import rewrite
from medlike.bundle.bundle import NUISANCE
from medlike.codes.reranking import by_neighbours
from medlike.errors import ArchiveError, BundleError, QueryError


def answers(result):
    return [(hit.id, hit.distance, hit.similarity) for hit in result]


def ids(result):
    return [hit.id for hit in result]


def problems(archive):
    """What `verify` finds, but for the links that the rows of a population lack."""
    return [str(problem) for problem in archive.verify() if problem.part != "private"]


@pytest.fixture
def filled(population):
    """60 images of 20 patients, of two modalities, a study to each patient."""
    patients = [f"{i % 20:032x}" for i in range(60)]
    modalities = ["CT" if i % 3 else "MR" for i in range(60)]
    population.add(60, patient=patients, study=patients, modality=modalities)
    return population


def refitted(population):
    """Let the naive twin know the rows as the fit in use has them."""
    archive = population.archive
    fit = fits.get(archive._store, archive._folder.fit.digest).fit
    for row in population.rows.values():
        codes, vectors = fit.encode(row.setdefault("trained", row["content"])[None])
        row["code"], row["content"] = codes[0], vectors[0]
    return fit


@pytest.mark.parametrize("bits", [32, 128])
def test_a_search_is_by_the_codes_of_the_fit_in_every_order(filled, bits):
    archive = filled.archive
    report = archive.fit(bits=bits)
    fit = refitted(filled)
    assert report.bits == fit.bits == bits and report.recoded == report.images == report.sample == 60
    assert report.units == 20 and report.reason == "asked" and "aggregate" in report.note
    for id in list(filled.rows)[:4]:
        row, others = filled.rows[id], set(filled.rows) - {id}
        for rank, radius in (("content", None), ("hamming", None), ("radius", bits // 2), ("content", bits // 2)):
            expected = filled.expected(row["code"], row["content"], 9, rank, radius, others.__contains__)
            result = archive.search(Query(id=id), k=9, rank=rank, radius=radius)
            assert [(hit.id, hit.distance) for hit in result] == [each[:2] for each in expected]
            assert [hit.similarity for hit in result] == pytest.approx([each[2] for each in expected])
    assert problems(archive) == []
    assert archive.codes()[1].shape == (60, bits // 8) and archive.codes(codes="trained")[1].shape == (60, 8)
    assert archive.vectors()[1].shape == (60, report.directions)
    assert archive.vectors(codes="trained")[1].shape == (60, archive.bundle.content_dim)


def test_filters_groups_and_many_queries_go_by_the_codes_of_the_fit(filled):
    archive = filled.archive
    archive.fit(bits=64)
    refitted(filled)
    id = next(iter(filled.rows))
    row = filled.rows[id]
    expected = filled.expected(
        row["code"], row["content"], 8, accepts=lambda other: other != id and filled.rows[other]["modality"] == "MR"
    )
    found = archive.search(Query(id=id), k=8, rank="content", where={"modality": "MR"})
    assert ids(found) == [each[0] for each in expected]
    grouped = archive.search(Query(id=id), k=5, rank="content", group_by="study")
    ranked = [other for other, *_ in filled.expected(row["code"], row["content"], 60) if other != id]
    studies = list(dict.fromkeys(filled.rows[other]["study"] for other in ranked))[:5]
    assert [filled.rows[hit.id]["study"] for hit in grouped] == studies
    queries = [Query(id=other) for other in list(filled.rows)[:5]]
    many = archive.search_many(queries, k=4)
    assert [answers(result) for result in many] == [answers(archive.search(query, k=4)) for query in queries]


def test_trained_codes_are_searched_as_before_the_fit(filled):
    archive = filled.archive
    query = Query(id=next(iter(filled.rows)))
    before = archive.search(query)
    assert "fit" not in before.receipt and "codes" not in before.receipt["settings"]
    with pytest.raises(QueryError, match="has no fit"):
        archive.search(query, codes="fitted")
    archive.fit()
    trained, fitted = archive.search(query, codes="trained"), archive.search(query)
    assert answers(trained) == answers(before) and trained.receipt == before.receipt
    assert answers(fitted) == answers(archive.search(query, codes="fitted")) != answers(before)
    assert fitted.receipt["fit"] == archive.info()["fit"]["digest"] and fitted.receipt["settings"]["codes"] == "fitted"
    assert trained.familiarity.usual == before.familiarity.usual != fitted.familiarity.usual


def test_a_region_is_searched_under_a_fit(tmp_path, tiny_regional_bundle, pictures):
    with Archive.create(tmp_path / "regional", tiny_regional_bundle) as archive:
        archive.add(pictures(6))
        id = archive.ids()[0]
        query = Query(id=id, region=(8, 8, 40, 40))
        before = archive.search(query)
        archive.fit(bits=16)
        after = archive.search(query)
        assert ids(after) and {hit.id: hit.box for hit in after} == {hit.id: hit.box for hit in before}
        assert archive.search(query, region_weight=0.5).hits and archive.search(query, shortlist=3).hits
        assert problems(archive) == []


def test_words_find_the_same_under_a_fit(worded):
    before = worded.search(Query(text="effusion"))
    texts = worded.nearest_texts(Query(id=worded.ids()[0]))
    worded.fit(bits=8)
    assert ids(worded.search(Query(text="effusion"))) == ids(before)
    again = worded.nearest_texts(Query(id=worded.ids()[0]))
    assert [hit.id for hit in again] == [hit.id for hit in texts]
    assert [hit.id for hit in worded.repeat(again.receipt)] == [hit.id for hit in again]
    both = worded.search(Query(id=worded.ids()[0], text="effusion"))
    assert both.weights and worded.repeat(both.receipt).receipt["answer"] == both.receipt["answer"]


def test_receipts_repeat_across_fits_until_compact(filled):
    archive = filled.archive
    query = Query(id=next(iter(filled.rows)))
    results = [archive.search(query)]
    for bits in (32, 64):
        archive.fit(bits=bits)
        results.append(archive.search(query))
    filled.add(40)
    archive.fit()
    results.append(archive.search(query))
    assert len({str(answers(result)) for result in results}) == len(results)
    archive.remove(ids(results[0])[:1])
    with Archive.open(archive.path) as other:
        for result in results:
            again = other.repeat(result.receipt)
            assert answers(again) == answers(result) and again.receipt == result.receipt and not again.warnings
    folders = {path.name for path in archive._folder.index.iterdir()}
    assert len(folders) == 3 and len(fits.kept(archive._store)) == 3
    archive.compact()
    assert fits.kept(archive._store) == [archive._folder.fit.digest]
    assert {path.name for path in archive._folder.index.iterdir() if "-" in path.name} == {
        f"{archive.bundle.digest[:16]}-{archive._folder.fit.digest[:16]}"
    }
    for result in results:
        with pytest.raises(QueryError):
            archive.repeat(result.receipt)
    new = archive.search(query)
    with pytest.raises(QueryError, match="the archive's queries"):
        archive.repeat({**new.receipt, "query": {**new.receipt["query"], "code": "00"}})
    with pytest.raises(QueryError, match="no longer kept"):
        archive.repeat({**new.receipt, "fit": results[1].receipt["fit"]})
    assert answers(archive.repeat(new.receipt)) == answers(new) and problems(archive) == []


def test_the_same_images_give_the_same_fit_and_nothing_is_recoded(filled):
    first, second = filled.archive.fit(bits=32), filled.archive.fit()
    assert second.digest == first.digest and second.bits == 32 and second.recoded == 0
    assert filled.archive.fit(bits=16).digest != first.digest


def test_an_archive_is_fitted_first_at_some_images_of_some_patients(population, monkeypatch):
    monkeypatch.setattr(fitting, "FIRST_IMAGES", 50)
    monkeypatch.setattr(fitting, "FIRST_UNITS", 20)
    store, folder = population.store, population.archive._folder
    population.add(49)
    assert fitting.due(store, folder) is None
    population.add(1)
    assert fitting.due(store, folder) == "first"
    population.remove(list(population.rows)[:31])
    assert fitting.due(store, folder) is None
    population.add(40, patient="0" * 32)
    assert fitting.due(store, folder) == "first"  # 19 images of nobody known, and one patient
    population.remove(list(population.rows)[31:32])
    population.add(1, patient="0" * 32)
    assert fitting.due(store, folder) is None


def test_it_is_fitted_again_at_fourfold_growth(filled):
    archive = filled.archive
    archive.fit()
    filled.add(179)
    assert fitting.due(filled.store, archive._folder) is None
    filled.add(1)
    assert fitting.due(filled.store, archive._folder) == "growth"
    filled.remove(list(filled.rows)[:1])
    assert fitting.due(filled.store, archive._folder) is None


def test_adding_and_draining_fit_at_their_end(archive, pictures, monkeypatch):
    monkeypatch.setattr(fitting, "FIRST_IMAGES", 6)
    monkeypatch.setattr(fitting, "FIRST_UNITS", 6)
    assert archive.add(pictures(5)).fit is None and archive._folder.fit is None
    assert archive.add(pictures(7), fit="never").fit is None and archive._folder.fit is None
    told = []
    report = archive.add(pictures(7), progress=lambda so_far: told.append(so_far.fit and so_far.fit.recoded))
    assert report.fit.reason == "first" and report.fit.images == 7 and told[-1] == 7
    for path in sorted(pictures(21, seed=5, name="more").iterdir()):
        archive.receive(path.read_bytes(), path.name)
    report = archive.drain()
    assert report.added == 21 and report.fit.reason == "growth" and report.fit.images == 28 and report.fit.bits == 64
    assert archive.add(pictures(7)).fit is None and problems(archive) == []
    assert ids(archive.search(Query(image=sorted(pictures(7).iterdir())[0]), k=1))


def test_a_fit_that_cannot_be_made_leaves_the_images_safe(archive, pictures, monkeypatch):
    monkeypatch.setattr(fitting, "FIRST_IMAGES", 2)
    monkeypatch.setattr(fitting, "FIRST_UNITS", 2)

    def fails(*_):
        raise ArchiveError("no room")

    monkeypatch.setattr(fitting.room, "to_fit", fails)
    report = archive.add(pictures(3))
    assert report.added == 3 and report.fit is None and "codes were not fitted: no room" in str(report.remarks)
    assert archive._folder.fit is None and problems(archive) == []


def test_too_few_images_and_bits_that_make_no_sense_are_refused(population):
    for bits in (0, 7, 520, 4, True):
        with pytest.raises(QueryError, match="multiple of 8 from 8 to 512"):
            population.archive.fit(bits=bits)
    with pytest.raises(QueryError, match="has 0 images"):
        population.archive.fit()
    population.add(3, contents=[np.ones(population.bundle.content_dim, np.int8)] * 3)
    with pytest.raises(QueryError, match="images that differ"):
        population.archive.fit()
    assert population.archive._folder.fit is None
    with pytest.raises(QueryError, match="'auto' or 'never'"):
        IntakeSettings(fit="always")


def test_each_patient_weighs_alike_in_the_sample(population):
    population.add(30, patient="a" * 32)
    population.add(4, patient=["b" * 32, "b" * 32, "c" * 32, None])
    sample = fitting.drawn(population.store, population.bundle.digest)
    assert sample.images == 34 and sample.units == 4 and sample.weights.sum() == pytest.approx(4)
    few = fitting.drawn(population.store, population.bundle.digest, most=6)
    assert len(few.content) == 6 and sorted(few.weights) == pytest.approx([1 / 2, 1 / 2, 1 / 2, 1 / 2, 1, 1])
    again = fitting.drawn(population.store, population.bundle.digest, most=6)
    assert np.array_equal(few.content, again.content)


def test_verify_finds_an_altered_code(filled):
    archive = filled.archive
    archive.fit()
    archive.search(Query(id=next(iter(filled.rows))))
    folder = archive._indexes.images.folder
    codes = next(folder.glob("*/codes.bin"))
    data = bytearray(codes.read_bytes())
    data[5] ^= 1
    codes.write_bytes(data)
    archive.close()
    with Archive.open(archive.path) as other:
        assert any("codes.bin is damaged" in str(problem) for problem in other.verify())
    # One that was written with its checksum, as a fault of ours would: the code is computed again.
    index = archive._indexes.images
    index.rebuild()
    source = index.source
    encode = type(source.fit).encode

    def altered(fit, content):
        made, vectors = encode(fit, content)
        made[3, 0] ^= 1
        return made, vectors

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(source.fit), "encode", altered)
        index.rebuild()
    with Archive.open(archive.path) as other:
        assert "differs from the store" in str(other.verify())


def test_a_damaged_fit_is_an_error_and_is_made_again(filled):
    archive = filled.archive
    archive.fit()
    digest, id = archive._folder.fit.digest, next(iter(filled.rows))
    before = answers(archive.search(Query(id=id)))
    archive.close()
    with closing(sqlite3.connect(archive._folder.store, isolation_level=None)) as other:
        other.execute("UPDATE fits SET arrays = zeroblob(length(arrays))")
    with Archive.open(archive.path) as other:
        with pytest.raises(ArchiveError, match=r"fits in .* is damaged"):
            other.search(Query(id=id))
        assert ids(other.search(Query(id=id), codes="trained"))
        assert digest in str(other.verify())
    with closing(sqlite3.connect(archive._folder.store, isolation_level=None)) as other:
        other.execute("UPDATE fits SET digest = NULL")  # a row without a digest is checked by the fit's own
    with Archive.open(archive.path) as other, pytest.raises(ArchiveError, match=r"fit [0-9a-f]{16} in .* is damaged"):
        other.search(Query(id=id))
    with Archive.open(archive.path) as other:
        assert other.fit().digest == digest and answers(other.search(Query(id=id))) == before and problems(other) == []
    with closing(sqlite3.connect(archive._folder.store, isolation_level=None)) as other:
        other.execute("DELETE FROM fits")
    with Archive.open(archive.path) as other:
        with pytest.raises(ArchiveError, match="is missing in"):
            other.search(Query(id=id))
        assert any("is missing" in str(problem) for problem in other.verify())


@pytest.mark.parametrize("step", ["put", "rebuild", "use"])
def test_a_fit_that_is_killed_leaves_the_archive_as_it_was(filled, step, monkeypatch):
    archive = filled.archive
    archive.fit(bits=32)
    query, former = Query(id=next(iter(filled.rows))), archive._folder.fit
    before = answers(archive.search(query))
    filled.add(5)
    child = os.fork()
    if not child:
        owner, name = {
            "put": (fitting.fits, "put"),
            "rebuild": (fitting.FittedImages, "rows"),
            "use": (fitting.Bundles, "use"),
        }[step]
        done = getattr(owner, name)

        def dies(*arguments):
            if step == "put":
                done(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(owner, name, dies)
        try:
            Archive.open(archive.path).fit(bits=64)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with Archive.open(archive.path) as other:
        assert other._folder.fit == former and problems(other) == []
        assert answers(other.search(query, generation=1)) == before
        report = other.fit(bits=64)
        assert report.recoded == 65 and problems(other) == []
    assert archive._folder.fit.digest == report.digest and answers(archive.search(query, k=3))


def test_a_reader_follows_the_switch_and_a_session_under_the_former_codes_goes_on(filled):
    query = Query(id=next(iter(filled.rows)))
    with Archive.open(filled.archive.path) as reader:
        before = reader.search(query)
        with reader.session() as session:
            child = os.fork()
            if not child:
                with Archive.open(filled.archive.path) as writer:
                    writer.fit()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            assert session.folder.fit is None and session.images().fit is None
            assert len(session.images().index.view()) == 60
        after = reader.search(query)
        assert after.receipt["fit"] == reader.info()["fit"]["digest"] and answers(after) != answers(before)
        assert answers(reader.repeat(before.receipt)) == answers(before)


def test_an_erasure_of_more_than_a_twentieth_fits_again(filled):
    archive = filled.archive
    first = archive.fit()
    rows = list(filled.rows)
    assert archive.remove(rows[:3], erase=True).fit is None and archive._folder.fit.digest == first.digest
    filled.add(100)
    report = archive.remove(rows[3:4], erase=True).fit
    assert report.reason == "erasure" and report.images == 156 and "aggregate" in report.note
    assert fits.kept(archive._store) == [report.digest] != [first.digest]
    assert archive._folder.fit.digest == report.digest and problems(archive) == []
    # What is erased is in no later fit; images that came after it count for nothing.
    assert archive.remove(list(filled.rows)[-1:], erase=True).fit is None


def test_an_erasure_that_ended_before_it_fitted_again_does_so_at_the_next_write(filled, monkeypatch):
    archive = filled.archive
    first = archive.fit()
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "after_erasure", lambda bundles: None)
        archive.remove(list(filled.rows)[:6], erase=True)
    assert archive._folder.fit.digest == first.digest and fitting.due(filled.store, archive._folder) == "erasure"
    report = archive.drain().fit
    assert report.reason == "erasure" and fits.kept(archive._store) == [report.digest] != [first.digest]


def test_an_archive_with_too_little_left_goes_back_to_the_codes_of_its_bundle(population):
    rows = population.add(3)
    population.archive.fit(bits=8)
    report = population.archive.remove(rows[:2], erase=True).fit
    assert report.reason == "erasure" and not report.digest and population.archive._folder.fit is None
    assert fits.kept(population.store) == [] and problems(population.archive) == []
    with Archive.open(population.archive.path) as other:
        assert other._folder.fit is None and ids(other.search(Query(id=rows[2]), include_self=True)) == rows[2:]


def test_an_erasure_fits_again_without_the_bundle(filled, monkeypatch):
    filled.archive.fit()

    def gone(facts):
        raise BundleError("it is gone")

    monkeypatch.setattr(type(filled.archive.bundle), "load", gone)
    assert filled.archive.remove(list(filled.rows)[:4], erase=True).fit.images == 56
    with pytest.raises(BundleError):
        filled.archive.reindex(filled.archive.bundle.name)


def test_a_fit_turns_away_from_what_its_bundle_knows_of_nuisance(tmp_path, tiny_bundle, pictures, monkeypatch):
    factor = np.linalg.qr(np.random.default_rng(0).normal(size=(tiny_bundle.content_dim, 3)))[0].astype(np.float16)
    knowing = rewrite(tiny_bundle, tmp_path / "knowing", {NUISANCE: factor})
    assert tiny_bundle.nuisance is None and np.array_equal(knowing.nuisance, factor)
    with Archive.create(tmp_path / "plain", tiny_bundle) as plain, Archive.create(tmp_path / "a", knowing) as archive:
        for each in (plain, archive):
            each.add(pictures(20))
        known = archive.fit()
        assert plain.fit().digest != known.digest
        assert np.array_equal(fits.get(archive._store, known.digest).nuisance, factor)
        # The next fit knows it too where the bundle is gone.
        sample = fitting.drawn(archive._store, archive.bundle.digest)
        right = fitting.fitted(sample.content, sample.weights, knowing.content_blocks, known.bits, factor)
        assert right.digest == known.digest

        def gone(facts):
            raise BundleError("it is gone")

        monkeypatch.setattr(type(archive.bundle), "load", gone)
        assert archive.fit().digest == known.digest


def test_damaged_nuisance_is_named(tmp_path, tiny_bundle):
    for number, bad in enumerate((np.zeros((3, 3), np.float32), np.full((tiny_bundle.content_dim, 2), np.nan))):
        damaged = rewrite(tiny_bundle, tmp_path / str(number), {NUISANCE: bad.astype(np.float32)})
        with pytest.raises(BundleError, match=r"content\.nuisance"):
            damaged.nuisance  # noqa: B018


def test_backup_and_restore_keep_the_fit(filled, tmp_path):
    archive = filled.archive
    archive.fit()
    query = Query(id=next(iter(filled.rows)))
    result = archive.search(query)
    archive.backup(tmp_path / "backup")
    with Archive.restore(tmp_path / "backup", tmp_path / "restored") as restored:
        assert restored._folder.fit == archive._folder.fit and restored.info()["fit"] == archive.info()["fit"]
        assert answers(restored.search(query)) == answers(result) == answers(restored.repeat(result.receipt))


def test_another_bundle_is_fitted_in_the_same_switch(archive, pictures, tmp_path, make_tiny_bundle):
    archive.add(pictures(8))
    archive.fit(bits=16)
    receipt = archive.search(Query(id=archive.ids()[0])).receipt
    report = archive.reindex(make_tiny_bundle(tmp_path / "other", "other-64", seed=5))
    assert report.fit.reason == "bundle" and report.fit.bits == 16 and archive._folder.fit.digest == report.fit.digest
    assert archive.search(Query(id=archive.ids()[0])).receipt["fit"] == report.fit.digest and problems(archive) == []
    with pytest.raises(QueryError, match="is of bundle"):
        archive.repeat(receipt)
    archive.reindex()
    assert archive._folder.fit.digest == report.fit.digest and problems(archive) == []


def test_an_archive_of_an_earlier_format_is_fitted_when_it_is_upgraded_however_small(filled):
    archive = filled.archive
    result = archive.search(Query(id=next(iter(filled.rows))))
    archive.close()
    replace(archive._folder, format=1).write()
    with Archive.open(archive.path) as earlier:
        assert earlier.drain().fit is None
        with pytest.raises(ArchiveError, match="run `medlike upgrade` first"):
            earlier.fit()
        report = earlier.upgrade().fit
        assert report.reason == "upgrade" and report.images == 60 and earlier._folder.fit.digest == report.digest
        assert answers(earlier.repeat(result.receipt)) == answers(result)


def test_the_likeliest_original_is_the_first_neighbour_where_the_fit_can_tell(tmp_path, tiny_bundle, pictures):
    factor = np.linalg.qr(np.random.default_rng(0).normal(size=(tiny_bundle.content_dim, 3)))[0].astype(np.float16)
    knowing = rewrite(tiny_bundle, tmp_path / "knowing", {NUISANCE: factor})
    with Archive.create(tmp_path / "a", knowing) as archive:
        archive.add(pictures(30))
        fit = fits.get(archive._store, archive.fit().digest).fit
        ids, contents = zip(
            *archive._store.query("SELECT id, content FROM images JOIN encodings USING (row) ORDER BY id"), strict=True
        )
        codes, vectors = fit.encode(np.frombuffer(b"".join(contents), np.int8).reshape(len(ids), -1))
        moved = 0
        for at, id in enumerate(ids):
            others = np.delete(np.arange(len(ids)), at)
            plain, right = (
                [ids[others[n]] for n in by_neighbours(codes[at], vectors[at], codes[others], vectors[others], given)]
                for given in (None, fit.invariant)
            )
            found = [hit.id for hit in archive.search(Query(id=id), k=40, rank="neighbours")]
            assert found == right
            moved += plain != right
        assert moved
