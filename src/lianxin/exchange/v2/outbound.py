"""Telling other systems by HL7 v2: stored before it is sent, in order for each receiver, until it is taken.

What is told is composed by ``outbound_identity`` (changes of identity) and ``outbound_changes`` (changes of the record), each up to the
number that every transaction has decided, so that a late commit is not passed by.  Here it is sent: one sender for each receiver,
oldest first.  What a receiver refuses is kept for people and the next goes on; what it cannot take just now is asked again later,
and only messages about the same person wait for it.  Killed at any moment, a sender loses nothing: what was not written down as
answered goes again, with the same control id.
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
from dataclasses import dataclass, field

import psycopg
from django.db import Error, close_old_connections, connection
from django.db.models import F, Q

from lianxin.access import seal
from lianxin.duty import periodic
from lianxin.exchange.v2 import errors, framing, message, outbound_changes
from lianxin.exchange.v2.errors import Refused
from lianxin.exchange.v2.message import Message
from lianxin.exchange.v2.models import HELD, REFUSED, SENT, WAITING, Peer, V2Message
from lianxin.exchange.v2.outbound_changes import begin_record
from lianxin.exchange.v2.outbound_identity import KINDS, SEQUENCE, begin_now, changes, compose
from lianxin.record import feed
from lianxin.standards import clock

log = logging.getLogger(__name__)

TURNS = 50  # messages for one receiver by one connection, written down together
AT_ONCE = 16  # receivers that are sent to at the same time; those that failed least come first
POLL, SOON, IDLE = 1.0, 0.05, 5.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 600.0
TIMEOUT = 15.0
MOST_ANSWER = 1024 * 1024
MOST_TRIES = 6  # of a message that its receiver cannot take just now
TEMPORARY = frozenset({errors.LOCKED, errors.INTERNAL})
"""Codes of HL7 table 0357 that say: not now (206 locked, 207 an error of the receiver's)."""
_SPACE = 0x76327870

__all__ = [
    "KINDS",
    "SEQUENCE",
    "Senders",
    "begin_now",
    "begin_record",
    "changes",
    "compose",
    "hold",
    "replay",
    "run",
    "step",
]


def due() -> list[int]:
    """Receivers that have something to hear and may be tried now."""
    now = clock.now()
    waiting = V2Message.objects.filter(state=WAITING).values("peer_id")
    waiting = waiting.filter(Q(again_at__isnull=True) | Q(again_at__lte=now))
    peers_due = Peer.objects.filter(pk__in=waiting.distinct(), active=True, paused=False).exclude(host="")
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


@dataclass
class _Line:
    """A connection to a receiver: what was sent on it, and answers that came late."""

    wire: socket.socket
    enhanced: bool
    frames: framing.Frames = field(default_factory=lambda: framing.Frames(MOST_ANSWER))
    sent: dict[str, int] = field(default_factory=dict)  # control id -> message
    got: list[bytes] = field(default_factory=list)
    answers: list[_Answer] = field(default_factory=list)


@dataclass(frozen=True)
class _Answer:
    """What a receiver said about one message: its code, why not, whether it may take it later, and the bytes."""

    pk: int
    code: str
    reason: str
    later: bool
    raw: bytes


def _send(pk: int, stop: threading.Event | None) -> int:
    """One connection: a number of messages, then what became of them in one statement."""
    peer = Peer.objects.get(pk=pk)
    waiting = _next(pk)
    if not waiting:
        return 0
    line: _Line | None = None
    failure: Exception | None = None
    held: set[int] = set()  # people whose earlier message the receiver could not take just now
    try:
        with closing(_connect(peer)) as wire:
            line = _Line(wire, peer.enhanced)
            for one in waiting:
                if stop is not None and stop.is_set():
                    break
                if one.person_id is not None and one.person_id in held:
                    continue
                V2Message.objects.filter(pk=one.pk).update(attempts=F("attempts") + 1)
                answer = _exchange(line, one)
                line.answers.append(answer)
                if answer.later and one.attempts + 1 < MOST_TRIES and one.person_id is not None:
                    held.add(one.person_id)
    except (OSError, Refused) as caught:
        failure = caught
    answered = len(line.answers) if line is not None else 0
    if line is not None:
        _written_down(line.answers, {one.pk: one.attempts + 1 for one in waiting})
    if failure is not None:
        _failed(peer, failure)
        return 0
    Peer.objects.filter(pk=pk).update(failures=0, not_before=None, last_error="", heard_at=clock.now())
    return answered


def _next(pk: int) -> list[V2Message]:
    """The oldest that wait, without those of people of whom an earlier one waits for its next attempt."""
    now = clock.now()
    waiting = V2Message.objects.filter(peer_id=pk, state=WAITING)
    resting = waiting.filter(again_at__gt=now)
    people = resting.filter(person_id__isnull=False).values("person_id")
    return list(
        waiting.exclude(pk__in=resting.values("pk")).exclude(person_id__in=people).order_by("pk")[:TURNS]
    )


def _connect(peer: Peer) -> socket.socket:
    wire = socket.create_connection((peer.host, peer.port), timeout=TIMEOUT)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not peer.tls:
        return wire
    return ssl.create_default_context().wrap_socket(wire, server_hostname=peer.host)


def _exchange(line: _Line, one: V2Message) -> _Answer:
    """Send one message and wait for its answer; in enhanced mode CA is followed by what the application says."""
    until = time.monotonic() + TIMEOUT
    line.wire.settimeout(TIMEOUT)
    line.sent[one.control_id] = one.pk
    line.wire.sendall(framing.wrap(seal.unseal_bytes(bytes(one.body))))
    accepted: _Answer | None = None
    while True:
        try:
            answer = _heard(line, until)
        except TimeoutError:
            if accepted is None:
                raise
            return accepted  # it has taken responsibility for the message, whatever its application will say
        if answer.pk != one.pk:  # the application's word on an earlier one, after its CA
            line.answers.append(answer)
            continue
        if answer.code == "CA" and line.enhanced:
            accepted = answer
            continue
        return answer


def _heard(line: _Line, until: float) -> _Answer:
    """The next answer on a line; ConnectionError when it is to nothing that was sent on it."""
    while not line.got:
        line.wire.settimeout(max(0.01, until - time.monotonic()))  # for the whole answer, however it trickles
        data = line.wire.recv(65536)
        if not data:
            raise ConnectionError("the receiver closed the connection without an answer")
        line.got += [frame.data for frame in line.frames.feed(data)]
    raw = line.got.pop(0)
    asked = message.parse(raw)
    pk = line.sent.get(asked.text("MSA", 2))
    if pk is None:
        raise ConnectionError("the answer is to no message that was sent")
    code = asked.text("MSA", 1)
    return _Answer(pk, code, "" if code in ("AA", "CA") else _reason(asked), _later(asked), raw)


def _reason(asked: Message) -> str:
    parts = (asked.text("MSA", 1), asked.text("MSA", 3), asked.text("ERR", 7), asked.text("ERR", 8))
    return " ".join(x for x in parts if x)[:2000]


def _later(asked: Message) -> bool:
    """Whether a refusal says: not now (ERR-3, before 2.5 ERR-1.4; MSA-6 of the oldest)."""
    if asked.text("MSA", 1) in ("AA", "CA"):
        return False
    return bool({asked.text("ERR", 3), asked.text("ERR", 1, 4), asked.text("MSA", 6)} & TEMPORARY)


def _written_down(given: list[_Answer], tries: dict[int, int]) -> None:
    """What the receiver said: accepted, refused (kept for people; the next ones go on), or asked again later."""
    now = clock.now()
    for answer in given:
        good = answer.code in ("AA", "CA")
        tried = tries.get(answer.pk, MOST_TRIES)
        rows = V2Message.objects.filter(pk=answer.pk, state__in=(WAITING, SENT))
        if not good and answer.later and tried < MOST_TRIES:
            rows.update(again_at=now + back_off(tried), error=answer.reason, code=answer.code[:2])
            continue
        rows.update(
            state=SENT if good else REFUSED, code=answer.code[:2], error=answer.reason, again_at=None,
            answer=seal.seal_bytes(answer.raw), done_at=now,
        )  # fmt: skip


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
    V2Message.objects.filter(pk=pk).update(state=WAITING, error="", code="", done_at=None, again_at=None)
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


def step(watch: feed.Watch, senders: Senders, record: feed.Watch | None = None) -> float:
    """Compose what there is and have it sent; returns the seconds one may wait. ``watch`` follows the index, ``record`` the record."""
    if not Peer.objects.filter(active=True).exclude(host="").exists():
        return IDLE
    record = record or feed.Watch()
    composed = compose(watch) + outbound_changes.compose(record)
    for pk in due():
        senders.start(pk)
    return SOON if composed or watch.waiting or record.waiting else POLL


def run(stop: threading.Event) -> None:
    """Work until ``stop`` is set; failures of the database are waited out."""
    watch, record, senders = feed.Watch(sequence=SEQUENCE), feed.Watch(), Senders(stop)
    pause, failed = SOON, 0
    try:
        while not stop.wait(pause):
            try:
                close_old_connections()
                pause, failed = step(watch, senders, record), 0
            except (Error, psycopg.Error):
                failed += 1
                pause = min(LONGEST_PAUSE / 20, 2.0**failed)
                log.exception("telling by HL7 v2 met a database error; trying again")
                connection.close()
    finally:
        connection.close()


def register() -> None:
    """Run in every ticker."""
    periodic.register_worker("hl7v2", run)
