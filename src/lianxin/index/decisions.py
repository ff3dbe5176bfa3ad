"""What the index decided about a registration, kept small beside its event so that it can be shown and replayed.

Of the person it was linked to and of those a human was asked about: the level of every compared field and the bits. With the
weights of the model that was used they give the waterfall again, and with today's model what would be decided now.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list).decode
SHOWN = 3
"""Candidates kept of one decision, best first."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """One person that was weighed. ``kind``: "" linked, "join", or the kind of review."""

    person_id: int
    bits: float
    kind: str
    parts: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """A decision as it is kept: the model's version, and the persons weighed (none: there was nobody to weigh)."""

    model: str
    weighed: tuple[Weighed, ...]


def pack(kept: Kept) -> bytes | None:
    """A decision as bytes; None when nobody was weighed: a newcomer, told by the event's kind alone."""
    if not kept.weighed:
        return None
    rows = [
        [w.person_id, round(w.bits * 10), w.kind, [[f, c, round(b * 10)] for f, c, b in w.parts]]
        for w in kept.weighed[:SHOWN]
    ]
    return _encode([1, kept.model, rows])


def unpack(stored: bytes | None) -> Kept:
    """What :func:`pack` kept."""
    if stored is None:
        return Kept("", ())
    _, model, rows = _decode(bytes(stored))
    return Kept(
        model,
        tuple(
            Weighed(person, bits / 10, kind, tuple((f, c, b / 10) for f, c, b in parts))
            for person, bits, kind, parts in rows
        ),
    )
