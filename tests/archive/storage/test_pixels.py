"""Names of pixel files come from the database, and are never trusted as paths."""

import pytest

from medlike.errors import ArchiveError


@pytest.fixture
def picture(pictures):
    return (pictures(1) / "0000.png").read_bytes()


@pytest.mark.parametrize("digest", ["../../../victim", "/etc/hostname", "x", "A" * 64])
def test_a_digest_in_the_database_is_no_path(archive, picture, digest, tmp_path):
    archive.receive(picture, "a.png")
    archive.drain()
    archive._store.connection.execute("UPDATE images SET pixels = ?, preview = ?", (digest, digest + "y"))
    assert sum("no SHA-256" in str(problem) for problem in archive.verify()) == 2
    with pytest.raises(ArchiveError, match="no SHA-256"):
        archive.backup(tmp_path / "backup")
