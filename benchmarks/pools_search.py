"""Finding free numbers among 500,000 sessions against its limit of 30 ms: ``python benchmarks/pools_search.py``.

A scratch database: 200 institutions x 14 specialties x 3 sessions a day x 60 days (20 behind, 40 ahead), filled as clinics are
(the nearer the fuller), 200,000 places, 20,000 holds that run and 2,000 that have run out. Measured in this process, through
``pool.search`` and its answer as Python objects; a query's specialty, institution, channel and first day change each time.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))
import against_pgbench as bench

INSTITUTIONS, SPECIALTIES, BEHIND, AHEAD = 200, 14, 20, 40
PLACES, HOLDS, LAPSED, PEOPLE = 200_000, 20_000, 2_000, 1_000
LIMIT, ROUNDS = 30.0, 200

_SESSIONS = """
INSERT INTO pool_session (institution_id, department_id, specialty, kind, clinic_type, starts_at, ends_at, opens_at, capacity,
       reserved_county, reserved_township, reserved_village, release_county, release_township, release_village,
       taken_public, taken_county, taken_township, taken_village, arrived, no_shows, fulfilled, fee_fen, status)
SELECT d.institution_id, d.id, d.specialty, 'clinic', k.name, day + k.at, day + k.at + interval '3 hours',
       day - interval '14 days', 20, 8, 6, 2, day - interval '7 hours', day - interval '7 hours', day - interval '7 hours',
       (12 * f.fill)::int, (2 * f.fill)::int, (4 * f.fill * f.odd)::int, (2 * f.fill * f.odd)::int, 0, 0, 0, k.fee,
       CASE WHEN f.odd > 0.985 THEN 'stopped' ELSE 'open' END
  FROM generate_series(%(today)s::timestamptz - %(behind)s * interval '1 day', %(today)s::timestamptz
                       + (%(ahead)s - 1) * interval '1 day', interval '1 day') day
 CROSS JOIN network_department d
 CROSS JOIN (VALUES ('普通', interval '8 hours', 1200), ('普通', interval '14 hours', 1200), ('专家', interval '8 hours', 2500)) k(name, at, fee)
 CROSS JOIN LATERAL (SELECT greatest(0, least(1, 1.1 - extract(epoch FROM day - %(today)s::timestamptz) / 1900800 + random() * 0.3 - 0.15)) AS fill,
                            random() AS odd, d.id + extract(hour FROM k.at) AS each) f
 ORDER BY day, d.id"""
_PLACES = """
WITH s AS MATERIALIZED (SELECT id, institution_id, starts_at, row_number() OVER (ORDER BY id) - 1 AS rank FROM pool_session
        WHERE starts_at > now() AND starts_at < now() + interval '14 days' AND id %% 3 = %(third)s AND taken_public >= 6),
     m AS MATERIALIZED (SELECT count(*)::int AS many FROM s),
     n AS MATERIALIZED (SELECT n, n %% m.many AS rank, n / m.many AS round FROM generate_series(0, %(count)s - 1) n, m)
INSERT INTO pool_place (session_id, institution_id, seat_no, units, at, person_id, channel, state, expires_at, key, item, made_at,
       changed_at, reason)
SELECT s.id, s.institution_id, 1 + n.round, 1, s.starts_at, %(first)s + (s.rank + n.round) %% %(people)s, 'public', %(state)s::text,
       CASE WHEN %(state)s::text = 'held' THEN now() + %(left)s * interval '1 minute' END,
       %(state)s::text || %(left)s || '-' || n.n, '', now(), now(), ''
  FROM n JOIN s USING (rank)"""


def prepare() -> int:
    """Fill the scratch database; returns how many sessions it has."""
    import datetime as dt

    from django.db import connection

    from lianxin.index.models import Person
    from lianxin.network.models import Department, Institution
    from lianxin.standards import clock

    houses = Institution.objects.bulk_create(
        Institution(code=f"B{n}", name=f"试验机构{n}", kind="hospital" if n < 10 else "township", tier="county" if n < 10 else "township")
        for n in range(INSTITUTIONS)
    )  # fmt: skip
    Department.objects.bulk_create(
        Department(institution=house, code=f"K{k}", name=f"科{k}", specialty=f"{k:02d}")
        for house in houses
        for k in range(1, SPECIALTIES + 1)
    )
    today = dt.datetime.combine(clock.today(), dt.time(), clock.ZONE)
    with connection.cursor() as cursor:
        cursor.execute("SELECT setseed(0.26)")
        cursor.execute(_SESSIONS, {"today": today, "behind": BEHIND, "ahead": AHEAD})
        made = cursor.rowcount
        first = Person.objects.bulk_create(
            Person(number=f"{n:010d}", card_number=f"C{n}", name="试", pinyin="shi", initials="s") for n in range(PEOPLE)
        )[0]  # fmt: skip
        for state, left, count, third in (
            ("booked", 0, PLACES, 0),
            ("held", 12, HOLDS, 1),
            ("held", -5, LAPSED, 2),
        ):
            values = {"state": state, "left": left, "count": count, "third": third}
            cursor.execute(_PLACES, values | {"first": first.pk, "people": PEOPLE})
        cursor.execute("VACUUM (ANALYZE) pool_session, pool_place")
    return int(made)


def measure(name: str, ask: Callable[[Random], int]) -> bool:
    """Ask ``ROUNDS`` times after a few to warm up; print median, p99 and their ratio to the limit. Returns whether the median keeps it."""
    draw = Random(6)
    for _ in range(10):
        ask(draw)
    times, rows = [], 0
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        rows += ask(draw)
        times.append((time.perf_counter() - begun) * 1000)
    times.sort()
    median, late = statistics.median(times), times[int(len(times) * 0.99) - 1]
    print(
        f"{name}: median {median:.1f} ms, p99 {late:.1f} ms, {rows / ROUNDS:.0f} rows;"
        f" limit {LIMIT:.0f} ms, median is {median / LIMIT:.2f} of it",
        flush=True,
    )
    return median < LIMIT


def main() -> None:
    """Fill, measure, print; exit 1 when a median misses the limit."""
    bench.setup()
    with bench.scratch("lianxin_bench_search"):
        begun = time.perf_counter()
        made = prepare()
        print(f"{made} sessions, filled in {time.perf_counter() - begun:.0f} s", flush=True)
        import datetime as dt

        from lianxin.network.models import Institution
        from lianxin.pool import search
        from lianxin.pool.models import TIERS
        from lianxin.standards import clock

        ids = list(Institution.objects.order_by("pk").values_list("pk", flat=True))
        channels, today = list(TIERS), clock.today()

        def specialty(draw: Random) -> str:
            return f"{draw.randint(1, SPECIALTIES):02d}"

        def day(draw: Random) -> dt.date:
            return today + dt.timedelta(days=draw.randint(0, 1))

        kept = [
            measure(
                "(a) calendar, one specialty, 200 institutions x 14 days",
                lambda r: len(search.calendar(specialty(r), ids, day(r), 14, r.choice(channels))),
            ),
            measure(
                "(b) first 50 sessions of one specialty",
                lambda r: len(search.find(specialty=specialty(r), channel=r.choice(channels), limit=50)),
            ),
            measure(
                "(c) calendar, one institution, all specialties, 14 days",
                lambda r: len(search.calendar(None, [r.choice(ids)], day(r), 14, r.choice(channels))),
            ),
            measure(
                "(d) free numbers by institution, one specialty, 14 days",
                lambda r: len(search.free_by_institution(specialty(r), ids, r.choice(channels))),
            ),
        ]
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
