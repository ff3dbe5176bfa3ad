"""Where the files are: a folder of ours, and a real Orthanc behind it when one is configured.

Everything is kept in ``settings.LIANXIN_ARCHIVE_DIR`` first, so an Orthanc that is away holds nobody up::

    spool/<pid>-<start>/…     received, being indexed (see ``spool``)
    files/ab/cd/<sha256>.dcm  the study's folder (two levels of a hash of its UID), the data set's hash
    cache/…                   thumbnails, may be deleted at any time

Paths are made of hashes alone; nothing a sender writes becomes part of one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings

REFUSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EMFILE, errno.ENFILE, errno.EFBIG})  # fmt: skip
"""Troubles of the disk that are answered with "out of resources": they pass, and the sender is to try again."""


class Full(Exception):
    """The archive cannot take anything now (disk full, read-only or gone): nothing was stored."""


def root() -> Path:
    """The archive's folder."""
    return Path(settings.LIANXIN_ARCHIVE_DIR)


def free() -> int:
    """Bytes that may still be stored: free space less the reserve that is kept. Raises Full when the folder is gone."""
    try:
        usage = shutil.disk_usage(_existing(root()))
    except OSError as error:
        raise Full(str(error)) from error
    return usage.free - settings.LIANXIN_ARCHIVE_RESERVE


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def demand_space(size: int = 0) -> None:
    """Raise Full unless ``size`` bytes and the reserve fit."""
    if free() < size:
        raise Full("the disk of the archive is full")


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def folder_of(study_uid: str) -> str:
    """The two-level folder of a study, relative to the archive."""
    found = hashlib.sha256(study_uid.encode()).hexdigest()
    return f"files/{found[:2]}/{found[2:4]}"


def place(wanted: Iterable[tuple[str, str, bytes]]) -> list[str]:
    """Give received files (path, study UID, hash) their lasting name beside the one in the spool; returns the relative paths.

    When it returns the names are durable. Files whose content is there already stay as they are. Raises Full.
    """
    base, paths, folders = root(), [], set()
    try:
        for source, study_uid, digest in wanted:
            folder = folder_of(study_uid)
            relative = f"{folder}/{digest.hex()}.dcm"
            target = base / relative
            paths.append(relative)
            folders.add(target.parent)
            try:
                os.link(source, target)
            except FileExistsError:
                continue
            except FileNotFoundError:
                _make(target.parent)
                with contextlib.suppress(FileExistsError):
                    os.link(source, target)
        for one in folders:
            sync_folder(one)
    except OSError as error:
        raise Full(str(error)) from error
    return paths


def _make(folder: Path) -> None:
    """A folder with its parents, each durable in its own."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
        sync_folder(one.parent)


def make(folder: Path) -> None:
    """Make a folder of the archive that lasts. Raises Full."""
    try:
        _make(folder)
    except OSError as error:
        raise Full(str(error)) from error


def local(path: str) -> Path | None:
    """The file of an instance on our own disk; None when Orthanc has it."""
    return None if path.startswith("orthanc:") else root() / path


@contextlib.contextmanager
def opened(path: str) -> Iterator[Any]:
    """An instance's whole file as a buffer, mapped and not loaded. Raises Full when it cannot be had now."""
    found = local(path)
    if found is None:
        from lianxin.regional.archive import orthanc

        with orthanc.fetched(path.removeprefix("orthanc:")) as file, _mapped(file.fileno()) as data:
            yield data
        return
    try:
        handle = os.open(found, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Full(f"{path}: {error.strerror}") from error
    try:
        with _mapped(handle) as data:
            yield data
    finally:
        os.close(handle)


@contextlib.contextmanager
def _mapped(handle: int) -> Iterator[mmap.mmap]:
    data = mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
    try:
        yield data
    finally:
        with contextlib.suppress(BufferError):  # a view that an error still holds: closed with it
            data.close()
