"""NDJSON on disk: compressed and sealed in frames, written under a temporary name until it is whole.

A file is a head (mark and 16 random bytes) and frames.  A frame is about 1 MiB of whole lines as one raw deflate run that
ends on a byte boundary, sealed with SM4-GCM bound to the file and its place in it.  Runs put one after another are one deflate
stream, so a reader that takes gzip is served the runs as they are, everybody else the lines; either way one frame is in memory.
"""

from __future__ import annotations

import os
import shutil
import struct
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from django.conf import settings

from lianxin.access import seal

FRAME = 1 << 20
LEVEL = 5
_MARK = b"LXBULK1\n"
_HEAD = struct.Struct(">8s16s")
_FRAME = struct.Struct(">III")  # sealed bytes, lines, plain bytes
_NONCE, _TAG = 12, 16
GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
DEFLATE_END = b"\x03\x00"


class Damaged(OSError):
    """A file that was cut, altered, or sealed under another root secret."""


@dataclass(frozen=True)
class Written:
    """What a finished file holds: lines, plain bytes and their CRC-32."""

    stored: str
    count: int
    size: int
    crc: int


@dataclass(frozen=True)
class Frame:
    """One frame read back: its deflate run, its lines and plain bytes, and where the next frame begins."""

    run: bytes
    count: int
    size: int
    next: int

    @property
    def plain(self) -> bytes:
        """The lines, each with its line feed."""
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(self.run, self.size)


@lru_cache(maxsize=1)
def _cipher() -> algorithms.SM4:
    return algorithms.SM4(seal.key("bulk-files", 16))


def folder(owner: uuid.UUID | str) -> Path:
    """Where the files of a job live (``uploads``: those sent ahead)."""
    return Path(settings.LIANXIN_BULK_DIR) / str(owner)


def path_of(owner: uuid.UUID | str, stored: str) -> Path:
    """A stored file; its name was made here, never by a client."""
    return folder(owner) / stored


def remove(owner: uuid.UUID | str) -> None:
    """Delete every file of a job; who has one open may read it to its end."""
    shutil.rmtree(folder(owner), ignore_errors=True)


def sweep(owner: uuid.UUID | str, prefix: str, keep: set[str]) -> None:
    """Delete what a dead worker left: files that begin with ``prefix`` and were never noted."""
    place = folder(owner)
    if place.is_dir():
        for one in place.iterdir():
            if one.name.startswith(prefix) and one.name not in keep:
                one.unlink(missing_ok=True)


class Writer:
    """Writes one file; :meth:`close` makes it durable under its name, :meth:`discard` leaves nothing."""

    def __init__(self, owner: uuid.UUID | str, stored: str) -> None:
        self.stored = stored
        self.count = self.size = self.crc = 0
        self._frames = 0
        self._lines: list[bytes] = []
        self._pending = 0
        place = folder(owner)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path, self._draft = place / stored, place / f"{stored}.{uuid.uuid4().hex}.draft"
        self._id = os.urandom(16)
        self._file: BinaryIO = open(self._draft, "xb")  # noqa: SIM115 - closed by close() or discard()
        os.chmod(self._draft, 0o600)
        self._file.write(_HEAD.pack(_MARK, self._id))

    def write(self, line: bytes) -> None:
        """Add one line (without its line feed)."""
        self._lines.append(line)
        self.count += 1
        self._pending += len(line) + 1
        if self._pending >= FRAME:
            self._flush()

    def _flush(self) -> None:
        if not self._lines:
            return
        plain = b"\n".join(self._lines) + b"\n"
        packer = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        run = packer.compress(plain) + packer.flush(zlib.Z_FULL_FLUSH)
        nonce = os.urandom(_NONCE)
        box = Cipher(_cipher(), modes.GCM(nonce)).encryptor()
        box.authenticate_additional_data(_bound(self._id, self._frames, len(self._lines), len(plain)))
        sealed = nonce + box.update(run) + box.finalize() + box.tag
        self._file.write(_FRAME.pack(len(sealed), len(self._lines), len(plain)) + sealed)
        self._frames += 1
        self.size += len(plain)
        self.crc = zlib.crc32(plain, self.crc)
        self._lines, self._pending = [], 0

    @property
    def plain_size(self) -> int:
        """Plain bytes so far, those still in memory too."""
        return self.size + self._pending

    def close(self) -> Written:
        """Finish: everything on the disk, then the file under its name, then the name on the disk."""
        self._flush()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._draft, self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return Written(self.stored, self.count, self.size, self.crc)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._draft.unlink(missing_ok=True)


def _bound(file_id: bytes, number: int, lines: int, size: int) -> bytes:
    return file_id + struct.pack(">QII", number, lines, size)


def open_file(path: Path) -> BinaryIO:
    """Open a stored file for :func:`frames`; FileNotFoundError when it is gone."""
    return open(path, "rb")


def frames(file: BinaryIO, offset: int = 0, number: int = 0) -> Iterator[Frame]:
    """Frames from ``offset`` (0: the first), whose number is ``number``; raises :class:`Damaged`."""
    file.seek(0)
    head = file.read(_HEAD.size)
    if len(head) != _HEAD.size or head[:8] != _MARK:
        raise Damaged("not a bulk file")
    file_id = head[8:]
    place = offset or _HEAD.size
    file.seek(place)
    while True:
        start = file.read(_FRAME.size)
        if not start:
            return
        if len(start) != _FRAME.size:
            raise Damaged("the file is cut off")
        length, count, size = _FRAME.unpack(start)
        sealed = file.read(length)
        if len(sealed) != length or length < _NONCE + _TAG:
            raise Damaged("the file is cut off")
        box = Cipher(_cipher(), modes.GCM(sealed[:_NONCE], sealed[-_TAG:])).decryptor()
        box.authenticate_additional_data(_bound(file_id, number, count, size))
        try:
            run = box.update(sealed[_NONCE:-_TAG]) + box.finalize()
        except InvalidTag:
            raise Damaged("the file was altered, or sealed under another root secret") from None
        place += _FRAME.size + length
        number += 1
        yield Frame(run, count, size, place)


def lines(file: BinaryIO) -> Iterator[bytes]:
    """The plain text, a frame at a time."""
    for frame in frames(file):
        yield frame.plain


def gzipped(file: BinaryIO, crc: int, size: int) -> Iterator[bytes]:
    """The same as one gzip member, without compressing anew."""
    yield GZIP_HEAD
    for frame in frames(file):
        yield frame.run
    yield DEFLATE_END + struct.pack("<II", crc & 0xFFFFFFFF, size & 0xFFFFFFFF)
