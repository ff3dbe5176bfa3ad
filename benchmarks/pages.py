"""Server time of the pages people live in, and memory of a worker, with a million residents in the index.

    python benchmarks/pages.py [--residents 1000000]

Registers the residents through the index's own bulk registration, gives one of them 2,000 resources through the loader, opens
a thousand referral drafts for the worklist, then renders pages as a signed-in doctor (the whole of Django: session, scope,
audit, queries, template). Every median is printed as a ratio to the limit of 60 ms and to the sign-in page measured in the same run.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import against_pgbench as bench

LIMIT_MS, WORKER_MB, RESOURCES, DRAFTS, RUNS = 60.0, 250.0, 2000, 1000, 40
NAME = "lianxin_bench_pages"


def settle(residents: int) -> float:
    """Register the residents of Tiantai; returns registrations per second."""
    from django.db import connection

    from lianxin.access.scope import Scope
    from lianxin.index import registry
    from lianxin.index.facts import Registration
    from lianxin.network.models import Institution
    from lianxin.scenarios import population, tiantai

    ids = dict(Institution.objects.values_list("code", "pk"))
    scope = Scope.system("benchmark: residents")
    batch: list[Registration] = []
    spent, done = 0.0, 0

    def send() -> None:
        nonlocal spent, done
        began = time.perf_counter()
        registry.register_many(scope, batch)
        spent += time.perf_counter() - began
        done += len(batch)
        batch.clear()

    for r in population.generate(tiantai.villages(), residents, 1, dt.date(2026, 3, 2)):
        batch.append(
            Registration(
                ids[r.village.centre], "bench", r.local_id, r.name, r.sex, r.birth_date, id_no=r.id_no, phone=r.phone,
                address=r.address, division=r.village.division, home_institution_id=ids[r.village.clinic],
            )
        )  # fmt: skip
        if len(batch) == 5000:
            send()
    if batch:
        send()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return done / spent


def fill(centre: str, number: str) -> None:
    """Give the person with ``number`` a record of 2,000 resources, as the township's system would send it."""
    from lianxin.exchange import load

    rng, day = Random(1), dt.date(2026, 3, 1)
    subject = {"reference": f"Patient/{number}"}
    measured = (
        ("2160-0", "肌酐", "umol/L"),
        ("2823-3", "血钾", "mmol/L"),
        ("4548-4", "糖化血红蛋白", "%"),
        ("718-7", "血红蛋白", "g/L"),
    )
    from lianxin.scenarios.population import blood_pressure, quantity

    rows: list[dict[str, Any]] = []
    for n in range(RESOURCES):
        on = day - dt.timedelta(days=n)
        if n % 5 == 0:
            rows.append(blood_pressure(f"b{n}", subject, on, rng.randint(110, 170), rng.randint(60, 100)))
        else:
            code, name, unit = measured[n % 4]
            rows.append(quantity(f"b{n}", subject, on, code, name, rng.randint(40, 120), unit))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.ndjson"
        path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows), encoding="utf-8")
        report = load.load([path], institution=centre)
        assert report.refused == 0, report.refusals[:3]


def drafts(gp: Any, centre_id: int) -> None:
    """A thousand open duties for the doctor's worklist."""
    from lianxin.duty import kernel
    from lianxin.index.models import Person

    people = Person.objects.unscoped("benchmark").filter(home_institution__parent_id=centre_id)[:DRAFTS]
    for n, person in enumerate(people):
        form = {"direction": "up", "diagnosis_code": "I10", "diagnosis_name": "高血压", "specialty": "03.04"}
        kernel.open_case("referral", person.pk, gp, form, f"bench-{n}", parties={"referrer": centre_id})


def rendered(client: Any, path: str) -> list[float]:
    """Milliseconds of ``RUNS`` renderings after three warm ones."""
    times = []
    for n in range(RUNS + 3):
        began = time.perf_counter()
        answer = client.get(path)
        assert answer.status_code == 200, (path, answer.status_code)
        if n >= 3:
            times.append((time.perf_counter() - began) * 1000)
    return times


def worker_memory(paths: list[str], cookie: str) -> float:
    """Megabytes resident of the fattest web worker after 300 requests to ``paths``."""
    import socket

    from django.conf import settings

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    db = settings.DATABASES["default"]
    url = f"postgresql://{db['USER']}@/{NAME}?host={db['HOST']}"
    command = [sys.executable, "-m", "lianxin.config.cli", "serve", "--port", str(port), "--workers", "1"]
    server = subprocess.Popen(command, env=os.environ | {"DATABASE_URL": url}, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2).read()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        for n in range(300):
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}{paths[n % len(paths)]}", headers={"Cookie": cookie}
            )
            urllib.request.urlopen(request, timeout=30).read()
        return max(_resident(pid) for pid in _family(server.pid))
    finally:
        server.terminate()
        server.wait(60)


def _family(pid: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        todo += children.get(one, [])
    return found


def _resident(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--residents", type=int, default=1_000_000)
    residents = parser.parse_args().residents
    bench.setup()
    with bench.scratch(NAME):
        from django.test import Client

        from lianxin.access.models import Account
        from lianxin.access.scope import scope_for_account
        from lianxin.index.models import Person
        from lianxin.network.models import Institution
        from lianxin.scenarios import build, tiantai
        from lianxin.standards import codes

        codes.load_shipped()
        plan = tiantai.blueprint(1)
        build.stand_up(plan)
        plan.people = [p for p in plan.people if p["institution"] == "TT-PQ"]
        build.open_accounts(plan)
        speed = settle(residents)
        print(f"bulk registration: {residents:,} residents, {speed:,.0f}/s in one process")
        centre = Institution.objects.get(code="TT-PQ")
        person = (
            Person.objects.unscoped("benchmark")
            .filter(home_institution__parent=centre)
            .order_by("pk")
            .first()
        )
        assert person is not None
        fill("TT-PQ", person.number)
        account = Account.objects.filter(practitioner__posts__role="gp").order_by("pk").first()
        assert account is not None
        drafts(scope_for_account(account), centre.pk)
        client = Client()
        client.force_login(account, backend="lianxin.access.accounts.Backend")
        floor = statistics.median(rendered(Client(), "/login"))
        pages = {
            "workbench": "/",
            f"person with {RESOURCES:,} resources": f"/people/{person.number}",
            "find by name": f"/people?q={urllib.request.quote(person.name)}",
            "find by pinyin": f"/people?q={person.pinyin[:6]}",
            "find by initials": f"/people?q={person.initials}",
        }
        for what, path in pages.items():
            times = sorted(rendered(client, path))
            median, high = statistics.median(times), times[int(len(times) * 0.95)]
            print(
                f"{what}: median {median:.1f} ms, 95 % {high:.1f} ms; {median / LIMIT_MS:.0%} of the limit of {LIMIT_MS:.0f} ms,"
                f" {median / floor:.1f} × the sign-in page ({floor:.1f} ms)"
            )
        cookie = "; ".join(f"{k}={v.value}" for k, v in client.cookies.items())
        memory = worker_memory(list(pages.values()), cookie)
        print(
            f"worker: {memory:.0f} MB resident after 300 pages; {memory / WORKER_MB:.0%} of the limit of {WORKER_MB:.0f} MB"
        )


if __name__ == "__main__":
    main()
