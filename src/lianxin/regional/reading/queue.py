"""The queue in front of a centre's readers: enter, claim, renew, give back, hand over, finish.

Order: priority; then deficit round robin among the origins (every township gets the same work per round, so that a big one cannot starve
a small one); then due time. The round is worked out when a study enters, under the lock of its queue; a claim then takes the first row
nobody else has locked, in one statement, and is exact whatever the number of readers. A claim is a lease with a token.
"""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from lianxin.access.scope import Scope
from lianxin.regional.reading import errors, policy
from lianxin.regional.reading.models import RANKS, Entry, Reader, Reading
from lianxin.standards import clock

_TURN = """
INSERT INTO reading_turn (institution_id, centre, rank, round) VALUES (%s, %s, %s, 0)
ON CONFLICT (institution_id, centre, rank) DO UPDATE SET round = reading_turn.round RETURNING id, round"""
# Surplus round robin: what an origin used beyond its quantum is carried into its next rounds.
_DEFICIT = """
INSERT INTO reading_deficit AS d (turn_id, origin_id, round, used)
VALUES (%(turn)s, %(origin)s, %(round)s + (%(cost)s - 1) / %(quantum)s, 1 + (%(cost)s - 1) %% %(quantum)s)
ON CONFLICT (turn_id, origin_id) DO UPDATE SET
  round = CASE WHEN d.round < %(round)s THEN EXCLUDED.round ELSE d.round + (d.used + %(cost)s - 1) / %(quantum)s END,
  used = CASE WHEN d.round < %(round)s THEN EXCLUDED.used ELSE 1 + (d.used + %(cost)s - 1) %% %(quantum)s END
RETURNING round"""

_CLAIM = """
WITH picked AS MATERIALIZED (
  SELECT id, rank, round FROM reading_entry
   WHERE institution_id = %(institution)s AND centre = %(centre)s AND state = 'waiting' {which}
     AND modality = ANY(%(modalities)s) AND seat = ANY(%(seats)s)
     AND ("only" IS NULL OR "only" = %(account)s) AND NOT %(account)s = ANY(excluded)
   ORDER BY rank, round, due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED),
chair AS (
  UPDATE reading_reader SET open_now = open_now + 1
   WHERE id = %(reader)s AND active AND open_now < most_open AND EXISTS (SELECT 1 FROM picked) RETURNING id),
taken AS (
  UPDATE reading_entry e SET state = 'claimed', account_id = %(account)s, token = %(token)s, claimed_at = %(now)s, lease_until = %(until)s
    FROM picked, chair WHERE e.id = picked.id RETURNING e.id, e.rank, e.round),
told AS (
  INSERT INTO reading_claimevent (entry_id, at, what, account_id, reason) SELECT id, %(now)s, 'claimed', %(account)s, '' FROM taken),
turned AS (
  UPDATE reading_turn t SET round = taken.round FROM taken
   WHERE t.institution_id = %(institution)s AND t.centre = %(centre)s AND t.rank = taken.rank AND t.round < taken.round)
SELECT (SELECT id FROM picked), (SELECT id FROM taken)"""

_LAPSED = """
WITH over AS MATERIALIZED (
  SELECT id, reading_id, account_id, institution_id, centre FROM reading_entry
   WHERE state = 'claimed' AND lease_until <= %(now)s ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED),
back AS (
  UPDATE reading_entry e SET state = 'waiting', account_id = NULL, token = NULL, lease_until = NULL FROM over WHERE e.id = over.id RETURNING e.id),
told AS (
  INSERT INTO reading_claimevent (entry_id, at, what, account_id, reason) SELECT id, %(now)s, 'lapsed', account_id, '' FROM over),
n AS (SELECT account_id, institution_id, centre, count(*) AS seats FROM over GROUP BY 1, 2, 3),
chair AS MATERIALIZED (
  SELECT r.id, n.seats FROM reading_reader r JOIN n ON (r.account_id, r.institution_id, r.centre) = (n.account_id, n.institution_id, n.centre)
   ORDER BY r.id FOR UPDATE OF r),
chairs AS (UPDATE reading_reader r SET open_now = open_now - chair.seats FROM chair WHERE r.id = chair.id)
SELECT coalesce(array_agg(o.reading_id), '{}') FROM over o JOIN back USING (id)"""


@dataclass(frozen=True)
class Claim:
    """A seat held: the entry, its token, and until when."""

    entry_id: int
    token: uuid.UUID
    until: dt.datetime


def enter(
    reading: Reading,
    seat: str,
    *,
    priority: str,
    excluded: tuple[int, ...] = (),
    only: int | None = None,
    now: dt.datetime | None = None,
) -> Entry:
    """Put a seat of ``reading`` into its centre's queue, in the caller's transaction. A seat that is open already is an error of the
    caller (IntegrityError)."""
    centre, rank = reading.centre_of_id, RANKS[priority]
    with connection.cursor() as cursor:
        cursor.execute(_TURN, [centre, reading.centre, rank])
        turn, standing = cursor.fetchone()
        cursor.execute(
            _DEFICIT,
            {
                "turn": turn, "origin": reading.origin_id, "round": standing,
                "cost": policy.cost(reading.modality, centre),
                "quantum": int(policy.value("fair.quantum", centre)),
            },
        )  # fmt: skip
        number = cursor.fetchone()[0]
    entry: Entry = Entry.objects.create(
        reading=reading, institution_id=centre, person_id=reading.person_id, centre=reading.centre,
        modality=reading.modality, seat=seat, rank=rank, round=number, due_at=reading.report_due_at,
        origin_id=reading.origin_id, excluded=list(excluded), only=only, entered_at=now or clock.now(),
    )  # fmt: skip
    return entry


def reader_of(scope: Scope, centre: str, institution_id: int | None = None) -> Reader:
    """Who acts as a reader of ``centre``; NotAllowed when they are none."""
    found = Reader.objects.filter(
        account_id=scope.account_id or 0,
        institution_id=institution_id or scope.institution_id or 0,
        institution_id__in=scope.institution_ids,
        centre=centre,
        active=True,
    ).first()
    if found is None:
        raise errors.no_reader()
    return found


def seats_of(reader: Reader) -> list[str]:
    """A report that needs approval itself decides about nobody else's."""
    return [
        "first",
        *(("second",) if reader.signs else ()),
        *(("approve", "arbitrate") if reader.approves else ()),
    ]


def claim(reader: Reader, entry_id: int | None = None, seats: list[str] | None = None) -> Claim | None:
    """Take the next seat for ``reader`` (or the one named); None when there is none. NotAllowed at their limit."""
    now = clock.now()
    until = now + dt.timedelta(minutes=int(policy.value("lease.minutes", reader.institution_id)))
    token = uuid.uuid4()
    given: dict[str, Any] = {
        "institution": reader.institution_id, "centre": reader.centre, "modalities": reader.modalities,
        "seats": seats or seats_of(reader), "account": reader.account_id, "reader": reader.pk, "token": token, "now": now,
        "until": until, "entry": entry_id,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM.format(which="AND id = %(entry)s" if entry_id else ""), given)
        picked, taken = cursor.fetchone()
    if taken is not None:
        return Claim(taken, token, until)
    if picked is not None:
        raise errors.at_limit(reader.most_open)
    return None


def renew(entry_id: int, token: uuid.UUID | str, account_id: int) -> dt.datetime:
    """Lengthen the lease while its holder works; NotAllowed when the seat is theirs no more. A lease that ran out but was not taken
    back yet is still theirs."""
    entry = Entry.objects.unscoped("a lease is its holder's").filter(pk=entry_id).first()
    centre = entry.institution_id if entry else 0
    until = clock.now() + dt.timedelta(minutes=int(policy.value("lease.minutes", centre)))
    changed = (
        Entry.objects.unscoped("a lease is its holder's")
        .filter(pk=entry_id, token=token, account_id=account_id, state="claimed")
        .update(lease_until=until)
    )
    if not changed:
        raise errors.claim_lost()
    return until


def held(reading_id: int, account_id: int | None, *seats: str) -> Entry | None:
    """The seat of a piece of work that this account holds now (one of ``seats``, or any), locked."""
    rows = Entry.objects.unscoped("a seat is its holder's").select_for_update(of=("self",))
    rows = rows.filter(reading_id=reading_id, state="claimed", account_id=account_id or 0)
    return rows.filter(seat__in=seats).first() if seats else rows.first()


def _event(entry: Entry, what: str, account_id: int | None, reason: str = "", to: int | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO reading_claimevent (entry_id, at, what, account_id, to_account_id, reason) VALUES (%s, %s, %s, %s, %s, %s)",
            [entry.pk, clock.now(), what, account_id, to, reason[:200]],
        )


def _chair(entry: Entry, account_id: int | None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE reading_reader SET open_now = open_now - 1 WHERE account_id = %s AND institution_id = %s AND centre = %s",
            [account_id, entry.institution_id, entry.centre],
        )


def _leave(entry: Entry, state: str, what: str, by: int | None, reason: str = "", **more: Any) -> None:
    holder = entry.account_id if entry.state == "claimed" else None
    entry.state, entry.token, entry.lease_until = state, None, None
    for name, value in more.items():
        setattr(entry, name, value)
    if state == "waiting":
        entry.account_id = None
    entry.save()
    if holder is not None:
        _chair(entry, holder)
    _event(entry, what, by, reason)


@transaction.atomic
def give_back(entry_id: int, account_id: int, reason: str = "") -> None:
    """The holder gives the seat back to the queue, where it keeps its place; NotAllowed when it is not theirs."""
    entry = _own(entry_id, account_id)
    _leave(entry, "waiting", "returned", account_id, reason)


@transaction.atomic
def hand_over(entry_id: int, account_id: int, to: Reader, reason: str) -> None:
    """Hand a held seat to an expert of the same centre: only they may take it from the queue."""
    entry = _own(entry_id, account_id)
    fits = (to.institution_id, to.centre) == (entry.institution_id, entry.centre) and to.active
    if not fits or entry.seat not in seats_of(to) or entry.modality not in to.modalities:
        raise errors.no_reader()
    if to.account_id in (*entry.excluded, account_id):
        raise errors.not_them()
    _leave(entry, "waiting", "handed", account_id, reason, only=to.account_id)


@transaction.atomic
def open_up(entry_id: int, by: Reader, reason: str) -> bool:
    """An approver of the centre lets everybody take a seat that waits for one person (the expert is away); False when it does not."""
    if not by.approves:
        raise errors.no_approver()
    entry = (
        Entry.objects.unscoped("the centre's own queue")
        .select_for_update(of=("self",))
        .filter(pk=entry_id, institution_id=by.institution_id, centre=by.centre, state="waiting", only__isnull=False)
        .first()
    )  # fmt: skip
    if entry is None:
        return False
    _leave(entry, "waiting", "opened", by.account_id, reason, only=None)
    return True


def _own(entry_id: int, account_id: int) -> Entry:
    entry = (
        Entry.objects.unscoped("a seat is its holder's")
        .select_for_update(of=("self",))
        .filter(pk=entry_id, state="claimed", account_id=account_id)
        .first()
    )
    if entry is None:
        raise errors.claim_lost()
    return entry


def finish(entry: Entry, account_id: int | None) -> None:
    """The work of a seat is done (its row is locked by the caller)."""
    _leave(entry, "done", "done", account_id, done_at=clock.now())


def withdraw(reading: Reading, account_id: int | None, reason: str = "") -> None:
    """Take every open seat of a piece of work out of the queue."""
    rows = Entry.objects.unscoped("the work itself is moved").select_for_update(of=("self",))
    for entry in rows.filter(reading=reading, state__in=("waiting", "claimed")).order_by("pk"):
        _leave(entry, "withdrawn", "withdrawn", account_id, reason)


def sweep() -> int:
    """Give back every seat whose lease ran out; how many."""
    return len(lapse())


def lapse() -> list[int]:
    """Give back every seat whose lease ran out; the pieces of work they belong to."""
    with connection.cursor() as cursor:
        cursor.execute(_LAPSED, {"now": clock.now()})
        return list(cursor.fetchone()[0])


def recount() -> list[str]:
    """Readers whose counter differs from the seats they hold, in words; counters are set right. (``checks`` only looks.)"""
    with connection.cursor() as cursor:
        cursor.execute("""
            UPDATE reading_reader r SET open_now = h.n
              FROM (SELECT r.id, r.open_now AS was, count(e.id) AS n FROM reading_reader r
                      LEFT JOIN reading_entry e ON (e.account_id, e.institution_id, e.centre) = (r.account_id, r.institution_id, r.centre)
                                               AND e.state = 'claimed'
                     GROUP BY r.id) h
             WHERE h.id = r.id AND r.open_now <> h.n RETURNING r.id, h.was, h.n""")
        return [f"reader {row[0]} counted {row[1]} open, holds {row[2]}" for row in cursor.fetchall()]
