"""Encrypting the id key of a backup under a passphrase, with the standard library alone.

scrypt (RFC 7914) turns passphrase and a fresh salt into a pad as long as the key and a MAC key; the key is
XORed with the pad, which is used once, and the whole is authenticated with HMAC-SHA256 (encrypt, then MAC).
"""

import hashlib
import hmac
import secrets

from medlike.errors import ArchiveError

_MAGIC = b"medlike sealed key 1\n"
_SALT = 16
_MAC = 32
_COST = {"n": 2**15, "r": 8, "p": 1, "maxmem": 64 * 1024 * 1024}


def seal(secret: bytes, passphrase: str) -> bytes:
    """Encrypt a short secret (at most 1,024 bytes) under a passphrase."""
    salt = secrets.token_bytes(_SALT)
    pad, key = _derive(passphrase, salt, len(secret))
    body = _MAGIC + salt + bytes(a ^ b for a, b in zip(secret, pad, strict=True))
    return body + hmac.new(key, body, hashlib.sha256).digest()


def unseal(sealed: bytes, passphrase: str) -> bytes:
    """Decrypt what `seal` made. Raises ArchiveError for a wrong passphrase or a damaged file."""
    body, mac = sealed[:-_MAC], sealed[-_MAC:]
    start = len(_MAGIC) + _SALT
    if not body.startswith(_MAGIC) or len(body) < start:
        raise ArchiveError("the encrypted id key is damaged: take another backup's")
    pad, key = _derive(passphrase, body[len(_MAGIC) : start], len(body) - start)
    if not hmac.compare_digest(hmac.new(key, body, hashlib.sha256).digest(), mac):
        raise ArchiveError("the passphrase is wrong, or the encrypted id key is damaged")
    return bytes(a ^ b for a, b in zip(body[start:], pad, strict=True))


def _derive(passphrase: str, salt: bytes, length: int) -> tuple[bytes, bytes]:
    found = hashlib.scrypt(passphrase.encode(), salt=salt, dklen=length + 32, **_COST)  # type: ignore[arg-type]
    return found[:length], found[length:]
