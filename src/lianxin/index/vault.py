"""Forms as they lie in the database: packed and encrypted, opened many at a time.

A look-up opens all registrations of some twenty candidates. One authenticated seal each (:mod:`lianxin.access.seal`) would cost
more than comparing them, so forms are enciphered with SM4 in counter mode (GB/T 17964) under a key of their own: one call of the
cipher for the whole look-up. They carry no tag: a form says nothing that its sealed source does not say, and ``lianxin check``
compares the two.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import lru_cache

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from lianxin.access import seal
from lianxin.index.form import Form, pack, unpack

_NONCE = 8
_BLOCK = 16
_COUNTERS = [n.to_bytes(8, "big") for n in range(4096)]


class _Mine(threading.local):
    cipher: CipherContext | None = None


_mine = _Mine()


@lru_cache(maxsize=1)
def _key() -> bytes:
    return seal.key("index-form", 16)


def _stream(nonces: Sequence[bytes], blocks: Sequence[int]) -> bytes:
    """The key stream of every (nonce, number of blocks), one after the other."""
    if _mine.cipher is None:
        _mine.cipher = Cipher(algorithms.SM4(_key()), modes.ECB()).encryptor()
    # nonce.join(counters) is counter, nonce, counter, …: with one nonce in front it is the blocks nonce+counter.
    parts = [nonce + nonce.join(_COUNTERS[:n]) for nonce, n in zip(nonces, blocks, strict=True)]
    return _mine.cipher.update(b"".join(parts))


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(len(a), "little")


def close(form: Form) -> bytes:
    """A form as it is stored."""
    return close_packed(pack(form))


def close_packed(body: bytes) -> bytes:
    """A packed form as it is stored."""
    nonce = os.urandom(_NONCE)
    blocks = -(-len(body) // _BLOCK)
    return nonce + _xor(body, _stream([nonce], [blocks])[: len(body)])


def close_many(bodies: Sequence[bytes]) -> list[bytes]:
    """Packed forms as they are stored: one call of the cipher for all of them."""
    drawn = os.urandom(_NONCE * len(bodies))
    nonces = [drawn[at : at + _NONCE] for at in range(0, len(drawn), _NONCE)]
    blocks = [-(-len(body) // _BLOCK) for body in bodies]
    padded = b"".join([body.ljust(n * _BLOCK, b"\0") for body, n in zip(bodies, blocks, strict=True)])
    hidden = _xor(padded, _stream(nonces, blocks))
    out, at = [], 0
    for nonce, body, n in zip(nonces, bodies, blocks, strict=True):
        out.append(nonce + hidden[at : at + len(body)])
        at += n * _BLOCK
    return out


def open_packed(stored: Sequence[bytes]) -> list[bytes]:
    """Packed forms of stored ones."""
    if not stored:
        return []
    nonces = [one[:_NONCE] for one in stored]
    blocks = [-(-(len(one) - _NONCE) // _BLOCK) for one in stored]
    padded = b"".join([one[_NONCE:].ljust(n * _BLOCK, b"\0") for one, n in zip(stored, blocks, strict=True)])
    plain = _xor(padded, _stream(nonces, blocks))
    out, at = [], 0
    for one, n in zip(stored, blocks, strict=True):
        out.append(plain[at : at + len(one) - _NONCE])
        at += n * _BLOCK
    return out


def open_all(stored: Sequence[bytes]) -> list[Form]:
    """The forms that :func:`close` wrote. Raises ValueError for bytes of another key or version."""
    return [unpack(body) for body in open_packed(stored)]
