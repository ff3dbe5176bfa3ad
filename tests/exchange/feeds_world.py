"""Arrivals and findings for tests of the feeds' pages and figures."""

from __future__ import annotations

from itertools import count
from typing import Any

from lianxin.exchange.feeds import inbox
from lianxin.exchange.feeds.inbox import Draft, Piece
from lianxin.exchange.feeds.keeping import packed
from lianxin.exchange.feeds.models import Arrival, Finding
from lianxin.network.models import Institution
from lianxin.standards import clock

_serial = count(1)
MESSAGE = b"MSH|^~\\&|LIS|X|LX|LX|20260302090000||ORU^R01|1|P|2.5\rPID|1||77^^^LIS||\xe7\x94\x84^\xe8\xaf\x95\rOBX|1|NM|GLU||5.6|mmol/L\r"


def arrival(place: Institution | None, body: bytes = MESSAGE, **fields: Any) -> Arrival:
    """One arrival of an institution, taken unless told."""
    n = next(_serial)
    values = {
        "door": "hl7v2", "kind": "ORU^R01", "control_id": f"C{n}", "sender": "peer:1", "same": inbox.digest(body + str(n).encode()),
        "state": "taken", "code": "AA", "at": clock.now(), "done_at": clock.now(), "institution": place, "body": packed(body),
    }  # fmt: skip
    return Arrival.objects.create(**{**values, **fields})


def finding(
    of: Arrival,
    rule: str = "value.impossible",
    dimension: str = "validity",
    severity: str = "quarantine",
    **fields: Any,
) -> Finding:
    """Something wrong with an arrival."""
    values = {
        "institution_id": of.institution_id, "door": of.door, "kind": of.kind, "day": clock.today(), "place": "Observation[0]", "zh": "不可能",
        "en": "impossible",
    }  # fmt: skip
    return Finding.objects.create(
        arrival=of, rule=rule, dimension=dimension, severity=severity, **{**values, **fields}
    )


def door(understand: Any) -> None:
    """Make arrivals of HL7 v2 pieces once more that ``understand(arrival) -> Draft`` reads (for replays)."""
    from lianxin.access.scope import Scope

    def again(kept: Arrival) -> Piece:
        scope = Scope(institution_id=kept.institution_id, everything=True, reason="test")
        return Piece(
            kept.door, kept.kind, kept.control_id, inbox.body_of(kept), kept.sender, scope, lambda cur: understand(kept),
            same=bytes(kept.same), peer_id=kept.peer_id, client_id=kept.client_id, sent_at=kept.sent_at,
        )  # fmt: skip

    inbox.register_door("table", again)


__all__ = ["MESSAGE", "Draft", "arrival", "door", "finding"]
