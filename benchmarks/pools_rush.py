"""Seven in the morning: 2,000 residents after 300 numbers, by real HTTP against ``lianxin serve``.

    python benchmarks/pools_rush.py [--residents 2000] [--numbers 300] [--within 60 ...] [--workers N]

A scratch database, the server as it is run (its worker processes, ticker and all), sessions of the residents made beforehand. Each
resident opens the page, lists the numbers, opens a session, books it; the four requests follow one another, residents arrive evenly
within ``--within`` seconds whatever the server does (open loop between residents, closed loop within one; no think time, which is
harder than people are). Several values are run one after another, each for numbers of its own.

Exit 0 when in every run exactly the numbers there are were booked, nobody heard anything but "booked" or "full", the counters agree
with the places, and in the slowest arrival the 99th percentile of all requests is below two seconds.

The driver speaks HTTP/1.1 over asyncio streams in this process, on the same cores as the server and PostgreSQL: what is printed is
what all three together give.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import against_pgbench as bench

NAME, PORT, LIMIT = "lianxin_bench_rush", 8706, 2.0
ROOMS = 10
"""Sessions that the numbers of a run are spread over."""
KEY = re.compile(rb'name="key" value="([^"]+)"')
SESSION = re.compile(rb'class="m-number" href="/m/numbers/(\d+)"')
"""Sessions of the list that are not marked full."""
TRIES = 4


@dataclass
class Told:
    """What came of a run: seconds of each kind of request, and what residents heard."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    heard: Counter[str] = field(default_factory=Counter)
    ended: float = 0.0


def county(residents: int) -> list[str]:
    """A hospital, its people, their accounts and sign-ins; returns the cookies."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore
    from django.contrib.sessions.models import Session as Row

    from lianxin.access.models import Account, ActsFor
    from lianxin.index.models import Person
    from lianxin.network.models import Department, Institution
    from lianxin.standards import clock

    hospital = Institution.objects.create(
        code="R-H", name="试验县人民医院", kind="hospital", tier="county", lon=121.02, lat=29.14
    )
    home = Institution.objects.create(
        code="R-T", name="试验镇卫生院", kind="township", tier="township", lon=120.9, lat=29.17
    )
    Department.objects.create(institution=hospital, code="XN", name="心血管内科", specialty="03.04")
    people = Person.objects.bulk_create(
        Person(
            number=f"{n:010d}",
            card_number=f"C{n}",
            name=f"居试{n}",
            pinyin="jushi",
            initials="js",
            home_institution=home,
        )
        for n in range(residents)
    )
    accounts = Account.objects.bulk_create(
        Account(username=f"rush{n}", name=p.name, resident=True, password="!") for n, p in enumerate(people)
    )
    since = clock.now() - dt.timedelta(days=1)
    ActsFor.objects.bulk_create(
        ActsFor(account=a, person_id=p.pk, relation="self", since=since)
        for a, p in zip(accounts, people, strict=True)
    )
    store, rows, cookies = SessionStore(), [], []
    for n, account in enumerate(accounts):
        data = {
            SESSION_KEY: str(account.pk), BACKEND_SESSION_KEY: settings.AUTHENTICATION_BACKENDS[0],
            HASH_SESSION_KEY: account.get_session_auth_hash(),
        }  # fmt: skip
        key = f"rush{n:028d}"
        rows.append(
            Row(session_key=key, session_data=store.encode(data), expire_date=since + dt.timedelta(days=2))
        )
        cookies.append(f"{settings.SESSION_COOKIE_NAME}={key}; {settings.CSRF_COOKIE_NAME}={'c' * 32}")
    Row.objects.bulk_create(rows)
    return cookies


def numbers(count: int, run: int) -> list[int]:
    """Sessions of a run: a day of its own (runs do not meet), ``count`` numbers in all."""
    from lianxin.network.models import Department
    from lianxin.pool.models import Session
    from lianxin.standards import clock

    department = Department.objects.get(code="XN")
    day = clock.today() + dt.timedelta(days=2 + run)
    now = clock.now() - dt.timedelta(days=1)
    made = []
    for n in range(ROOMS):
        starts = dt.datetime.combine(day, dt.time(8, n), clock.ZONE)
        made.append(
            Session(
                institution_id=department.institution_id, department=department, specialty="03.04", starts_at=starts,
                ends_at=starts + dt.timedelta(hours=3), capacity=count // ROOMS + (n < count % ROOMS), opens_at=now, fee_fen=1200,
                release_county=now, release_township=now, release_village=now,
            )
        )  # fmt: skip
    return [s.pk for s in Session.objects.bulk_create(made)]


class Phone:
    """One resident's connection."""

    def __init__(self, cookie: str, told: Told) -> None:
        self.cookie, self.told = cookie, told
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, kind: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One request, timed from before it connects to the last byte of its answer."""
        began = time.perf_counter()
        if self.writer is None or self.reader is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", PORT)
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nCookie: {self.cookie}\r\n"
        if body is not None:
            head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\nReferer: http://127.0.0.1:{PORT}/\r\n"
        self.writer.write(head.encode() + b"\r\n" + (body or b""))
        status, length, chunked = 0, 0, False
        while (line := await self.reader.readline()) != b"\r\n":
            if not line:
                raise ConnectionError("the server hung up")
            if not status:
                status = int(line.split()[1])
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            chunked = chunked or (name.lower() == b"transfer-encoding" and b"chunked" in value)
        answer = b""
        if chunked:
            while size := int(await self.reader.readline(), 16):
                answer += await self.reader.readexactly(size)
                await self.reader.readline()
            await self.reader.readline()
        elif length:
            answer = await self.reader.readexactly(length)
        self.told.seconds.setdefault(kind, []).append(time.perf_counter() - began)
        return status, answer

    def hang_up(self) -> None:
        """Close the connection."""
        if self.writer is not None:
            self.writer.close()


async def resident(n: int, cookie: str, day: str, wait: float, told: Told) -> None:
    """Arrive, open, list, choose, book."""
    await asyncio.sleep(wait)
    phone = Phone(cookie, told)
    try:
        await phone.ask("open", "/m/")
        for _ in range(TRIES):
            if (said := await attempt(n, phone, day)) != "full":
                break
        told.heard[said] += 1
    except (OSError, asyncio.IncompleteReadError) as failure:
        told.heard[type(failure).__name__] += 1
    finally:
        phone.hang_up()


async def attempt(n: int, phone: Phone, day: str) -> str:
    """List, choose one that is not full, book it; what was heard. Nothing left in the list is "none left"."""
    status, page = await phone.ask("list", f"/m/numbers?specialty=03.04&day={day}&sort=time")
    if status != 200:
        return f"list {status}"
    rooms = list(dict.fromkeys(SESSION.findall(page)))
    if not rooms:
        return "none left"
    room = rooms[n % min(len(rooms), 5)].decode()
    status, page = await phone.ask("choose", f"/m/numbers/{room}")
    if status != 200:
        return f"choose {status}"
    found = KEY.search(page)
    if found is None or f"/m/numbers/{room}/book".encode() not in page:
        return "full"
    form = b"key=" + found[1] + b"&seat=&csrfmiddlewaretoken=" + b"c" * 32
    status, _ = await phone.ask("book", f"/m/numbers/{room}/book", form)
    return "booked" if status == 302 else "full" if status == 409 else f"book {status}"


async def rush(cookies: list[str], day: str, within: float) -> Told:
    """Everybody, arriving evenly within ``within`` seconds."""
    told = Told()
    began = time.perf_counter()
    gap = within / len(cookies)
    async with asyncio.TaskGroup() as group:
        for n, cookie in enumerate(cookies):
            group.create_task(resident(n, cookie, day, n * gap, told))
    told.ended = time.perf_counter() - began
    return told


def at(times: list[float], share: float) -> float:
    """A percentile."""
    return sorted(times)[min(int(len(times) * share), len(times) - 1)]


def report(within: float, told: Told, count: int, rooms: list[int]) -> tuple[bool, float]:
    """Print a run; whether exactly the numbers went out, and the 99th percentile of all requests."""
    from lianxin.pool import booking
    from lianxin.pool.models import Place

    every = [s for times in told.seconds.values() for s in times]
    placed = (
        Place.objects.unscoped("benchmark").filter(session_id__in=rooms).exclude(state="cancelled").count()
    )
    wrong = booking.recount()
    odd = {k: v for k, v in told.heard.items() if k not in ("booked", "full", "none left")}
    print(
        f"arriving within {within:g} s: all answered after {told.ended:.1f} s, {len(every) / told.ended:.0f} requests/s; heard {dict(told.heard)}; places {placed}"
    )
    for kind, times in told.seconds.items():
        print(
            f"  {kind:6} {len(times):5} requests, median {at(times, 0.5) * 1000:6.0f} ms, p99 {at(times, 0.99) * 1000:6.0f} ms, longest {max(times) * 1000:6.0f} ms"
        )
    late = at(every, 0.99)
    print(f"  all requests: p99 {late:.2f} s, {late / LIMIT:.2f} of the limit of {LIMIT:g} s", flush=True)
    return placed == told.heard["booked"] == count and not odd and not wrong, late


def main() -> None:
    """Make the county, serve it, let them come."""
    given = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    given.add_argument("--residents", type=int, default=2000)
    given.add_argument("--numbers", type=int, default=300)
    given.add_argument("--within", type=float, nargs="+", default=[10.0, 60.0])
    given.add_argument("--workers", type=int, default=0)
    args = given.parse_args()
    bench.setup()
    with bench.scratch(NAME), tempfile.TemporaryDirectory() as home:
        cookies = county(args.residents)
        runs = [(within, numbers(args.numbers, n)) for n, within in enumerate(args.within)]
        server = serve(home, args.workers)
        try:
            warm(cookies[:20])
            kept = [one(within, rooms, cookies, args.numbers, server.pid) for within, rooms in runs]
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
    sys.exit(0 if all(exact for exact, _ in kept) and min(late for _, late in kept) < LIMIT else 1)


def spent(server: int) -> tuple[float, float]:
    """CPU seconds so far of the server's web workers, and of PostgreSQL's backends of this database (fair on a loaded machine)."""
    from django.db import connection

    tick, parents, used = os.sysconf("SC_CLK_TCK"), {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        pid = int(path.parent.name)
        parents[pid], used[pid] = int(words[1]), (int(words[11]) + int(words[12])) / tick
    mine, grew = {server}, True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in mine} - mine
        mine, grew = mine | more, bool(more)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        backends = [row[0] for row in cursor.fetchall()]
    return sum(used.get(pid, 0.0) for pid in mine), sum(used.get(pid, 0.0) for pid in backends)


def one(within: float, rooms: list[int], cookies: list[str], count: int, server: int) -> tuple[bool, float]:
    """One run and its report."""
    from lianxin.pool.models import Session
    from lianxin.standards import clock

    day = Session.objects.get(pk=rooms[0]).starts_at.astimezone(clock.ZONE).date()
    before = spent(server)
    told = asyncio.run(rush(cookies, day.isoformat(), within))
    web, database = (after - start for after, start in zip(spent(server), before, strict=True))
    requests = sum(map(len, told.seconds.values()))
    found = report(within, told, count, rooms)
    print(
        f"  CPU a request: server {web / requests * 1000:.1f} ms, PostgreSQL {database / requests * 1000:.1f} ms;"
        f" two idle cores would answer {2 * requests / (web + database):.0f} requests/s",
        flush=True,
    )
    return found


def serve(home: str, workers: int) -> subprocess.Popen[bytes]:
    """``lianxin serve`` on the scratch database, once it answers."""
    from django.db import connection

    settings = connection.settings_dict
    url = f"postgresql://{settings['USER']}@/{NAME}?host={settings['HOST']}"
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "LIANXIN_HOME": home,
        "LIANXIN_SECRET": os.environ.get("LIANXIN_SECRET") or secret(),
    }
    command = [sys.executable, "-m", "lianxin.config.cli", "serve", "--port", str(PORT)]
    process = subprocess.Popen([*command, *(["--workers", str(workers)] if workers else [])], env=environment)
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/healthz", timeout=2).close()
        except OSError:
            time.sleep(0.2)
        else:
            return process
    process.kill()
    raise SystemExit("the server did not come up")


def secret() -> str:
    """The secret the sign-ins were signed with."""
    from django.conf import settings

    return bytes(settings.SECRET).hex()


def warm(cookies: list[str]) -> None:
    """A few pages, so that no run pays for compiling templates."""
    asyncio.run(rush_open(cookies))


async def rush_open(cookies: list[str]) -> None:
    """Open the first page with each of some sign-ins, at once."""
    phones = [Phone(cookie, Told()) for cookie in cookies]
    for path in ("/m/", "/m/numbers?specialty=03.04", "/m/find"):
        for status, _ in await asyncio.gather(*(phone.ask("warm", path) for phone in phones)):
            assert status == 200, (path, status)
    for phone in phones:
        phone.hang_up()


if __name__ == "__main__":
    main()
