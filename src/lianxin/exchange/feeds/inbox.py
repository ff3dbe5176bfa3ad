"""The one way in for pieces of any door.  In one transaction: known already? – understand – gate – store – keep with its answer.

A door makes a :class:`Piece` of what came and answers with what :func:`take` gives back, after the commit.  Pieces that came
together are one transaction; when that fails, each is taken alone, so that one bad piece spoils nothing.  A piece that cannot
be understood at all is kept by :func:`keep_refused`.  Nothing that was acknowledged is lost, nothing is stored twice.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
import zstandard
from django.db import Error, transaction

from lianxin.access import audit, seal
from lianxin.access.scope import Scope
from lianxin.exchange.feeds import errors, quality
from lianxin.exchange.feeds.errors import Reason, Refusal
from lianxin.exchange.feeds.models import DROPPED, QUARANTINE, QUARANTINED, REFUSE, REFUSED, TAKEN, Arrival
from lianxin.exchange.feeds.quality import Found
from lianxin.exchange.fhir import gate
from lianxin.record import store
from lianxin.record.store import Result, Write
from lianxin.standards import clock
from lianxin.standards.text import T, Text

log = logging.getLogger(__name__)

REMEMBERED = dt.timedelta(days=30)
"""For how long a control id is known again."""


@dataclass
class Draft:
    """What a piece was understood as.

    ``writes`` are stored by the inbox; ``results`` is what understanding it did itself already (a merge, a patient).
    ``audited``: those results were audited by whoever did them.
    """

    writes: list[Write] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    person_id: int | None = None
    mapping: str = ""
    warnings: list[Text] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    code: str = "AA"
    audited: bool = False
    extra: Any = None


@dataclass
class Verdict:
    """What became of a piece. ``failure`` is what refused it, ``repeated``: it was answered before (``answer`` is that answer)."""

    state: str
    arrival_id: int | None = None
    code: str = "AA"
    person_id: int | None = None
    results: list[Result] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    warnings: list[Text] = field(default_factory=list)
    reason: Reason | None = None
    failure: Exception | None = None
    repeated: bool = False
    answer: bytes | None = None
    extra: Any = None


@dataclass
class Piece:
    """One piece on its way in; ``understand(cursor)`` runs in the transaction and raises one of ``errors.REFUSALS`` to refuse it.

    ``locks``: names locked before anything is read, for all pieces together in one order.  ``answer`` composes what the sender
    is told; it is kept and given again when the piece comes again.  ``reuses_ids``: the sender's control ids begin anew.
    ``releases``: a person lets it through although the gate would hold it back.
    """

    door: str
    kind: str
    control_id: str
    body: bytes
    sender: str
    scope: Scope
    understand: Callable[[Any], Draft]
    same: bytes = b""
    client_id: int | None = None
    peer_id: int | None = None
    sent_at: dt.datetime | None = None
    locks: tuple[str, ...] = ()
    reuses_ids: bool = False
    answer: Callable[[Verdict], bytes] | None = None
    releases: bool = False

    def __post_init__(self) -> None:
        self.same = self.same or digest(self.body)


Again = Callable[[Arrival], Piece]
_doors: dict[str, Again] = {}


def register_door(door: str, again: Again) -> None:
    """Tell how an arrival of ``door`` becomes a piece once more (for :func:`replay`)."""
    _doors[door] = again


def digest(body: bytes) -> bytes:
    """16 bytes, keyed, by which a repetition of ``body`` is known."""
    return seal.blind(body.decode("latin-1"), "arrival")


def packed(body: bytes) -> bytes:
    """A body as it is kept: compressed, then sealed."""
    return seal.seal_bytes(zstandard.compress(body, 3))


def body_of(arrival: Arrival) -> bytes:
    """The bytes of an arrival exactly as they came."""
    return zstandard.decompress(seal.unseal_bytes(bytes(arrival.body)))


# ------------------------------------------------------------------------------------------------------------------- taking


def take(pieces: Sequence[Piece]) -> list[Verdict]:
    """Take pieces in order: all in one transaction, or, when that cannot be, each in its own. Database errors of ours are raised."""
    if len(pieces) > 1:
        try:
            return gate.writing(lambda cur: [_one(cur, piece) for piece in pieces])
        except (psycopg.OperationalError, psycopg.InterfaceError):
            raise
        except Exception as failure:
            log.info("a batch of %d is taken one by one: %s", len(pieces), failure)
    return [_alone(piece) for piece in pieces]


def _alone(piece: Piece) -> Verdict:
    try:
        return gate.writing(lambda cur: _one(cur, piece))
    except (*errors.REFUSALS, _Gate, _Hold) as failure:
        return keep_refused(piece, failure)
    except (Error, psycopg.Error) as failure:
        cause = failure if isinstance(failure, psycopg.Error) else failure.__cause__
        if isinstance(cause, psycopg.DataError):
            return keep_refused(piece, failure)
        raise
    except Exception as failure:
        log.exception("a piece could not be handled")
        return keep_refused(piece, failure)


# What came under a control id, in plain SQL: asked with every piece.
_KNOWN = (
    "SELECT id, same, state, answer, code, person_id FROM exchange_arrival"
    " WHERE sender = %s AND control_id = %s AND door = %s AND (at >= %s OR state <> 'taken') ORDER BY id"
)


def _one(cur: Any, piece: Piece) -> Verdict:
    store.lock(cur, [f"arrival/{piece.sender}/{piece.control_id}", *piece.locks])
    again, known = _known(cur, piece)
    if known is not None:
        return known
    draft = piece.understand(cur)
    found = [*draft.found, *quality.check(piece, draft, cur)]
    refusing = next((f for f in found if f.severity == REFUSE), None)
    if refusing is not None:
        raise _Gate(refusing, found)
    if any(f.severity == QUARANTINE for f in found) and not piece.releases:
        raise _Hold(draft, found)
    return _store(cur, piece, draft, found, again)


def _known(cur: Any, piece: Piece) -> tuple[int | None, Verdict | None]:
    """The row that this piece repeats and was not taken, or the verdict that is given again."""
    if not piece.control_id:
        return None, None
    cur.execute(_KNOWN, [piece.sender, piece.control_id, piece.door, clock.now() - REMEMBERED])
    again: int | None = None
    otherwise = False
    for pk, same, state, answer, code, person_id in cur.fetchall():
        alike = bytes(same) == piece.same
        if alike and state == TAKEN:
            cur.execute("UPDATE exchange_arrival SET attempts = attempts + 1 WHERE id = %s", [pk])
            told = seal.unseal_bytes(bytes(answer)) if answer is not None else None
            return None, Verdict(TAKEN, pk, code, person_id, repeated=True, answer=told)
        if alike and again is None:
            again = pk
        otherwise = otherwise or (not alike and state == TAKEN)
    if otherwise and not piece.reuses_ids:
        raise Refusal(
            "duplicate",
            T(
                "控制号（消息号）已被另一条内容不同的消息使用，本条未受理。",
                "The control id was used by another message with other content; this one was not taken.",
            ),
        )
    return again, None


class _Gate(Exception):
    """The gate refuses a piece."""

    def __init__(self, by: Found, found: list[Found]) -> None:
        super().__init__(by.rule)
        self.reason = Reason(by.rule, by.text, by.place)
        self.found = found


class _Hold(Exception):
    """The gate holds a piece back."""

    def __init__(self, draft: Draft, found: list[Found]) -> None:
        super().__init__("quarantine")
        self.draft, self.found = draft, found


def _store(cur: Any, piece: Piece, draft: Draft, found: list[Found], again: int | None) -> Verdict:
    results = list(draft.results)
    if draft.writes:
        done = store.apply(cur, piece.scope, draft.writes, source_institution_id=piece.scope.institution_id)
        if not draft.audited:
            gate.note_all(cur, piece.scope, [("create" if r.status == 201 else "update", r) for r in done])
        results += done
    person_id = draft.person_id or next((r.person_id for r in results if r.person_id), None)
    verdict = Verdict(
        TAKEN, None, draft.code, person_id, results, found, [*draft.warnings, *(f.text for f in found)], extra=draft.extra
    )  # fmt: skip
    verdict.answer = piece.answer(verdict) if piece.answer else None
    verdict.arrival_id = _keep(cur, piece, verdict, again, draft.mapping)
    return verdict


def keep_refused(piece: Piece, failure: Exception) -> Verdict:
    """Keep a piece that was not taken, with its reason; a repetition of it is one with it. In a transaction of its own."""
    held = failure.draft if isinstance(failure, _Hold) else None
    if held is not None:
        verdict = Verdict(QUARANTINED, code="AA", person_id=held.person_id, extra=held.extra)
        verdict.reason = Reason("quarantine", QUARANTINE_TOLD)
    else:
        verdict = Verdict(REFUSED, code="AE", failure=failure, reason=errors.reason_of(failure))
        assert verdict.reason is not None
        verdict.code = verdict.reason.answer or "AE"
    verdict.found = list(getattr(failure, "found", ()))
    verdict.warnings = [f.text for f in verdict.found] if held is not None else []
    verdict.answer = piece.answer(verdict) if piece.answer else None

    def work(cur: Any) -> None:
        store.lock(cur, [f"arrival/{piece.sender}/{piece.control_id}"])
        cur.execute(
            "SELECT id FROM exchange_arrival WHERE sender = %s AND control_id = %s AND door = %s AND same = %s"
            " AND state <> 'taken' ORDER BY id LIMIT 1",
            [piece.sender, piece.control_id, piece.door, piece.same],
        )
        row = cur.fetchone()
        verdict.arrival_id = _keep(cur, piece, verdict, row[0] if row else None, held.mapping if held else "")

    gate.writing(work)
    return verdict


QUARANTINE_TOLD = T(
    "已暂存待核，尚未写入健康档案。", "It is kept for checking and not yet part of the record."
)


def _keep(cur: Any, piece: Piece, verdict: Verdict, again: int | None, mapping: str) -> int:
    """Write the arrival (or bring the row ``again`` up to date) and its findings; returns its id."""
    now = clock.now()
    shown = [f"{r.rtype}/{r.id}/{r.version}" for r in verdict.results] if verdict.state == TAKEN else []
    error = verdict.reason.kept() if verdict.reason else ""
    answer = seal.seal_bytes(verdict.answer) if verdict.answer is not None else None
    values = [answer, verdict.state, verdict.code, error, mapping[:80], verdict.person_id, shown, now]
    if again is not None:
        cur.execute(
            "UPDATE exchange_arrival SET answer = %s, state = %s, code = %s, error = %s, mapping = %s, person_id = %s,"
            " resources = %s, done_at = %s, attempts = attempts + 1 WHERE id = %s",
            [*values, again],
        )
        cur.execute("DELETE FROM exchange_finding WHERE arrival_id = %s AND state = 'open'", [again])
        pk = again
    else:
        cur.execute(
            "INSERT INTO exchange_arrival (answer, state, code, error, mapping, person_id, resources, done_at, door, sender,"
            " institution_id, client_id, peer_id, kind, control_id, same, body, attempts, sent_at, at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 1, %s, %s) RETURNING id",
            [
                *values, piece.door, piece.sender, piece.scope.institution_id, piece.client_id, piece.peer_id, piece.kind[:60],
                piece.control_id[:199], piece.same, packed(piece.body), piece.sent_at, now,
            ],
        )  # fmt: skip
        pk = cur.fetchone()[0]
    if verdict.found:
        cur.executemany(
            "INSERT INTO exchange_finding (arrival_id, institution_id, door, kind, day, rule, dimension, severity, place, zh, en,"
            " state) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'open')",
            [
                (pk, piece.scope.institution_id, piece.door, piece.kind[:60], clock.today(), f.rule, f.dimension, f.severity,
                 f.place[:200], f.text.zh, f.text.en)
                for f in verdict.found
            ],
        )  # fmt: skip
    return pk


# ---------------------------------------------------------------------------------------------------------------- once more


def replay(arrival_id: int, *, release: bool = False) -> Verdict:
    """Take an arrival that was not taken once more, as it came; what was taken is not taken twice.

    ``release``: a person lets it through although the gate would hold it back (what the gate refuses stays refused).
    """
    kept = Arrival.objects.get(pk=arrival_id)
    try:
        piece = _doors[kept.door](kept)
    except errors.REFUSALS as failure:
        return _still(kept, failure)
    piece.releases = release
    return take([piece])[0]


def _still(kept: Arrival, failure: Exception) -> Verdict:
    """It cannot even be read again: its reason is brought up to date."""
    reason = errors.reason_of(failure)
    with transaction.atomic():
        Arrival.objects.filter(pk=kept.pk).exclude(state=TAKEN).update(
            error=reason.kept(), attempts=kept.attempts + 1, done_at=clock.now()
        )
    return Verdict(REFUSED, kept.pk, reason.answer or "AE", reason=reason, failure=failure)


def drop(scope: Scope, arrival_id: int, why: str) -> None:
    """Set an arrival that was not taken aside; audited with the reason."""
    with transaction.atomic():
        kept = Arrival.objects.select_for_update().get(pk=arrival_id)
        if kept.state != TAKEN:
            Arrival.objects.filter(pk=arrival_id).update(state=DROPPED, done_at=clock.now())
            detail = {"did": "drop", "why": why[:500]}
            audit.write(scope, "admin", person_id=kept.person_id, what=f"arrival {arrival_id}", detail=detail)
