"""Files that were sent, as they are kept: sealed block by block, so that one of any size is written and read in bounded memory."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from django.conf import settings

from lianxin.access import seal

BLOCK = 1 << 20
_HEAD = struct.Struct(">I")
_PLACE = struct.Struct(">16sQ?")  # file, number of the block, whether it is the last


class Damaged(OSError):
    """A kept file that was cut, altered, or sealed under another root secret."""


def folder() -> Path:
    """Where they are."""
    return Path(settings.HOME) / "tables"


def keep(chunks: Iterable[bytes]) -> tuple[str, int]:
    """Keep a file; returns its name here and its size. It appears under its name only when it is whole."""
    place = folder()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    mark = uuid.uuid4()
    draft, kept = place / f"{mark.hex}.draft", place / mark.hex
    size = 0
    try:
        with draft.open("xb") as out:
            os.chmod(draft, 0o600)
            held, number = b"", 0
            for chunk in chunks:
                held += chunk
                while len(held) > BLOCK:
                    _write(out, mark.bytes, number, False, held[:BLOCK])
                    held, number, size = held[BLOCK:], number + 1, size + BLOCK
            _write(out, mark.bytes, number, True, held)
            size += len(held)
            out.flush()
            os.fsync(out.fileno())
        draft.rename(kept)
    finally:
        draft.unlink(missing_ok=True)
    return mark.hex, size


def _write(out: BinaryIO, mark: bytes, number: int, last: bool, data: bytes) -> None:
    sealed = seal.seal_bytes(_PLACE.pack(mark, number, last) + data)
    out.write(_HEAD.pack(len(sealed)) + sealed)


def blocks(name: str) -> Iterator[bytes]:
    """The bytes of a kept file; :class:`Damaged` when they are not all there."""
    mark = uuid.UUID(hex=name).bytes
    try:
        with (folder() / name).open("rb") as source:
            number, ended = 0, False
            while not ended:
                head = source.read(_HEAD.size)
                if len(head) < _HEAD.size:
                    raise Damaged(name)
                plain = seal.unseal_bytes(source.read(_HEAD.unpack(head)[0]))
                whose, place, ended = _PLACE.unpack_from(plain)
                if (whose, place) != (mark, number):
                    raise Damaged(name)
                number += 1
                yield plain[_PLACE.size :]
    except (seal.SealBroken, FileNotFoundError):
        raise Damaged(name) from None


class _Stream(io.RawIOBase):
    """A kept file read from its beginning (``seek(0)`` begins again)."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._blocks = blocks(name)
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset or whence:
            raise io.UnsupportedOperation("only back to the beginning")
        self._blocks, self._held = blocks(self._name), memoryview(b"")
        return 0

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not len(self._held):
            self._held = memoryview(next(self._blocks, b""))
        count = min(len(buffer), len(self._held))
        buffer[:count] = self._held[:count]
        self._held = self._held[count:]
        return count


def opened(name: str, *, anywhere: bool = False) -> BinaryIO:
    """A kept file for reading; ``anywhere``: with free seeking (a workbook), through a temporary file that has no name."""
    if not anywhere:
        return io.BufferedReader(_Stream(name), BLOCK)
    plain = tempfile.TemporaryFile(dir=folder())  # noqa: SIM115 - closed by the caller
    for block in blocks(name):
        plain.write(block)
    plain.seek(0)
    return plain


def remove(name: str) -> None:
    """Forget a kept file."""
    if name:
        (folder() / uuid.UUID(hex=name).hex).unlink(missing_ok=True)
