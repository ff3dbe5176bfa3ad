"""Batch files: messages one after the other, FHS/BHS … BTS/FTS around them or not, answered by a file of the same kind.

HL7 v2 2.10.3: the answer is a batch of acknowledgements, one for each message that wants one; BHS-12 names the batch that is answered.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from lianxin.exchange.v2 import answers, framing, message, receiving
from lianxin.exchange.v2.errors import Malformed
from lianxin.exchange.v2.framing import Frame
from lianxin.exchange.v2.peers import Origin
from lianxin.exchange.v2.receiving import Came
from lianxin.exchange.v2.writing import escape, instant
from lianxin.standards import clock

TOGETHER = 128
_HEAD = re.compile(rb"(?:^|[\r\n])(?P<name>FHS|BHS)(?P<mark>[^A-Za-z0-9\s])(?P<rest>[^\r\n]*)")


@dataclass
class Taken:
    """What became of a file: how many messages got which code (AA, AE, AR …; "" for those that want no answer), and the answers."""

    codes: Counter[str] = field(default_factory=Counter)
    answers: list[bytes] = field(default_factory=list)
    heads: dict[str, str] = field(default_factory=dict)

    def file(self) -> bytes:
        """The answers as a batch file, in the form that came (with FHS or BHS, or without)."""
        body = b"".join(self.answers)
        if "BHS" in self.heads or "FHS" in self.heads:
            body = _wrapped("BHS", "BTS", self.heads.get("BHS", ""), body, len(self.answers))
        if "FHS" in self.heads:
            body = _wrapped("FHS", "FTS", self.heads["FHS"], body, 1)
        return body


def _wrapped(first: str, last: str, reference: str, body: bytes, count: int) -> bytes:
    given = (
        answers.APPLICATION, answers.FACILITY, "", "", instant(clock.now()), "", "", "", answers.control_id(), reference,
    )  # fmt: skip
    head = "|".join([first, message.USUAL.encoding, *map(escape, given)])
    return f"{head}\r".encode() + body + f"{last}|{count}\r".encode()


def take(data: bytes, origin: Origin | None = None) -> Taken:
    """Take every message of a file, in order, many in a transaction; nothing raises but the database."""
    done = Taken(heads=_heads(data))
    came = origin or Origin()
    waiting = framing.messages(data)
    while some := list(islice(waiting, TOGETHER)):
        for answered in receiving.receive_many([Came(Frame(raw), came) for raw in some]):
            done.codes[_code(answered.data)] += 1
            done.answers += [one for one in answered.data.split(answers.BETWEEN) if one]
    return done


def _code(answer: bytes) -> str:
    """The last code that was told: what became of the message, if it was told that."""
    try:
        return message.parse(answer.split(answers.BETWEEN)[-1]).text("MSA", 1) if answer else ""
    except Malformed:
        return ""


def _heads(data: bytes) -> dict[str, str]:
    """The control ids of FHS and BHS, where they stand."""
    return dict(_found(data))


def _found(data: bytes) -> Iterator[tuple[str, str]]:
    for found in _HEAD.finditer(data):
        fields = found["rest"].split(found["mark"])
        number = fields[9] if len(fields) > 9 else b""  # FHS-11, BHS-11: the first is the delimiter
        yield found["name"].decode(), number.decode("ascii", "replace").strip()[:199]
