"""Received, and safe: what is acknowledged is in a durable file before the answer leaves, whatever happens to this process or the index.

Each process has its own folder under ``spool`` and holds a lock on it while it lives. A file is written as ``….part``, synced, and
named ``….dcm`` (and the folder synced): from then on it is acknowledged. The index takes it from there (``taking``) and the name goes
when its rows are committed. Folders whose process is gone are adopted by the ticker and by a listener that starts; what was indexed
already is found by its hash and is not counted twice. A ``….part`` that nobody holds was never acknowledged and is deleted.

The name says what the header cannot: when it came (nanoseconds), how, from which institution and device.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import fcntl
import hashlib
import itertools
import logging
import mmap
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from lianxin.regional.archive import header, store
from lianxin.regional.archive.header import Facts
from lianxin.regional.archive.store import Full
from lianxin.regional.archive.walk import Damaged
from lianxin.standards import clock

log = logging.getLogger(__name__)

IN_MEMORY = 1024 * 1024
"""Bytes of one instance that are kept in memory; what is larger goes to the disk as it comes."""
AT_ONCE = 64


@dataclass(frozen=True)
class Sender:
    """Who sent something: an institution, by one of its devices or another way (``models.SOURCES``)."""

    institution_id: int
    device_id: int | None = None
    source: str = "dicom"


@dataclass
class Arrived:
    """A durable file that waits to be indexed."""

    path: str
    facts: Facts
    hash: bytes
    sender: Sender
    received_at: dt.datetime


class Spool:
    """This process's folder."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.root = store.root()
        self.folder = self.root / "spool" / f"{self.pid}-{time.time_ns()}"
        store.make(self.folder)
        try:
            unseen = self.folder / "lock.new"
            self.lock = os.open(unseen, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self.lock, fcntl.LOCK_EX)
            unseen.rename(self.folder / "lock")  # locked before an adopter can see it
            self.handle = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Full(str(error)) from error
        self.serial = itertools.count(1)

    def name(self) -> str:
        """A name nobody has."""
        return f"{time.time_ns()}-{next(self.serial)}"


_spool: Spool | None = None
_guard = threading.Lock()


def mine() -> Spool:
    """This process's folder, made when first asked for. Raises Full."""
    global _spool
    with _guard:
        if (
            _spool is None
            or _spool.pid != os.getpid()
            or _spool.root != store.root()
            or not _spool.folder.exists()
        ):
            _spool = Spool()
        return _spool


class Incoming:
    """One instance while it comes in: in memory while small, then on the disk.

    ``head`` is what is put before the data set (DICOM prefix and meta information); without it what comes is a whole DICOM file.
    Trouble with the disk is kept until :meth:`keep`, so that the rest of a stream can be read and thrown away.
    """

    def __init__(self, head: bytes = b"", most: int | None = None) -> None:
        self.head = head
        self.most = settings.LIANXIN_ARCHIVE_MOST_BYTES if most is None else most
        self.size = 0
        self.trouble: Exception | None = None
        self._parts: list[bytes] = []
        self._file: int | None = None
        self._path: Path | None = None
        self._spool: Spool | None = None

    def write(self, data: bytes) -> None:
        """Take more."""
        self.size += len(data)
        if self.trouble is not None:
            return
        if self.size > self.most:
            self.trouble = Full(f"larger than {self.most} bytes")
            self.drop()
            return
        self._parts.append(data)
        if self._file is None and self.size <= IN_MEMORY:
            return
        try:
            if self._file is None:
                store.demand_space(self.size)
                self._open()
            self._pour()
        except (OSError, Full) as error:
            self.trouble = error
            self.drop()

    def _open(self) -> None:
        self._spool = mine()
        self._path = self._spool.folder / f"{self._spool.name()}.part"
        self._file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        if self.head:
            _write(self._file, self.head)

    def _pour(self) -> None:
        assert self._file is not None
        _write(self._file, b"".join(self._parts))
        self._parts.clear()

    def examine(self, syntax: str = "") -> tuple[Facts, bytes]:
        """The header and the hash of the data set. ``syntax``: its transfer syntax when it is not in a file. Raises Damaged, Full."""
        if self.trouble is not None:
            raise self.trouble if isinstance(self.trouble, Full) else Full(str(self.trouble))
        if self.size == 0:
            raise Damaged("no data")
        if self._file is None:
            return _examined(b"".join(self._parts), syntax, 0, len(self.head))
        with mmap.mmap(self._file, 0, access=mmap.ACCESS_READ) as data:
            return _examined(data, syntax, len(self.head), len(self.head))

    def keep(self, facts: Facts, digest: bytes, sender: Sender) -> Arrived:
        """Make it durable; when this returns it may be acknowledged. Raises Full: nothing was kept."""
        try:
            if self._file is None:
                store.demand_space(self.size)
                self._open()
            self._pour()
            assert self._file is not None
            assert self._path is not None
            assert self._spool is not None
            os.fsync(self._file)
            os.close(self._file)
            self._file = None
            name = self._path.stem
            final = (
                self._path.parent
                / f"{name}-{sender.source}-{sender.institution_id}-{sender.device_id or 0}.dcm"
            )
            os.rename(self._path, final)
            os.fsync(self._spool.handle)
            self._path = None
        except OSError as error:
            self.drop()
            if error.errno not in store.REFUSING:
                raise
            raise Full(f"{error.strerror}") from error
        except Full:
            self.drop()
            raise
        return Arrived(str(final), facts, digest, sender, clock.now())

    def drop(self) -> None:
        """Forget it: nothing of it stays."""
        self._parts.clear()
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._path = None


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        done = os.write(file, view)
        if done == 0:
            raise OSError(errno.ENOSPC, "nothing could be written")
        view = view[done:]


def _examined(data: Any, syntax: str, at: int, head: int) -> tuple[Facts, bytes]:
    """Facts and hash of a data set that begins at ``at`` (a whole DICOM file when ``syntax`` is not known)."""
    if not syntax:
        syntax, at = header.meta(data, len(data))
        head = at
    with memoryview(data) as view, view[at:] as part:
        facts = header.read(part, syntax)
        digest = hashlib.sha256(part).digest()
        facts.size = len(part)
    facts.offset = head
    return facts, digest


def found(path: Path) -> Arrived | None:
    """What a name in the spool says; None for a name that is none of ours. Raises Damaged, OSError."""
    try:
        at, _, source, institution, device = path.stem.split("-")
        sender = Sender(int(institution), int(device) or None, source)
        received = dt.datetime.fromtimestamp(int(at) / 1e9, clock.ZONE)
    except ValueError:
        return None
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        facts, digest = _examined(data, "", 0, 0)
    return Arrived(str(path), facts, digest, sender, received)


def adopt() -> int:
    """Index what processes that are gone had acknowledged; returns how many files. Periodic, and when a listener starts."""
    top = store.root() / "spool"
    if not top.is_dir():
        return 0
    done = 0
    for folder in sorted(top.iterdir()):
        if _spool is not None and _spool.folder == folder:
            continue
        try:
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # just being made, or removed by another adopter
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # its process lives
        else:
            done += _adopt(folder)
        finally:
            os.close(lock)
    return done


def _adopt(folder: Path) -> int:
    from lianxin.regional.archive import taking

    done = 0
    for part in folder.glob("*.part"):
        part.unlink(missing_ok=True)
    waiting = sorted(folder.glob("*.dcm"))
    for n in range(0, len(waiting), AT_ONCE):
        batch = []
        for path in waiting[n : n + AT_ONCE]:
            try:
                one = found(path)
            except (Damaged, ValueError) as error:  # the disk's fault: it was whole when it was acknowledged
                log.error("the archive's spool holds a broken file: %s: %s", path, error)
                _set_aside(path)
                continue
            if one is not None:
                batch.append(one)
        taking.take(batch)
        done += len(batch)
    with contextlib.suppress(OSError):
        (folder / "lock").unlink()
        folder.rmdir()
    return done


def _set_aside(path: Path) -> None:
    broken = store.root() / "broken"
    store.make(broken)
    path.rename(broken / path.name)


def forget(batch: Iterable[Arrived]) -> None:
    """Take files out of the spool that were never acknowledged."""
    for one in batch:
        with contextlib.suppress(OSError):
            os.unlink(one.path)


def waiting() -> int:
    """How many acknowledged files are not indexed yet."""
    top = store.root() / "spool"
    return sum(1 for folder in top.iterdir() for _ in folder.glob("*.dcm")) if top.is_dir() else 0
