"""The FHIR door against the bare SQL it stands on, in the same run: CPU of the application and of PostgreSQL, rates, growth.

    python benchmarks/fhir.py [--people 1000] [--each 100] [--rounds 2000] [--grow 100] [--jobs CORES]

Works in a scratch database that is dropped at the end.  The set is loaded, measured, grown ``--grow`` times (1: not at all) and
measured again.  CPU is what the kernel has charged to this process and to the database's own processes; "limit" is pgbench
sending the same statements, prepared, to the same database.  Audit, scopes and validation are on, as they always are.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import against_pgbench as bench

NAME = "lianxin_bench_fhir"
TICK = os.sysconf("SC_CLK_TCK")
CODES = ("8480-6", "8462-4", "8867-4", "2339-0", "4548-4")
PART = 50_000  # lines of one file: what one transaction loads, and what processes share
BUNDLE = 100
CONNECTIONS = 16
SAMPLE = 400  # literal statements of the pgbench peer


def patient(p: int) -> dict[str, Any]:
    """A person nobody is."""
    born = f"19{50 + p % 50}-0{1 + p % 9}-1{p // 50 % 9}"
    return {
        "resourceType": "Patient",
        "id": f"b{p}",
        "name": [{"text": f"基准{p}号"}],
        "gender": "male",
        "birthDate": born,
    }


def observation(p: int, n: int, rid: str | None = "") -> str:
    """A small Observation of patient ``p``; ``rid`` None: without an id, to be created."""
    day = f"20{10 + n % 15}-0{1 + n % 9}-1{n % 9}T08:{p % 60:02}:{n % 60:02}+08:00"
    made = {
        "resourceType": "Observation", "id": rid or f"b{p}-{n}", "status": "final",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": CODES[n % 5]}]}, "subject": {"reference": f"Patient/b{p}"},
        "effectiveDateTime": day,
        "valueQuantity": {"value": 100 + n % 40, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"},
    }  # fmt: skip
    if rid is None:
        del made["id"]
    return json.dumps(made, separators=(",", ":"))


# ---------------------------------------------------------------------------------------------------------------- CPU


def _stat(pid: int | str) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def backends() -> set[int]:
    """Processes of the server that work for the scratch database."""
    from django.db import connection

    with connection.cursor() as cur:
        cur.execute("SELECT pid FROM pg_stat_activity WHERE datname = %s", [NAME])
        return {row[0] for row in cur.fetchall()}


def cpu_of(pids: set[int]) -> float:
    """Seconds of CPU charged to processes that are still there."""
    total = 0.0
    for pid in pids:
        try:
            stat = _stat(pid)
        except OSError:
            continue
        total += (int(stat[11]) + int(stat[12])) / TICK
    return total


@contextmanager
def postmaster_cpu(found: list[float]) -> Iterator[None]:
    """CPU of the whole database server meanwhile (its ended processes too): for work of many short-lived processes."""
    from django.db import connection

    with connection.cursor() as cur:
        cur.execute("SELECT pg_backend_pid()")
        parent = _stat(cur.fetchone()[0])[1]

    def now() -> float:
        total = sum(int(x) for x in _stat(parent)[11:15]) / TICK
        children = [p for p in os.listdir("/proc") if p.isdigit()]
        for pid in children:
            try:
                stat = _stat(pid)
            except OSError:
                continue
            if stat[1] == parent:
                total += (int(stat[11]) + int(stat[12])) / TICK
        return total

    before = now()
    yield
    found.append(now() - before)


# --------------------------------------------------------------------------------------------------------------- load


def files(folder: Path, first: int, last: int, each: int) -> list[Path]:
    """NDJSON files of patients ``first``..``last`` with their observations; the patients come first."""
    made = [folder / f"{first}-patients.ndjson"]
    made[0].write_text("\n".join(json.dumps(patient(p), ensure_ascii=False) for p in range(first, last)))
    step = max(PART // each, 1)
    for start in range(first, last, step):
        path = folder / f"{start}.ndjson"
        people = range(start, min(start + step, last))
        path.write_text("\n".join(observation(p, n) for p in people for n in range(each)))
        made.append(path)
    return made


def load(first: int, last: int, each: int, jobs: int) -> None:
    """Load a stretch of patients and print rate and CPU."""
    from django.db import connection

    from lianxin.exchange import load as loading

    with tempfile.TemporaryDirectory() as folder:
        made = files(Path(folder), first, last, each)
        loading.load(made[:1], institution="BENCH")
        before, pg = os.times(), list[float]()
        with postmaster_cpu(pg):
            report = loading.load(made[1:], institution="BENCH", jobs=jobs)
        after = os.times()
    app = sum(after[:4]) - sum(before[:4])
    assert report.refused == 0, report.refusals[:3]
    print(
        f"load of {report.accepted:,} observations, {jobs} processes: {report.rate:,.0f} resources/s;"
        f" CPU a resource: loader {app / report.accepted * 1e6:.0f} µs, PostgreSQL {pg[0] / report.accepted * 1e6:.0f} µs"
    )
    with connection.cursor() as cur:
        cur.execute("VACUUM ANALYZE")
        cur.execute(
            "SELECT sum(pg_total_relation_size(oid)), (SELECT count(*) FROM record_resource) FROM pg_class"
            " WHERE relkind = 'r' AND relname LIKE 'record\\_%%'"
        )
        size, count = cur.fetchone()
    print(f"storage: {count:,} resources, {size / count:,.0f} bytes each with every index (limit 1,024)")


# --------------------------------------------------------------------------------------------------------------- door


def caller(token: str) -> Callable[..., bytes]:
    """One request through the WSGI callable that the server runs."""
    from lianxin.exchange.fhir import hot

    def call(method: str, path: str, body: bytes = b"") -> bytes:
        where, _, query = path.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method, "PATH_INFO": f"/fhir/{where}", "QUERY_STRING": query, "HTTP_HOST": "t", "wsgi.url_scheme": "http",
            "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/fhir+json", "HTTP_AUTHORIZATION": f"Bearer {token}",
            "wsgi.input": io.BytesIO(body),
        }  # fmt: skip
        status: list[str] = []
        out = b"".join(hot.application(environ, lambda s, h: status.append(s)))
        assert status[0][0] == "2", (status, out[:300])
        return out

    return call


class Kind:
    """One kind of request: how to send the i-th, and the statement it stands on."""

    def __init__(
        self, name: str, limit_ms: float, send: Callable[[int], Any], sql: Callable[[int], str], unit: int = 1
    ) -> None:
        self.name, self.limit_ms, self.send, self.sql, self.unit = name, limit_ms, send, sql, unit


def kinds(call: Callable[..., bytes], people: int, each: int, rounds: int) -> list[Kind]:
    """Read, search, create, transaction."""
    from lianxin.record import extract
    from lianxin.record.definitions import sources
    from lianxin.record.keys import key_scoped, ref_key

    code = sources("Observation", "code")[0].number
    row = "r.rtype, r.id, r.version, r.updated, r.body, r.person_id, r.deleted"

    def person(i: int) -> int:
        return i * 7919 % people

    def scoped(i: int) -> int:
        return key_scoped(ref_key(f"Patient/b{person(i)}"), code, CODES[0])

    def keys(i: int) -> str:
        subj = ref_key(f"Patient/b{person(i)}")
        return ",".join(map(str, set(extract.index_rows(json.loads(observation(person(i), i)), subj).keys)))

    sent = [observation(person(i), i, None).encode() for i in range(rounds + 50)]
    bundles = [
        json.dumps(
            {"resourceType": "Bundle", "type": "transaction", "entry": [
                {"resource": json.loads(observation(person(i * 7 + k), k, None)), "request": {"method": "POST", "url": "Observation"}}
                for k in range(BUNDLE)
            ]}, separators=(",", ":"),
        ).encode()
        for i in range(max(rounds // BUNDLE, 20) + 50)
    ]  # fmt: skip
    return [
        Kind(
            "read by id", 0.15,
            lambda i: call("GET", f"Observation/b{person(i)}-{i % each}"),
            lambda i: f"SELECT {row} FROM record_resource r WHERE r.key = {ref_key(f'Observation/b{person(i)}-{i % each}')}",
        ),
        Kind(
            "search patient + code, newest 20", 0.5,
            lambda i: call("GET", f"Observation?patient=b{person(i)}&code={CODES[0]}&_sort=-date&_count=20"),
            lambda i: f"SELECT {row} FROM record_resource r WHERE r.keys @> ARRAY[{scoped(i)}]::bigint[] AND r.rtype = 'Observation'"
            " AND NOT r.deleted ORDER BY r.at DESC LIMIT 21",
        ),
        Kind(
            "create, validated, indexed, audited", 0.7,
            lambda i: call("POST", "Observation", sent[i]),
            lambda i: "WITH r AS (INSERT INTO record_resource (rid, key, person_id, subj, updated, at, till, institution_id, version, rtype,"
            " id, keys, body) SELECT nextval('record_rid'), (random() * 9e18)::bigint, 1, 1, now(), now(), now(), 1, 1, 'Observation',"
            f" gen_random_uuid()::text, '{{{keys(i)}}}'::bigint[], decode('{'ab' * 180}', 'hex') RETURNING rid)"
            " INSERT INTO record_quantity (rid, lo, code, name, sys, number, item) SELECT rid, 100, 1, 1, 1, 928, 0 FROM r",
        ),
        Kind("transaction of 100 creates", 0.2, lambda i: call("POST", "", bundles[i]), lambda i: "", BUNDLE),
    ]  # fmt: skip


def measure(kind: Kind, rounds: int) -> tuple[float, float, float]:
    """(milliseconds of CPU of the application, of PostgreSQL, wall) for each resource."""
    from lianxin.access import journal

    rounds = max(rounds // kind.unit, 20)
    for i in range(40):
        kind.send(i)
    journal.drain()
    mine = backends()
    pg, wall, cpu = cpu_of(mine), time.perf_counter(), time.process_time()
    for i in range(40, 40 + rounds):
        kind.send(i)
    wall = time.perf_counter() - wall
    journal.drain()
    cpu, pg = time.process_time() - cpu, cpu_of(backends() & mine) - pg
    scale = 1e3 / (rounds * kind.unit)
    return cpu * scale, pg * scale, wall * scale


def pgbench(kind: Kind) -> float:
    """Milliseconds of CPU of PostgreSQL for one statement of the kind, sent prepared by one pgbench client."""
    from django.db import connection

    program = shutil.which("pgbench") or "/usr/lib/postgresql/15/bin/pgbench"
    settings = connection.settings_dict
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.sql"
        script.write_text(";\n".join(kind.sql(i) for i in range(SAMPLE)) + ";\n")
        args = [
            program,
            "-n",
            "-M",
            "prepared",
            "-c",
            "1",
            "-t",
            "6",
            "-f",
            str(script),
            "-h",
            settings["HOST"] or "/tmp",
        ]
        args += [
            "-U",
            settings["USER"] or "postgres",
            *(["-p", str(settings["PORT"])] if settings["PORT"] else []),
        ]
        env = os.environ | ({"PGPASSWORD": settings["PASSWORD"]} if settings["PASSWORD"] else {})
        spent: list[float] = []
        with postmaster_cpu(spent):
            ran = subprocess.run([*args, NAME], capture_output=True, text=True, env=env, check=False)
    if ran.returncode or not re.search(r"tps = ", ran.stdout):
        sys.exit(f"pgbench failed:\n{ran.stderr[-2000:]}")
    return spent[0] / (6 * SAMPLE) * 1e3


def table(people: int, each: int, rounds: int, token: str) -> dict[str, float]:
    """Print a line a kind; CPU in all by kind."""
    found = {}
    for kind in kinds(caller(token), people, each, rounds):
        app, pg, wall = measure(kind, rounds)
        found[kind.name] = app + pg
        line = f"{kind.name:36s} CPU {app + pg:.3f} ms (application {app:.3f}, PostgreSQL {pg:.3f}), wall {wall:.3f} ms"
        line += f"; limit {kind.limit_ms} ms: {(app + pg) / kind.limit_ms:.0%}"
        if kind.unit > 1:
            line += f"; {1e3 / wall:,.0f} resources/s from one connection"
        else:
            peer = pgbench(kind)
            line += f"; pgbench {peer:.3f} ms of PostgreSQL, ratio {peer / (app + pg):.2f}"
        print(line, flush=True)
    return found


# -------------------------------------------------------------------------------------------------------------- server


@contextmanager
def served() -> Iterator[int]:
    """The web server as ``lianxin serve`` runs it, on a free port."""
    from lianxin.config import serve

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"DATABASE_URL": url(), "LIANXIN_LOG_LEVEL": "WARNING"}
    process = subprocess.Popen(
        serve.web_command("127.0.0.1", port, serve.default_workers()), env=environment, start_new_session=True
    )
    try:
        if not serve.wait_until_up("127.0.0.1", port, 60, lambda: process.poll() is not None):
            sys.exit("the server did not start")
        yield port
    finally:
        process.terminate()
        process.wait(30)


def url() -> str:
    """Address of the scratch database."""
    from django.db import connection

    s = connection.settings_dict
    secret = f":{s['PASSWORD']}" if s["PASSWORD"] else ""
    if s["HOST"].startswith("/"):
        return f"postgresql://{s['USER']}{secret}@/{NAME}?host={s['HOST']}"
    return f"postgresql://{s['USER']}{secret}@{s['HOST']}:{s['PORT'] or 5432}/{NAME}"


class Wire:
    """One kept connection of the load: sends a request when told, reads the answer as it comes.

    Plain sockets, because ``http.client`` and threads of the load would take more of the shared machine than the server does.
    """

    def __init__(self, port: int, head: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.head, self.got, self.wanted, self.began = head, bytearray(), 0, 0.0

    def ask(self, path: str) -> None:
        """Send one request."""
        self.got.clear()
        self.wanted = 0
        self.began = time.perf_counter()
        self.socket.sendall(f"GET {path} HTTP/1.1\r\n{self.head}\r\n\r\n".encode())

    def answered(self) -> bool:
        """Read what has come; whether the answer is whole."""
        part = self.socket.recv(1 << 18)
        if not part:
            sys.exit("the server closed a connection")
        self.got += part
        if not self.wanted:
            end = self.got.find(b"\r\n\r\n")
            if end < 0:
                return False
            length = re.search(rb"\r\ncontent-length: *(\d+)", self.got[:end], re.I)
            if not self.got.startswith(b"HTTP/1.1 200") or length is None:
                sys.exit(f"unexpected answer: {bytes(self.got[:300])!r}")
            self.wanted = end + 4 + int(length[1])
        return len(self.got) >= self.wanted


def latency(port: int, token: str, people: int, each: int, seconds: float = 8.0) -> None:
    """Rates and percentiles over the wire with 16 connections (the load shares the machine with the server)."""
    head = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}"
    for name, path in (
        ("read", lambda i: f"/fhir/Observation/b{i * 7919 % people}-{i % each}"),
        (
            "search",
            lambda i: f"/fhir/Observation?patient=b{i * 7919 % people}&code={CODES[0]}&_sort=-date&_count=20",
        ),
    ):
        times: list[float] = []
        asked = 0
        with selectors.DefaultSelector() as ready:
            wires = [Wire(port, head) for _ in range(CONNECTIONS)]
            for wire in wires:
                ready.register(wire.socket, selectors.EVENT_READ, wire)
                wire.ask(path(asked))
                asked += 1
            warm, stop = time.perf_counter() + 1, time.perf_counter() + 1 + seconds
            waiting = CONNECTIONS
            while waiting:
                for key, _ in ready.select():
                    wire = key.data
                    if not wire.answered():
                        continue
                    now = time.perf_counter()
                    if wire.began >= warm:
                        times.append(now - wire.began)
                    if now < stop:
                        wire.ask(path(asked))
                        asked += 1
                    else:
                        waiting -= 1
            for wire in wires:
                wire.socket.close()
        times.sort()
        p50, p99 = times[len(times) // 2] * 1e3, times[int(len(times) * 0.99)] * 1e3
        print(
            f"{name} over the wire, {CONNECTIONS} connections: {len(times) / seconds:,.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms;"
            f" limit 20 ms: {p99 / 20:.0%}",
            flush=True,
        )


def main() -> None:
    """Small set, then the grown one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--each", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--grow", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    bench.setup()
    from lianxin.access import connections, journal, tokens
    from lianxin.network.models import Institution

    journal.PAUSE = 0.05
    with bench.scratch(NAME):
        os.environ["DATABASE_URL"] = url()  # for the loader's own processes
        Institution.objects.create(code="BENCH", name="基准医院", kind="hospital", tier="county")
        token = tokens.issue("bench", "system/*.cruds", "BENCH")
        tables = []
        sizes = [args.people] if args.grow <= 1 else [args.people, args.people * args.grow]
        done = 0
        for people in sizes:
            print(f"-- {people:,} patients, {people * args.each:,} observations", flush=True)
            load(done, people, args.each, args.jobs)
            done = people
            tables.append(table(people, args.each, args.rounds, token))
            with served() as port:
                latency(port, token, people, args.each)
        if len(tables) > 1:
            for name, small in tables[0].items():
                print(f"growth of {name}: {tables[1][name] / small:.2f} × (limit 1.5 ×)")
        journal.drain()
        journal.forget()
        connections.close()


if __name__ == "__main__":
    main()
