"""Files of documents: single ones, folders and ZIP archives, each document's bytes as they are. Archives are opened within limits."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lianxin.exchange.feeds.errors import Refusal
from lianxin.standards.text import T

MOST_BYTES = 20 * 1024 * 1024
"""Of one document."""
MOST_FILES = 2000
"""Documents of one archive."""
MOST_UNPACKED = 400 * 1024 * 1024
"""Of all documents of an archive together."""
MOST_RATIO = 300
"""How far one file may swell; XML packs 10 to 40 times smaller."""
FREE = 1024 * 1024
"""Bytes up to which swelling is no matter."""
ZIP = b"PK\x03\x04"
SKIPPED = ("__macosx/", ".ds_store", "thumbs.db")


@dataclass(frozen=True)
class Named:
    """One document's bytes and what its file is called; ``failure`` when it could not be had."""

    name: str
    body: bytes
    failure: Refusal | None = None


def is_zip(data: bytes) -> bool:
    """Whether these bytes begin as a ZIP archive."""
    return data[:4] == ZIP


def too_large() -> Refusal:
    """A document is beyond the limit."""
    return Refusal(
        "too-long",
        T(
            "文档超过 {n} MB，未受理；请拆分或压缩其中的影像附件后重发。",
            "The document is larger than {n} MB and was not taken; send its images apart or smaller.",
        ).format(n=MOST_BYTES >> 20),
    )


def unpack(data: bytes, name: str = "") -> list[Named]:
    """The documents of an archive, in its order. Raises :class:`Refusal` for one that is damaged, locked or a bomb."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return list(_members(archive, name))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError):
        raise Refusal(
            "structure",
            T(
                "压缩包已损坏、加了密码或压缩方式不支持，请重新打包（ZIP，不加密）。",
                "The archive is damaged, locked, or packed in a way not supported; pack it again (ZIP, no password).",
            ),
        ) from None


def _members(archive: zipfile.ZipFile, name: str) -> Iterator[Named]:
    wanted = [i for i in archive.infolist() if not i.is_dir() and not _skipped(i.filename)]
    if len(wanted) > MOST_FILES or sum(i.file_size for i in wanted) > MOST_UNPACKED:
        raise _bomb()
    left = MOST_UNPACKED
    for one in wanted:
        shown = f"{name}/{one.filename}" if name else one.filename
        with archive.open(one) as source:
            body = source.read(MOST_BYTES + 1)
        left -= len(body)
        if left < 0 or (len(body) > FREE and len(body) > MOST_RATIO * max(one.compress_size, 1)):
            raise _bomb()
        yield Named(shown, body[:MOST_BYTES], too_large() if len(body) > MOST_BYTES else None)


def _skipped(name: str) -> bool:
    lower = name.lower()
    return lower.startswith(SKIPPED[0]) or lower.rpartition("/")[2] in SKIPPED[1:]


def _bomb() -> Refusal:
    return Refusal(
        "too-costly",
        T(
            "压缩包解开后过大或文件过多（最多 {n} 份、共 {m} MB），未受理。",
            "The archive unpacks to too much (at most {n} documents, {m} MB in all) and was not taken.",
        ).format(n=MOST_FILES, m=MOST_UNPACKED >> 20),
    )


def of_paths(paths: Sequence[Path]) -> Iterator[Named]:
    """Every document below ``paths`` (files, folders, archives), by name; what cannot be read comes with its reason."""
    for path in paths:
        for one in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            try:
                with one.open("rb") as source:
                    head = source.read(4)
                    if is_zip(head):
                        yield from unpack(head + source.read(MOST_UNPACKED), one.name)
                        continue
                    body = head + source.read(MOST_BYTES)
            except Refusal as failure:
                yield Named(one.name, b"", failure)
                continue
            yield Named(one.name, body[:MOST_BYTES], too_large() if len(body) > MOST_BYTES else None)
