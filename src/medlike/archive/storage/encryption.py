"""An encrypted stream in a file: scrypt for the key, AES-256-GCM in chunks, all by the library `cryptography`.

    magic, salt                     the header, authenticated with every chunk
    chunk 0, chunk 1, ... last      1 MiB of ciphertext and its tag of 16 bytes; the last one may be shorter

The nonce of a chunk is its number and whether it is the last (the STREAM construction, Hoang et al. 2015). A chunk
that is changed, moved, left out or taken from another file is noticed, and so is an end that was cut off. The key
comes from a fresh salt, so that no two files share one.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from medlike import files as durable
from medlike.errors import ArchiveError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"medlike encrypted backup 1\n"
CHUNK = 1 << 20  # bytes of plain text
SALT = 16
TAG = 16
# scrypt at the strength that OWASP names for passwords: 128 MiB of memory, some 0.3 s.
COST = {"n": 2**17, "r": 8, "p": 1}


class Encrypting:
    """A file to be written, in chunks; `finish` writes the last one."""

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        self._file = file
        self._header = MAGIC + secrets.token_bytes(SALT)
        self._cipher = _cipher(passphrase, self._header)
        self._number = 0
        self._waiting = bytearray()
        file.write(self._header)

    def write(self, data: bytes) -> int:
        """Take bytes; what fills a chunk, and is surely not the end, is encrypted and written."""
        self._waiting += data
        while len(self._waiting) > CHUNK:
            self._put(bytes(self._waiting[:CHUNK]), last=False)
            del self._waiting[:CHUNK]
        return len(data)

    def finish(self) -> None:
        """Write the last chunk, without which the file is not whole."""
        self._put(bytes(self._waiting), last=True)

    def _put(self, data: bytes, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._number, last), data, self._header))
        self._number += 1


class Decrypting:
    """An encrypted file to be read. No byte is given out before its chunk is proved."""

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        self._file = file
        self._header = file.read(len(MAGIC) + SALT)
        if len(self._header) < len(MAGIC) + SALT or not self._header.startswith(MAGIC):
            raise ArchiveError("this is no encrypted backup of a kind that this medlike reads: install a newer one")
        self._cipher = _cipher(passphrase, self._header)
        self._number = 0
        self._ready = bytearray()
        self._next = file.read(CHUNK + TAG)
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, fewer at the end. Raises ArchiveError where a chunk is not as it was written."""
        while not self._ended and (size < 0 or len(self._ready) < size):
            self._take()
        size = len(self._ready) if size < 0 else size
        data = bytes(self._ready[:size])
        del self._ready[:size]
        return data

    def drain(self) -> None:
        """Read to the end, so that a file that was cut off is noticed."""
        while self.read(CHUNK):
            pass

    def _take(self) -> None:
        from cryptography.exceptions import InvalidTag

        chunk, self._next = self._next, self._file.read(CHUNK + TAG)
        last = not self._next
        try:
            self._ready += self._cipher.decrypt(_nonce(self._number, last), chunk, self._header)
        except (InvalidTag, ValueError):
            where = f"in its part {self._number + 1}, or cut off there" if self._number else "at its beginning"
            wrong = "" if self._number else "the passphrase is wrong, or "
            raise ArchiveError(f"{wrong}the backup is damaged {where}: take another backup") from None
        self._number += 1
        self._ended = last


@contextmanager
def encrypted(path: Path, passphrase: str) -> Iterator[Encrypting]:
    """Write an encrypted file that appears whole, durably, when the block ends without an error."""
    with durable.disk_errors(path), durable.drafted(path, 0o600, alone=True) as draft, draft.open("wb") as file:
        stream = Encrypting(file, passphrase)
        yield stream
        stream.finish()


def _cipher(passphrase: str, header: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return AESGCM(Scrypt(salt=header[len(MAGIC) :], length=32, **COST).derive(passphrase.encode()))


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\1" if last else b"\0")
