"""Bookings per second against pgbench with the same SQL: ``python benchmarks/pools_booking.py`` (about a minute).

Two lines: the plain number of the pool, and a whole booking (index look-up, policy, number, case, act, duty, access, audit, reminders,
FHIR Appointment, outbox) by ``resident.booking.service``. Set ``BENCH_BOOKINGS`` for another count.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import against_pgbench as bench

BOOKINGS, SESSIONS, CAPACITY = int(os.environ.get("BENCH_BOOKINGS", "4000")), 400, 30
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
            " address, division, village, pinyin, initials, version)"
            " SELECT %s + n, lpad(n::text, 10, '0'), 'C' || n, 'active', '试', 'unknown', '', '', '', '', '', '', '', 'shi', 's', 1"
            " FROM generate_series(0, %s) n",
            [FIRST_PERSON, 8 * BOOKINGS],
        )
        cursor.execute(
            "INSERT INTO pool_session (id, institution_id, department_id, specialty, kind, clinic_type, starts_at, ends_at,"
            " opens_at, capacity, reserved_county, reserved_township, arrived, no_shows, fulfilled, release_county, release_township,"
            " release_village, fee_fen, status)"
            " SELECT %s + n, %s, %s, '03', 'clinic', '普通', %s + n * interval '1 min', %s + n * interval '1 min', now() - interval '1 day',"
            " %s, 8, 8, 0, 0, 0, now() - interval '1 day', now(), now(), 0, 'open' FROM generate_series(0, %s) n",
            [FIRST_SESSION, house.pk, ward.pk, start, start + dt.timedelta(hours=4), CAPACITY * 4, SESSIONS],
        )
        cursor.execute("ANALYZE")


def one(n: int) -> None:
    """The n-th plain booking: spread over sessions, alternately by the public and the township channel."""
    from lianxin.pool import booking

    channel = "township" if n % 3 == 0 else "public"
    booking.book(FIRST_SESSION + n % SESSIONS, FIRST_PERSON + n, channel, f"bench-{n}")


def whole(n: int) -> None:
    """The n-th whole booking: a resident looks themselves up in the index and books a number."""
    from lianxin.access.scope import Scope
    from lianxin.index.models import Person
    from lianxin.network.roles import RESIDENT
    from lianxin.resident.booking import service

    person = FIRST_PERSON + n
    me = Scope(account_id=None, roles=frozenset({RESIDENT}), resident_ids=frozenset({person}), name="居民")
    row = Person.objects.within(me).values_list("pk", "number").get(pk=person)
    service.book(me, FIRST_SESSION + n % SESSIONS, row[0], f"bench-{n}")


def _plain() -> None:
    first = 3 * BOOKINGS
    sample = bench.captured(lambda: one(first))
    session, person = FIRST_SESSION + first % SESSIONS, FIRST_PERSON + first
    ours = bench.rate("pools_booking", "one", list(range(BOOKINGS)))
    variables: dict[str, Any] = {str(session): ":session", str(person): ":person", f"bench-{first}": "pg-:n"}
    head = (
        f"\\set i :i + 1\n\\set n :client_id + {bench.CLIENTS} * :i\n"
        f"\\set session {FIRST_SESSION} + (:n % {SESSIONS})\n\\set person {FIRST_PERSON + BOOKINGS} + :n\n"
    )
    bench.report("booking a number", ours, bench.pgbench(sample, variables, head, BOOKINGS))


def sent_by(work: Callable[[], Any]) -> list[str]:
    """The statements that ``work`` sends, those of the record's own cursors (bound by the server) among them, values in place."""
    import psycopg
    from django.db import connection

    from lianxin.record import rows

    sent: list[str] = []

    class Noting(psycopg.ClientCursor[Any]):
        def execute(self, *args: Any, **kwargs: Any) -> Any:
            result = super().execute(*args, **kwargs)
            assert self._query is not None
            sent.append(self._query.query.decode())
            return result

    def note(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        result = execute(sql, params, many, context)
        sent.append(context["cursor"].cursor._query.query.decode())
        return result

    plain = rows.server_cursor
    rows.server_cursor = lambda cur: Noting(getattr(cur, "cursor", cur).connection)  # type: ignore[assignment]
    try:
        with connection.execute_wrapper(note):
            work()
    finally:
        rows.server_cursor = plain
    return [s for s in sent if not re.match(r"(SAVEPOINT|RELEASE)", s)]


def _whole() -> None:
    """Ids that one booking makes (case, place, FHIR key and version) are made variable, so each transaction writes its own."""
    from django.db import connection

    from lianxin.record.keys import ref_key
    from lianxin.resident.booking.models import Appointment

    whole(3 * BOOKINGS + SESSIONS - 1)  # caches are warm in both
    first = 4 * BOOKINGS
    sample = sent_by(lambda: whole(first))
    made = (
        Appointment.objects.unscoped("benchmark").select_related("case").get(person_id=FIRST_PERSON + first)
    )
    fhir = ref_key(f"Appointment/place-{made.place_id}")
    with connection.cursor() as cursor:
        cursor.execute("SELECT rid FROM record_resource WHERE key = %s", [fhir])
        rid = cursor.fetchone()[0]
    if "--sql" in sys.argv:
        print("\n".join(f"{n}: {' '.join(s.split())[:900]}" for n, s in enumerate(sample)))
    ours = bench.rate("pools_booking", "whole", list(range(5 * BOOKINGS, 6 * BOOKINGS)))
    variables: dict[str, Any] = {
        "INSERT INTO pool_place (session_id": "INSERT INTO pool_place (id, session_id",
        "SELECT s.id, s.institution_id, f.n": "SELECT :place, s.id, s.institution_id, f.n",
        str(fhir): ":fhir",
        f"'{{{rid}}}'": "'{:rid}'",
        str(ref_key(f"Patient/{first:010d}")): ":subj",
        **dict.fromkeys(re.findall(r"xact_lock\(k\) FROM unnest\('\{(-?\d+)\}'", " ".join(sample)), ":lock"),
        "::int2[]": "::int8[]",
        "::int4[]": "::int8[]",
        f"place-{made.place_id}": "place-:place",
        made.case.number: "PG:case",
        str(FIRST_SESSION + first % SESSIONS): ":session",
        str(FIRST_PERSON + first): ":person",
        f"{first:010d}": ":person",
        f"bench-{first}": "pg-:n",
        "book::person": "book-:person",
    }
    ids = {str(made.pk): ":case", str(made.place_id): ":place"}
    body = [re.sub(rf"(?<![\w.:-])({'|'.join(ids)})(?![\w:-])", lambda m: ids[m.group(1)], s) for s in sample]
    head = (
        f"\\set i :i + 1\n\\set n :client_id + {bench.CLIENTS} * :i\n\\set case 900000000 + :n\n\\set fhir 77000000000 + :n\n"
        f"\\set session {FIRST_SESSION} + (:n % {SESSIONS})\n\\set person {FIRST_PERSON + 6 * BOOKINGS} + :n\n"
        "\\set place 500000000 + :n\n\\set rid 88000000000 + :n\n"
        "\\set subj 99000000000 + :n\n\\set lock 66000000000 + :n\n"
    )
    bench.report("a whole booking", ours, bench.pgbench(body, variables, head, BOOKINGS))
    print(f"statements of a whole booking: {len(sample)}")


def profile() -> None:
    """Statements and CPU of one whole booking in this process (``--profile``)."""
    import cProfile
    import pstats

    for n in range(50):
        whole(n)
    start, cpu = time.perf_counter(), time.process_time()
    for n in range(50, 450):
        whole(n)
    print(
        f"{(time.perf_counter() - start) / 400 * 1000:.2f} ms, CPU here {(time.process_time() - cpu) / 400 * 1000:.2f} ms"
    )
    run = cProfile.Profile()
    run.enable()
    for n in range(450, 850):
        whole(n)
    run.disable()
    pstats.Stats(run).sort_stats("cumulative").print_stats(70)


def main() -> None:
    """Measure and print."""
    bench.setup()
    with bench.scratch("lianxin_bench_pool"):
        prepare()
        if "--profile" in sys.argv:
            profile()
            return
        _plain()
        _whole()
        from lianxin.pool import booking

        assert booking.recount() == [] or "pg" in str(booking.recount())


if __name__ == "__main__":
    main()
