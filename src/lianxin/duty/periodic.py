"""Chores that run every so often, in whichever process comes first, never twice at once."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.db import connection

from lianxin.duty.models import Chore
from lianxin.standards import clock

log = logging.getLogger(__name__)

_LOCK_SPACE = 0x6C78  # "lx": first key of our advisory locks


@dataclass(frozen=True)
class Job:
    """A registered chore."""

    name: str
    seconds: int
    work: Callable[[], object]


_jobs: dict[str, Job] = {}
_workers: dict[str, Callable[[threading.Event], None]] = {}

_RESTART = 5.0  # seconds before a worker that fell over is started again


def register(name: str, seconds: int, work: Callable[[], object]) -> None:
    """Run ``work()`` about every ``seconds``; registering the name again replaces it."""
    _jobs[name] = Job(name, seconds, work)


def register_worker(name: str, run: Callable[[threading.Event], None]) -> None:
    """Run ``run(stop)`` in a thread of every ticker, beside the chores, until ``stop`` is set: for work that waits on others."""
    _workers[name] = run


def start_workers(stop: threading.Event) -> list[threading.Thread]:
    """Start every worker (the ticker does); one that falls over is logged and started again."""
    threads = [
        threading.Thread(target=_keep, args=(name, run, stop), name=name, daemon=True)
        for name, run in _workers.items()
    ]
    for thread in threads:
        thread.start()
    return threads


def _keep(name: str, run: Callable[[threading.Event], None], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            run(stop)
        except Exception:  # whatever it was, the others go on, and so shall this one
            log.exception("worker %s fell over", name)
            stop.wait(_RESTART)


def jobs() -> list[Job]:
    """All registered chores."""
    return list(_jobs.values())


_CLAIM = """
INSERT INTO duty_chore (name, ran_at, error) VALUES (%s, %s, '')
ON CONFLICT (name) DO UPDATE SET ran_at = EXCLUDED.ran_at WHERE duty_chore.ran_at <= %s OR duty_chore.ran_at > %s
RETURNING name"""


def run_due() -> list[str]:
    """Run every chore whose time has come (the ticker calls this each second or so); returns the names that ran."""
    return [job.name for job in jobs() if _run(job)]


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Within the block no other process runs a chore; waits for those under way.

    A scenario plays past days on a clock of its own: a ticker beside it would judge half-played days by today's clock.
    """
    names = sorted({job.name for job in jobs()})
    connection.ensure_connection()
    connection.close_at = (
        None  # the locks live and end with this connection: it must not be retired for its age meanwhile
    )
    _each("pg_advisory_lock", names)
    try:
        yield
    finally:
        _each("pg_advisory_unlock", names)


def _each(function: str, names: list[str]) -> None:
    with connection.cursor() as cursor:
        for name in names:
            cursor.execute(f"SELECT {function}(%s, hashtext(%s))", [_LOCK_SPACE, name])


def _run(job: Job) -> bool:
    now = clock.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", [_LOCK_SPACE, job.name])
        if not cursor.fetchone()[0]:
            return False
        try:
            # a time in the future means that the clock was set back (a scenario): run
            cursor.execute(_CLAIM, [job.name, now, now - dt.timedelta(seconds=job.seconds), now])
            if cursor.fetchone() is None:
                return False
            error = _work(job)
            Chore.objects.filter(name=job.name).update(error=error)
            return True
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", [_LOCK_SPACE, job.name])


def _work(job: Job) -> str:
    try:
        job.work()
    except Exception as failure:  # one chore's failure must not stop the others; it shows in duty_chore.error
        log.exception("chore %s failed", job.name)
        return f"{type(failure).__name__}: {failure}"[:400]
    return ""
