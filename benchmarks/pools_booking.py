"""Bookings per second against pgbench with the same SQL: ``python benchmarks/pools_booking.py`` (about half a minute)."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import against_pgbench as bench

BOOKINGS, SESSIONS, CAPACITY = 4000, 400, 30
FIRST_SESSION, FIRST_PERSON = 7_000_000, 8_000_000


def prepare() -> None:
    """One hospital, many sessions of 30 numbers a week ahead, enough people."""
    from django.db import connection

    from lianxin.network.models import Department, Institution
    from lianxin.standards import clock

    house = Institution.objects.create(code="B", name="试验医院", kind="hospital", tier="county")
    ward = Department.objects.create(institution=house, code="NK", name="内科", specialty="03")
    start = clock.now() + dt.timedelta(days=7)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO index_person (id, number, card_number, status, name, sex, id_type, id_sealed, phone_sealed, phone_tail,"
            " address, division, village, pinyin, initials, version, golden)"
            " SELECT %s + n, lpad(n::text, 10, '0'), 'C' || n, 'active', '试', 'unknown', '', '', '', '', '', '', '', 'shi', 's', 1, '{}'"
            " FROM generate_series(0, %s) n",
            [FIRST_PERSON, 3 * BOOKINGS],
        )
        cursor.execute(
            "INSERT INTO pool_session (id, institution_id, department_id, specialty, kind, clinic_type, starts_at, ends_at,"
            " opens_at, capacity, reserved_county, reserved_township, arrived, no_shows, fulfilled, release_county, release_township,"
            " release_village, fee_fen, status)"
            " SELECT %s + n, %s, %s, '03', 'clinic', '普通', %s + n * interval '1 min', %s + n * interval '1 min', now() - interval '1 day',"
            " %s, 8, 8, 0, 0, 0, now() - interval '1 day', now(), now(), 0, 'open' FROM generate_series(0, %s) n",
            [
                FIRST_SESSION,
                house.pk,
                ward.pk,
                start,
                start + dt.timedelta(hours=4),
                CAPACITY,
                SESSIONS,
            ],
        )
        cursor.execute("ANALYZE")


def one(n: int) -> None:
    """The n-th booking: spread over sessions, alternately by the public and the township channel."""
    from lianxin.pool import booking

    channel = "township" if n % 3 == 0 else "public"
    booking.book(FIRST_SESSION + n % SESSIONS, FIRST_PERSON + n, channel, f"bench-{n}")


def main() -> None:
    """Measure and print."""
    bench.setup()
    with bench.scratch("lianxin_bench_pool"):
        prepare()
        sample = bench.captured(lambda: one(3 * BOOKINGS))
        session, person = FIRST_SESSION + 3 * BOOKINGS % SESSIONS, FIRST_PERSON + 3 * BOOKINGS
        ours = bench.rate("pools_booking", "one", list(range(BOOKINGS)))
        variables: dict[str, Any] = {
            str(session): ":session",
            str(person): ":person",
            f"bench-{3 * BOOKINGS}": "pg-:n",
        }
        head = (
            f"\\set i :i + 1\n\\set n :client_id + {bench.CLIENTS} * :i\n"
            f"\\set session {FIRST_SESSION} + (:n % {SESSIONS})\n\\set person {FIRST_PERSON + BOOKINGS} + :n\n"
        )
        limit = bench.pgbench(sample, variables, head, BOOKINGS)
        from lianxin.pool import booking

        assert booking.recount() == []
        bench.report("booking", ours, limit)


if __name__ == "__main__":
    main()
