"""What the index decided about a registration, kept small beside its event so that it can be shown and replayed.

Of the person it was linked to and of those a human was asked about: the level of every compared field and the bits. With the
model that was used they give the waterfall again, and with today's model what would be decided now.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from lianxin.index.match.levels import FIELDS, POSITION, number
from lianxin.index.match.policy import Decision, Parts

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list).decode
SHOWN = 3
"""Persons kept of one decision, the one it was linked to first."""
LINKED, JOINED = "", "join"


@dataclass(frozen=True, slots=True)
class Weighed:
    """One person that was weighed. ``kind``: "" linked, "join", or the kind of review; ``vector``: a level for each field."""

    person_id: int
    bits: float
    kind: str
    vector: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """A decision as it is kept: the model's version, and the persons weighed (none: there was nobody to weigh)."""

    model: str
    weighed: tuple[Weighed, ...]


def _vector(parts: Parts) -> bytes:
    out = bytearray(len(FIELDS))
    for field, code, _ in parts:
        at = POSITION.get(field)
        if at is not None and code != "cap":
            out[at] = number(field, code)
    return bytes(out)


def pack(decision: Decision, model: str) -> bytes | None:
    """A decision as bytes; None when nobody was weighed: a newcomer, told by the event's kind alone."""
    rows = []
    if decision.target is not None:
        rows.append([decision.target, round(decision.bits * 10), LINKED, _vector(decision.parts)])
    rows += [[p, round(decision.bits * 10), JOINED, b""] for p in decision.joins]
    rows += [[p, round(bits * 10), kind, _vector(parts)] for p, kind, bits, parts in decision.reviews]
    return _encode([1, model, rows[:SHOWN]]) if rows else None


def unpack(stored: bytes | None) -> Kept:
    """What :func:`pack` kept."""
    if stored is None:
        return Kept("", ())
    _, model, rows = _decode(bytes(stored))
    return Kept(
        model, tuple(Weighed(person, bits / 10, kind, tuple(vector)) for person, bits, kind, vector in rows)
    )
