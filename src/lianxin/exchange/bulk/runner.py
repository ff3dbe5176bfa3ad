"""Workers: plan jobs, claim a lane under a lease, do one step of it, note it, give it back.

Any number of workers on any number of machines may run (they share the folder of files).  A lane is claimed with ``FOR UPDATE
SKIP LOCKED``; the claim's number goes into everything the worker notes, so a worker that slept past its lease notes nothing.
A worker that dies frees its lane at once (its session held it), one that falls silent when its lease, on the database's
clock, has run out.  After each step the lane is given back: jobs take turns, oldest turn first.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.conf import settings
from django.db import Error, close_old_connections, connection, transaction

from lianxin.exchange.bulk import export, files, intake, jobs
from lianxin.exchange.bulk.authority import Ended
from lianxin.exchange.bulk.models import RUNNING, WAITING, BulkJob, BulkLane
from lianxin.record.problems import Problem
from lianxin.standards import clock
from lianxin.standards.text import T

log = logging.getLogger(__name__)

LEASE_SECONDS = 60
ATTEMPTS = 5
_GIVE_UP = T(
    "多次出错，已停止；详见服务器日志。", "It failed again and again and was stopped; see the server's log."
)
_NO_CLIENT = T("客户端已停用，任务终止。", "The client was switched off, so the job ended.")
_FULL = T(
    "存放批量文件的磁盘已满，请清理后重新提交。",
    "The disk for bulk files is full; make room and start again.",
)


class Lost(Exception):
    """The lease went to another worker, or the job is over: what was being made is thrown away."""


def turn() -> bool:
    """Plan what waits, then do one step of one lane; False when there was nothing to do."""
    planned = plan()
    lane = claim()
    if lane is None:
        return planned
    _do(lane)
    return True


def drain(limit: int = 100_000) -> None:
    """Turns until nothing is left (tests and the command line)."""
    for _ in range(limit):
        if not turn():
            if not BulkJob.objects.filter(status__in=(WAITING, RUNNING)).exists():
                return
            time.sleep(0.01)


# ------------------------------------------------------------------------------------------------------------- planning


def plan() -> bool:
    """Start waiting jobs while there is room; an export starts when every write of before its instant has ended."""
    started = False
    with transaction.atomic():
        room = settings.LIANXIN_BULK_JOBS - BulkJob.objects.filter(status=RUNNING).count()
        if room <= 0:
            return False
        waiting = BulkJob.objects.select_for_update(skip_locked=True).filter(status=WAITING)
        for job in waiting.order_by("created_at")[:room]:
            started = jobs.start(job) or started
    return started


# ------------------------------------------------------------------------------------------------------------- claiming

_SPACE = 0x6C62  # first key of our advisory locks: "lb"

# A lane whose holder's session is gone is free at once; one whose holder only fell silent, when its lease has run out.
_FREE = f"""
SELECT l.id FROM exchange_bulklane l JOIN exchange_bulkjob j ON j.id = l.job_id
 WHERE j.status = 'running' AND l.status = 'waiting' AND (l.not_before IS NULL OR l.not_before <= clock_timestamp())
   AND (l.lease_until IS NULL OR l.lease_until < clock_timestamp() OR NOT EXISTS (SELECT 1 FROM pg_locks k
     WHERE k.locktype = 'advisory' AND k.classid = {_SPACE} AND k.objid = (l.id & 2147483647)::oid AND k.objsubid = 2
       AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())))
   AND NOT EXISTS (SELECT 1 FROM exchange_bulklane e WHERE e.job_id = l.job_id AND e.stage < l.stage AND e.status = 'waiting')
 ORDER BY j.served_at, l.stage, l.number LIMIT 1 FOR UPDATE OF l SKIP LOCKED"""

_TAKE = f"""
UPDATE exchange_bulklane SET lease = lease + 1, lease_until = clock_timestamp() + interval '{LEASE_SECONDS} seconds'
 WHERE id = %s"""

_HOLD = f"SELECT pg_try_advisory_lock({_SPACE}, (%s & 2147483647)::int)"
_LET_GO = f"SELECT pg_advisory_unlock({_SPACE}, (%s & 2147483647)::int)"

_BEAT = f"""
UPDATE exchange_bulklane l SET lease_until = clock_timestamp() + interval '{LEASE_SECONDS} seconds'
  FROM exchange_bulkjob j WHERE l.id = %s AND l.lease = %s AND j.id = l.job_id AND j.status = 'running' RETURNING l.id"""

_GIVE_BACK = """
UPDATE exchange_bulklane SET lease_until = NULL, attempts = 0 WHERE id = %s AND lease = %s RETURNING job_id"""


def claim() -> BulkLane | None:
    """A lane of the job whose turn it is, leased to us and held by our session."""
    with transaction.atomic(), connection.cursor() as cur:
        cur.execute(_FREE)
        row = cur.fetchone()
        if row is None:
            return None
        cur.execute(_HOLD, row)
        cur.execute(_TAKE, row)
    return BulkLane.objects.select_related("job").get(pk=row[0])


def _do(lane: BulkLane) -> None:
    """A step of a lane, whatever comes of it."""
    try:
        _step(lane)
    finally:
        with suppress(Error), connection.cursor() as cur:
            cur.execute(_LET_GO, [lane.pk])


def _step(lane: BulkLane) -> None:
    job = lane.job

    def beat() -> None:
        with connection.cursor() as cur:
            cur.execute(_BEAT, [lane.pk, lane.lease])
            if cur.fetchone() is None:
                raise Lost

    @contextmanager
    def note() -> Iterator[None]:
        with transaction.atomic():
            held = BulkLane.objects.select_for_update().filter(pk=lane.pk, lease=lane.lease).exists()
            if not held or not BulkJob.objects.filter(pk=job.pk, status=RUNNING).exists():
                raise Lost
            yield

    try:
        (export if job.kind == "export" else intake).work(job, lane, beat, note)
        _give_back(lane)
    except Lost:
        log.info("lane %s: lease lost or job over", lane)
        if not BulkJob.objects.filter(pk=job.pk, status=RUNNING).exists():
            files.remove(job.pk)
    except Ended:
        jobs.fail(job, _NO_CLIENT)
    except Problem as problem:
        jobs.fail(job, problem.issues[0].text)
    except Error:
        with suppress(Error):  # a deadlock or a timeout: at once; a lost database: when the lease has run out
            _give_back(lane)
        raise
    except OSError as broken:
        if broken.errno in (errno.ENOSPC, errno.EDQUOT):
            log.error("no room for bulk files in %s", settings.LIANXIN_BULK_DIR)
            jobs.fail(job, _FULL)
        else:
            _again(lane)
    except Exception:
        _again(lane)
    else:
        jobs.finish(job)


def _give_back(lane: BulkLane) -> None:
    with connection.cursor() as cur:
        cur.execute(_GIVE_BACK, [lane.pk, lane.lease])
        if cur.fetchone():
            BulkJob.objects.filter(pk=lane.job_id).update(served_at=clock.now())


def _again(lane: BulkLane) -> None:
    """Try a step again later, ever later; give the job up after some times."""
    log.exception("bulk job %s, lane %s failed", lane.job_id, lane.number)
    with connection.cursor() as cur:
        cur.execute(
            "UPDATE exchange_bulklane SET attempts = attempts + 1, lease_until = NULL,"
            " not_before = clock_timestamp() + least(300, 2 ^ attempts) * interval '1 second'"
            " WHERE id = %s AND lease = %s RETURNING attempts",
            [lane.pk, lane.lease],
        )
        row = cur.fetchone()
    if row and row[0] >= ATTEMPTS:
        jobs.fail(lane.job, _GIVE_UP)


def worker(stop: Any) -> None:
    """Turns until ``stop`` (an event) is set; rests while there is nothing to do or no database."""
    pause = 0.0
    while not stop.wait(pause):
        try:
            close_old_connections()
            pause = 0.0 if turn() else 1.0
        except Error:
            log.exception("bulk work met a database error; trying again")
            connection.close()
            pause = min(30.0, pause * 2 or 1.0)
