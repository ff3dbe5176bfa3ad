"""What every message to a receiver has: its header, its character set, and the bound on how much may wait."""

from __future__ import annotations

from collections.abc import Sequence

from lianxin.exchange.v2 import answers, charset
from lianxin.exchange.v2.models import WAITING, Peer, V2Message
from lianxin.exchange.v2.outbound_values import encode, fits
from lianxin.exchange.v2.writing import instant, segment
from lianxin.standards import clock

MOST_WAITING = 2000
"""Messages that may wait for one receiver; composing goes on when some have gone (the log keeps its place, nothing is lost)."""


def full(peer_id: int) -> bool:
    """Whether so much waits for a receiver that nothing more is composed for it now."""
    waiting = V2Message.objects.filter(peer_id=peer_id, state=WAITING).values("pk")[:MOST_WAITING]
    return waiting.count() >= MOST_WAITING


def packed(peer: Peer, kind: tuple[str, ...], control_id: str, segments: Sequence[str]) -> bytes:
    """The bytes of a message in the receiver's version and character set; what that cannot say is escaped, and MSH-18 says so."""
    codec = peer.codec or "utf-8"
    name = charset.name_of(codec)
    named: object = name if fits(list(segments), codec) else [name, charset.name_of("utf-8")]
    wants = "AL" if peer.enhanced else ""
    header = segment(
        "MSH", answers.APPLICATION, answers.FACILITY, peer.application, peer.facility, instant(clock.now()), "", kind, control_id,
        "P", peer.version, "", "", wants, wants, "", named,
    )  # fmt: skip
    return encode([header, *segments], codec)
