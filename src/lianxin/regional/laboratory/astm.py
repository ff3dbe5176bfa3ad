"""ASTM E1381 (framing) and E1394 / CLSI LIS2-A2 (records): a device's results in, its questions answered.

:class:`Link` is the low level as a state machine without a socket: bytes in, bytes out, whole messages to :attr:`Link.messages`. Frames are
``<STX> n text <ETX|ETB> checksum <CR><LF>``; a wrong checksum, number or shape is refused with NAK, a frame sent again is taken once.
:func:`read` understands H, P, O, R, Q, L records by the delimiters the header names; :func:`answer` writes the orders of a host query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

STX, ETX, EOT, ENQ, ACK, NAK, ETB, CR, LF = 0x02, 0x03, 0x04, 0x05, 0x06, 0x15, 0x17, 0x0D, 0x0A
MOST = 4 << 20
"""Bytes of one message: beyond it the sender is refused."""
TEXT = 240
"""Characters of one frame that we send (E1381 6.3.1.2)."""


def checksum(body: bytes) -> bytes:
    """Two hexadecimal digits: the sum of frame number, text and ETX or ETB modulo 256."""
    return b"%02X" % (sum(body) % 256)


def frame(number: int, text: bytes, last: bool) -> bytes:
    """One frame."""
    body = b"%d" % (number % 8) + text + bytes([ETX if last else ETB])
    return bytes([STX]) + body + checksum(body) + b"\r\n"


def frames(message: bytes) -> list[bytes]:
    """A message as its frames, numbered from 1: one record a frame, records that are long in pieces."""
    pieces: list[tuple[bytes, bool]] = []
    for record in message.split(b"\r"):
        if not record:
            continue
        whole = record + b"\r"
        parts = [whole[i : i + TEXT] for i in range(0, len(whole), TEXT)]
        pieces += [(part, n == len(parts) - 1) for n, part in enumerate(parts)]
    return [frame(n, text, last) for n, (text, last) in enumerate(pieces, 1)]


@dataclass
class Link:
    """The receiving and the sending end of a line.

    ``feed`` takes bytes and gives what is to be sent back. Messages that are whole are in ``messages``; ``send`` puts a message in line,
    which goes out when the line is free (after the device's EOT). On contention (both sent ENQ) the device goes first (E1381 6.2.7.1).
    """

    messages: list[bytes] = field(default_factory=list)
    _state: str = "idle"
    _buffer: bytearray = field(default_factory=bytearray)
    _text: bytearray = field(default_factory=bytearray)
    _count: int = 0
    _line: list[bytes] = field(default_factory=list)
    _out: list[bytes] = field(default_factory=list)
    _tries: int = 0

    def send(self, message: bytes) -> bytes:
        """Put a message in line; ENQ when the line is free now."""
        self._line.append(message)
        return self._bid() if self._state == "idle" else b""

    def _bid(self) -> bytes:
        if not self._line:
            return b""
        self._state, self._out, self._tries = "bid", frames(self._line[0]), 0
        return bytes([ENQ])

    def feed(self, data: bytes) -> bytes:
        """Take bytes as they come, however they were cut; what is to be answered."""
        self._buffer += data
        out = bytearray()
        while self._buffer:
            if self._state in ("bid", "sending"):
                out += self._answered(self._buffer.pop(0))
            elif self._state == "idle":
                if self._buffer.pop(0) == ENQ:
                    self._open()
                    out.append(ACK)
            else:
                step = self._receive()
                if step is None:
                    break
                out += step
        return bytes(out)

    def _open(self) -> None:
        self._state, self._count = "receiving", 0
        self._text.clear()

    def _receive(self) -> bytes | None:
        first = self._buffer[0]
        if first == EOT:
            del self._buffer[0]
            self._close()
            return self._bid()
        if first == ENQ:
            del self._buffer[0]
            self._open()  # the device gave up and begins anew
            return bytes([ACK])
        if first != STX:
            del self._buffer[0]
            return b""
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > 64_000:
                self._buffer.clear()
                return bytes([NAK])
            return None
        whole = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return bytes([ACK if self._frame(whole) else NAK])

    def _frame(self, whole: bytes) -> bool:
        body, tail = whole[1:-4], whole[-4:]
        if len(body) < 2 or tail[2:] != b"\r\n" or body[-1] not in (ETX, ETB) or not chr(body[0]).isdigit():
            return False
        if checksum(body) != tail[:2].upper():
            return False
        number = body[0] - 48
        if self._count and number == self._count % 8:
            return True  # our answer was lost: the same frame again
        if number != (self._count + 1) % 8 or len(self._text) + len(body) > MOST:
            return False
        self._count += 1
        self._text += body[1:-1]
        return True

    def _close(self) -> None:
        if self._text:
            text = bytes(self._text)
            records = [r for r in text.split(b"\r") if r.strip()]
            if records and records[-1][:1] == b"L":
                self.messages.append(text)
        self._state = "idle"
        self._text.clear()

    def _answered(self, byte: int) -> bytes:
        if byte == ENQ:  # contention: the device has the line
            self._open()
            return bytes([ACK])
        if byte == ACK and self._state == "bid":
            self._state = "sending"
            return self._out[0] if self._out else self._done()
        if byte in (ACK, EOT):
            self._out.pop(0)
            self._tries = 0
            return self._out[0] if self._out else self._done()
        if byte == NAK:
            self._tries += 1
            if self._tries >= 6:  # E1381 6.5.1.2: six times refused, give up
                return self._done()
            return bytes([ENQ]) if self._state == "bid" else self._out[0]
        return b""

    def _done(self) -> bytes:
        self._line.pop(0)
        self._out, self._state = [], "idle"
        end = bytes([EOT])
        return end + self._bid() if self._line else end


# -------------------------------------------------------------------------------------------------------------- records


@dataclass
class Sample:
    """What a message says of one tube: rows of results (``test``, ``raw``, ``unit``, ``flags``, ``at``) and, if it said, whose it is."""

    number: str
    person: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Said:
    """A whole message: who sent it, results by tube, bar codes that are asked about (with what is asked), records not understood."""

    sender: str = ""
    samples: list[Sample] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Broken(ValueError):
    """A message without a usable header."""


def decode(data: bytes) -> str:
    """Text as devices send it: UTF-8, else GB18030, else Latin-1."""
    for codec in ("utf-8", "gb18030"):
        try:
            return data.decode(codec)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def read(data: bytes) -> Said:
    """Understand a message. Raises :class:`Broken` when it has no header; records that mean nothing are named in ``faults``."""
    records = [r for r in decode(data).replace("\n", "\r").split("\r") if r.strip()]
    if not records or records[0][:1] != "H" or len(records[0]) < 5:
        raise Broken("a message begins with an H record")
    marks = records[0][1:5]
    if len(set(marks)) < 4 or any(c.isalnum() or c.isspace() for c in marks):
        raise Broken("the delimiters of the H record are not usable")
    bar, repeat, part = marks[0], marks[1], marks[2]
    said = Said()
    person, sample = "", None
    for record in records:
        fields = record.split(bar)
        kind = fields[0][:1].upper()

        def one(n: int, c: int = 0, of: list[str] = fields) -> str:
            text = of[n].split(repeat)[0].split(part) if n < len(of) else []
            return _plain(text[c], marks).strip() if c < len(text) else ""

        if kind == "H":
            said.sender = one(4)
        elif kind == "P":
            person, sample = one(2) or one(3), None
        elif kind == "O":
            number = one(2) or one(3)
            sample = Sample(number, person)
            if number:
                said.samples.append(sample)
            else:
                said.faults.append("O record without a sample id")
                sample = None
        elif kind == "R":
            test = (one(2, 3) or one(2)).strip()
            if sample is None or not test:
                said.faults.append("R record outside an order or without a test")
            elif one(8).upper() != "X":  # X: the result cannot be done
                raw = one(3)
                sample.rows.append(
                    {
                        "test": test,
                        "raw": raw,
                        "unit": one(4),
                        "flags": one(6),
                        "at": _moment(one(12) or one(11)),
                    }
                )
        elif kind == "Q":
            said.queries += [q for q in (one(2, 1) or one(2),) if q]
        elif kind not in ("L", "C", "M", "S"):
            said.faults.append(f"record {record[:20]!r} is not understood")
    return said


def _plain(text: str, marks: str) -> str:
    bar, repeat, part, escape = tuple(marks)
    if escape not in text:
        return text
    for code, char in (("F", bar), ("S", part), ("R", repeat), ("E", escape)):
        text = text.replace(f"{escape}{code}{escape}", char)
    return text


def _moment(text: str) -> str:
    """``YYYYMMDDHHMMSS`` as an ISO moment; "" when it is none."""
    plain = text.strip()[:14].ljust(14, "0")
    if len(text.strip()) < 8 or not plain.isascii() or not plain.isdigit():
        return ""
    return f"{plain[:4]}-{plain[4:6]}-{plain[6:8]}T{plain[8:10]}:{plain[10:12]}:{plain[12:14]}"


def answer(sample: str, tests: Sequence[str], name: str = "", at: str = "") -> bytes:
    """The orders of a tube as a host's answer to a query (O records with "Q"), or "no information" when nothing is wanted."""
    head = f"H|\\^&|||LIANXIN|||||||P|LIS2-A2|{at}"
    if not tests:
        return f"{head}\rL|1|I\r".encode()
    wanted = "\\".join(f"^^^{_clean(t)}" for t in tests)
    return f"{head}\rP|1\rO|1|{_clean(sample)}||{wanted}|R||||||N||||||||||||||Q\rL|1|F\r".encode()


def _clean(text: str) -> str:
    return "".join(c for c in text if c not in "|\\^&\r\n")
