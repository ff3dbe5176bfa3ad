"""The past weeks' numbers of the county's hospitals: booked, kept, released, missed, and people turned away.

Plain pool bookings without cases, written in bulk: each session's requests are drawn, put in order of time and answered by the pool's
own rule, beside whatever was booked there already. Nothing is played for today or later.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from django.db import connection, transaction

from lianxin.index.models import Person
from lianxin.network.models import Institution
from lianxin.pool.models import RANK, TIERS, Demand, Place, Session
from lianxin.resident.quotas import service
from lianxin.standards import clock

KEY = "history-"
DAY = 86_400.0
# How much of a session each channel asks for: (share of capacity, share of the busiest department's on top).
WANTED = {"public": (0.45, 0.75), "county": (0.02, 0.04), "township": (0.10, 0.35), "village": (0.02, 0.14)}
MISSED = {"public": 0.08, "county": 0.04, "township": 0.03, "village": 0.03}
_WRITE = """
INSERT INTO pool_place (session_id, institution_id, seat_no, units, at, person_id, channel, state, key, item, made_at, changed_at, reason)
SELECT g.session, s.institution_id, g.seat, 1,
       s.starts_at + (s.ends_at - s.starts_at) * least(g.seat - 1, greatest(s.capacity - s.extra, 1)) / greatest(s.capacity - s.extra, 1),
       g.person, g.channel, g.state, g.key, '', g.made, s.ends_at, ''
  FROM unnest(%s::bigint[], %s::int[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::timestamptz[])
       g(session, seat, person, channel, state, key, made) JOIN pool_session s ON s.id = g.session"""


@dataclass
class _Row:
    session: int
    seat: int
    person: int
    channel: str
    state: str
    key: str
    made: dt.datetime


def play(codes: Iterable[str], seed: int, now: dt.datetime, weeks: int = 4) -> int:
    """Fill the last ``weeks`` weeks (up to yesterday) of the hospitals among ``codes``, then propose quotas; returns how many numbers.

    Played once: a second call changes nothing. A county of fewer than a thousand people has none of it.
    """
    hospitals = Institution.objects.filter(code__in=list(codes), tier="county")
    played = Place.objects.unscoped("scenario: played before?").filter(key__startswith=KEY)
    if played.filter(institution__in=hospitals).exists():
        return 0
    today = now.astimezone(clock.ZONE).replace(hour=0, minute=0, second=0, microsecond=0)
    sessions = list(
        Session.objects.filter(
            institution__in=hospitals, kind="clinic", status="open", starts_at__gte=today - dt.timedelta(weeks=weeks), starts_at__lt=today
        ).order_by("starts_at", "pk")
    )  # fmt: skip
    people = list(
        Person.objects.unscoped("scenario: who books")
        .filter(status="active")
        .order_by("pk")
        .values_list("pk", flat=True)[:20_000]
    )
    if not sessions or len(people) < 1_000:
        return 0
    seats: dict[int, dict[int, int]] = {}
    there = (
        Place.objects.unscoped("scenario: seats taken")
        .filter(session__in=sessions)
        .exclude(state="cancelled")
    )
    for session_id, seat, person in there.values_list("session_id", "seat_no", "person_id"):
        seats.setdefault(session_id, {})[seat] = person
    rows: list[_Row] = []
    demand: list[Demand] = []
    for session in sessions:
        draw = Random(
            f"quotas:{seed}:{session.department_id}:{session.practitioner_id}:{session.starts_at:%Y%m%d%H}"
        )
        made, away = _one(session, draw, people, seats.get(session.pk, {}))
        rows += made
        demand += away
    with transaction.atomic():
        _keep(sessions, rows, demand)
    with clock.at(now):
        for pk in sorted({s.institution_id for s in sessions}):
            service.refresh(Institution.objects.get(pk=pk))
    return len(rows)


def _one(
    session: Session, draw: Random, people: list[int], seats: dict[int, int]
) -> tuple[list[_Row], list[Demand]]:
    busy = Random(f"busy:{session.department_id}").random()
    start = session.starts_at.timestamp()
    opens = min(max(session.opens_at.timestamp(), start - 14 * DAY), start - DAY)
    asked: list[tuple[float, str]] = []
    for channel, (base, more) in WANTED.items():
        for _ in range(_poisson(draw, session.capacity * (base + more * busy))):
            # The public asks soon after opening, the grassroots when somebody has sat before them: in the last week.
            ahead = (
                draw.expovariate(1 / (2.5 * DAY))
                if channel == "public"
                else start - opens - draw.triangular(0.1, 7, 1.6) * DAY
            )
            asked.append((min(max(opens + ahead, opens), start - 1800), channel))
    asked.sort()
    taken = Counter({tier: getattr(session, f"taken_{tier}") for tier in TIERS})
    free = [n for n in range(1, session.capacity + 1) if n not in seats]
    fresh = draw.sample(people, min(len(people), len(asked) + len(seats) + 1))
    persons = [p for p in fresh if p not in set(seats.values())]
    rows: list[_Row] = []
    away: dict[tuple[str, dt.date], list[int]] = {}
    for n, (at, channel) in enumerate(asked):
        moment = dt.datetime.fromtimestamp(at, clock.ZONE)
        if free and _room(session, taken, channel, moment):
            taken[channel] += 1
            state = "no_show" if draw.random() < MISSED[channel] else "fulfilled"
            rows.append(
                _Row(
                    session.pk,
                    free.pop(0),
                    persons[n % len(persons)],
                    channel,
                    state,
                    f"{KEY}{session.pk}-{n}",
                    moment,
                )
            )
        else:
            away.setdefault((channel, moment.date()), []).append(moment.hour * 60 + moment.minute)
    demand = [
        Demand(session_id=session.pk, channel=channel, day=day, people=len(m), times=len(m) + draw.randint(0, len(m)), units=len(m), minutes=sorted(m))
        for (channel, day), m in away.items()
    ]  # fmt: skip
    return rows, demand


def _room(session: Session, taken: Counter[str], channel: str, at: dt.datetime) -> bool:
    names = list(TIERS)
    return sum(taken.values()) < session.capacity and all(
        getattr(session, f"release_{names[t]}") <= at
        or sum(taken[name] for name in names[:t])
        < session.capacity - getattr(session, f"reserved_{names[t]}")
        for t in range(RANK[channel] + 1, 4)
    )


def _poisson(draw: Random, mean: float) -> int:
    """A Poisson number (Knuth): sessions are small."""
    limit, n, product = math.exp(-mean), 0, draw.random()
    while product > limit:
        n, product = n + 1, product * draw.random()
    return n


def _keep(sessions: list[Session], rows: list[_Row], demand: list[Demand]) -> None:
    columns = ([getattr(r, name) for r in rows] for name in _Row.__dataclass_fields__)
    with connection.cursor() as cursor:
        cursor.execute(_WRITE, list(columns))
    by_session = {s.pk: s for s in sessions}
    for row in rows:
        session = by_session[row.session]
        setattr(session, f"taken_{row.channel}", getattr(session, f"taken_{row.channel}") + 1)
        if row.state == "no_show":
            session.no_shows += 1
        else:
            session.arrived += 1
            session.fulfilled += 1
    Session.objects.bulk_update(
        sessions, [*(f"taken_{tier}" for tier in TIERS), "no_shows", "arrived", "fulfilled"], batch_size=500
    )
    Demand.objects.bulk_create(demand, batch_size=1000, ignore_conflicts=True)
