"""The golden check runs once for a bundle and a processor, for readers too."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from medlike import Archive, Encoder, Query
from medlike.bundle import rewrite
from medlike.inference import golden_cache
from medlike.inference.golden_cache import cached_share


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder of medlike's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "medlike" / "golden"


@pytest.fixture
def checks(monkeypatch):
    """The digests of the bundles that were checked."""
    runs = []
    measure = Encoder._measured_share
    monkeypatch.setattr(Encoder, "_measured_share", lambda self: runs.append(self.bundle.digest) or measure(self))
    return runs


def test_a_check_runs_once_for_readers_and_writers(cache, checks, tiny_bundle, tmp_path, pictures_of):
    with Archive.create(tmp_path / "a", tiny_bundle, text_bundle=None) as archive:
        archive.add(pictures_of)
    for _ in range(3):
        with Archive.open(tmp_path / "a") as archive:
            assert archive.search(Query(image=pictures_of / "0.png")).warnings == ()
    assert checks == [tiny_bundle.digest] and len(list(cache.iterdir())) == 1


def test_a_reader_is_told_of_a_host_that_computes_otherwise(cache, checks, tiny_bundle, tmp_path, pictures_of):
    code = tiny_bundle.array("golden.code").copy()
    code[:, 0] ^= 0b1000_0000
    other = rewrite(tiny_bundle, tmp_path / "other", {"golden.code": code})
    with Archive.create(tmp_path / "a", other, text_bundle=None) as archive:
        warnings = archive.search(Query(image=pictures_of / "0.png")).warnings
        assert any("98.4% of the golden bits" in warning and "may differ" in warning for warning in warnings)
    # What fails is never kept: the next process checks again.
    assert not cache.exists() or not list(cache.iterdir())


def test_another_bundle_or_processor_is_checked_anew(cache, monkeypatch):
    assert cached_share("a", lambda: 1.0, 0.995) == 1.0
    assert cached_share("a", lambda: pytest.fail("checked again"), 0.995) == 1.0
    assert cached_share("b", lambda: 0.999, 0.995) == 0.999
    monkeypatch.setattr(golden_cache, "processor", lambda: "another")
    assert cached_share("a", lambda: 0.998, 0.995) == 0.998


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"share": 2}', b'{"share": "x"}', b"\xff" * 5000])
def test_a_damaged_cache_is_no_cache(cache, content):
    cached_share("a", lambda: 1.0, 0.995)
    file = next(cache.iterdir())
    facts = json.loads(file.read_text())
    file.write_bytes(content)
    assert cached_share("a", lambda: 0.999, 0.995) == 0.999
    file.write_text(json.dumps(facts | {"share": 7}))
    assert cached_share("a", lambda: 0.996, 0.995) == 0.996
    file.write_text(json.dumps(facts | {"bundle": "b"}))
    assert cached_share("a", lambda: 0.997, 0.995) == 0.997


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cached_share("a", lambda: 1.0, 0.995) == 1.0


def test_many_may_check_at_once(cache):
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: cached_share("a", lambda: 1.0, 0.995), range(64))) == {1.0}
    assert [file.suffix for file in cache.iterdir()] == [".json"]


@pytest.fixture
def pictures_of(tmp_path, tiny_pictures):
    """A folder of three pictures, 0.png to 2.png."""
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    for number, picture in enumerate(tiny_pictures(3)):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{number}.png")
    return tmp_path / "pictures"
