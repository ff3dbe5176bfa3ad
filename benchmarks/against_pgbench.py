"""What the two pool and duty benchmarks share: a scratch database, captured SQL, pgbench running it, workers.

The limit is measured in the same run: pgbench sends the very statements that one operation of ours sends (captured, with
ids made variable), so the ratio is what Python and Django cost.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

CLIENTS = 4


def setup() -> None:
    """Make Django ready (``DATABASE_URL`` names the server)."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")
    django.setup()


@contextmanager
def scratch(name: str) -> Iterator[None]:
    """A migrated database of its own, dropped at the end."""
    from django.core.management import call_command
    from django.db import connection

    home = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        cursor.execute(f"CREATE DATABASE {name}")
    use(name)
    try:
        call_command("migrate", verbosity=0)
        yield
    finally:
        use(home)
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def use(name: str) -> None:
    """Connect this process to database ``name``."""
    from django.db import connection

    connection.close()
    connection.settings_dict["NAME"] = name


def captured(work: Callable[[], Any]) -> list[str]:
    """The statements that ``work`` sends, with their values in place."""
    from django.db import connection

    sent: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        result = execute(sql, params, many, context)
        sent.append(context["cursor"].cursor._query.query.decode())
        return result

    with connection.execute_wrapper(note):
        work()
    return [s for s in sent if not re.match(r"(SAVEPOINT|RELEASE)", s)]


def pgbench(statements: list[str], replace: dict[str, str], head: str, transactions: int) -> float:
    """Transactions per second of ``statements`` with ``replace`` applied, by ``CLIENTS`` pgbench clients."""
    from django.db import connection

    program = shutil.which("pgbench") or "/usr/lib/postgresql/15/bin/pgbench"
    body = ";\n".join(["BEGIN", *(" ".join(s.split("\n")) for s in statements), "COMMIT"]) + ";\n"
    for literal, variable in replace.items():
        body = body.replace(literal, variable)
    settings = connection.settings_dict
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.sql"
        script.write_text(head + body)
        args = [program, "-n", "-c", str(CLIENTS), "-j", "2", "-t", str(transactions // CLIENTS), "-D", "i=0"]
        args += ["-f", str(script), "-h", settings["HOST"] or "/tmp", "-U", settings["USER"] or "postgres"]
        if settings["PORT"]:
            args += ["-p", str(settings["PORT"])]
        env = os.environ | ({"PGPASSWORD": settings["PASSWORD"]} if settings["PASSWORD"] else {})
        ran = subprocess.run([*args, settings["NAME"]], capture_output=True, text=True, env=env, check=False)
    found = re.search(r"tps = ([\d.]+)", ran.stdout)
    if ran.returncode or not found:
        sys.exit(f"pgbench failed:\n{ran.stderr[-2000:]}\n{body[:3000]}")
    return float(found.group(1))


def _worker(module: str, function: str, name: str, share: list[Any], gate: Any) -> int:
    setup()
    use(name)
    from django.db import connection

    connection.ensure_connection()
    work = getattr(__import__(module), function)
    gate.wait(60)
    for item in share:
        work(item)
    return len(share)


def rate(module: str, function: str, items: list[Any]) -> float:
    """Operations per second of ``module.function(item)`` over ``CLIENTS`` processes started together."""
    from django.db import connection

    name = connection.settings_dict["NAME"]
    context = get_context("spawn")
    with context.Manager() as manager:
        gate = manager.Barrier(CLIENTS + 1)
        with context.Pool(CLIENTS) as pool:
            shares = [items[n::CLIENTS] for n in range(CLIENTS)]
            running = [pool.apply_async(_worker, (module, function, name, s, gate)) for s in shares]
            gate.wait(60)
            start = time.perf_counter()
            done = sum(r.get(300) for r in running)
            return done / (time.perf_counter() - start)


def report(what: str, ours: float, limit: float) -> None:
    """One line of the table."""
    print(f"{what}: {ours:,.0f}/s, pgbench with the same SQL {limit:,.0f}/s, ratio {ours / limit:.0%}")
