"""What is delivered of an instance: the file as received, or with its header corrected when it was attached by hand.

A correction rewrites whose it is (name, number, birth date, sex, accession number) and, where the received UIDs belong to somebody else,
the UIDs. Nothing else changes, the pixels are never touched, and the received file stays as it is.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lianxin.regional.archive import header, query, store, text, walk
from lianxin.regional.archive.models import Instance
from lianxin.regional.archive.store import Full
from lianxin.regional.archive.walk import Walk

CHUNK = 512 * 1024
Corrections = dict[int, tuple[bytes, str | None]]
"""Tag -> VR and the corrected value; None takes the element away."""


def corrections(instance: Instance) -> Corrections:
    """What is corrected in the header of an instance (with its study, series and person)."""
    study = instance.study
    made: Corrections = {}
    if study.coerced and study.person is not None:
        person = study.person
        made = {
            0x00080050: (b"SH", study.accession),
            0x00100010: (b"PN", query.patient_name(person)),
            0x00100020: (b"LO", person.number),
            0x00100021: (b"LO", None), 0x00100024: (b"SQ", None),
            0x00100030: (b"DA", f"{person.birth_date:%Y%m%d}" if person.birth_date else ""),
            0x00100040: (b"CS", query.SEX.get(person.sex, "")),
            0x00101000: (b"LO", None), 0x00101001: (b"PN", None), 0x00101002: (b"SQ", None), 0x00101005: (b"PN", None),
            0x00101040: (b"LO", None), 0x00102154: (b"SH", None), 0x00102155: (b"LT", None),
        }  # fmt: skip
    for tag, uid, sent in (
        (0x00080018, instance.sop_uid, instance.sent_uid),
        (0x0020000D, study.study_uid, study.sent_uid),
        (0x0020000E, instance.series.uid, instance.series.sent_uid),
    ):
        if uid != sent:
            made[tag] = (b"UI", uid)
    return made


@dataclass
class Delivered:
    """A DICOM file to be sent: ``head`` (bytes), then the rest of the received file from ``tail`` on."""

    instance: Instance
    head: bytes = b""
    tail: int = 0
    size: int = 0
    whole: bytes | None = field(default=None)

    def chunks(self) -> Iterator[bytes]:
        """The file in pieces. Raises Full when it cannot be had."""
        if self.whole is not None:
            yield self.whole
            return
        if self.head:
            yield self.head
        path = store.local(self.instance.path)
        if path is None:
            with store.opened(self.instance.path) as data:
                for at in range(self.tail, len(data), CHUNK):
                    yield data[at : at + CHUNK]
            return
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Full(f"{self.instance.path}: {error.strerror}") from error
        try:
            if self.tail:
                os.lseek(handle, self.tail, os.SEEK_SET)
            while chunk := os.read(handle, CHUNK):
                yield chunk
        finally:
            os.close(handle)


def delivered(instance: Instance) -> Delivered:
    """An instance as it is delivered. Raises Full when its file cannot be had."""
    wanted = corrections(instance)
    if not wanted:
        size = instance.offset + instance.size
        if store.local(instance.path) is None:
            with store.opened(instance.path) as data:
                size = len(data)
        return Delivered(instance, size=size)
    with store.opened(instance.path) as data:
        return _corrected(instance, data, wanted)


def _corrected(instance: Instance, data: Any, wanted: Corrections) -> Delivered:
    syntax, at = header.meta(data, len(data))
    head = _meta(data, at, wanted)
    if syntax == walk.DEFLATED:
        with memoryview(data) as view, view[at:] as part:
            inner = walk.inflated(part)
        begin, tail = corrected(inner, syntax, wanted)
        box = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        body = box.compress(begin) + box.compress(inner[tail:]) + box.flush()
        body += b"\0" * (len(body) & 1)
        return Delivered(instance, size=len(head) + len(body), whole=head + body)
    with memoryview(data) as view, view[at:] as part:
        begin, tail = corrected(part, syntax, wanted)
    return Delivered(instance, head + begin, at + tail, len(head) + len(begin) + len(data) - at - tail)


def corrected(data: Any, syntax: str, wanted: Corrections) -> tuple[bytes, int]:
    """The corrected beginning of a data set, and where the rest goes on unchanged."""
    kind = walk.syntax_of(syntax, data)
    last = max(wanted)
    out: list[bytes] = []
    left = sorted(wanted)
    declared, copied, tail = "", 0, len(data)

    def emit(until: int) -> None:
        while left and left[0] < until:
            tag = left.pop(0)
            vr, value = wanted[tag]
            if value is not None:
                out.append(_element(tag, vr, _encoded(tag, value, declared), kind))

    for element in Walk(data, kind).elements():
        if element.tag == 0x00080005:
            declared = bytes(data[element.value : element.stop]).decode("ascii", "replace").strip("\0 ")
        if element.tag > last:
            out.append(bytes(data[copied : element.start]))
            copied = tail = element.start
            break
        drop = element.tag in wanted or (
            element.tag & 0xFFFF == 0 and element.tag >> 16 in (0x08, 0x10, 0x20)
        )
        if drop or (left and left[0] < element.tag):
            out.append(bytes(data[copied : element.start]))
            copied = element.start
            emit(element.tag + (1 if element.tag in wanted else 0))
            if drop:
                copied = element.end
    else:
        out.append(bytes(data[copied:]))
    emit(1 << 32)
    return b"".join(out), tail


def _encoded(tag: int, value: str, declared: str) -> bytes:
    if tag != 0x00100010:
        return value.encode("ascii", "replace")
    found = text.encoded(value, declared)
    if found is not None:
        return found
    latin = value.split("=")[0]
    return (latin or "?").encode("ascii", "replace")


def _element(tag: int, vr: bytes, value: bytes, kind: walk.Syntax) -> bytes:
    """An element as bytes, padded to an even length."""
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) & 1)
    order = "<" if kind.little else ">"
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if kind.explicit:
        return head + vr + struct.pack(order + "H", len(value)) + value
    return head + struct.pack(order + "L", len(value)) + value


def _meta(data: Any, at: int, wanted: Corrections) -> bytes:
    """Prefix and meta information with the instance's UID as delivered."""
    if 0x00080018 not in wanted:
        return bytes(data[:at])
    uid = wanted[0x00080018][1] or ""
    kind = walk.Syntax(True, True)
    out = []
    where = 132
    walker = Walk(data, kind, at)
    while where < at:
        element = next(walker.elements(where))
        where = element.end
        if element.tag == 0x00020000:
            continue
        out.append(
            _element(0x00020003, b"UI", uid.encode(), kind)
            if element.tag == 0x00020003
            else bytes(data[element.start : element.end])
        )
    rest = b"".join(out)
    return (
        bytes(data[:132]) + b"\x02\0\0\0UL\x04\0" + struct.pack("<L", len(rest)) + rest
    )  # group length (0002,0000)


@contextlib.contextmanager
def buffer(instance: Instance) -> Iterator[Any]:
    """An instance as received, mapped (for pixels, which no correction touches). Raises Full."""
    with store.opened(instance.path) as data:
        yield data
