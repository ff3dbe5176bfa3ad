"""The readers' queue under a hundred readers: every seat is claimed exactly once, and at what rate.

The limit is the same update with nothing around it: a bare ``UPDATE … FOR UPDATE SKIP LOCKED`` of the first waiting row, by the same
number of connections in the same run. The real tables are filled with made-up seats of an institution of their own and emptied again.

    python benchmarks/centres_queue.py [seats] [readers]
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")

import django

django.setup()

from django.db import connection, connections  # noqa: E402

from lianxin.access.models import Account  # noqa: E402
from lianxin.duty.models import Case  # noqa: E402
from lianxin.index.models import Person  # noqa: E402
from lianxin.network.models import Institution  # noqa: E402
from lianxin.regional.reading import queue  # noqa: E402
from lianxin.regional.reading.models import ClaimEvent, Entry, Reader, Reading  # noqa: E402
from lianxin.standards import clock  # noqa: E402

LIMIT = 500
THREADS = 25
MARK = "BENCH-QUEUE"
_BARE = """
UPDATE bench_seat SET state = 'claimed', who = %s WHERE id = (
  SELECT id FROM bench_seat WHERE state = 'waiting' ORDER BY rank, round, due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id"""


def fill(seats: int, readers: int) -> list[Reader]:
    """A centre with ``readers`` readers and ``seats`` waiting seats of ten townships, and the bare table beside it."""
    lead = Institution.objects.create(code=MARK, name=MARK, tier="county", kind="hospital")
    towns = [Institution.objects.create(code=f"{MARK}-{n}", name=f"{MARK}-{n}", tier="township", kind="township", parent=lead) for n in range(10)]  # fmt: skip
    person = Person.objects.create(number="9999999901", card_number="9999999901", name="测速", pinyin="cesu", initials="cs")  # fmt: skip
    now = clock.now()
    cases = Case.objects.bulk_create(
        [Case(number=f"{MARK}-{n}", kind="reading", person_id=person.pk, state="queued", priority="routine", pathway_start=now, opened_at=now, changed_at=now, owner_institution=lead, owner_role="reader", due_at=now) for n in range(seats)]
    )  # fmt: skip
    work = [
        Reading(case=case, requisition=MARK, accession=f"BQ{n:08d}", person_id=person.pk, centre="imaging", modality="DX", orderer=towns[n % 10], performer=towns[n % 10],
                centre_of=lead, origin=towns[n % 10], ordered_at=now, report_due_at=now)
        for n, case in enumerate(cases)
    ]  # fmt: skip
    Reading.objects.bulk_create(work)
    for reading in work:
        queue.enter(reading, "first", priority="routine", now=now)
    accounts = Account.objects.bulk_create([Account(username=f"bench-q{n}", name=f"测速{n}") for n in range(readers)])  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS bench_seat")
        cursor.execute("CREATE TABLE bench_seat AS SELECT id, rank, round, due_at, state, 0::bigint AS who FROM reading_entry WHERE institution_id = %s", [lead.pk])  # fmt: skip
        cursor.execute("ALTER TABLE bench_seat ADD PRIMARY KEY (id)")
        cursor.execute("CREATE INDEX ON bench_seat (rank, round, due_at, id) WHERE state = 'waiting'")
        cursor.execute("ANALYZE bench_seat, reading_entry")
    return list(
        Reader.objects.bulk_create([Reader(account=a, institution=lead, centre="imaging", modalities=["DX"], most_open=30_000) for a in accounts])
    )  # fmt: skip


def empty() -> None:
    """Everything that ``fill`` made is gone again (the log of claims, which nobody may delete, keeps its rows)."""
    lead = Institution.objects.filter(code=MARK).first()
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS bench_seat")
        if lead is None:
            return
        cursor.execute("DELETE FROM reading_entry WHERE institution_id = %s", [lead.pk])
        cursor.execute("DELETE FROM reading_reading WHERE centre_of_id = %s", [lead.pk])
        cursor.execute("DELETE FROM duty_case WHERE number LIKE %s", [f"{MARK}-%"])
        cursor.execute("DELETE FROM reading_reader WHERE institution_id = %s", [lead.pk])
        cursor.execute("DELETE FROM reading_deficit WHERE turn_id IN (SELECT id FROM reading_turn WHERE institution_id = %s)", [lead.pk])  # fmt: skip
        cursor.execute("DELETE FROM reading_turn WHERE institution_id = %s", [lead.pk])
        cursor.execute("DELETE FROM access_account WHERE username LIKE 'bench-q%%'", [])
        cursor.execute("DELETE FROM index_person WHERE number = '9999999901'")
        cursor.execute("DELETE FROM network_institution WHERE code LIKE %s", [f"{MARK}-%"])
        cursor.execute("DELETE FROM network_institution WHERE code = %s", [MARK])


def run(workers: int, take: Callable[[int], int | None]) -> tuple[list[int], float]:
    """``workers`` readers, each with its own connection, in processes of ``THREADS`` threads (one interpreter would be the limit, not the
    queue), take until nothing is left; what was taken, and the seconds it needed."""
    processes = -(-workers // THREADS)
    fork = multiprocessing.get_context("fork")
    gate, told = fork.Barrier(workers + 1), fork.SimpleQueue()
    connections.close_all()

    def drive(mine: range) -> None:
        taken: list[int] = []

        def work(n: int) -> None:
            connection.ensure_connection()
            gate.wait()
            while (got := take(n)) is not None:
                taken.append(got)
            connection.close()

        threads = [threading.Thread(target=work, args=(n,)) for n in mine]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told.put(taken)

    children = [fork.Process(target=drive, args=(range(workers)[n::processes],)) for n in range(processes)]
    for child in children:
        child.start()
    gate.wait()
    start = time.perf_counter()
    taken = [i for _ in children for i in told.get()]
    seconds = time.perf_counter() - start
    for child in children:
        child.join()
    return taken, seconds


def main() -> int:
    """Fill, claim, compare, empty; 1 when a seat was claimed twice or not at all, or the rate is below the limit."""
    seats = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    readers = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    empty()
    staff = fill(seats, readers)
    try:

        def ours(n: int) -> int | None:
            got = queue.claim(staff[n])
            return got.entry_id if got else None

        def bare(n: int) -> int | None:
            with connection.cursor() as cursor:
                cursor.execute(_BARE, [n])
                row = cursor.fetchone()
            return row[0] if row else None

        got, seconds = run(readers, ours)
        least, floor = run(readers, bare)
        twice = [i for i, n in Counter(got).items() if n > 1]
        events = ClaimEvent.objects.filter(entry_id__in=got, what="claimed").count()
        held = Entry.objects.unscoped("benchmark").filter(institution__code=MARK, state="claimed").count()
        tokens = Entry.objects.unscoped("benchmark").filter(institution__code=MARK).values("token").distinct().count()  # fmt: skip
        exact = not twice and len(got) == held == events == tokens == seats == len(least)
        rate, limit = seats / seconds, seats / floor
        print(
            f"queue claims, {readers} readers in {-(-readers // THREADS)} processes, {seats} seats: {rate:.0f}/s (limit asked {LIMIT}/s), exact: {exact}"
        )
        print(f"bare SKIP LOCKED update, same connections: {limit:.0f}/s; ratio {rate / limit:.2f}")
        return 0 if exact and rate >= LIMIT else 1
    finally:
        empty()


if __name__ == "__main__":
    sys.exit(main())
