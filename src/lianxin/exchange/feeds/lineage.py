"""Where something came from and what became of it: bytes in → person → resources → events out, and backwards from a resource."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field

from django.db import connection

from lianxin.exchange.feeds.models import Arrival
from lianxin.exchange.subscriptions.models import Subscription, SubscriptionEvent
from lianxin.exchange.v2.models import Peer, V2Message
from lianxin.record.keys import ref_key

REFERENCE = re.compile(r"([A-Z][A-Za-z]{2,40}/[A-Za-z0-9\-.]{1,64})(?:/(?:_history/)?(\d{1,9}))?")
VERSIONS = 500  # versions of a resource that are looked for
SHOWN = 200


@dataclass(frozen=True)
class Told:
    """Somebody who was told of a resource: by which way, and what became of it."""

    way: str  # subscription | hl7v2
    name: str
    number: int
    kind: str
    state: str
    at: dt.datetime


@dataclass
class Made:
    """A resource an arrival became; ``newer``: it has been changed since."""

    rtype: str
    id: str
    version: int
    newer: bool = False
    gone: bool = False
    told: list[Told] = field(default_factory=list)

    @property
    def reference(self) -> str:
        """``Type/id``."""
        return f"{self.rtype}/{self.id}"


_VERSIONS = (
    "SELECT key, version, rid, deleted, TRUE FROM record_resource WHERE key = ANY(%s::bigint[])"
    " UNION ALL SELECT key, version, rid, deleted, FALSE FROM record_history WHERE key = ANY(%s::bigint[])"
)


def made_of(arrival: Arrival) -> list[Made]:
    """The resources an arrival became, each with who was told of that version."""
    found: list[Made] = []
    for text in arrival.resources[:SHOWN]:
        rtype, _, rest = text.partition("/")
        rid, _, version = rest.partition("/")
        found.append(Made(rtype, rid, int(version or 0)))
    keys = {ref_key(m.reference): m.reference for m in found}
    if not keys:
        return found
    rids: dict[int, Made] = {}
    with connection.cursor() as cursor:
        cursor.execute(_VERSIONS, [list(keys), list(keys)])
        versions = cursor.fetchall()
    by = {(m.reference, m.version): m for m in found}
    for key, version, rid, deleted, current in versions:
        one = by.get((keys[key], version))
        if one is not None:
            rids[rid] = one
        if current:
            for mine in found:
                if mine.reference == keys[key]:
                    mine.newer, mine.gone = version > mine.version, deleted
    _tell(rids)
    return found


def _tell(rids: dict[int, Made]) -> None:
    if not rids:
        return
    subscriptions = list(Subscription.objects.values_list("pk", flat=True))
    events = SubscriptionEvent.objects.filter(
        subscription_id__in=subscriptions, rid__in=list(rids)
    ).select_related("subscription__client")
    for e in events[:SHOWN]:
        rids[e.rid].told.append(
            Told("subscription", e.subscription.client.name, e.subscription_id, e.interaction, e.status, e.sent_at or e.happened_at)
        )  # fmt: skip
    peers = list(Peer.objects.values_list("pk", flat=True))
    sent = (
        V2Message.objects.filter(peer_id__in=peers, rid__in=list(rids))
        .select_related("peer")
        .defer("body", "answer")
    )
    for m in sent[:SHOWN]:
        assert m.rid is not None
        rids[m.rid].told.append(Told("hl7v2", m.peer.name, m.peer_id, m.kind, m.state, m.done_at or m.at))


def of_resource(text: str, seen: frozenset[int] | None) -> tuple[str, list[Arrival]]:
    """(reference, the arrivals that made its versions, newest first) of "Type/id" or "Type/id/version"; ("", []) when it is neither."""
    match = REFERENCE.fullmatch(text.strip().removeprefix("/fhir/"))
    if match is None:
        return "", []
    reference, version = match[1], match[2]
    if version is not None:
        wanted = [f"{reference}/{int(version)}"]
    else:
        with connection.cursor() as cursor:
            cursor.execute("SELECT version FROM record_resource WHERE key = %s", [ref_key(reference)])
            row = cursor.fetchone()
        newest = row[0] if row else 1
        wanted = [f"{reference}/{n}" for n in range(max(newest - VERSIONS, 0) + 1, newest + 1)]
    found = Arrival.objects.filter(resources__overlap=wanted)
    if seen is not None:
        found = found.filter(institution_id__in=seen)
    return reference, list(
        found.select_related("institution").defer("body", "answer").order_by("-at", "-pk")[:SHOWN]
    )
