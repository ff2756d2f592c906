"""Encrypted files: whole or refused, and nothing in them can be changed unnoticed."""

import io

import pytest

from medlike.archive.storage import encryption
from medlike.errors import ArchiveError


def test_every_change_to_an_encrypted_file_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(encryption, "CHUNK", 64)
    monkeypatch.setattr(encryption, "COST", {"n": 2, "r": 1, "p": 1})
    plain = bytes(range(256)) + b"the end"
    for name in "ab":
        with encryption.encrypted(tmp_path / name, "p") as stream:
            stream.write(plain[:100])
            stream.write(plain[100:])
    one, other = (tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()

    def read(data, passphrase="p"):
        stream = encryption.Decrypting(io.BytesIO(data), passphrase)
        return stream.read(10) + stream.read()

    assert read(one) == read(other) == plain
    start, step = len(encryption.MAGIC) + encryption.SALT, 64 + encryption.TAG
    chunks = [one[at : at + step] for at in range(start, len(one), step)]
    assert len(chunks) == 5
    damaged = [one[:at] + bytes([one[at] ^ 1]) + one[at + 1 :] for at in range(0, len(one), 5)]
    cut = [one[:at] for at in (0, start - 1, start, start + step, start + 4 * step, len(one) - 1)]
    swapped = [one[:start] + b"".join([chunks[i] for i in order]) for order in ((1, 0, 2, 3, 4), (0, 1, 2, 4), (4,))]
    foreign = [one[:start] + other[start:], other[:start] + one[start:], one + chunks[4], one + b"x"]
    for wrong in (*damaged, *cut, *swapped, *foreign):
        with pytest.raises(ArchiveError, match=r"take another backup|no encrypted backup"):
            read(wrong)
    with pytest.raises(ArchiveError, match="passphrase"):
        read(one, "q")


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 128])
def test_an_encrypted_file_of_any_length_comes_back(tmp_path, monkeypatch, size):
    monkeypatch.setattr(encryption, "CHUNK", 64)
    monkeypatch.setattr(encryption, "COST", {"n": 2, "r": 1, "p": 1})
    with encryption.encrypted(tmp_path / "a", "p") as stream:
        stream.write(b"x" * size)
    assert encryption.Decrypting((tmp_path / "a").open("rb"), "p").read() == b"x" * size


def test_half_an_encrypted_file_never_appears(tmp_path):
    with pytest.raises(KeyError), encryption.encrypted(tmp_path / "a", "p") as stream:
        stream.write(b"x" * 3_000_000)
        raise KeyError
    assert list(tmp_path.iterdir()) == []
