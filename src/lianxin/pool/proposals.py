"""Better quotas from what was asked for: history of a group of sessions, its demand by channel, the proposal and its back-test.

A *group* are the weekly templates of a department with one kind, clinic type and capacity: they get one set of quotas. Only what was
asked before release counts towards protection (afterwards nobody is protected). Demand is what was given and what was refused; a
channel that had no room left at release and refused nobody (they may have seen "full" and gone) is a closed door: what it showed is
the least it wanted (see ``littlewood.mean_of``).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection
from django.db.models import Q

from lianxin.pool import littlewood as lw
from lianxin.pool.models import RANK, TIERS, Template
from lianxin.standards import clock

Kept = tuple[int, int, int]
"""Numbers kept from the county, the township, the village on."""


@dataclass(frozen=True)
class Group:
    """Templates that share a department, kind, clinic type, capacity; ``old``: the quotas most of them have."""

    institution_id: int
    department_id: int
    kind: str
    clinic_type: str
    capacity: int
    old: Kept
    templates: tuple[int, ...]


@dataclass(frozen=True)
class PastSession:
    """A session that is over, as it can be replayed; ``seen``: by channel, what was asked before release and whether there may have been more."""

    session_id: int
    day: dt.date
    kept: Kept
    past: lw.Past
    seen: tuple[tuple[int, bool], ...]

    @property
    def week(self) -> dt.date:
        """Its Monday."""
        return self.day - dt.timedelta(days=self.day.weekday())


def live_templates(group: Group | Any, on: dt.date) -> Any:
    """Templates of a group (or of a proposal, which names the same) that make sessions on ``on`` or later."""
    return Template.objects.filter(
        Q(until=None) | Q(until__gt=on),
        department_id=group.department_id,
        kind=group.kind,
        clinic_type=group.clinic_type,
        capacity=group.capacity,
    ).order_by("id")


def groups(institutions: Iterable[int], on: dt.date | None = None) -> list[Group]:
    """Groups of the templates that make sessions now, by department, type and capacity."""
    day = on or clock.today()
    rows = Template.objects.filter(Q(until=None) | Q(until__gt=day), institution_id__in=list(institutions))
    found: dict[tuple[int, int, str, str, int], list[Template]] = {}
    for row in rows.order_by("department_id", "kind", "clinic_type", "-capacity", "id"):
        found.setdefault(
            (row.institution_id, row.department_id, row.kind, row.clinic_type, row.capacity), []
        ).append(row)
    made = []
    for key, templates in found.items():
        kinds = [(t.reserved_county, t.reserved_township, t.reserved_village) for t in templates]
        made.append(Group(*key, old=max(kinds, key=kinds.count), templates=tuple(t.pk for t in templates)))
    return made


_PAST = """
SELECT s.id, s.starts_at, s.capacity, s.reserved_county, s.reserved_township, s.reserved_village,
       s.release_county, s.release_township, s.release_village
  FROM pool_session s WHERE s.department_id = %(department)s AND s.institution_id = %(institution)s AND s.kind = %(kind)s
   AND s.clinic_type = %(type)s AND s.capacity - s.extra = %(capacity)s AND s.status = 'open' AND s.ends_at <= %(now)s
   AND s.starts_at >= %(since)s ORDER BY s.starts_at, s.id"""
_ASKED = """
SELECT p.session_id, p.made_at, p.channel, p.units, true FROM pool_place p
 WHERE p.session_id = ANY(%(ids)s) AND p.state <> 'cancelled'
UNION ALL
SELECT d.session_id, d.day::timestamp AT TIME ZONE %(zone)s + m * interval '1 minute', d.channel,
       greatest(1, d.units / d.people), false
  FROM pool_demand d CROSS JOIN unnest(d.minutes) m WHERE d.session_id = ANY(%(ids)s)
UNION ALL
SELECT t.session_id, t.first_at, t.channel, t.units, false FROM pool_turnedaway t WHERE t.session_id = ANY(%(ids)s)"""


def history(group: Group, since: dt.date) -> list[PastSession]:
    """The group's sessions from ``since`` that are over and were held, with everything asked of them."""
    values: dict[str, Any] = {
        "department": group.department_id, "institution": group.institution_id, "kind": group.kind, "type": group.clinic_type,
        "capacity": group.capacity, "now": clock.now(), "since": dt.datetime.combine(since, dt.time(), clock.ZONE),
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_PAST, values)
        rows = cursor.fetchall()
        cursor.execute(_ASKED, {"ids": [row[0] for row in rows], "zone": clock.ZONE.key})
        asked: dict[int, list[tuple[float, int, int, bool]]] = {}
        for pk, at, channel, units, got in cursor.fetchall():
            asked.setdefault(pk, []).append((at.timestamp(), RANK[channel], units, got))
    return [_past(row, asked.get(row[0], [])) for row in rows]


def _past(row: tuple[Any, ...], asked: list[tuple[float, int, int, bool]]) -> PastSession:
    pk, starts, capacity, *more = row
    kept, releases = tuple(more[:3]), tuple(r.timestamp() for r in more[3:])
    taken, wanted = [0] * 4, [0] * 4
    for at, rank, units, got in asked:
        if at < releases[0]:
            wanted[rank] += units
            taken[rank] += units if got else 0
    seen = tuple(
        (
            wanted[rank],
            wanted[rank] == taken[rank]
            and (
                sum(taken) >= capacity
                or any(sum(taken[:t]) >= capacity - kept[t - 1] for t in range(rank + 1, 4))
            ),
        )
        for rank in range(4)
    )
    requests = tuple(lw.Request(at, rank, units) for at, rank, units, _ in asked)
    day = starts.astimezone(clock.ZONE).date()
    return PastSession(pk, day, kept, lw.Past(capacity, releases, requests), seen)


@dataclass
class Proposed:
    """Quotas and where they come from; ``means``/``spreads`` by channel."""

    kept: Kept
    best: Kept
    means: tuple[float, ...]
    spreads: tuple[float, ...]


def fit(
    past: Sequence[PastSession], capacity: int, values: Sequence[float], floor: tuple[int, int] = (0, 0)
) -> Proposed:
    """The best quotas for the demand of ``past``, raised to ``floor`` (township, village) where they are below it."""
    means = tuple(lw.mean_of([p.seen[r] for p in past]) for r in range(4))
    spreads = tuple(lw.spread_of([p.seen[r] for p in past]) for r in range(4))
    demand = [lw.distribution(m, s, capacity) for m, s in zip(means, spreads, strict=True)]
    county, township, village = lw.nested(demand, values, capacity)
    best = (county, township, village)
    return Proposed(raised(best, floor, capacity), best, means, spreads)


def raised(kept: Kept, floor: tuple[int, int], capacity: int) -> Kept:
    """Quotas raised to what remote townships are owed (township, village), still nested."""
    county, township, village = kept
    village = min(capacity, max(village, floor[1]))
    township = min(capacity, max(township, floor[0], village))
    return (max(county, township), township, village)


@dataclass
class BackTest:
    """Past demand given out anew: under the quotas that were, under the proposal, and week by week under quotas fitted without that week."""

    old: lw.Outcome = field(default_factory=lw.Outcome)
    new: lw.Outcome = field(default_factory=lw.Outcome)
    unseen: lw.Outcome = field(default_factory=lw.Outcome)
    weeks: list[tuple[dt.date, lw.Outcome, lw.Outcome]] = field(default_factory=list)


def back_test(
    past: Sequence[PastSession],
    proposed: Kept,
    capacity: int,
    values: Sequence[float],
    floor: tuple[int, int] = (0, 0),
    *,
    fitted: bool = True,
) -> BackTest:
    """Replay ``past``. ``unseen`` is the honest figure: each week is judged by quotas that have not seen it (needs two weeks).

    ``fitted``: whether ``proposed`` comes from :func:`fit`; quotas that do not are the same for every week.
    """
    test = BackTest()
    weeks = sorted({p.week for p in past})
    for week in weeks:
        others = [p for p in past if p.week != week]
        judged = fit(others, capacity, values, floor).kept if others and fitted else proposed
        before, after = lw.Outcome(), lw.Outcome()
        for p in past:
            if p.week == week:
                before.add(lw.replay(p.past, p.kept))
                test.new.add(lw.replay(p.past, proposed))
                after.add(lw.replay(p.past, judged))
        test.old.add(before)
        test.unseen.add(after)
        test.weeks.append((week, before, after))
    return test


def told(outcome: lw.Outcome) -> dict[str, Any]:
    """An outcome as plain data."""
    names = list(TIERS)
    return {
        "served": dict(zip(names, outcome.served, strict=True)), "refused": dict(zip(names, outcome.refused, strict=True)),
        "empty": outcome.empty, "capacity": outcome.capacity,
    }  # fmt: skip
