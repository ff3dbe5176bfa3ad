"""MLLP frames out of a stream of bytes, and single messages out of a batch file.

A frame is VT, the message, FS, CR.  What comes between frames is dropped; a frame that begins anew before it has ended was cut
off, and one that grows past the limit is given up: both are told, and reading goes on with the next.  Large frames of all
connections together share a :class:`Budget`, so that many of them at once cannot take the machine's memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

START, END = b"\x0b", b"\x1c"
_MESSAGE = re.compile(rb"(?:^|[\r\n])(?=MSH[^A-Za-z0-9\s])")
_WRAPPING = re.compile(rb"(?:^|[\r\n])(?:FHS|BHS|BTS|FTS)[^\r\n]*")


KEPT = 4096
"""Bytes kept of a frame that was given up."""
SMALL = 256 * 1024
"""Bytes of a frame that are always had; more is asked of the budget, a step at a time."""
STEP = 1024 * 1024


@dataclass(frozen=True)
class Frame:
    """A frame's content.

    ``fault``: "cut" (a new one began, or the connection ended, before it did), "long" (past the limit) or "full" (too many large
    ones at once); of the last two only the beginning is kept.  ``weight``: bytes of the budget that are to be given back.
    """

    data: bytes
    fault: str = ""
    weight: int = 0


class Budget:
    """Bytes that large frames may take together."""

    def __init__(self, most: int) -> None:
        self.left = most

    def take(self, size: int) -> bool:
        """Have ``size`` bytes, or not."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def give(self, size: int) -> None:
        """Give them back."""
        self.left += size


def wrap(data: bytes) -> bytes:
    """A message as a frame."""
    return START + data + END + b"\r"


class Frames:
    """Cuts a stream into frames; ``feed`` it what arrives."""

    def __init__(self, most: int, budget: Budget | None = None) -> None:
        self.most, self.budget = most, budget or Budget(1 << 62)
        self.junk = 0  # bytes between frames since the last one
        self._held = bytearray()
        self._inside = False
        self._skipping = False
        self._seen = 0
        self._weight = 0

    @property
    def open(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._inside

    def feed(self, data: bytes) -> list[Frame]:
        """Frames that are complete (or given up) with ``data``."""
        out: list[Frame] = []
        held = self._held
        held += data
        while True:
            if not self._inside:
                at = held.find(START)
                if at < 0:
                    self.junk += len(held)
                    held.clear()
                    return out
                self.junk = 0
                del held[: at + 1]
                self._inside, self._skipping, self._seen = True, False, 0
            end, again = held.find(END, self._seen), held.find(START, self._seen)
            if again >= 0 and (end < 0 or again < end):
                if not self._skipping:
                    out.append(self._whole(again, "cut"))
                del held[: again + 1]
                self._skipping, self._seen = False, 0
                continue
            if end < 0:
                self._seen = len(held)
                if not self._skipping and (fault := self._beyond()):
                    out.append(self._given_up(fault))
                if self._skipping:
                    held.clear()
                    self._seen = 0
                return out
            if not self._skipping:
                out.append(self._given_up("long") if end > self.most else self._whole(end))
            del held[: end + 1]
            self._inside = False

    def rest(self) -> Frame | None:
        """What there is of a frame whose connection has ended."""
        found = self._whole(len(self._held), "cut") if self._inside and not self._skipping else None
        self._inside = False
        self._held.clear()
        return found if found and found.data else None

    def _whole(self, end: int, fault: str = "") -> Frame:
        weight, self._weight = self._weight, 0
        return Frame(bytes(memoryview(self._held)[:end]), fault, weight)

    def _beyond(self) -> str:
        size = len(self._held)
        if size > self.most:
            return "long"
        while size > SMALL + self._weight:
            if not self.budget.take(STEP):
                return "full"
            self._weight += STEP
        return ""

    def _given_up(self, fault: str) -> Frame:
        self._skipping = True
        self.budget.give(self._weight)
        self._weight = 0
        return Frame(bytes(self._held[:KEPT]), fault)


def messages(data: bytes) -> Iterator[bytes]:
    """The messages of a batch file: frames of MLLP, FHS/BHS … BTS/FTS around them, or messages one after the other."""
    if START in data:
        for frame in Frames(len(data)).feed(data):
            yield frame.data
        return
    plain = _WRAPPING.sub(b"", data)
    starts = [m.end() for m in _MESSAGE.finditer(plain)]
    if not starts and plain.strip():
        yield plain
    for at, begin in enumerate(starts):
        yield plain[begin : starts[at + 1] if at + 1 < len(starts) else None]
