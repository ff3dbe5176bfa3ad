"""Walking a DICOM data set without loading it: where every element is, checked to the last byte.

A walk looks at element headers only, over anything with the buffer protocol (a mapped file), and never recurses deeper than
:data:`DEEPEST`: lengths beyond the end, sequences without end, and nesting without bottom are :class:`Damaged`, said of the place.
Source: DICOM PS3.5 chapter 7 (data elements, sequences, encapsulated fragments), annex A (transfer syntaxes).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"

DEEPEST = 32
MOST_ELEMENTS = 200_000
MOST_INFLATED = 256 * 1024 * 1024
UNDEFINED = 0xFFFFFFFF
PIXELS = 0x7FE00010
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
LONG = frozenset([b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"])
SHORT = frozenset(
    [b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI",
     b"UL", b"US"]
)  # fmt: skip


class Damaged(ValueError):
    """The bytes are no whole DICOM data set."""


class Element(NamedTuple):
    """An element: its tag, VR ("" when the syntax does not say), where it begins, where its value begins and ends, and whether its
    length is undefined (``end`` is then after the delimiter, ``stop`` before it)."""

    tag: int
    vr: bytes
    start: int
    value: int
    stop: int
    end: int
    undefined: bool


class Syntax(NamedTuple):
    """How elements are written."""

    explicit: bool
    little: bool


def syntax_of(uid: str, data: Any = b"") -> Syntax:
    """How a transfer syntax writes elements (a deflated one after inflating).

    ``data``: the data set. Some writers say explicit and write implicit, or the other way round: the first element tells.
    """
    vr = bytes(data[4:6])
    explicit = uid != IMPLICIT
    if len(vr) == 2 and uid != BIG_ENDIAN:
        explicit = vr in SHORT or vr in LONG
    return Syntax(explicit, uid != BIG_ENDIAN)


class Walk:
    """A walk over one data set. ``counted`` guards against millions of empty elements."""

    def __init__(self, data: Any, syntax: Syntax, size: int | None = None) -> None:
        self.data, self.syntax = data, syntax
        self.size = len(data) if size is None else size
        order = "<" if syntax.little else ">"
        self._head = struct.Struct(order + "HH").unpack_from
        self._short = struct.Struct(order + "H").unpack_from
        self._long = struct.Struct(order + "L").unpack_from
        self.counted = 0

    def elements(self, at: int = 0, until: int | None = None, depth: int = 0) -> Iterator[Element]:
        """Elements from ``at`` to ``until`` (the end); in an item of undefined length up to its delimiter, which is not given."""
        until = self.size if until is None else until
        head, short, long, data, explicit = (
            self._head,
            self._short,
            self._long,
            self.data,
            self.syntax.explicit,
        )
        while at < until:
            if at + 8 > until:
                if not any(
                    data[at:until]
                ):  # bytes of nothing after the last element: some writers pad their files
                    return
                raise Damaged(f"data end within an element at byte {at}")
            group, number = head(data, at)
            tag = group << 16 | number
            start = at
            self.counted += 1
            if self.counted > MOST_ELEMENTS:
                raise Damaged("too many elements")
            if group == 0xFFFE:
                if depth and tag in (ITEM_END, SEQUENCE_END):
                    return
                raise Damaged(f"a delimiter without its sequence at byte {at}")
            vr = b""
            if explicit:
                vr = bytes(data[at + 4 : at + 6])
                if vr in SHORT:
                    length = short(data, at + 6)[0]
                    at += 8
                elif vr in LONG:
                    if at + 12 > until:
                        raise Damaged(f"data end within an element at byte {at}")
                    length = long(data, at + 8)[0]
                    at += 12
                elif tag == 0 and not any(data[at:until]):
                    return
                else:
                    vr, length, at = self._strange(vr, at, until)
            else:
                length = long(data, at + 4)[0]
                at += 8
                if tag == 0 and length == 0 and not any(data[start:until]):
                    return
            if length != UNDEFINED:
                end = at + length
                if end > until:
                    raise Damaged(f"element {tag:08X} at byte {start} is longer than the data")
                yield Element(tag, vr, start, at, end, end, False)
            else:
                if (tag == PIXELS and vr != b"SQ") or vr in (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV"):
                    stop, end = self._fragments(at, until)
                else:
                    stop, end = self._sequence(at, until, depth + 1, vr == b"UN")
                yield Element(tag, vr, start, at, stop, end, True)
            at = end

    def _strange(self, vr: bytes, at: int, until: int) -> tuple[bytes, int, int]:
        """A VR that is none: a newer one has a long length (PS3.5 7.1.2); anything that is no two letters is damage."""
        if not (len(vr) == 2 and vr.isalpha() and vr.isupper()):
            raise Damaged(f"no value representation at byte {at}")
        if at + 12 > until or bytes(self.data[at + 6 : at + 8]) != b"\0\0":
            return b"UN", self._short(self.data, at + 6)[0], at + 8
        return b"UN", self._long(self.data, at + 8)[0], at + 12

    def _fragments(self, at: int, until: int) -> tuple[int, int]:
        """Where encapsulated fragments end: before and after their delimiter."""
        while True:
            if at + 8 > until:
                raise Damaged("encapsulated pixel data have no end")
            group, number = self._head(self.data, at)
            length = self._long(self.data, at + 4)[0]
            tag = group << 16 | number
            if tag == SEQUENCE_END:
                return at, at + 8
            self.counted += 1
            if tag != ITEM or length == UNDEFINED or at + 8 + length > until or self.counted > MOST_ELEMENTS:
                raise Damaged(f"a fragment at byte {at} is broken")
            at += 8 + length

    def items(
        self, at: int, until: int, depth: int = 1, unknown: bool = False
    ) -> Iterator[tuple[int, int, int]]:
        """Items of a sequence as (value, stop, end); a sequence of undefined length ends before ``until``."""
        if depth > DEEPEST:
            raise Damaged("sequences are nested too deeply")
        while at < until:
            if at + 8 > until:
                raise Damaged(f"a sequence ends within an item at byte {at}")
            group, number = self._head(self.data, at)
            length = self._long(self.data, at + 4)[0]
            tag = group << 16 | number
            if tag == SEQUENCE_END:
                return
            self.counted += 1
            if tag != ITEM or self.counted > MOST_ELEMENTS:
                raise Damaged(f"no item where one should be at byte {at}")
            if length == UNDEFINED:
                stop = self._item(at + 8, until, depth, unknown)
                yield at + 8, stop, stop + 8
                at = stop + 8
            else:
                if at + 8 + length > until:
                    raise Damaged(f"an item at byte {at} is longer than the data")
                yield at + 8, at + 8 + length, at + 8 + length
                at += 8 + length

    def _item(self, at: int, until: int, depth: int, unknown: bool) -> int:
        """Where an item of undefined length stops: at its delimiter."""
        inner = self if not unknown else self._implicit()
        end = at
        for element in inner.elements(at, until, depth):
            end = element.end
        self.counted = max(self.counted, inner.counted)
        if end + 8 > until or self._head(self.data, end) != (0xFFFE, 0xE00D):
            raise Damaged(f"an item at byte {at} has no end")
        return end

    def _sequence(self, at: int, until: int, depth: int, unknown: bool) -> tuple[int, int]:
        """Where a sequence of undefined length ends: before and after its delimiter. ``unknown``: VR UN, hence implicit inside."""
        end = at
        for _, _, end in self.items(at, until, depth, unknown):  # noqa: B007 - the last end is wanted
            pass
        if end + 8 > until or self._head(self.data, end) != (0xFFFE, 0xE0DD):
            raise Damaged(f"a sequence at byte {at} has no end")
        return end, end + 8

    def _implicit(self) -> Walk:
        inner = Walk(self.data, Syntax(False, True), self.size)
        inner.counted = self.counted
        return inner


def inflated(data: Any, most: int = MOST_INFLATED) -> bytes:
    """The data set of a deflated transfer syntax (PS3.5 A.5); Damaged when it is broken or would not fit ``most`` bytes."""
    box = zlib.decompressobj(-zlib.MAX_WBITS)
    parts: list[bytes] = []
    size = 0
    try:
        left: Any = data
        while not box.eof:
            part = box.decompress(left, min(4 * 1024 * 1024, most - size + 1))
            size += len(part)
            if size > most:
                raise Damaged("inflates to more than may be")
            parts.append(part)
            left = box.unconsumed_tail
            if not left and not part:
                break
    except zlib.error as error:
        raise Damaged(f"does not inflate: {error}") from error
    if not box.eof:
        raise Damaged("the deflated data are cut off")
    return b"".join(parts)
