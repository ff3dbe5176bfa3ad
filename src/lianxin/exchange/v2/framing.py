"""MLLP frames out of a stream of bytes, and single messages out of a batch file.

A frame is VT, the message, FS, CR.  What comes between frames is dropped; a frame that begins anew before it has ended was cut
off, and one that grows past the limit is given up: both are told, and reading goes on with the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

START, END = b"\x0b", b"\x1c"
_MESSAGE = re.compile(rb"(?:^|[\r\n])(?=MSH[^A-Za-z0-9\s])")
_WRAPPING = re.compile(rb"(?:^|[\r\n])(?:FHS|BHS|BTS|FTS)[^\r\n]*")


@dataclass(frozen=True)
class Frame:
    """A frame's content; ``fault``: "cut" (a new one began before it ended) or "long" (past the limit; only its beginning is kept)."""

    data: bytes
    fault: str = ""


def wrap(data: bytes) -> bytes:
    """A message as a frame."""
    return START + data + END + b"\r"


class Frames:
    """Cuts a stream into frames; ``feed`` it what arrives."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._held = bytearray()
        self._inside = False
        self._skipping = False
        self._seen = 0

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
                    held.clear()
                    return out
                del held[: at + 1]
                self._inside, self._skipping, self._seen = True, False, 0
            end, again = held.find(END, self._seen), held.find(START, self._seen)
            if again >= 0 and (end < 0 or again < end):
                if not self._skipping:
                    out.append(Frame(bytes(held[:again]), "cut"))
                del held[: again + 1]
                self._skipping, self._seen = False, 0
                continue
            if end < 0:
                self._seen = len(held)
                if len(held) > self.most:
                    if not self._skipping:
                        out.append(Frame(bytes(held[:4096]), "long"))
                    self._skipping = True
                    held.clear()
                    self._seen = 0
                return out
            if not self._skipping:
                if end > self.most:
                    out.append(Frame(bytes(held[:4096]), "long"))
                else:
                    out.append(Frame(bytes(held[:end])))
            del held[: end + 1]
            self._inside = False


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
