"""Public ids are keyed, and true identifiers stay in the private folder."""

import pytest

from medlike import Archive
from medlike import files as durable


def test_ids_are_keyed(tmp_path, tiny_bundle, encoder, pictures):
    folder = pictures(1)
    found = set()
    for name in "ab":
        with Archive.create(tmp_path / name, tiny_bundle, encoder=encoder) as made:
            made.add(folder)
            found.add(made._store.images([1])[1].id)
    assert len(found) == 2 and all(len(id) == 32 and int(id, 16) >= 0 for id in found)


@pytest.mark.parametrize("keep", [False, True])
def test_identifiers_go_to_the_private_folder_only(tmp_path, tiny_bundle, encoder, scan, keep):
    path = scan("a.dcm", PatientName="Mustermann^Erika", PatientID="P-0815", SOPInstanceUID="1.2.840.99")
    with Archive.create(tmp_path / "a", tiny_bundle, keep_identifiers=keep, encoder=encoder) as archive:
        archive.add(path)
        row = archive._store.images([1])[1]
        source = archive.source(row.id)
        assert source["sop_uid"] == "1.2.840.99" and len(row.patient) == 32
        assert ("P-0815" in source.values()) == keep
    private = list(durable.files(tmp_path / "a" / "private"))
    public = [file for file in durable.files(tmp_path / "a") if file not in private]
    for word in (b"Mustermann", b"P-0815", b"1.2.840.99", b"20240229", b"a.dcm"):
        assert not [file for file in public if word in file.read_bytes()], word
    assert (b"P-0815" in b"".join(file.read_bytes() for file in private)) == keep
    assert (tmp_path / "a" / "private" / "key").stat().st_mode & 0o077 == 0
