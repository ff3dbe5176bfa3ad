"""What became of numbers: used by whom, kept and released, left empty, not come for; and who was turned away.

Everything is worked out per session, so that every figure opens down to sessions; weeks, departments and types are sums. Words, of
one session: *kept* are the numbers that the public could not take before release; *used* those of them that the channels after it
had taken by then (village first, then township, then county, each up to what is left); the rest was *released* at
``release_county``, and of that part was *taken* after all (open numbers go first) or *stayed empty*. *Waste* are empty numbers and
no-shows of sessions that are over and were not stopped. Numbers that were cancelled count as never taken.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from lianxin.pool.models import TIERS
from lianxin.standards import clock

GRASSROOTS = ("village", "township", "county")
_TOOK = ", ".join(
    f"coalesce(sum(p.units) FILTER (WHERE p.channel = '{t}' AND p.made_at < s.release_county), 0)::int AS early_{t},"
    f" coalesce(sum(p.units) FILTER (WHERE p.channel = '{t}'), 0)::int AS took_{t}"
    for t in TIERS
)
_AWAY = ", ".join(
    f"coalesce(sum(d.people) FILTER (WHERE d.channel = '{t}'), 0)::int AS away_{t}" for t in TIERS
)

_SESSIONS = f"""
WITH s AS MATERIALIZED (
     SELECT * FROM pool_session WHERE institution_id = ANY(%(institutions)s) AND starts_at >= %(since)s AND starts_at < %(until)s),
  p AS (SELECT s.id, {_TOOK} FROM s JOIN pool_place p ON p.session_id = s.id WHERE p.state <> 'cancelled' GROUP BY s.id),
  d AS (SELECT d.session_id AS id, {_AWAY} FROM (
            SELECT session_id, channel, people FROM pool_demand WHERE session_id IN (SELECT id FROM s)
             UNION ALL SELECT session_id, channel, 1 FROM pool_turnedaway WHERE session_id IN (SELECT id FROM s)) d GROUP BY 1)
SELECT s.id, s.institution_id, s.department_id, s.practitioner_id, s.kind, s.clinic_type, s.starts_at, s.ends_at, s.status,
       s.capacity, s.reserved_county, s.release_county, s.no_shows, s.arrived,
       {", ".join(f"coalesce(p.early_{t}, 0), coalesce(p.took_{t}, 0)" for t in TIERS)},
       {", ".join(f"coalesce(d.away_{t}, 0)" for t in TIERS)}
  FROM s LEFT JOIN p USING (id) LEFT JOIN d USING (id) ORDER BY s.starts_at, s.id"""


@dataclass
class Figures:
    """Sums over sessions; all in numbers, ``away`` in people by channel. ``empty`` and ``no_shows`` are of sessions that are over."""

    sessions: int = 0
    stopped: int = 0
    over: int = 0
    capacity: int = 0
    over_capacity: int = 0
    taken: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TIERS, 0))
    kept: int = 0
    used: dict[str, int] = field(default_factory=lambda: dict.fromkeys(GRASSROOTS, 0))
    released: int = 0
    released_taken: int = 0
    released_empty: int = 0
    empty: int = 0
    no_shows: int = 0
    arrived: int = 0
    away: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TIERS, 0))

    def add(self, other: Figures) -> None:
        """Take another's figures in."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(mine, dict):
                for key, n in value.items():
                    mine[key] += n
            else:
                setattr(self, name, mine + value)

    @property
    def all_taken(self) -> int:
        """Numbers taken through any channel."""
        return sum(self.taken.values())

    @property
    def all_used(self) -> int:
        """Kept numbers that those for whom they were kept took before release."""
        return sum(self.used.values())

    @property
    def all_away(self) -> int:
        """People turned away through any channel."""
        return sum(self.away.values())

    @property
    def waste(self) -> int:
        """Numbers that served nobody: left empty, or not come for."""
        return self.empty + self.no_shows

    @property
    def fill(self) -> float | None:
        """Taken numbers in a hundred; None without any capacity."""
        return _share(self.all_taken, self.capacity)

    @property
    def waste_share(self) -> float | None:
        """Waste in a hundred numbers of sessions that are over."""
        return _share(self.waste, self.over_capacity)

    @property
    def used_share(self) -> float | None:
        """Kept numbers used by those for whom they were kept, in a hundred of those whose release has come."""
        return _share(self.all_used, self.all_used + self.released)


def _share(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 1) if whole else None


@dataclass
class Used:
    """One session and what became of its numbers."""

    session_id: int
    institution_id: int
    department_id: int
    practitioner_id: int | None
    kind: str
    clinic_type: str
    starts_at: dt.datetime
    ends_at: dt.datetime
    stopped: bool
    figures: Figures

    @property
    def day(self) -> dt.date:
        """The day in Shanghai."""
        return self.starts_at.astimezone(clock.ZONE).date()


def sessions(institutions: Iterable[int], since: dt.date, until: dt.date) -> list[Used]:
    """Every session of ``institutions`` from ``since`` until before ``until``, with its figures; soonest first. Two statements' work."""
    start, end = (dt.datetime.combine(d, dt.time(), clock.ZONE) for d in (since, until))
    with connection.cursor() as cursor:
        cursor.execute(_SESSIONS, {"institutions": list(institutions), "since": start, "until": end})
        return [_used(row, clock.now()) for row in cursor.fetchall()]


def _used(row: tuple[Any, ...], now: dt.datetime) -> Used:
    (
        pk,
        institution,
        department,
        practitioner,
        kind,
        clinic_type,
        starts,
        ends,
        status,
        capacity,
        kept,
        release,
        missed,
        came,
    ) = row[:14]
    names = list(TIERS)
    early = dict(zip(names, row[14:22:2], strict=True))
    took = dict(zip(names, row[15:22:2], strict=True))
    away = dict(zip(names, row[22:26], strict=True))
    stopped, over = status == "stopped", ends <= now
    f = Figures(sessions=1, stopped=int(stopped), taken=took, away=away, no_shows=0, arrived=came)
    if not stopped:
        f.capacity, f.kept = capacity, kept
        left = kept
        for tier in GRASSROOTS:
            f.used[tier] = min(early[tier], left)
            left -= f.used[tier]
        if release <= now:
            f.released = left
            open_left = capacity - sum(early.values()) - left
            late = sum(took.values()) - sum(early.values())
            f.released_taken = min(left, max(0, late - max(0, open_left)))
            if over:
                f.released_empty = left - f.released_taken
        if over:
            f.over, f.over_capacity = 1, capacity
            f.empty, f.no_shows = max(0, capacity - sum(took.values())), missed
    return Used(pk, institution, department, practitioner, kind, clinic_type, starts.astimezone(clock.ZONE), ends.astimezone(clock.ZONE), stopped, f)  # fmt: skip


def total(rows: Iterable[Used]) -> Figures:
    """The sum of sessions."""
    whole = Figures()
    for row in rows:
        whole.add(row.figures)
    return whole


def grouped(rows: Iterable[Used], key: Callable[[Used], Any]) -> dict[Any, Figures]:
    """Sums by ``key``, in the order in which keys come."""
    found: dict[Any, Figures] = {}
    for row in rows:
        found.setdefault(key(row), Figures()).add(row.figures)
    return found
