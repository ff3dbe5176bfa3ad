"""What other systems are told of changes of identity: composed from the index's log (LinkEvent), for each receiver.

A receiver is told of people its own institution has registered: of their numbers as it may see them (A31), of two person numbers
that became one (A40), of two that are linked (A24) or no longer (A37).  No demographics are sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from lianxin.access import audit, seal
from lianxin.access.scope import Scope
from lianxin.exchange.ihe import domains, identifiers, pixm
from lianxin.exchange.ihe.identifiers import NUMBER_SYSTEM, Held
from lianxin.exchange.v2 import answers, peers
from lianxin.exchange.v2.errors import Refused
from lianxin.exchange.v2.models import WAITING, Peer, V2Message
from lianxin.exchange.v2.outbound_frame import full, packed
from lianxin.exchange.v2.query import NO_NAME
from lianxin.exchange.v2.writing import instant, segment
from lianxin.index.models import LinkEvent, Person, SourceRecord
from lianxin.record import feed, rows
from lianxin.standards import clock

KINDS = ("A24", "A31", "A40")
"""What a receiver may want to hear; whoever wants A24 hears A37 too."""
TOLD = ("created", "linked", "merged", "unmerged", "moved", "split")
SLICE = 200  # events composed in one transaction
SEQUENCE = "index_linkevent_id_seq"
_WHY = "receivers are told of changes of identity"


@dataclass(frozen=True)
class _Change:
    """What a receiver is to hear: the kind of message, about whom, and the person that was given up or joined."""

    kind: str
    person_id: int
    other_id: int | None = None


def changes(event: LinkEvent) -> list[_Change]:
    """What an event of the index means to those outside."""
    before, after = event.before or {}, event.after or {}
    if event.kind == "merged":
        gone = before["gone"]
        return [
            _Change("A40", event.person_id, gone),
            _Change("A24", event.person_id, gone),
            _Change("A31", event.person_id),
        ]
    if event.kind == "unmerged":
        back = after["person"]
        return [_Change("A37", event.person_id, back), _Change("A31", event.person_id), _Change("A31", back)]
    if event.kind in ("moved", "split"):
        people = dict.fromkeys(p for p in (before.get("person"), event.person_id, after.get("person")) if p)
        return [_Change("A31", p) for p in people]
    return [_Change("A31", event.person_id)] if event.kind in TOLD else []


def wanted(peer: Peer, kind: str) -> bool:
    """Whether a receiver hears of this kind."""
    return kind in peer.wants or (kind == "A37" and "A24" in peer.wants)


def compose(watch: feed.Watch) -> int:
    """Write down what is to be told, for every receiver; returns how many events were looked at."""
    with connection.cursor() as own:
        upto = watch.look(own)
    seen = 0
    for pk in (
        Peer.objects.filter(active=True, told_event__lt=upto).exclude(host="").values_list("pk", flat=True)
    ):
        seen += _compose_for(pk, upto)
    return seen


def _compose_for(pk: int, upto: int) -> int:
    with transaction.atomic(), connection.cursor() as own:
        peer = (
            Peer.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("client")
            .filter(pk=pk)
            .first()
        )
        if peer is None or full(pk):
            return 0
        events = list(LinkEvent.objects.filter(pk__gt=peer.told_event, pk__lte=upto).order_by("pk")[:SLICE])
        cur = rows.server_cursor(own)
        try:
            scope = peers.scope_of(cur, peer)
        except Refused:  # its client was switched off: what happens meanwhile is told when it is on again
            return 0
        told = [(event, change) for event in events for change in changes(event) if wanted(peer, change.kind)]
        mine = registered(scope, {p for _, c in told for p in (c.person_id, c.other_id) if p})
        for event, change in told:
            if change.person_id in mine or change.other_id in mine:
                _write_down(cur, peer, scope, event, change)
        Peer.objects.filter(pk=pk).update(told_event=events[-1].pk if len(events) == SLICE else upto)
        return len(events)


def registered(scope: Scope, person_ids: set[int]) -> set[int]:
    """Those people (or whoever they were merged into) that the receiver's institution has registered."""
    living = {p: living_of(p) for p in person_ids}
    held = set(
        SourceRecord.objects.unscoped(_WHY)
        .filter(person_id__in=set(living.values()), institution_id__in=scope.institution_ids)
        .values_list("person_id", flat=True)
    )
    return {p for p, alive in living.items() if alive in held}


def living_of(person_id: int) -> int:
    with connection.cursor() as cur:
        cur.execute(
            "WITH RECURSIVE up AS (SELECT id, merged_into_id FROM index_person WHERE id = %s UNION ALL"
            " SELECT p.id, p.merged_into_id FROM up JOIN index_person p ON p.id = up.merged_into_id)"
            " SELECT id FROM up WHERE merged_into_id IS NULL",
            [person_id],
        )
        row = cur.fetchone()
    return row[0] if row else person_id


def _write_down(cur: Any, peer: Peer, scope: Scope, event: LinkEvent, change: _Change) -> None:
    """Keep one message for a receiver; what there is nothing to say about any more is left out."""
    segments = _segments(cur, scope, change)
    if not segments:
        return
    own_id = answers.control_id()
    structure = {"A31": "ADT_A05", "A40": "ADT_A39", "A24": "ADT_A24", "A37": "ADT_A37"}[change.kind]
    kind = ("ADT", change.kind) if answers.old(peer.version) else ("ADT", change.kind, structure)
    body = packed(peer, kind, own_id, [segment("EVN", change.kind, instant(event.at)), *segments])
    V2Message.objects.get_or_create(
        peer=peer, event_id=event.pk, kind=f"ADT^{change.kind}", person_id=change.person_id,
        defaults={
            "control_id": own_id, "body": seal.seal_bytes(body), "state": WAITING,
            "at": clock.now(),
        },
    )  # fmt: skip
    audit.write_many(
        [
            audit.entry(
                scope,
                "export",
                person_id=change.person_id,
                what=f"HL7 v2 ADT^{change.kind}",
                detail={"event": event.pk},
            )
        ],
        cursor=cur,
    )


def _segments(cur: Any, scope: Scope, change: _Change) -> list[str]:
    living = living_of(change.person_id)
    numbers = cx(pixm.visible_to(cur, scope, identifiers.of_person(cur, living), set()))
    if not numbers:
        return []
    one = segment("PID", "", "", numbers, "", NO_NAME)
    if change.kind == "A31":
        return [one, segment("PV1", "", "N")]
    assert change.other_id is not None
    other = Person.objects.unscoped(_WHY).get(pk=change.other_id)
    number = cx([Held(NUMBER_SYSTEM, other.number, other.pk, 0)])
    if change.kind == "A40":
        return [one, segment("MRG", number)]
    if change.kind == "A37" and other.status == "active":
        number = cx(pixm.visible_to(cur, scope, identifiers.of_person(cur, other.pk), set())) or number
    return [one, segment("PID", "", "", number, "", NO_NAME)]


def cx(held: list[Held]) -> list[tuple[Any, ...]]:
    return [(h.value, "", "", domains.authority_of(h.system, h.institution_id), "PI") for h in held]


def begin_now() -> int:
    """The event a new receiver begins after: it is not told of the past."""
    with connection.cursor() as cur:
        return feed.last_number(cur, SEQUENCE)
