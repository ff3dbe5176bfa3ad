"""Finding free numbers. A hold past its expiry counts as free here as it does in booking."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import connection

from lianxin.pool.models import RANK, TIERS
from lianxin.standards import clock


@dataclass(frozen=True)
class Offer:
    """A session with ``free`` numbers for the channel asked for."""

    session_id: int
    institution_id: int
    institution: str
    department_id: int
    department: str
    practitioner_id: int | None
    practitioner: str
    specialty: str
    clinic_type: str
    starts_at: dt.datetime
    ends_at: dt.datetime
    capacity: int
    free: int
    fee_fen: int


_COLUMNS = """s.id, s.institution_id, i.name AS institution, s.department_id, d.name AS department, s.practitioner_id,
       coalesce(pr.name, '') AS practitioner, s.specialty, s.clinic_type, s.starts_at, s.ends_at, s.capacity, f.free, s.fee_fen"""

_SUMS = ", ".join(
    f"coalesce(sum(h.units) FILTER (WHERE h.channel = '{tier}'), 0)::int AS {tier}" for tier in TIERS
)
_LAPSED = f"""
  LEFT JOIN (SELECT h.session_id, {_SUMS} FROM pool_place h
              WHERE h.state = 'held' AND h.expires_at <= %(now)s GROUP BY 1) lapsed ON lapsed.session_id = s.id"""
"""Holds that have run out, by session: few at any moment and known by an index, so sums over many sessions join them once."""
_LAPSED_OF_EACH = f"""
 CROSS JOIN LATERAL (SELECT {_SUMS} FROM pool_place h
                      WHERE h.session_id = s.id AND h.state = 'held' AND h.expires_at <= %(now)s) lapsed"""
"""The same looked up for each session: for queries that stop after a few (the planner cannot know how few have run out)."""


def _limits(channel: str) -> str:
    """SQL: how many numbers of ``s`` a channel could take now, holds that have run out counted as free."""
    names = list(TIERS)
    taken = [f"s.taken_{tier} - coalesce(lapsed.{tier}, 0)" for tier in names]
    limits = [f"s.capacity - ({' + '.join(taken)})"]
    for n in range(RANK[channel] + 1, len(names)):
        limits.append(
            f"CASE WHEN s.release_{names[n]} <= %(now)s THEN s.capacity"
            f" ELSE s.capacity - s.reserved_{names[n]} - ({' + '.join(taken[:n])}) END"
        )
    return f"greatest(least({', '.join(limits)}), 0)"


_JOINS = """
  JOIN network_institution i ON i.id = s.institution_id JOIN network_department d ON d.id = s.department_id
  LEFT JOIN network_practitioner pr ON pr.id = s.practitioner_id"""


def _run(
    where: str, order: str, limit: int, params: dict[str, Any], channel: str, units: int = 1
) -> list[Offer]:
    sql = (
        f"SELECT {_COLUMNS} FROM pool_session s {_JOINS} {_LAPSED_OF_EACH}"
        f" CROSS JOIN LATERAL (SELECT {_limits(channel)} AS free) f"
        f" WHERE s.status = 'open' AND s.starts_at > %(now)s AND s.opens_at <= %(now)s AND f.free >= {int(units)}"
        f" AND {where} ORDER BY {order} LIMIT {int(limit)}"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        rows = cursor.fetchall()
    return [_offer(row) for row in rows]


def _offer(row: tuple[Any, ...]) -> Offer:
    values: list[Any] = list(row)
    values[9], values[10] = row[9].astimezone(clock.ZONE), row[10].astimezone(clock.ZONE)
    return Offer(*values)


def find(
    *,
    specialty: str | None = None,
    institution: int | Iterable[int] | None = None,
    department: int | None = None,
    practitioner: int | None = None,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    channel: str = "public",
    kind: str = "clinic",
    limit: int = 200,
) -> list[Offer]:
    """Sessions with free numbers for ``channel``, soonest first (default window: now to 14 days on).

    ``institution``: one id or several. Nothing is locked: booking decides.
    """
    now = clock.now()
    start = max(since or now, now)
    params: dict[str, Any] = {
        "now": now, "kind": kind, "since": start, "until": until or start + dt.timedelta(days=14),
    }  # fmt: skip
    where = ["s.starts_at >= %(since)s", "s.starts_at < %(until)s", "s.kind = %(kind)s"]
    if specialty is not None:
        where.append("s.specialty = %(specialty)s")
        params["specialty"] = specialty
    if institution is not None:
        where.append("s.institution_id = ANY(%(institutions)s)")
        params["institutions"] = [institution] if isinstance(institution, int) else list(institution)
    if department is not None:
        where.append("s.department_id = %(department)s")
        params["department"] = department
    if practitioner is not None:
        where.append("s.practitioner_id = %(practitioner)s")
        params["practitioner"] = practitioner
    return _run(" AND ".join(where), "s.starts_at, s.id", limit, params, channel)


@dataclass(frozen=True)
class Free:
    """Free numbers of an institution within a window, and when the next one is."""

    institution_id: int
    free: int
    next_at: dt.datetime


def free_by_institution(
    specialty: str, institutions: Iterable[int], channel: str, days: int = 14
) -> dict[int, Free]:
    """institution id → free numbers of a specialty in the next ``days`` and the soonest session (one statement)."""
    now = clock.now()
    sql = (
        "SELECT institution_id, sum(free)::int, min(starts_at)"
        f" FROM (SELECT s.institution_id, s.starts_at, {_limits(channel)} AS free FROM pool_session s {_LAPSED}"
        " WHERE s.status = 'open' AND s.opens_at <= %(now)s AND s.kind = 'clinic' AND s.specialty = %(specialty)s"
        " AND s.institution_id = ANY(%(ids)s) AND s.starts_at > %(now)s AND s.starts_at < %(until)s OFFSET 0) f"
        " WHERE free > 0 GROUP BY 1"
    )
    params: dict[str, Any] = {
        "now": now, "until": now + dt.timedelta(days=days), "specialty": specialty,
        "ids": list(institutions),
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return {r[0]: Free(r[0], r[1], r[2].astimezone(clock.ZONE)) for r in cursor.fetchall()}


class Day(NamedTuple):
    """An institution's sessions of one day: ``free`` numbers, the lowest fee and the first time among those with free ones.

    ``free`` 0: there are sessions, but none with a number left (then fee and time are those of all of them).
    """

    institution_id: int
    day: dt.date
    sessions: int
    free: int
    fee_fen: int
    first_at: dt.datetime


def calendar(
    specialty: str | None = None,
    institutions: Iterable[int] | None = None,
    since: dt.date | None = None,
    days: int = 14,
    channel: str = "public",
    kind: str = "clinic",
) -> list[Day]:
    """Free numbers by institution and day, for ``days`` days from ``since`` (today); by institution, then day.

    Only sessions that are to come, run, and may be booked already are counted. Without ``specialty``: of all. One statement;
    nothing is locked: booking decides.
    """
    now, begin = clock.now(), since or clock.today()
    mornings = [
        dt.datetime.combine(begin + dt.timedelta(days=n), dt.time(), clock.ZONE) for n in range(days + 1)
    ]
    params: dict[str, Any] = {
        "now": now, "kind": kind, "since": max(mornings[0], now), "until": mornings[-1], "mornings": mornings,
    }  # fmt: skip
    where = ""
    if specialty is not None:
        where += " AND s.specialty = %(specialty)s"
        params["specialty"] = specialty
    if institutions is not None:
        where += " AND s.institution_id = ANY(%(institutions)s)"
        params["institutions"] = list(institutions)
    # OFFSET 0 has the limits worked out once for each session, not once for each use; whole numbers are quickly read.
    sql = (
        "SELECT institution_id, width_bucket(starts_at, %(mornings)s::timestamptz[]), count(*)::int, sum(free)::int,"
        " coalesce(min(fee_fen) FILTER (WHERE free > 0), min(fee_fen)),"
        " extract(epoch FROM coalesce(min(starts_at) FILTER (WHERE free > 0), min(starts_at)))::bigint"
        f" FROM (SELECT s.institution_id, s.starts_at, s.fee_fen, {_limits(channel)} AS free FROM pool_session s {_LAPSED}"
        " WHERE s.status = 'open' AND s.kind = %(kind)s AND s.opens_at <= %(now)s AND s.starts_at > %(now)s"
        f" AND s.starts_at >= %(since)s AND s.starts_at < %(until)s{where} OFFSET 0) f GROUP BY 1, 2"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        rows = sorted(cursor.fetchall())
    listed, at, zone = [m.date() for m in mornings], dt.datetime.fromtimestamp, clock.ZONE
    return [
        Day(place, listed[n - 1], many, free, fee, at(first, zone))
        for place, n, many, free, fee, first in rows
    ]


def alternatives(session_id: int, channel: str, units: int = 1, count: int = 3) -> list[Offer]:
    """Up to ``count`` other sessions of the same specialty with free numbers: here first, then elsewhere, nearest in time."""
    params = {"now": clock.now(), "session": session_id, "horizon": dt.timedelta(days=30)}
    own = "(SELECT institution_id FROM pool_session WHERE id = %(session)s)"
    start = "(SELECT starts_at FROM pool_session WHERE id = %(session)s)"
    return _run(
        "s.id <> %(session)s AND s.starts_at < %(now)s + %(horizon)s"
        " AND (s.specialty, s.kind) = (SELECT specialty, kind FROM pool_session WHERE id = %(session)s)",
        f"abs(extract(epoch FROM s.starts_at - {start})) + CASE WHEN s.institution_id = {own} THEN 0 ELSE 172800 END, s.id",
        count,
        params,
        channel,
        units,
    )
