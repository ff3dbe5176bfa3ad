"""Tables as a feed: rows read, mapped and checked; rows stored as Observations of known patients; beside COPY and DuckDB.

    python -m benchmarks.feeds_tables [--rows 40000] [--lanes 2]

On a migrated database of its own (DATABASE_URL).  It says, for one file of laboratory results in GB 18030:

- ``check``: rows a second of a dry run (read, decode, map, check, find the patient, build the resource; nothing stored), one process;
- ``store``: rows a second of a run with all its lanes (the same, then gate, record with index, audit, arrival, commit), from the run's
  beginning to its end; ``store, one lane``: the same in one process;
- ``us of cpu a row``: microseconds of CPU of our process and of PostgreSQL's backends (fair on a loaded machine);
- ``same``: the same file once more (everything is found unchanged);
- peers in the same run: ``COPY`` of the same resources' texts into a bare table, and DuckDB's ``read_csv`` of the same file in UTF-8.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import random
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

ITEMS = [
    ("WBC", "白细胞计数", "10^9/L", 3.5, 9.5), ("RBC", "红细胞计数", "10^12/L", 4.3, 5.8), ("HGB", "血红蛋白", "g/L", 130, 175),
    ("PLT", "血小板计数", "10^9/L", 125, 350), ("ALT", "丙氨酸氨基转移酶", "U/L", 9, 50), ("AST", "天门冬氨酸氨基转移酶", "U/L", 15, 40),
    ("GLU", "葡萄糖", "mmol/L", 3.9, 6.1), ("CR", "肌酐", "umol/L", 57, 97), ("UA", "尿酸", "umol/L", 208, 428), ("TC", "总胆固醇", "mmol/L", 2.8, 5.2),
    ("TG", "甘油三酯", "mmol/L", 0.5, 1.7), ("K", "钾", "mmol/L", 3.5, 5.3), ("NA", "钠", "mmol/L", 137, 147), ("CL", "氯", "mmol/L", 99, 110),
]  # fmt: skip
HEAD = "报告单号,病案号,姓名,项目代码,项目名称,结果,单位,参考范围,异常标志,标本类型,采样时间,报告时间,检验者"


def table(rows: int, patients: int, seed: int) -> str:
    """Made-up results: reports of 14 tests."""
    chance = random.Random(seed)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(HEAD.split(","))
    for n in range(rows):
        report = n // len(ITEMS)
        who = report % patients
        code, name, unit, low, high = ITEMS[n % len(ITEMS)]
        value = round(chance.uniform(low * 0.8, high * 1.2), 2)
        day = f"2026-{1 + report // 28 % 9:02d}-{1 + report % 28:02d}"
        writer.writerow([
            f"JY{seed}{report:07d}", f"P{who:06d}", f"试用{who}", code, name, value, unit, f"{low}-{high}",
            "↑" if value > high else "↓" if value < low else "正常", "血清", f"{day} 07:{report % 60:02d}", f"{day} 10:{report % 60:02d}", "赵试用",
        ])  # fmt: skip
    return out.getvalue()


def cpu() -> float:
    """Seconds of CPU of this process, its children that ended, and the database's backends of ours (where /proc can tell)."""
    mine = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(u.ru_utime + u.ru_stime for u in (mine, children))


def backends(database: str) -> float:
    """Seconds of CPU of every PostgreSQL process (backends of ended connections are waited for by the postmaster)."""
    tick, total = os.sysconf("SC_CLK_TCK"), 0.0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                if not command.startswith(b"postgres") and b"/postgres" not in command:
                    continue
                own = b"postgres:" not in command
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if own:  # the postmaster: its ended children
                    total += (int(fields[13]) + int(fields[14])) / tick
                elif database.encode() in command:
                    total += (int(fields[11]) + int(fields[12])) / tick
            except OSError:
                continue
    return total


def main() -> None:
    """Measure and print one line of JSON."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--rows", type=int, default=40_000)
    asked.add_argument("--patients", type=int, default=1_000)
    asked.add_argument("--lanes", type=int, default=2)
    given = asked.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")
    import django

    django.setup()
    from django.db import connection

    from lianxin.exchange.tables import by_hand, running
    from lianxin.network.models import Institution

    tag = str(time.time_ns())[-9:]
    institution, _ = Institution.objects.get_or_create(
        code=f"BENCH-{tag}", defaults={"kind": "hospital", "tier": "county", "name": "测速医院"}
    )
    database = str(connection.settings_dict["NAME"])
    out: dict[str, Any] = {"rows": given.rows, "lanes": given.lanes}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lab.csv"

        def run(name: str, text: str, dry: bool = False, lanes: int = 1) -> tuple[float, float, float, Any]:
            """Seconds between the first and the last word of a run, of our CPU, of the database's, and its figures."""
            path.write_bytes(text.encode("gb18030"))
            it = by_hand.prepared(path, institution, "lab", name, dry=dry, lanes=lanes)
            used, theirs = cpu(), backends(database)
            by_hand.do(it)
            used, theirs = cpu() - used, backends(database) - theirs
            it.refresh_from_db()
            figures = running.figures_of(it)
            if it.state != "done" or it.started_at is None or it.ended_at is None:
                raise SystemExit(f"{it.state}: {it.error_en}")
            return (it.ended_at - it.started_at).total_seconds(), used, theirs, figures

        people = table(given.patients * len(ITEMS), given.patients, 1)
        run("people", people)
        text = table(given.rows, given.patients, 2)
        wall, ours, theirs, figures = run("check", text, dry=True)
        out["check"], out["check us of cpu a row"] = (
            round(given.rows / wall),
            round(1e6 * ours / given.rows, 1),
        )
        wall, ours, theirs, figures = run("cpu", text)
        out["store us of cpu a row"] = {
            "ours": round(1e6 * ours / given.rows, 1),
            "postgresql": round(1e6 * theirs / given.rows, 1),
        }
        out["store, one lane"] = round(given.rows / wall)
        wall, _, _, figures = run("store", text, lanes=given.lanes)
        if figures.new != given.rows:
            raise SystemExit(str(figures))
        out["store"], out["resources"] = round(given.rows / wall), figures.resources
        wall, _, _, figures = run("store", text)
        if figures.same != given.rows:
            raise SystemExit(str(figures))
        out["same, one lane"] = round(given.rows / wall)
        out.update(_peers(given.rows, text, Path(folder)))
    print(json.dumps(out))


def _peers(rows: int, text: str, folder: Path) -> dict[str, int]:
    import duckdb
    from django.db import connection

    from lianxin.record import rows as record_rows

    with connection.cursor() as own:
        own.execute(
            "SELECT id, body FROM record_resource WHERE rtype = 'Observation' ORDER BY rid DESC LIMIT %s",
            [rows],
        )
        stored = [(i, bytes(b)) for i, b in own.fetchall()]
        own.execute("CREATE TEMP TABLE bare (id text, body bytea)")
        began = time.perf_counter()
        record_rows.copy(record_rows.server_cursor(own), "bare", ("id", "body"), stored)
        copied = time.perf_counter() - began
    path = folder / "utf8.csv"
    path.write_text(text)
    began = time.perf_counter()
    duckdb.sql(
        f"SELECT count(*), sum(length(CAST(COLUMNS(*) AS VARCHAR))) FROM read_csv('{path}')"
    ).fetchall()
    read = time.perf_counter() - began
    return {"bare COPY": round(len(stored) / copied), "duckdb read_csv": round(rows / read)}


if __name__ == "__main__":
    main()
