"""Reading the id key of a backup that a medlike before 0.2 made under a passphrase. Nothing writes this any more.

scrypt (RFC 7914) gives a pad as long as the key, which is XORed with it, and a key for HMAC-SHA256 over the whole.
"""

import hashlib
import hmac

from medlike.errors import ArchiveError

FILE = "key.sealed"
_MAGIC = b"medlike sealed key 1\n"
_SALT = 16
_MAC = 32
_COST = {"n": 2**15, "r": 8, "p": 1, "maxmem": 64 * 1024 * 1024}


def unseal(sealed: bytes, passphrase: str) -> bytes:
    """Return the id key in a `key.sealed`. Raises ArchiveError for a wrong passphrase or a damaged file."""
    body, mac = sealed[:-_MAC], sealed[-_MAC:]
    start = len(_MAGIC) + _SALT
    if not body.startswith(_MAGIC) or not start < len(body) <= start + 1024:
        raise ArchiveError("the encrypted id key is damaged: take another backup's")
    length, salt = len(body) - start, body[len(_MAGIC) : start]
    derived = hashlib.scrypt(passphrase.encode(), salt=salt, dklen=length + 32, **_COST)  # type: ignore[arg-type]
    if not hmac.compare_digest(hmac.new(derived[length:], body, hashlib.sha256).digest(), mac):
        raise ArchiveError("the passphrase is wrong, or the encrypted id key is damaged")
    return bytes(a ^ b for a, b in zip(body[start:], derived, strict=False))
