"""The audit: every read and write of patient data, in an append-only SM3 hash chain of eight shards.

An event row is never changed. Its place in the chain is a *link*: ``hash = SM3(previous hash ‖ digest ‖ seq ‖ event id)``,
given under the row lock of the shard's head, so that two transactions cannot take one place and the chain cannot fork.
All events of a transaction go to one shard (transaction number mod 8): one lock per transaction, hence no deadlock between
chains. :func:`write` leaves the linking to a deferred trigger that runs at COMMIT (the lock is held for that moment only and
raw SQL cannot forget it); :func:`append` gives a whole batch one link, which is far cheaper (``more`` names its other events).
The FHIR door's busiest paths go further (:mod:`lianxin.access.journal`): their events are linked some milliseconds later.
Triggers refuse UPDATE, DELETE and TRUNCATE; :func:`verify` finds what somebody did in spite of them. Heads are anchored daily
with a MAC whose key is outside the database, so a cut tail shows even when the head was rewritten to fit.
"""

from __future__ import annotations

import datetime as dt
import hmac
import json
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from django.db import connection, transaction

from lianxin.access import seal, statements
from lianxin.standards import clock

if TYPE_CHECKING:
    from lianxin.access.scope import Scope

SHARDS = 8
GENESIS = bytes(32)
BATCH = 5_000  # events of one link at most
ACTIONS = frozenset(
    [
        "read",
        "search",
        "create",
        "update",
        "delete",
        "login",
        "logout",
        "login_failed",
        "export",
        "print",
        "break_glass",
        "deny",
        "admin",
    ]
)
OUTCOMES = frozenset({"ok", "refused", "failed"})

origin: ContextVar[str] = ContextVar("lianxin_audit_origin", default="")
"""Network address of the caller, set by the door; part of every event."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_COLUMNS = "at, action, outcome, account_id, client_id, practitioner_id, institution_id, person_id, what, detail, digest"
_KINDS = (
    "timestamptz",
    "text",
    "text",
    "bigint",
    "bigint",
    "bigint",
    "bigint",
    "bigint",
    "text",
    "text",
    "bytea",
)
_anchored: dt.date | None = None


class Entry(NamedTuple):
    """One event before it is written; make it with :func:`entry`."""

    at: dt.datetime
    action: str
    outcome: str
    account_id: int | None
    client_id: int | None
    practitioner_id: int | None
    institution_id: int | None
    person_id: int | None
    what: str
    detail: str

    def row(self) -> tuple[Any, ...]:
        """Column values in table order, digest last."""
        return (*self, digest(self))


def digest(e: Entry) -> bytes:
    """SM3 of an event's content in a canonical form."""
    micros = (e.at - _EPOCH) // dt.timedelta(microseconds=1)
    return seal.sm3(orjson.dumps((micros, *e[1:])))


def link_hash(previous: bytes, event_digest: bytes, seq: int, event_id: int) -> bytes:
    """Hash of a chain link (the trigger ``access_chain`` computes the same)."""
    return seal.sm3(previous + event_digest + seq.to_bytes(8, "big") + event_id.to_bytes(8, "big"))


def entry(
    scope: Scope | None,
    action: str,
    *,
    person_id: int | None = None,
    what: str = "",
    detail: dict[str, Any] | None = None,
    outcome: str = "ok",
) -> Entry:
    """An event by ``scope`` now. ``what`` names the thing ("Observation/12", "referral ZZ…"); no names or identity numbers."""
    if action not in ACTIONS or outcome not in OUTCOMES:
        raise ValueError(f"unknown audit action or outcome: {action}/{outcome}")
    more = dict(detail or {})
    if ip := origin.get():
        more["ip"] = ip
    if scope is not None and scope.reason:
        more["why"] = scope.reason
    return Entry(
        at=clock.now(),
        action=action,
        outcome=outcome,
        account_id=scope.account_id if scope else None,
        client_id=scope.client_id if scope else None,
        practitioner_id=scope.practitioner_id if scope else None,
        institution_id=scope.institution_id if scope else None,
        person_id=person_id,
        what=what.replace("\x00", "\ufffd")[:2000],
        detail=json.dumps(more, ensure_ascii=False, sort_keys=True, default=str) if more else "",
    )


def write(
    scope: Scope | None,
    action: str,
    *,
    person_id: int | None = None,
    what: str = "",
    detail: dict[str, Any] | None = None,
    outcome: str = "ok",
) -> None:
    """Write one event inside the current transaction of Django's connection; it is linked when that commits."""
    write_many([entry(scope, action, person_id=person_id, what=what, detail=detail, outcome=outcome)])


def write_many(entries: Iterable[Entry], *, cursor: Any = None) -> None:
    """Write events in one statement inside the caller's transaction; they are linked at its commit."""
    rows = [e.row() for e in entries]
    if not rows:
        return
    if cursor is not None:
        _insert(cursor, rows)
        return
    with connection.cursor() as own:
        _insert(own, rows)


def append(cur: Any, entries: Iterable[Entry], stored: Sequence[tuple[int, bytes]] = ()) -> None:
    """Write a batch and give it one link, through any psycopg or Django cursor inside a transaction.

    ``stored``: events (id, digest) that are there and only want their link.  The shard's head stays locked until the caller's
    transaction ends: use it as the last statement before COMMIT.
    """
    rows = [e.row() for e in entries]
    events = list(stored)
    if rows:
        cur.execute("SELECT set_config('lianxin.audit_link', 'later', true)")
        events += zip(_insert(cur, rows), [row[-1] for row in rows], strict=True)
        cur.execute("SELECT set_config('lianxin.audit_link', '', true)")
    if events:
        link(cur, events)


def link(cur: Any, events: Sequence[tuple[int, bytes]]) -> None:
    """Give events (id, digest) their place: one link for all of them, in this order."""
    ids = [event_id for event_id, _ in events]
    cur.execute("SELECT shard, seq, hash FROM access_lock_head()")
    shard, seq, previous = cur.fetchone()
    value = link_hash(bytes(previous), batch_digest(events), seq + 1, ids[0])
    cur.execute(
        "INSERT INTO access_chainlink (shard, seq, event_id, more, hash) VALUES (%s, %s, %s, %s, %s)",
        [shard, seq + 1, ids[0], statements.plain_array(ids[1:]) if len(ids) > 1 else None, value],
    )
    cur.execute("UPDATE access_chainhead SET seq = %s, hash = %s WHERE shard = %s", [seq + 1, value, shard])


def batch_digest(events: Sequence[tuple[int, bytes]]) -> bytes:
    """What a link says of its events: the digest of a single one; for several, SM3 of their ids and digests in order."""
    if len(events) == 1:
        return events[0][1]
    return seal.sm3(b"".join(event_id.to_bytes(8, "big") + found for event_id, found in events))


def link_rest(older_than: dt.timedelta = dt.timedelta(seconds=10)) -> int:
    """Link what a process that died left without a link within the last day (periodic); returns how many events."""
    now = clock.now()
    with transaction.atomic(), connection.cursor() as cur:
        cur.execute("SELECT pg_advisory_xact_lock(hashtext('lianxin.audit.link_rest'))")
        cur.execute(
            f"{_UNLINKED} AND e.at >= %s AND e.at < %s ORDER BY e.id LIMIT %s",
            [now - dt.timedelta(days=1), now - older_than, BATCH],
        )
        rest = [(row[0], bytes(row[1])) for row in cur.fetchall()]
        if rest:
            link(cur, rest)
    return len(rest)


_UNLINKED = (
    "SELECT e.id, e.digest FROM access_auditevent e"
    " WHERE NOT EXISTS (SELECT 1 FROM access_chainlink l WHERE l.event_id = e.id)"
    " AND e.id NOT IN (SELECT unnest(l.more) FROM access_chainlink l WHERE l.more IS NOT NULL)"
)


INSERTION = f"INSERT INTO access_auditevent ({_COLUMNS}) SELECT {', '.join(f'%s::{kind}' for kind in _KINDS)}"
"""SQL that inserts one event, to be part of a larger statement (``FROM`` what decides whether there is one); see :func:`values`."""


def values(cur: Any, event: Entry) -> tuple[list[bytes | None], bytes]:
    """The values of :data:`INSERTION` for a :class:`~lianxin.access.statements.Statement` (the last as raw bytes), and the digest.

    On a connection with ``lianxin.audit_link = later`` the caller sees to the link (:mod:`lianxin.access.journal`).
    """
    _begin_day(cur)
    *row, found = event.row()
    return [*map(statements.text, row), found], found


def _begin_day(cur: Any) -> None:
    """On a new day the heads are anchored first."""
    global _anchored
    today = clock.today()
    if _anchored != today:
        anchor(cur, today)
        _anchored = today


def _insert(cur: Any, rows: list[tuple[Any, ...]]) -> list[int]:
    """Insert events; returns their ids in order."""
    _begin_day(cur)
    cur.execute(
        _INSERT, [write(column) for write, column in zip(_WRITERS, zip(*rows, strict=True), strict=True)]
    )
    return [int(one) for one in cur.fetchone()[0].split(",")]


_WRITERS = tuple(statements.writer(kind) for kind in _KINDS)
_INSERT = (
    "WITH given AS (SELECT nextval('access_auditevent_id_seq') AS id, g.* FROM"
    f" unnest({', '.join(f'%s::{kind}[]' for kind in _KINDS)}) WITH ORDINALITY AS g({_COLUMNS}, n)),"
    f" kept AS (INSERT INTO access_auditevent (id, {_COLUMNS}) SELECT id, {_COLUMNS} FROM given)"
    " SELECT string_agg(id::text, ',' ORDER BY n) FROM given"
)


def _mac(day: dt.date, shard: int, seq: int, head: bytes) -> bytes:
    return hmac.digest(seal.key("audit-anchor"), f"{day}|{shard}|{seq}|".encode() + head, "sm3")


def anchor(cur: Any = None, day: dt.date | None = None) -> int:
    """Anchor every shard's committed head for ``day`` (default today) once; returns how many anchors were new.

    Runs by itself with the first event of a day in each process; periodic tasks may call it too. Anchors are worth most
    when copied elsewhere (see :func:`anchors`).
    """
    day = day or clock.today()
    if cur is None:
        with connection.cursor() as own:
            return anchor(own, day)
    cur.execute("SELECT shard, seq, hash FROM access_chainhead ORDER BY shard")
    new = 0
    for shard, seq, head in cur.fetchall():
        cur.execute(
            "INSERT INTO access_chainanchor (day, shard, seq, hash, mac) VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (day, shard) DO NOTHING",
            [day, shard, seq, bytes(head), _mac(day, shard, seq, bytes(head))],
        )
        new += cur.rowcount
    return new


def anchors() -> list[tuple[dt.date, int, int, str]]:
    """All anchors as (day, shard, seq, hash in hex), to be kept outside this database."""
    with connection.cursor() as cur:
        cur.execute("SELECT day, shard, seq, hash FROM access_chainanchor ORDER BY day, shard")
        return [(day, shard, seq, bytes(h).hex()) for day, shard, seq, h in cur.fetchall()]


def verify() -> list[str]:
    """Re-compute every digest, link, head and anchor; returns one line per disagreement (none: the chain is whole)."""
    problems: list[str] = []
    with connection.cursor() as cur:
        if connection.in_atomic_block:
            cur.execute("SET CONSTRAINTS access_auditevent_chain IMMEDIATE")
            cur.execute("SET CONSTRAINTS access_auditevent_chain DEFERRED")
        cur.execute("SELECT shard, seq, hash FROM access_chainhead ORDER BY shard")
        heads = {shard: (seq, bytes(h)) for shard, seq, h in cur.fetchall()}
        cur.execute(f"{_UNLINKED} ORDER BY e.id LIMIT 100")
        problems += [f"event {row[0]} has no place in the chain" for row in cur.fetchall()]
        cur.execute("SELECT DISTINCT shard FROM access_chainlink ORDER BY shard")
        shards = sorted({row[0] for row in cur.fetchall()} | set(heads))
    places: dict[int, dict[int, bytes]] = {}
    wanted = _anchored_places(problems)
    for shard in shards:
        places[shard] = {0: GENESIS} if 0 in wanted.get(shard, {}) else {}
        seq, previous = 0, GENESIS
        for at, stored, events in _links(shard):
            if at != seq + 1:
                problems.append(f"shard {shard}: links {seq + 1}..{at - 1} are missing")
            wrong = [
                f"shard {shard}/{at}: event {event_id} {'is missing' if event is None else 'was altered'}"
                for event_id, found, event in events
                if event is None or digest(event) != found
            ]
            problems += wrong
            whole = batch_digest([(event_id, found) for event_id, found, _ in events])
            if not wrong and at == seq + 1 and link_hash(previous, whole, at, events[0][0]) != stored:
                problems.append(f"shard {shard}/{at}: link does not follow from the one before")
            seq, previous = at, stored
            if at in wanted.get(shard, {}):
                places[shard][at] = stored
        if shard not in heads:
            if seq:
                problems.append(f"shard {shard}: head is missing")
        elif heads[shard] != (seq, previous):
            problems.append(f"shard {shard}: head says {heads[shard][0]}, the chain ends at {seq}")
    for shard, expected in wanted.items():
        for at, (day, value) in sorted(expected.items()):
            if places.get(shard, {}).get(at) != value:
                problems.append(f"shard {shard}: the anchor of {day} at {at} does not fit the chain")
    return problems


def _anchored_places(problems: list[str]) -> dict[int, dict[int, tuple[dt.date, bytes]]]:
    wanted: dict[int, dict[int, tuple[dt.date, bytes]]] = {}
    with connection.cursor() as cur:
        cur.execute("SELECT day, shard, seq, hash, mac FROM access_chainanchor ORDER BY day, shard")
        for day, shard, seq, value, mac in cur.fetchall():
            if not hmac.compare_digest(bytes(mac), _mac(day, shard, seq, bytes(value))):
                problems.append(f"shard {shard}: the anchor of {day} is forged")
                continue
            wanted.setdefault(shard, {})[seq] = (day, bytes(value))
    return wanted


def _links(shard: int) -> Iterator[tuple[int, bytes, list[tuple[int, bytes, Entry | None]]]]:
    """Links of a shard in order: (place, hash, its events as (id, stored digest, event or None)), read in slices."""
    last = 0
    while True:
        with connection.cursor() as cur:
            cur.execute(
                "SELECT seq, hash, event_id, more FROM access_chainlink WHERE shard = %s AND seq > %s ORDER BY seq LIMIT 1000",
                [shard, last],
            )
            links = [
                (seq, bytes(stored), [first, *(more or ())]) for seq, stored, first, more in cur.fetchall()
            ]
            cur.execute(
                f"SELECT id, {_COLUMNS} FROM access_auditevent WHERE id = ANY(%s)",
                [[i for *_, ids in links for i in ids]],
            )
            events = {row[0]: (bytes(row[-1]), Entry(*row[1:-1])) for row in cur.fetchall()}
        for seq, stored, ids in links:
            yield seq, stored, [(i, *events.get(i, (b"", None))) for i in ids]
        if len(links) < 1000:
            return
        last = links[-1][0]
