"""The FHIR door against the bare SQL it stands on, in the same run and on one connection each.

    python benchmarks/fhir_door.py [--people 200] [--each 100] [--rounds 1000]

Needs ``DATABASE_URL`` (a scratch database: it adds an institution BENCH and its people).  Figures are CPU of this process per
operation (the door's own cost) and wall time; "limit" is the same statement by psycopg alone.  Audit is on.
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django

django.setup()

from django.db import connection  # noqa: E402

from lianxin.access import tokens  # noqa: E402
from lianxin.exchange import load  # noqa: E402
from lianxin.exchange.fhir import door, pool  # noqa: E402
from lianxin.network.models import Institution  # noqa: E402
from lianxin.record.keys import ref_key  # noqa: E402


def prepare(people: int, each: int) -> None:
    """People with observations, once."""
    Institution.objects.get_or_create(
        code="BENCH", defaults={"name": "基准医院", "kind": "hospital", "tier": "county"}
    )
    lines = []
    for p in range(people):
        born = f"19{50 + p % 50}-0{1 + p % 9}-1{p % 9}"
        lines.append(
            {
                "resourceType": "Patient",
                "id": f"b{p}",
                "name": [{"text": f"基准{p}号"}],
                "gender": "male",
                "birthDate": born,
            }
        )
        lines += [json.loads(observation(p, n)) for n in range(each)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"bench-{people}-{each}.ndjson"
        path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines))
        report = load.load([path], institution="BENCH")
    if report.accepted:
        print(f"loaded {report.accepted} resources, {report.rate:.0f}/s")
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
            "effectiveDateTime": day, "valueQuantity": {"value": 100 + n % 40, "unit": "mmHg", "code": "mm[Hg]"},
        }
    )  # fmt: skip


def call(token: str, method: str, path: str, body: bytes = b"") -> bytes:
    """One request through the WSGI callable."""
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


def main() -> None:
    """Read, search, create."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--each", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1000)
    args = parser.parse_args()
    prepare(args.people, args.each)
    token = tokens.issue("bench", "system/*.cruds", "BENCH")
    with pool.cursor() as cur:

        def read(i: int) -> None:
            cur.execute(
                "SELECT body FROM record_resource WHERE key = %s",
                [ref_key(f"Observation/b{i % args.people}-{i % args.each}")],
            )
            cur.fetchone()

        def search(i: int) -> None:
            cur.execute(
                "SELECT r.body FROM record_token t JOIN record_resource r ON r.rid = t.rid WHERE t.tok = %s AND t.pid = %s AND t.subj = %s"
                " AND NOT r.deleted ORDER BY r.at DESC LIMIT 20",
                [
                    code_key("8480-6"),
                    params("Observation")["code"].number,
                    ref_key(f"Patient/b{i % args.people}"),
                ],
            )
            cur.fetchall()

        from lianxin.record.definitions import params
        from lianxin.record.keys import code_key

        measure(
            "read by id",
            args.rounds,
            lambda i: call(token, "GET", f"Observation/b{i % args.people}-{i % args.each}"),
            read,
        )
        measure(
            "search patient+code, by date", args.rounds,
            lambda i: call(token, "GET", f"Observation?patient=b{i % args.people}&code=8480-6&_sort=-date&_count=20"), search,
        )  # fmt: skip

        def bare(i: int) -> None:
            cur.execute("INSERT INTO bench_body (body) VALUES (%s)", [observation(i % args.people, i)])

        cur.execute("CREATE TABLE IF NOT EXISTS bench_body (id bigserial PRIMARY KEY, body text)")
        rounds = args.rounds // 2
        measure(
            "create, indexed and audited",
            rounds,
            lambda i: call(token, "POST", "Observation", observation(i % args.people, i).encode()),
            bare,
        )
        cur.execute("DROP TABLE bench_body")
    pool.close()


if __name__ == "__main__":
    main()
