"""The FHIR door against the bare SQL it stands on, in the same run and on one connection each.

    python benchmarks/fhir_door.py [--people 200] [--each 100] [--rounds 1000]

Works in a scratch database that is dropped at the end.  Figures are CPU of this process per operation (the door's own cost)
and wall time; "limit" is the same statement by psycopg alone.  Audit is on.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import against_pgbench as bench

NAME = "lianxin_bench_door"


def patient(p: int) -> dict[str, Any]:
    """A person nobody is."""
    born = f"19{50 + p % 50}-0{1 + p % 9}-1{p % 9}"
    return {
        "resourceType": "Patient",
        "id": f"b{p}",
        "name": [{"text": f"基准{p}号"}],
        "gender": "male",
        "birthDate": born,
    }


def prepare(people: int, each: int) -> None:
    """People with observations."""
    from django.db import connection

    from lianxin.exchange import load
    from lianxin.network.models import Institution

    Institution.objects.create(code="BENCH", name="基准医院", kind="hospital", tier="county")
    lines = [patient(p) for p in range(people)]
    lines += [json.loads(observation(p, n)) for p in range(people) for n in range(each)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.ndjson"
        path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), encoding="utf-8")
        report = load.load([path], institution="BENCH")
    print(f"loaded {report.accepted} resources, {report.rate:,.0f}/s")
    with connection.cursor() as cur:
        cur.execute("ANALYZE")


def observation(p: int, n: int, rid: str | None = None) -> str:
    """A small Observation."""
    day = f"20{10 + n % 15}-0{1 + n % 9}-1{n % 9}T08:00:00+08:00"
    code = ("8480-6", "8462-4", "8867-4", "2339-0", "4548-4")[n % 5]
    return json.dumps(
        {
            "resourceType": "Observation", "id": rid or f"b{p}-{n}", "status": "final",
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]}, "subject": {"reference": f"Patient/b{p}"},
            "effectiveDateTime": day, "valueQuantity": {"value": 100 + n % 40, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"},
        }
    )  # fmt: skip


def call(token: str, method: str, path: str, body: bytes = b"") -> bytes:
    """One request through the WSGI callable."""
    from lianxin.exchange.fhir import door

    where, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method, "PATH_INFO": f"/fhir/{where}", "QUERY_STRING": query, "HTTP_HOST": "t", "wsgi.url_scheme": "http",
        "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/fhir+json", "HTTP_AUTHORIZATION": f"Bearer {token}",
        "wsgi.input": io.BytesIO(body),
    }  # fmt: skip
    status: list[str] = []
    out = b"".join(door.application(environ, lambda s, h: status.append(s)))
    assert status[0][0] == "2", (status, out[:300])
    return out


def measure(name: str, rounds: int, work: Callable[[int], Any], limit: Callable[[int], Any]) -> None:
    """Print CPU and wall of the work, and its ratio to the limit."""
    figures = []
    for fn in (limit, work):
        for i in range(20):
            fn(i)
        wall, cpu = time.perf_counter(), time.process_time()
        for i in range(20, 20 + rounds):
            fn(i)
        figures.append(
            ((time.perf_counter() - wall) / rounds * 1e3, (time.process_time() - cpu) / rounds * 1e3)
        )
    (limit_wall, _), (wall, cpu) = figures
    print(
        f"{name:32s} {cpu:6.3f} ms CPU  {wall:6.3f} ms wall  bare SQL {limit_wall:6.3f} ms  ratio {limit_wall / wall:5.2f}"
    )


def compare(people: int, each: int, rounds: int) -> None:
    """Read, search, create."""
    from lianxin.access import tokens
    from lianxin.access import connections as pool
    from lianxin.record.definitions import params
    from lianxin.record.keys import code_key, ref_key

    token = tokens.issue("bench", "system/*.cruds", "BENCH")
    with pool.cursor() as cur:

        def read(i: int) -> None:
            key = ref_key(f"Observation/b{i % people}-{i % each}")
            cur.execute("SELECT body FROM record_resource WHERE key = %s", [key])
            cur.fetchone()

        def search(i: int) -> None:
            cur.execute(
                "SELECT r.body FROM record_token t JOIN record_resource r ON r.rid = t.rid WHERE t.tok = %s AND t.pid = %s AND t.subj = %s"
                " AND NOT r.deleted ORDER BY r.at DESC LIMIT 20",
                [code_key("8480-6"), params("Observation")["code"].number, ref_key(f"Patient/b{i % people}")],
            )
            cur.fetchall()

        def create(i: int) -> None:
            cur.execute("INSERT INTO bench_body (body) VALUES (%s)", [observation(i % people, i)])

        measure(
            "read by id", rounds, lambda i: call(token, "GET", f"Observation/b{i % people}-{i % each}"), read
        )
        wanted = "Observation?patient=b{}&code=8480-6&_sort=-date&_count=20"
        measure(
            "search patient+code, by date",
            rounds,
            lambda i: call(token, "GET", wanted.format(i % people)),
            search,
        )
        cur.execute("CREATE TABLE bench_body (id bigserial PRIMARY KEY, body text)")
        sent = [observation(i % people, i).encode() for i in range(rounds // 2 + 20)]
        measure(
            "create, indexed and audited",
            rounds // 2,
            lambda i: call(token, "POST", "Observation", sent[i]),
            create,
        )
    pool.close()


def main() -> None:
    """Fill a scratch database and measure on it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--each", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1000)
    args = parser.parse_args()
    bench.setup()
    with bench.scratch(NAME):
        prepare(args.people, args.each)
        compare(args.people, args.each, args.rounds)


if __name__ == "__main__":
    main()
