"""Speed and size of the index on generated registrations, against the limits it was built for: ``python -m benchmarks.index``.

    python -m benchmarks.index [--size 100000] [--part load,disk,match,register,split,relink] [--keep] [--seed 5] [--county qinghe]

Each part prints its figures and their ratio to the limit (1.00 or less is kept). The data set stands in a database of its own named
after its size and, with ``--keep``, stays for another run of single parts; what was measured stays in ``--results``, so that
``growth`` can hold 7,500,000 registrations against 1,500,000. The last registrations by arrival are held back from the load and
are what ``match`` and ``register`` send: about half are of people already known. Needs a PostgreSQL that may be loaded.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import against_pgbench as bench

LIMITS = {
    "match_p50_ms": 0.8,
    "match_p99_ms": 2.0,
    "register_p99_ms": 4.0,
    "register_seconds_per_1000_one": 1000 / 900,
    "register_seconds_per_1000_two": 1000 / 1500,
    "growth": 1.3,
    "load_seconds_per_10000": 1.0,
    "disk_bytes_each": 1300,
    "split_share": 0.0005,
    "relink_seconds": {1_500_000: 75, 7_500_000: 600},
    "relink_memory_gb": 16,
}
"""Upper limits; rates are told as seconds so that less is always better."""
PARTS = ("load", "disk", "match", "register", "split", "relink")
HELD, MATCHES, REGISTERED, SPLIT = 24_000, 4_000, 8_000, 2_000
TABLES = ("index_person", "index_sourcerecord", "index_form", "index_linkevent", "access_relationship")
"""What grows with every registration. Audit entries are counted apart: they are of the platform, not of the index."""


class Run:
    """One data set of ``size`` registrations in its database."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.size, self.seed, self.county = given.size, given.seed, given.county
        self.name = f"lianxin_bench_{self.county}_{self.size}"
        self.folder = given.folder
        self.results_file = given.results
        self.known, self.held = self.folder / f"{self.name}.csv", self.folder / f"{self.name}-held.csv"
        self.failed = 0

    def told(self, what: str, value: float, limit: float | None, shown: str) -> None:
        """Print a figure with its ratio to the limit and keep it."""
        ratio = f"{value / limit:6.2f} of the limit" if limit else ""
        self.failed += bool(limit) and value > (limit or 0)
        print(f"{self.size:>10,}  {what:<28}{shown:<34}{ratio}", flush=True)
        kept = self.results()
        kept.setdefault(str(self.size), {})[what] = value
        self.results_file.write_text(json.dumps(kept, indent=1), "utf-8")

    def results(self) -> dict[str, dict[str, float]]:
        """Everything measured so far, by size."""
        return json.loads(self.results_file.read_text("utf-8")) if self.results_file.exists() else {}

    def generate(self) -> None:
        """The two files: what is loaded, and the last arrivals, which are held back."""
        if self.known.exists() and self.held.exists():
            return
        from lianxin.index import kit

        start, whole = time.monotonic(), self.folder / f"{self.name}.all"
        held = min(HELD, self.size // 4)
        with whole.open("w", encoding="utf-8", newline="") as out:
            count = kit.write_csv(out, (self.size + held) // 2, self.seed, self.county)
        with whole.open(encoding="utf-8", newline="") as lines:
            header = next(lines)
            with (
                self.known.open("w", encoding="utf-8", newline="") as first,
                self.held.open("w", encoding="utf-8", newline="") as last,
            ):
                first.write(header)
                last.write(header)
                for number, text in enumerate(lines):
                    (first if number < count - held else last).write(text)
        whole.unlink()
        print(
            f"{self.size:>10,}  generated {count:,} registrations in {time.monotonic() - start:.0f} s",
            flush=True,
        )

    def held_back(self) -> list[Any]:
        """The registrations held back, with the institutions of the database."""
        from lianxin.index import kit
        from lianxin.network.models import Institution

        ids = dict(Institution.objects.values_list("code", "pk"))
        labelled = kit.read_csv(self.held)
        for reg, code in zip(labelled.registrations, labelled.institutions, strict=True):
            reg.institution_id = ids[code]
        return list(labelled.registrations)


@contextmanager
def database(run: Run, keep: bool) -> Iterator[None]:
    """The data set's database: made when it is not there, migrated, dropped unless kept."""
    from django.core.management import call_command
    from django.db import connection

    home = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [run.name])
        there = cursor.fetchone() is not None
        if not there:
            cursor.execute(f"CREATE DATABASE {run.name}")
    bench.use(run.name)
    try:
        call_command("migrate", verbosity=0)  # one that was kept may be of an older release
        yield
    finally:
        bench.use(home)
        if not keep:
            with connection.cursor() as cursor:
                cursor.execute(f"DROP DATABASE IF EXISTS {run.name} WITH (FORCE)")
            for file in (run.known, run.held):
                file.unlink(missing_ok=True)


def people() -> int:
    """Persons in the database."""
    from lianxin.index.models import Person

    return Person.objects.unscoped("benchmark").count()


def load(run: Run) -> None:
    """Registrations from the file into an empty index."""
    from lianxin.access.scope import Scope
    from lianxin.index.batch import load as loading
    from lianxin.network.models import Institution

    if people():
        print(f"{run.size:>10,}  load: the database already holds people, left as it is", flush=True)
        return
    codes = set()
    for file in (run.known, run.held):
        with file.open(encoding="utf-8", newline="") as rows:
            codes |= {row["institution"] for row in csv.DictReader(rows)}
    for code in sorted(codes):
        Institution.objects.get_or_create(
            code=code, defaults={"name": code, "kind": "township", "tier": "township"}
        )
    start = time.monotonic()
    done = loading.load(Scope.system("benchmark"), run.known)
    seconds = time.monotonic() - start
    rate = done.registrations / seconds
    run.told(
        "load_seconds_per_10000",
        10_000 / rate,
        LIMITS["load_seconds_per_10000"],
        f"{rate:,.0f} registrations/s ({seconds:.0f} s)",
    )
    print(f"{'':>12}{done.stages}", flush=True)


def disk(run: Run) -> None:
    """Bytes that a registration takes with all keys and indexes."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("SELECT count(*) FROM index_sourcerecord")
        count = cursor.fetchone()[0]
        sizes = {}
        for table in TABLES:
            cursor.execute("SELECT pg_total_relation_size(%s)", [table])
            sizes[table] = cursor.fetchone()[0] / count
    run.told(
        "disk_bytes_each",
        sum(sizes.values()),
        LIMITS["disk_bytes_each"],
        f"{sum(sizes.values()):,.0f} bytes a registration",
    )
    print(f"{'':>12}{', '.join(f'{t} {n:,.0f}' for t, n in sizes.items())}", flush=True)


def timed(work: Callable[[Any], Any], items: list[Any]) -> list[float]:
    """Milliseconds of each call."""
    out = []
    for item in items:
        start = time.perf_counter()
        work(item)
        out.append((time.perf_counter() - start) * 1000)
    return out


def spread(times: list[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    cuts = statistics.quantiles(times, n=100)
    return cuts[49], cuts[98]


def match(run: Run) -> None:
    """Who is this, without registering."""
    from lianxin.index import registry

    regs = run.held_back()
    timed(lambda reg: registry.match(None, reg, 10), regs[-500:])
    p50, p99 = spread(timed(lambda reg: registry.match(None, reg, 10), regs[:MATCHES]))
    run.told("match_p50_ms", p50, LIMITS["match_p50_ms"], f"{p50:.2f} ms")
    run.told("match_p99_ms", p99, LIMITS["match_p99_ms"], f"{p99:.2f} ms")
    growth(run, ("match_p50_ms", "match_p99_ms"))


def growth(run: Run, figures: tuple[str, ...]) -> None:
    """The largest size against a fifth of it, when both were measured."""
    kept = run.results()
    small = kept.get(str(run.size // 5), {})
    for figure in figures:
        if figure in small:
            ratio = kept[str(run.size)][figure] / small[figure]
            run.told(f"growth of {figure}", ratio, LIMITS["growth"], f"{ratio:.2f} x from {run.size // 5:,}")


def same_people(count: int) -> list[Any]:
    """Faultless registrations of people the index does not know, a third of them without identity number: what two places send at
    once. Only such as would be linked when the second came a minute later."""
    from dataclasses import replace

    from lianxin.index.form import form_of
    from lianxin.index.kit import bad
    from lianxin.index.match.memory import MemoryIndex
    from lianxin.network.models import Institution

    place = Institution.objects.order_by("pk").values_list("pk", flat=True)[0]
    out = []
    for n, reg in enumerate(bad.clean(place, count + count // 8, seed=4711)):
        one = reg if n % 3 else replace(reg, id_no="", id_type="")
        index, form = MemoryIndex(), form_of(one)
        if index.register(form) == index.register(form):
            out.append(one)
    return out[:count]


def worker(name: str, held: str, first: int, step: int, count: int) -> tuple[list[float], list[int], float]:
    """In a process of its own: register some of the held-back registrations one by one, each durably; with ``step`` 0 the people of
    :func:`same_people`, under local numbers of this worker's own."""
    bench.setup()
    bench.use(name)
    from lianxin.access.scope import Scope
    from lianxin.index import registry

    if step:
        regs = Run.held_back(argparse.Namespace(held=Path(held)))[first : first + count * step : step]  # type: ignore[arg-type]
    else:
        regs = same_people(count)
        for reg in regs:
            reg.local_id += f"-{first}"
    scope = Scope.system("benchmark")
    registry.match(None, regs[0], 1)
    found: list[int] = []
    start = time.monotonic()
    times = timed(lambda reg: found.append(registry.register(scope, reg).person_id), regs)
    return times, found, time.monotonic() - start


def workers(
    run: Run, number: int, first: int, count: int, same: bool = False
) -> list[tuple[list[float], list[int], float]]:
    """``number`` workers at once, each with registrations of its own, or all with the very same people."""
    from django.db import connection

    connection.close()
    with get_context("spawn").Pool(number) as pool:
        return pool.starmap(
            worker,
            [(run.name, str(run.held), first + n, 0 if same else number, count) for n in range(number)],
        )


def register(run: Run) -> None:
    """Durable registrations one by one: one process, then two."""
    count = min(REGISTERED, run.size // 16)
    ((times, _, seconds),) = workers(run, 1, 0, count)
    p50, p99 = spread(times)
    run.told("register_p50_ms", p50, None, f"{p50:.2f} ms")
    run.told("register_p99_ms", p99, LIMITS["register_p99_ms"], f"{p99:.2f} ms")
    rate = count / seconds
    run.told(
        "register_seconds_per_1000_one",
        1000 / rate,
        LIMITS["register_seconds_per_1000_one"],
        f"{rate:,.0f}/s with one process",
    )
    both = workers(run, 2, count, count // 2)
    rate = sum(len(t) for t, _, _ in both) / max(s for _, _, s in both)
    run.told(
        "register_seconds_per_1000_two",
        1000 / rate,
        LIMITS["register_seconds_per_1000_two"],
        f"{rate:,.0f}/s with two processes",
    )
    growth(run, ("register_p50_ms", "register_p99_ms"))


def split(run: Run) -> None:
    """Two processes register the same people at the same time: how many of them became two persons."""
    from lianxin.index.kit import database as kept

    both = workers(run, 2, 0, SPLIT, same=True)
    mine, other = (kept.current(found) for _, found, _ in both)
    apart = sum(a != b for a, b in zip(mine, other, strict=True))
    run.told(
        "split_share", apart / len(mine), LIMITS["split_share"], f"{apart} of {len(mine):,} people became two"
    )


def relink(run: Run) -> None:
    """Everybody linked anew from the database, in a process of its own (for its peak memory)."""
    start = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.index", "--relink-in", run.name], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    said = child.stdout.read().decode()
    _, status, _ = os.wait4(child.pid, 0)
    if status:
        raise SystemExit("re-linking failed")
    seconds, figures = time.monotonic() - start, json.loads(said.splitlines()[-1])
    limits: Any = LIMITS["relink_seconds"]
    run.told("relink_seconds", seconds, limits.get(run.size), f"{seconds:.0f} s, {figures['pairs']:,} pairs")
    run.told(
        "relink_memory_gb",
        figures["memory_gb"],
        LIMITS["relink_memory_gb"],
        f"{figures['memory_gb']:.1f} GB at most",
    )


def relink_in(name: str) -> None:
    """The child of :func:`relink`: read the forms, link, tell figures."""
    bench.setup()
    bench.use(name)
    from lianxin.index.batch import link, propose, reading, table
    from lianxin.index.engine import current_model

    with table.workplace(propose.home()) as place:
        duck = propose.make_engine("duckdb", place)
        duck.read("source", reading.forms(place))
        linked = link.link(duck, current_model())
    own, children = (
        resource.getrusage(w).ru_maxrss for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(json.dumps({"pairs": linked.figures["pairs"], "memory_gb": max(own, children) / 1024**2}))


STEPS = {"load": load, "disk": disk, "match": match, "register": register, "split": split, "relink": relink}


def main() -> int:
    """Run the wanted parts; the exit code is the number of limits not kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--part", default=",".join(PARTS))
    parser.add_argument("--keep", action="store_true", help="leave the database and files for another part")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--county", default="qinghe")
    parser.add_argument("--folder", type=Path, default=Path(".bench"))
    parser.add_argument("--results", type=Path, default=None)
    parser.add_argument("--relink-in", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.relink_in:
        relink_in(given.relink_in)
        return 0
    unknown = set(given.part.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; parts: {', '.join(PARTS)}")
    given.folder.mkdir(exist_ok=True, parents=True)
    given.results = given.results or given.folder / "index.json"
    bench.setup()
    run = Run(given)
    run.generate()
    with database(run, given.keep):
        for part in PARTS:
            if part in given.part.split(","):
                STEPS[part](run)
    print(f"{run.failed} limits not kept" if run.failed else "all limits kept")
    return min(run.failed, 100)


if __name__ == "__main__":
    sys.exit(main())
