"""What an archive's folder says is never trusted with a path, a type or a size: a restored backup may be anybody's."""

import json
import os

import pytest

from medlike import Archive
from medlike import files as durable
from medlike.errors import ArchiveError


@pytest.mark.parametrize(
    "part", ["private", "private/spool", "pixels", "index", "store.sqlite", "archive.json", "private/key"]
)
def test_no_part_of_an_archive_may_be_a_link(archive, tmp_path, part):
    archive.close()
    folder, elsewhere = archive.path, tmp_path / "elsewhere"
    (folder / part).rename(elsewhere)
    (folder / part).symlink_to(elsewhere)
    with pytest.raises(ArchiveError, match="is a symbolic link, which an archive never holds"):
        Archive.open(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"bits": 10**400}, {"bits": "64"}, {"bits": 7.5}, {"bits": 4096}, {"digest": "../../x"}, {"name": 7},
        {"name": "a\0b"}, {"content_dim": True}, {"extra": 1},
    ],
)  # fmt: skip
def test_archive_json_is_checked(archive, change):
    archive.close()
    file = archive.path / "archive.json"
    facts = json.loads(file.read_text())
    facts["bundle"] |= change
    file.write_text(json.dumps(facts))
    with pytest.raises(ArchiveError, match="damaged"):
        Archive.open(archive.path)


@pytest.mark.parametrize("id", ["0" * 32, None])
def test_an_id_that_is_not_the_archives_is_damage(archive, id):
    file = archive.path / "archive.json"
    facts = json.loads(file.read_text())
    assert facts["format"] == 3 and facts["id"] == archive._folder.archive_id
    file.write_text(json.dumps({**facts, "id": id}))
    with pytest.raises(ArchiveError, match=r"archive\.json is damaged"):
        Archive.open(archive.path)


def test_only_regular_files_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    assert durable.read(tmp_path / "file", 5) == b"12345"
    for name in ("link", "pipe", "."):
        with pytest.raises(ArchiveError, match="which an archive never holds"):
            durable.read(tmp_path / name)
        assert not durable.is_regular(tmp_path / name)
    with pytest.raises(ArchiveError, match="has 5 bytes, at most 4"):
        durable.read(tmp_path / "file", 4)
