"""Telling other systems of changes of identity by HL7 v2: stored before it is sent, in order for each receiver, until it is taken.

Changes are read from the index's log (LinkEvent) up to the number that every transaction has decided, so that a late commit is
not passed by.  A receiver is told of people its own institution has registered: of their numbers as it may see them (A31), of
two person numbers that became one (A40), of two that are linked (A24) or no longer (A37).  No demographics are sent.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
import socket
import ssl
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import Error, close_old_connections, connection, transaction

from lianxin.access import audit, seal
from lianxin.access.scope import Scope
from lianxin.duty import periodic
from lianxin.exchange.ihe import domains, identifiers, pixm
from lianxin.exchange.ihe.identifiers import NUMBER_SYSTEM, Held
from lianxin.exchange.v2 import answers, charset, framing, message, peers
from lianxin.exchange.v2.errors import Refused
from lianxin.exchange.v2.models import HELD, REFUSED, SENT, WAITING, Peer, V2Message
from lianxin.exchange.v2.query import NO_NAME
from lianxin.exchange.v2.writing import instant, segment
from lianxin.exchange.v2.writing import message as written
from lianxin.index.models import LinkEvent, Person, SourceRecord
from lianxin.record import feed, rows
from lianxin.standards import clock

log = logging.getLogger(__name__)

KINDS = ("A24", "A31", "A40")
"""What a receiver may want to hear; whoever wants A24 hears A37 too."""
TOLD = ("created", "linked", "merged", "unmerged", "moved", "split")
SLICE = 200  # events composed in one transaction
TURNS = 50  # messages for one receiver by one connection
AT_ONCE = 16  # receivers that are sent to at the same time; those that failed least come first
POLL, SOON, IDLE = 1.0, 0.05, 5.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 600.0
TIMEOUT = 15.0
MOST_ANSWER = 1024 * 1024
_SPACE = 0x76327870
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
        if peer is None:
            return 0
        events = list(LinkEvent.objects.filter(pk__gt=peer.told_event, pk__lte=upto).order_by("pk")[:SLICE])
        cur = rows.server_cursor(own)
        try:
            scope = peers.scope_of(cur, peer)
        except Refused:  # its client was switched off: what happens meanwhile is told when it is on again
            return 0
        told = [(event, change) for event in events for change in changes(event) if wanted(peer, change.kind)]
        mine = _registered(scope, {p for _, c in told for p in (c.person_id, c.other_id) if p})
        for event, change in told:
            if change.person_id in mine or change.other_id in mine:
                _write_down(cur, peer, scope, event, change)
        Peer.objects.filter(pk=pk).update(told_event=events[-1].pk if len(events) == SLICE else upto)
        return len(events)


def _registered(scope: Scope, person_ids: set[int]) -> set[int]:
    """Those people (or whoever they were merged into) that the receiver's institution has registered."""
    living = {p: _living(p) for p in person_ids}
    held = set(
        SourceRecord.objects.unscoped(_WHY)
        .filter(person_id__in=set(living.values()), institution_id__in=scope.institution_ids)
        .values_list("person_id", flat=True)
    )
    return {p for p, alive in living.items() if alive in held}


def _living(person_id: int) -> int:
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
    head = segment(
        "MSH", answers.APPLICATION, answers.FACILITY, peer.application, peer.facility, instant(clock.now()), "", kind, own_id, "P",
        peer.version, "", "", "", "", "", charset.name_of(peer.codec or "utf-8"),
    )  # fmt: skip
    body = written([head, segment("EVN", change.kind, instant(event.at)), *segments], peer.codec or "utf-8")
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
    living = _living(change.person_id)
    numbers = _cx(pixm.visible_to(cur, scope, identifiers.of_person(cur, living), set()))
    if not numbers:
        return []
    one = segment("PID", "", "", numbers, "", NO_NAME)
    if change.kind == "A31":
        return [one, segment("PV1", "", "N")]
    assert change.other_id is not None
    other = Person.objects.unscoped(_WHY).get(pk=change.other_id)
    number = _cx([Held(NUMBER_SYSTEM, other.number, other.pk, 0)])
    if change.kind == "A40":
        return [one, segment("MRG", number)]
    if change.kind == "A37" and other.status == "active":
        number = _cx(pixm.visible_to(cur, scope, identifiers.of_person(cur, other.pk), set())) or number
    return [one, segment("PID", "", "", number, "", NO_NAME)]


def _cx(held: list[Held]) -> list[tuple[Any, ...]]:
    return [(h.value, "", "", domains.authority_of(h.system, h.institution_id), "PI") for h in held]


# ------------------------------------------------------------------------------------------------------------- sending


def due() -> list[int]:
    """Receivers that have something to hear and may be tried now."""
    now = clock.now()
    waiting = V2Message.objects.filter(state=WAITING).values("peer_id").distinct()
    peers_due = Peer.objects.filter(pk__in=waiting, active=True, paused=False).exclude(host="")
    return [p.pk for p in peers_due.order_by("failures", "pk") if p.not_before is None or p.not_before <= now]


def send_waiting(pk: int, stop: threading.Event | None = None) -> int:
    """Send what waits for one receiver, oldest first; one sender at a time, whatever process. Returns how many were answered."""
    with connection.cursor() as cur:
        cur.execute("SELECT pg_try_advisory_lock(%s, %s)", [_SPACE, pk])
        if not cur.fetchone()[0]:
            return 0
        try:
            return _send(pk, stop)
        finally:
            cur.execute("SELECT pg_advisory_unlock(%s, %s)", [_SPACE, pk])


def _send(pk: int, stop: threading.Event | None) -> int:
    peer = Peer.objects.get(pk=pk)
    answered = 0
    try:
        with closing(_connect(peer)) as wire:
            for _ in range(TURNS):
                one = V2Message.objects.filter(peer_id=pk, state=WAITING).order_by("pk").first()
                if one is None or (stop is not None and stop.is_set()):
                    break
                V2Message.objects.filter(pk=one.pk).update(attempts=one.attempts + 1)
                answer = _exchange(wire, seal.unseal_bytes(bytes(one.body)))
                _answered(one, answer)
                answered += 1
    except (OSError, Refused) as failure:
        _failed(peer, failure)
        return answered
    Peer.objects.filter(pk=pk).update(failures=0, not_before=None, last_error="", heard_at=clock.now())
    return answered


def _connect(peer: Peer) -> socket.socket:
    wire = socket.create_connection((peer.host, peer.port), timeout=TIMEOUT)
    if not peer.tls:
        return wire
    return ssl.create_default_context().wrap_socket(wire, server_hostname=peer.host)


def _exchange(wire: socket.socket, body: bytes) -> bytes:
    """Send one message and wait for its answer."""
    until = time.monotonic() + TIMEOUT
    wire.settimeout(TIMEOUT)
    wire.sendall(framing.wrap(body))
    frames = framing.Frames(MOST_ANSWER)
    while True:
        wire.settimeout(max(0.01, until - time.monotonic()))  # for the whole answer, however it trickles
        data = wire.recv(65536)
        if not data:
            raise ConnectionError("the receiver closed the connection without an answer")
        if got := frames.feed(data):
            return got[0].data


def _answered(one: V2Message, answer: bytes) -> None:
    """What the receiver said: accepted, or refused (kept for people; the next ones go on)."""
    asked = message.parse(answer)
    code, about = asked.text("MSA", 1), asked.text("MSA", 2)
    if about != one.control_id:
        raise ConnectionError("the answer is not to this message")
    good = code in ("AA", "CA")
    reason = (
        ""
        if good
        else " ".join(
            x for x in (code, asked.text("MSA", 3), asked.text("ERR", 7), asked.text("ERR", 8)) if x
        )[:2000]
    )
    V2Message.objects.filter(pk=one.pk, state=WAITING).update(
        state=SENT if good else REFUSED,
        code=code[:2],
        error=reason,
        answer=seal.seal_bytes(answer),
        done_at=clock.now(),
    )


def back_off(failures: int) -> dt.timedelta:
    """How long to wait after so many failures in a row: 1 s, 2 s, 4 s … 10 min, part of it by chance."""
    whole = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 20))
    return dt.timedelta(seconds=whole * random.uniform(0.5, 1.0))


def _failed(peer: Peer, failure: Exception) -> None:
    told = failure.text.en if isinstance(failure, Refused) else f"{type(failure).__name__}: {failure}"
    failures = peer.failures + 1
    Peer.objects.filter(pk=peer.pk).update(
        failures=failures, not_before=clock.now() + back_off(failures), last_error=told[:2000]
    )


# ------------------------------------------------------------------------------------------------- by hand, and the worker


def replay(pk: int) -> None:
    """Send one message again, whatever became of it; it goes before those that came after it."""
    V2Message.objects.filter(pk=pk).update(state=WAITING, error="", code="", done_at=None)
    peer_id = V2Message.objects.values_list("peer_id", flat=True).get(pk=pk)
    Peer.objects.filter(pk=peer_id).update(not_before=None)


def hold(pk: int) -> None:
    """Set a waiting message aside, so that the next ones can go."""
    V2Message.objects.filter(pk=pk, state=WAITING).update(state=HELD, done_at=clock.now())


class Senders:
    """Sends to every receiver in a thread of its own, so that one which accepts and never answers holds nobody else back."""

    def __init__(self, stop: threading.Event | None = None) -> None:
        self._stop = stop or threading.Event()
        self._under_way: dict[int, threading.Thread] = {}

    def start(self, pk: int) -> None:
        """Send what waits for one receiver, unless that is being done or too many are under way."""
        self._under_way = {k: t for k, t in self._under_way.items() if t.is_alive()}
        if pk not in self._under_way and len(self._under_way) < AT_ONCE:
            # a daemon: what is told to stop does not wait for a receiver that says nothing; the message stays waiting
            thread = threading.Thread(target=self._work, args=(pk,), name=f"hl7v2-{pk}", daemon=True)
            self._under_way[pk] = thread
            thread.start()

    def wait(self, seconds: float) -> None:
        """Until all that was started is done, at most so long."""
        until = time.monotonic() + seconds
        for thread in list(self._under_way.values()):
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self, pk: int) -> None:
        try:
            while not self._stop.is_set() and send_waiting(pk, self._stop) == TURNS:
                pass
        except (Error, psycopg.Error):
            log.exception("telling a receiver by HL7 v2 met a database error; it is tried again")
        finally:
            connection.close()


def step(watch: feed.Watch, senders: Senders) -> float:
    """Compose what there is and have it sent; returns the seconds one may wait."""
    if not Peer.objects.filter(active=True).exclude(host="").exists():
        return IDLE
    composed = compose(watch)
    for pk in due():
        senders.start(pk)
    return SOON if composed or watch.waiting else POLL


def run(stop: threading.Event) -> None:
    """Work until ``stop`` is set; failures of the database are waited out."""
    watch, senders, pause, failed = feed.Watch(sequence=SEQUENCE), Senders(stop), SOON, 0
    try:
        while not stop.wait(pause):
            try:
                close_old_connections()
                pause, failed = step(watch, senders), 0
            except (Error, psycopg.Error):
                failed += 1
                pause = min(LONGEST_PAUSE / 20, 2.0**failed)
                log.exception("telling by HL7 v2 met a database error; trying again")
                connection.close()
    finally:
        connection.close()


def begin_now() -> int:
    """The event a new receiver begins after: it is not told of the past."""
    with connection.cursor() as cur:
        return feed.last_number(cur, SEQUENCE)


def register() -> None:
    """Run in every ticker."""
    periodic.register_worker("hl7v2", run)
