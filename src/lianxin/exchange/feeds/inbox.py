"""The one way in for pieces of any door.  In one transaction: known already? – understand – gate – store – keep with its answer.

A door makes a :class:`Piece` of what came and answers with what :func:`take` gives back, after the commit.  Pieces that came
together are one transaction (:class:`_Taking`: one look-up of what is known, one store, one insertion for all of them); when that
fails, its halves are, down to single pieces, so that one bad piece spoils nothing.  A piece that cannot be understood at all is
kept by :func:`keep_refused`.  Nothing that was acknowledged is lost, nothing is stored twice.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import psycopg
from django.db import DataError, Error, InterfaceError, OperationalError, transaction

from lianxin.access import audit, seal
from lianxin.access.scope import Scope
from lianxin.exchange.feeds import errors, keeping, quality
from lianxin.exchange.feeds.errors import Reason, Refusal
from lianxin.exchange.feeds.models import DROPPED, QUARANTINE, QUARANTINED, REFUSE, REFUSED, TAKEN, Arrival
from lianxin.exchange.feeds.quality import Found
from lianxin.exchange.fhir import gate
from lianxin.record import store
from lianxin.record.store import Result, Write
from lianxin.standards import clock
from lianxin.standards.text import T, Text

log = logging.getLogger(__name__)


@dataclass
class Draft:
    """What a piece was understood as.

    ``writes`` are stored by the inbox; ``results`` is what understanding it did itself already (a merge, a patient).
    ``audited``: those results were audited by whoever did them.  ``kept`` is called when the pieces after this one, which may be
    about the same things, are to begin from where it leaves them; ``then`` is called with the cursor just before the writes are stored.
    """

    writes: list[Write] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    person_id: int | None = None
    mapping: str = ""
    warnings: list[Text] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    code: str = "AA"
    audited: bool = False
    kept: Callable[[], None] | None = None
    then: Callable[[Any], None] | None = None
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

    ``pure``: understanding it only reads.  Such pieces are understood one after the other and stored together, and one that is
    refused is kept as refused beside the others.  ``prepare(cursor, pieces)`` is called once before them with those of a batch that
    have the same ``prepare`` and were not taken before, to look up together what they are about.  ``origin``: the network address.
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
    pure: bool = False
    prepare: Callable[[Any, Sequence[Piece]], None] | None = None
    origin: str = ""

    def __post_init__(self) -> None:
        self.same = self.same or digest(self.body)


Again = Callable[[Arrival], Piece]
_doors: dict[str, Again] = {}


def register_door(door: str, again: Again) -> None:
    """Tell how an arrival of ``door`` becomes a piece once more (for :func:`replay`)."""
    _doors[door] = again


def again(kept: Arrival) -> Piece:
    """An arrival as a piece once more; raises one of ``errors.REFUSALS`` when it cannot even be read."""
    return _doors[kept.door](kept)


def digest(body: bytes) -> bytes:
    """16 bytes, keyed, by which a repetition of ``body`` is known."""
    return seal.blind(body.decode("latin-1"), "arrival")


def body_of(arrival: Arrival) -> bytes:
    """The bytes of an arrival exactly as they came."""
    return keeping.unpacked(bytes(arrival.body))


# ------------------------------------------------------------------------------------------------------------------- taking

AWAY = (psycopg.OperationalError, psycopg.InterfaceError, OperationalError, InterfaceError)
"""The database is not there, or gave up waiting: nothing is said about the pieces."""


def take(pieces: Sequence[Piece]) -> list[Verdict]:
    """Take pieces in order, in one transaction; when that cannot be, each half in its own, down to single pieces.

    Database errors of ours are raised.
    """
    if len(pieces) <= 1:
        return [_alone(piece) for piece in pieces]
    try:
        return gate.writing(lambda cur: _Taking(cur, pieces).run())
    except AWAY:
        raise
    except Exception as failure:
        log.info("a batch of %d is taken in parts: %s", len(pieces), failure)
    half = len(pieces) // 2
    return [*take(pieces[:half]), *take(pieces[half:])]


def _alone(piece: Piece) -> Verdict:
    try:
        return gate.writing(lambda cur: _Taking(cur, [piece]).run()[0])
    except _SAID as failure:
        return keep_refused(piece, failure)
    except (Error, psycopg.Error) as failure:
        cause = failure if isinstance(failure, psycopg.Error) else failure.__cause__
        if isinstance(cause, psycopg.DataError):
            return keep_refused(piece, failure)
        raise
    except Exception as failure:
        log.exception("a piece could not be handled")
        return keep_refused(piece, failure)


class _Held(Exception):
    """The gate refuses a piece (``reason``), or holds it back (``draft``)."""

    def __init__(self, found: list[Found], by: Found | None = None, draft: Draft | None = None) -> None:
        super().__init__(by.rule if by else "quarantine")
        self.found, self.draft = found, draft
        if by is not None:
            self.reason = Reason(by.rule, by.text, by.place)


_SAID: tuple[type[Exception], ...] = (*errors.REFUSALS, _Held)
"""What refuses one piece."""


@dataclass
class _Understood:
    """A piece that is to be stored: where its verdict goes, and the row (of what was refused before) that it takes the place of."""

    at: int
    piece: Piece
    draft: Draft
    found: list[Found]
    again: int | None
    results: list[Result] = field(default_factory=list)


class _Taking:
    """Pieces on their way through one transaction."""

    def __init__(self, cur: Any, pieces: Sequence[Piece]) -> None:
        self.cur, self.pieces = cur, pieces
        self.verdicts: list[Verdict | None] = [None] * len(pieces)
        self.waiting: list[_Understood] = []
        self.rows: list[keeping.Row] = []
        self.did: list[tuple[Piece, str, Result]] = []

    def run(self) -> list[Verdict]:
        """The verdicts, in order; what cannot be taken here is raised."""
        cur, pieces = self.cur, self.pieces
        store.lock(cur, [name for p in pieces for name in (*_own_lock(p), *p.locks)])
        known = keeping.known(cur, [(p.door, p.sender, p.control_id) for p in pieces if p.control_id])
        first: dict[tuple[str, str, str], int] = {}
        fresh: list[tuple[int, int | None]] = []
        repeats: list[tuple[int, int]] = []
        for at, piece in enumerate(pieces):
            name = (piece.door, piece.sender, piece.control_id)
            again = self._before(at, piece, known.get(name, ()))
            if self.verdicts[at] is not None:
                continue
            if piece.control_id and name in first and pieces[first[name]].same == piece.same:
                repeats.append((at, first[name]))
                continue
            if piece.control_id and name in first and not piece.reuses_ids:
                self._refuse(at, piece, _taken_otherwise(), None)
                continue
            first.setdefault(name, at)
            fresh.append((at, again))
        for pure, several in groupby(fresh, key=lambda one: pieces[one[0]].pure):
            if pure:
                self._together(list(several))
                continue
            for at, again in several:
                self._store()  # it may look for what the pieces before it stored
                self._together([(at, again)])
        self._store()
        self._keep()
        for at, earlier in repeats:
            self.verdicts[at] = self._repeated(earlier)
        self._audit()  # last: the head of the chain is locked until the commit
        return [v for v in self.verdicts if v is not None]

    def _before(self, at: int, piece: Piece, rows: Sequence[keeping.Known]) -> int | None:
        """Settle a piece that was answered before; the row that it repeats and that was not taken, if any."""
        again: int | None = None
        otherwise = False
        for row in rows:
            alike = row.same == piece.same
            if alike and row.state == TAKEN:
                keeping.came_again(self.cur, row.id)
                self.verdicts[at] = Verdict(
                    TAKEN, row.id, row.code, row.person_id, repeated=True, answer=row.told()
                )
                return None
            if alike and again is None:
                again = row.id
            otherwise = otherwise or (not alike and row.state == TAKEN)
        if otherwise and not piece.reuses_ids:
            self._refuse(at, piece, _taken_otherwise(), again)
        return again

    def _repeated(self, earlier: int) -> Verdict:
        """The verdict of a piece that came twice in one batch."""
        said = self.verdicts[earlier]
        assert said is not None
        if said.arrival_id is not None:
            keeping.came_again(self.cur, said.arrival_id)
        return replace(said, repeated=said.state == TAKEN)

    def _together(self, some: list[tuple[int, int | None]]) -> None:
        """Understand pieces one after the other, and ask the gate about all of them.

        When the gate stops one, those after it that are about the same were understood as if it had gone through: then all that
        are left are understood anew.
        """
        while some:
            for prepare in dict.fromkeys(self.pieces[at].prepare for at, _ in some):
                if prepare is not None:
                    mine = [self.pieces[at] for at, _ in some if self.pieces[at].prepare == prepare]
                    prepare(self.cur, mine)
            ready = self._understood(some)
            judged = quality.check_many([(one.piece, one.draft) for one in ready], self.cur) if ready else []
            stopped: set[str] = set()
            through: list[_Understood] = []
            anew = False
            for one, found in zip(ready, judged, strict=True):
                one.found = [*one.draft.found, *found]
                held = _held(one)
                if held is None:
                    through.append(one)
                    anew = anew or not stopped.isdisjoint(one.piece.locks)
                else:
                    self._refuse(one.at, one.piece, held, one.again)
                    stopped.update(one.piece.locks)
            if not anew:
                self.waiting += through
                return
            some = [(one.at, one.again) for one in through]

    def _understood(self, some: list[tuple[int, int | None]]) -> list[_Understood]:
        ready: list[_Understood] = []
        for at, again in some:
            piece = self.pieces[at]
            try:
                draft = piece.understand(self.cur)
            except DataError:
                raise  # the transaction is lost
            except errors.REFUSALS as failure:
                self._refuse(at, piece, failure, again)
                continue
            if draft.kept is not None:
                draft.kept()
            ready.append(_Understood(at, piece, draft, [], again))
        return ready

    def _refuse(self, at: int, piece: Piece, failure: Exception, again: int | None) -> None:
        """Keep a refused piece beside the others; one that may have written something must end the transaction."""
        if not piece.pure:
            raise failure
        verdict, mapping = _refused(piece, failure)
        self.verdicts[at] = verdict
        self.rows.append(keeping.Row(piece, verdict, mapping, again))

    def _store(self) -> None:
        """Store what waits: the same resource twice is two versions, in order; everything else goes together."""
        waiting, self.waiting = self.waiting, []
        rounds: list[dict[int, list[tuple[_Understood, Write]]]] = []
        last: dict[tuple[str, str | None], int] = {}
        for one in waiting:
            if one.draft.then is not None:
                one.draft.then(self.cur)
            one.results = list(one.draft.results)
            lowest = 0
            for write in one.draft.writes:
                name = (write.rtype, write.id)
                turn = max(last.get(name, -1) + 1 if write.id else 0, lowest)
                if write.rtype == "Patient":
                    lowest = turn  # what hangs on it comes with it or after it
                last[name] = turn
                while len(rounds) <= turn:
                    rounds.append({})
                rounds[turn].setdefault(id(one.piece.scope), []).append((one, write))
        for turn_of in rounds:
            for jobs in turn_of.values():
                scope = jobs[0][0].piece.scope
                done = store.apply(
                    self.cur, scope, [write for _, write in jobs], source_institution_id=scope.institution_id
                )
                for (one, _), result in zip(jobs, done, strict=True):
                    one.results.append(result)
                    if not one.draft.audited:
                        self.did.append((one.piece, "create" if result.status == 201 else "update", result))
        for one in waiting:
            self._stored(one)

    def _stored(self, one: _Understood) -> None:
        draft = one.draft
        person_id = draft.person_id or next((r.person_id for r in one.results if r.person_id), None)
        warnings = [*draft.warnings, *(f.text for f in one.found)]
        verdict = Verdict(
            TAKEN, None, draft.code, person_id, one.results, one.found, warnings, extra=draft.extra
        )
        verdict.answer = one.piece.answer(verdict) if one.piece.answer else None
        self.verdicts[one.at] = verdict
        self.rows.append(keeping.Row(one.piece, verdict, draft.mapping, one.again))

    def _audit(self) -> None:
        """Every act of every piece, in one link of the chain."""
        events: list[audit.Entry] = []
        for piece, action, results in _by_act(self.did):
            before = audit.origin.set(piece.origin) if piece.origin else None
            events += gate.entries(piece.scope, action, results)
            if before is not None:
                audit.origin.reset(before)
        audit.append(self.cur, events)

    def _keep(self) -> None:
        for row, pk in zip(self.rows, keeping.keep(self.cur, self.rows), strict=True):
            row.verdict.arrival_id = pk


def _held(one: _Understood) -> _Held | None:
    """What stops a piece at the gate."""
    refusing = next((f for f in one.found if f.severity == REFUSE), None)
    if refusing is not None:
        return _Held(one.found, by=refusing)
    if any(f.severity == QUARANTINE for f in one.found) and not one.piece.releases:
        return _Held(one.found, draft=one.draft)
    return None


def _by_act(did: Sequence[tuple[Piece, str, Result]]) -> list[tuple[Piece, str, list[Result]]]:
    """What was done, gathered by piece and action."""
    found: dict[tuple[int, str], tuple[Piece, str, list[Result]]] = {}
    for piece, action, result in did:
        found.setdefault((id(piece), action), (piece, action, []))[2].append(result)
    return list(found.values())


def _own_lock(piece: Piece) -> list[str]:
    """Nobody else takes the same piece meanwhile."""
    return [f"arrival/{piece.sender}/{piece.control_id or piece.same.hex()}"]


def _taken_otherwise() -> Refusal:
    return Refusal(
        "duplicate",
        T(
            "控制号（消息号）已被另一条内容不同的消息使用，本条未受理。",
            "The control id was used by another message with other content; this one was not taken.",
        ),
    )


def _refused(piece: Piece, failure: Exception) -> tuple[Verdict, str]:
    """The verdict on a piece that is not taken, or held back; and the mapping that understood it."""
    held = failure.draft if isinstance(failure, _Held) else None
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
    return verdict, held.mapping if held else ""


def keep_refused(piece: Piece, failure: Exception) -> Verdict:
    """Keep a piece that was not taken, with its reason; a repetition of it is one with it. In a transaction of its own."""
    verdict, mapping = _refused(piece, failure)

    def work(cur: Any) -> None:
        store.lock(cur, _own_lock(piece))
        row = keeping.Row(piece, verdict, mapping, keeping.refused_before(cur, piece))
        verdict.arrival_id = keeping.keep(cur, [row])[0]

    gate.writing(work)
    return verdict


QUARANTINE_TOLD = T(
    "已暂存待核，尚未写入健康档案。", "It is kept for checking and not yet part of the record."
)


# ---------------------------------------------------------------------------------------------------------------- once more


def replay(arrival_id: int, *, release: bool = False) -> Verdict:
    """Take an arrival that was not taken once more, as it came; what was taken is not taken twice.

    ``release``: a person lets it through although the gate would hold it back (what the gate refuses stays refused).
    """
    kept = Arrival.objects.get(pk=arrival_id)
    try:
        piece = again(kept)
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
