"""Recognisable results among ten million, against the limit of 5 ms: ``python benchmarks/centres_recognition.py``.

A scratch database: 200 institutions in 10 consortia, 400,000 people with 25 results each over 400 days of 72 item groups, in the order in
which results arrive, so that a person's rows lie far apart. Measured in
this process, through ``recognition.search.find`` and its answer as Python objects, for one item and for an order of five; each question is
another person's. Prints wall time, and the processor time of this process and of the database's, which say the same on a busy machine.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))
import against_pgbench as bench

INSTITUTIONS, CONSORTIA, PEOPLE = 200, 10, 400_000
RESULTS = int(os.environ.get("LIANXIN_BENCH_RESULTS", "10000000"))
LIMIT, ROUNDS = 5.0, 2_000
_TICK = os.sysconf("SC_CLK_TCK")

_ROWS = """
INSERT INTO recognition_result (person_id, group_id, institution_id, at, key, assessment_id, state, quality, ref)
SELECT %(first)s + (hashint8(n) & 2147483647) %% %(people)s, g.ids[1 + (hashint8(n * 7 + 1) & 2147483647) %% array_length(g.ids, 1)],
       h.ids[1 + (hashint8(n * 3 + 2) & 2147483647) %% array_length(h.ids, 1)],
       now() - interval '400 days' + n * (interval '400 days' / %(rows)s), hashint8extended(n, 5), NULL, 'live', '',
       'DiagnosticReport/' || md5(n::text)
  FROM generate_series(%(low)s, %(high)s) n,
       (SELECT array_agg(id ORDER BY id) AS ids FROM recognition_group) g, (SELECT array_agg(id ORDER BY id) AS ids FROM network_institution) h"""
SLICE = 1_000_000


def prepare() -> int:
    """Fill the scratch database; returns the first person's id."""
    import datetime as dt

    from django.db import connection

    from lianxin.network.models import Consortium, Institution, Membership

    houses = Institution.objects.bulk_create(
        Institution(code=f"B{n}", name=f"试验机构{n}", kind="hospital" if n < CONSORTIA else "township", tier="county" if n < CONSORTIA else "township")
        for n in range(INSTITUTIONS)
    )  # fmt: skip
    unions = Consortium.objects.bulk_create(
        Consortium(code=f"U{n}", name=f"试验医共体{n}", form="county_community", lead=houses[n])
        for n in range(CONSORTIA)
    )
    Membership.objects.bulk_create(
        Membership(consortium=unions[n % CONSORTIA], institution=house, role="lead" if n < CONSORTIA else "member", since=dt.date(2020, 1, 1))
        for n, house in enumerate(houses)
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(id), 0) + 1 FROM index_person")
        first = int(cursor.fetchone()[0])
        # made-up people need no rows of their own here; indexes are built once, as after a first load
        cursor.execute("ALTER TABLE recognition_result DISABLE TRIGGER ALL")
        cursor.execute("ALTER TABLE recognition_result DROP CONSTRAINT recognition_result_once")
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'recognition_result_find'")
        find = cursor.fetchone()[0]
        cursor.execute("DROP INDEX recognition_result_find")
        for low in range(1, RESULTS + 1, SLICE):
            high = min(low + SLICE - 1, RESULTS)
            cursor.execute(
                _ROWS, {"first": first, "people": PEOPLE, "rows": RESULTS, "low": low, "high": high}
            )
        cursor.execute(find)
        cursor.execute(
            "ALTER TABLE recognition_result ADD CONSTRAINT recognition_result_once UNIQUE (key, group_id)"
        )
        cursor.execute("ALTER TABLE recognition_result ENABLE TRIGGER ALL")
        cursor.execute("VACUUM (ANALYZE) recognition_result")
    return first


def spent(pid: int) -> float:
    """Processor seconds that a process has used (the database's backend runs on this machine)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def measure(name: str, first: int, wanted: int) -> bool:
    """Ask ``ROUNDS`` times; print median and p99 against the limit. Returns whether p99 keeps it."""
    from django.db import connection

    from lianxin.clinical.recognition import knowing, search
    from lianxin.clinical.recognition.models import Group
    from lianxin.network.models import Institution

    draw = Random(7)
    codes = list(Group.objects.order_by("code").values_list("code", flat=True))
    houses = list(Institution.objects.order_by("pk").values_list("pk", flat=True))
    knowing.known()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        backend = int(cursor.fetchone()[0])
    local = Path(f"/proc/{backend}/stat").exists()
    times, hits = [], 0
    before, own = spent(backend) if local else 0.0, time.process_time()
    for _ in range(ROUNDS):
        person, chosen, here = first + draw.randrange(PEOPLE), draw.sample(codes, wanted), draw.choice(houses)
        begun = time.perf_counter()
        hits += len(search.find(person, chosen, here))
        times.append((time.perf_counter() - begun) * 1000)
    own, theirs = time.process_time() - own, (spent(backend) if local else 0.0) - before
    times.sort()
    median, late = times[len(times) // 2], times[int(len(times) * 0.99) - 1]
    print(
        f"{name}: median {median:.2f} ms, p99 {late:.2f} ms, {hits} hits in {ROUNDS};"
        f" processor {own / ROUNDS * 1000:.2f} ms here, {theirs / ROUNDS * 1000:.2f} ms in the database;"
        f" limit {LIMIT:.0f} ms, p99 is {late / LIMIT:.2f} of it",
        flush=True,
    )
    return late < LIMIT


def main() -> None:
    """Fill, measure, print; exit 1 when a p99 misses the limit."""
    bench.setup()
    with bench.scratch("lianxin_bench_recognition"):
        from django.db import connection

        begun = time.perf_counter()
        first = prepare()
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_relation_size('recognition_result'), pg_indexes_size('recognition_result')"
            )
            table, indexes = cursor.fetchone()
        print(
            f"{RESULTS} results filled in {time.perf_counter() - begun:.0f} s;"
            f" on disk {table / 1e9:.2f} GB and indexes {indexes / 1e9:.2f} GB, {(table + indexes) / RESULTS:.0f} bytes a result",
            flush=True,
        )
        kept = [measure("(a) one item", first, 1), measure("(b) an order of five items", first, 5)]
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
