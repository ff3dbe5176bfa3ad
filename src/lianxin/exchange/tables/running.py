"""Runs: a file or a view taken in chunks, each one transaction with its figures; stopped, resumed, shared by processes.

A chunk's row (:class:`TableChunk`) is written in the transaction of its rows: who goes on after a crash begins behind the last one, and
nothing is done or counted twice.  Lanes share a file by whose rows they are, so that two of one person are always taken in order.
"""

from __future__ import annotations

import datetime as dt
import gc
import logging
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import orjson
from django.db import close_old_connections, connection, transaction
from django.db.models import F, Max, Sum

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.exchange.feeds import keeping
from lianxin.exchange.fhir import gate
from lianxin.exchange.tables import database, files, reading
from lianxin.exchange.tables.chunks import Figures, Refused, Taker
from lianxin.exchange.tables.models import (
    DONE,
    FAILED,
    RUNNING,
    STOPPED,
    WAITING,
    TableChunk,
    TableRefusal,
    TableRun,
    TableSource,
)
from lianxin.exchange.tables.reading import Layout, Row, Unreadable
from lianxin.record import custom
from lianxin.record.keys import hash64
from lianxin.standards import clock
from lianxin.standards.text import T, Text

log = logging.getLogger(__name__)

CHUNK = 1_000
PEOPLE_CHUNK = 200
"""Rows of a chunk when each may make a person (locks of a transaction are few)."""
SUSPICIOUS = 1_000
"""Rows after which a run with more refused than taken stops by itself: the mapping is wrong."""
KEPT_DAYS = 30
_SPACE = 0x6C74  # first key of our advisory locks: "lt"
_DAMAGED = T(
    "保存的文件已损坏或已清理，请重新上传。", "The kept file is damaged or was cleared away; upload it again."
)
_GONE = T("文件的列与对应关系不一致：缺少 {c}。", "The file lacks columns of the mapping: {c}.")
_TOO_MANY = T(
    "前 {n} 行中有 {m} 行被拒，多半是列对应有误，已自动停止；核对后可继续。",
    "{m} of the first {n} rows were refused: the mapping is wrong, most likely. Stopped by itself; it can be resumed.",
)


def scope_of(source: TableSource, account_id: int | None = None) -> Scope:
    """On whose behalf rows are stored: the platform for the institution whose table it is."""
    return replace(
        Scope.system(f"table {source.pk}"),
        institution_id=source.institution_id,
        institution_ids=frozenset({source.institution_id}),
        account_id=account_id,
    )


def begin(run: TableRun) -> TableRun:
    """Put a run down; IntegrityError when the source has one on its way already."""
    run.state, run.created_at = WAITING, clock.now()
    run.save()
    audit.write(
        scope_of(run.source, run.account_id), "create", what=f"table run {run.pk}", detail={"dry": run.dry, "source": run.source_id}
    )  # fmt: skip
    return run


def figures_of(run: TableRun) -> Figures:
    """What a run has done until now."""
    names = ("rows", "new", "changed", "same", "refused", "held", "resources")
    sums = run.chunks.aggregate(**{n: Sum(n) for n in names})
    return Figures(**{n: sums[n] or 0 for n in names})


# --------------------------------------------------------------------------------------------------------------------- one lane


class Stopped(Exception):
    """Somebody asked the run to stop, or it stopped itself (``why``)."""

    def __init__(self, why: Text | None = None) -> None:
        super().__init__()
        self.why = why


@dataclass
class _Part:
    """Rows of one chunk, with the watermark that is certain once they are stored."""

    rows: list[Row]
    mark: str = ""


def run_lane(run_id: int, lane: int = 0) -> bool:
    """Do one lane of a run to its end; False when somebody else has it, or there is nothing to do."""
    with _held(run_id, lane) as mine:
        if not mine:
            return False
        run = TableRun.objects.select_related("source__institution", "mapping").get(pk=run_id)
        if run.state not in (WAITING, RUNNING):
            return False
        if run.chunks.filter(lane=lane, number=-1).exists():
            _finish(run)
            return False
        TableRun.objects.filter(pk=run_id, state=WAITING).update(state=RUNNING, started_at=clock.now())
        try:
            _lane(run, lane)
            _finish(run)
        except Stopped as stopped:
            _end(run, STOPPED, stopped.why)
        except Unreadable as failure:
            _end(run, FAILED, failure.text)
        except (files.Damaged, OSError):
            log.exception("the file of table run %s cannot be read", run_id)
            _end(run, FAILED, _DAMAGED)
        return True


def _lane(run: TableRun, lane: int) -> None:
    custom.refresh()
    source = run.source
    chunk = PEOPLE_CHUNK if source.target == "resident" else CHUNK
    done = run.chunks.filter(lane=lane).aggregate(last=Max("last"), number=Max("number"))
    number = (done["number"] if done["number"] is not None else -1) + 1
    with _rows(run, lane, done["last"] or 0) as (names, found):
        taker = Taker(source, run.mapping, names, scope_of(source, run.account_id))
        if taker.converter.missing:
            raise Unreadable(_GONE.format(c="、".join(taker.converter.missing)[:200]))
        begun = number
        for part in _parts(found, chunk):
            if TableRun.objects.filter(pk=run.pk, stop=True).exists():
                raise Stopped
            chunk_of(run, lane, number, part, taker)
            number += 1
            if begun == 0 and (number - begun) * chunk >= SUSPICIOUS and number * chunk < 2 * SUSPICIOUS:
                _doubt(run)
    with transaction.atomic():
        TableChunk.objects.create(run=run, lane=lane, number=-1, first=0, last=0, rows=0, at=clock.now())


def _doubt(run: TableRun) -> None:
    so_far = figures_of(run)
    if not run.dry and so_far.refused * 2 > so_far.rows:
        raise Stopped(_TOO_MANY.format(n=so_far.rows, m=so_far.refused))


def chunk_of(run: TableRun, lane: int, number: int, part: _Part, taker: Taker) -> Figures:
    """Take some rows of a run: everything about them in one transaction."""
    rows = part.rows

    def work(cur: Any) -> tuple[Figures, Any]:
        if run.dry:
            figures, refused, _ = taker.check(cur, rows)
            arrivals: Sequence[int | None] = [None] * len(refused)
            learned = None
        else:
            cur.execute("SELECT pg_advisory_xact_lock_shared(%s)", [hash64(f"table/{run.source_id}")])
            taken = taker.take(cur, rows, f"run {run.pk}.{lane}.{number}")
            figures, refused, arrivals, learned = taken.figures, taken.refused, taken.arrivals, taken.people
            if part.mark:
                TableSource.objects.filter(pk=run.source_id).update(mark=_newer(run.source, part.mark))
        _note_refused(run, refused, arrivals)
        TableChunk.objects.create(
            run=run, lane=lane, number=number, first=rows[0].number, last=rows[-1].number, at=clock.now(),
            **{n: getattr(figures, n) for n in ("rows", "new", "changed", "same", "refused", "held", "resources")},
        )  # fmt: skip
        return figures, learned

    with _no_collection():
        figures, learned = gate.writing(work)
    if learned is not None:
        taker.people.commit(learned)
    if part.mark:
        run.source.mark = _newer(run.source, part.mark)
    return figures


@contextmanager
def _no_collection() -> Iterator[None]:
    """No search for cyclic garbage meanwhile: a chunk makes a hundred thousand objects, and none refers to itself."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _newer(source: TableSource, mark: str) -> str:
    """The later of two watermarks: it never goes back."""
    if not source.mark:
        return mark
    if source.mark_kind == "number":
        return max(source.mark, mark, key=int)
    old, new = dt.datetime.fromisoformat(source.mark), dt.datetime.fromisoformat(mark)
    zone = clock.ZONE
    return (
        mark
        if new.replace(tzinfo=new.tzinfo or zone) >= old.replace(tzinfo=old.tzinfo or zone)
        else source.mark
    )


def _note_refused(run: TableRun, refused: Sequence[Refused], arrivals: Sequence[int | None]) -> None:
    TableRefusal.objects.bulk_create(
        TableRefusal(
            run=run, row=one.row.number, column=one.cells[0][0], zh=one.reason.text.zh, en=one.reason.text.en, arrival_id=arrival,
            body=keeping.packed(orjson.dumps(one.row.cells or [one.row.raw.decode("utf-8", "replace")])),
        )
        for one, arrival in zip(refused, arrivals, strict=True)
    )  # fmt: skip


@contextmanager
def _rows(run: TableRun, lane: int, after: int) -> Iterator[tuple[list[str], Iterator[tuple[Row, str]]]]:
    """Names of the columns and the rows a lane has still to take."""
    layout = Layout(**run.mapping.rules["layout"])
    if run.source.kind == "sql":
        columns = list(dict.fromkeys(run.mapping.rules["columns"].values()))
        with database.connected(run.source) as open_connection:
            yield columns, database.rows(open_connection, run.source, columns)
        return
    with files.opened(run.stored, anywhere=layout.kind == "xlsx") as file:
        now = reading.look(file, layout.columns and [reading.plain(c) for c in layout.columns], sheet="")
        used = [c for c in run.mapping.rules["columns"].values() if c not in now.columns]
        if used and layout.header == 0 and now.header == 0:
            raise Unreadable(_GONE.format(c="、".join(used)[:200]))
        found = reading.rows(file, now)
        yield now.columns, ((row, "") for row in _mine(found, run, now.columns, lane, after))


def _mine(found: Iterator[Row], run: TableRun, names: Sequence[str], lane: int, after: int) -> Iterator[Row]:
    """The rows of a lane behind those that are done: a person's rows are all in one lane."""
    columns = run.mapping.rules["columns"]
    own = columns.get("patient_no") or columns.get("id_no", "")
    at = names.index(own) if own in names else 0
    lanes = run.lanes
    for row in found:
        if row.number <= after:
            continue
        if lanes > 1:
            cell = row.cells[at].strip() if len(row.cells) > at and row.refusal is None else ""
            if zlib.crc32(cell.encode("utf-8", "replace")) % lanes != lane:
                continue
        yield row


def _parts(found: Iterator[tuple[Row, str]], size: int) -> Iterator[_Part]:
    while some := list(islice(found, size)):
        yield _Part([row for row, _ in some], next((m for _, m in reversed(some) if m), ""))


def _finish(run: TableRun) -> None:
    """The run is done when every lane is."""
    if run.chunks.filter(number=-1).count() >= run.lanes:
        _end(run, DONE, None)


def _end(run: TableRun, state: str, why: Text | None) -> None:
    with transaction.atomic():
        changed = TableRun.objects.filter(pk=run.pk, state__in=(WAITING, RUNNING)).update(
            state=state, ended_at=clock.now(), stop=False, error_zh=why.zh if why else "", error_en=why.en if why else ""
        )  # fmt: skip
        if not changed:
            return
        if not run.dry:
            _tell_source(run, state, why)
        figures = figures_of(run)
        audit.write(
            scope_of(run.source, run.account_id), "create", what=f"table run {run.pk} {state}",
            detail={"rows": figures.rows, "refused": figures.refused, "new": figures.new, "changed": figures.changed},
        )  # fmt: skip


def _tell_source(run: TableRun, state: str, why: Text | None) -> None:
    """Failures put the next run off: one minute, two, four … six hours at most."""
    now = clock.now()
    mine = TableSource.objects.filter(pk=run.source_id)
    if state == FAILED:
        failures = run.source.failures + 1
        wait = dt.timedelta(minutes=min(2 ** min(failures - 1, 10), 360))
        told = f"{why.zh}\n{why.en}" if why else ""
        mine.update(failures=F("failures") + 1, not_before=now + wait, last_error=told, last_run_at=now)
    elif state == DONE:
        mine.update(failures=0, not_before=None, last_error="", last_run_at=now)


@contextmanager
def _held(run_id: int, lane: int) -> Iterator[bool]:
    """A lane is one session's at a time; a process that dies lets go of it at once."""
    name = (run_id * 64 + lane) & 0x7FFFFFFF
    with connection.cursor() as cur:
        cur.execute("SELECT pg_try_advisory_lock(%s, %s)", [_SPACE, name])
        got = cur.fetchone()[0]
    try:
        yield got
    finally:
        if got and not connection.needs_rollback:
            with connection.cursor() as cur:
                cur.execute("SELECT pg_advisory_unlock(%s, %s)", [_SPACE, name])


# ------------------------------------------------------------------------------------------------------------------------ doing


def turn() -> bool:
    """Do one lane of one run that waits or was left by a process that died; False when there is none."""
    for run in TableRun.objects.filter(state__in=(WAITING, RUNNING)).order_by("pk"):
        for lane in range(run.lanes):
            if run_lane(run.pk, lane):
                return True
    return False


def drain() -> None:
    """Every run that waits, to its end."""
    while turn():
        pass


def worker(stop: threading.Event, seconds: float = 2.0) -> None:
    """Do runs as they come, until told to stop (a thread of the ticker, or a process of its own)."""
    while not stop.is_set():
        close_old_connections()
        if not turn():
            stop.wait(seconds)


def resume(run: TableRun) -> bool:
    """Let a stopped or failed run go on behind its last chunk; False when it cannot."""
    return bool(
        TableRun.objects.filter(pk=run.pk, state__in=(STOPPED, FAILED)).update(
            state=WAITING, stop=False, ended_at=None, error_zh="", error_en=""
        )
    )


def ask_to_stop(run: TableRun) -> bool:
    """Stop a run between two chunks (at once when it only waits)."""
    if TableRun.objects.filter(pk=run.pk, state=WAITING).update(state=STOPPED, ended_at=clock.now()):
        return True
    return bool(TableRun.objects.filter(pk=run.pk, state=RUNNING).update(stop=True))


def tidy() -> int:
    """Forget files and rows of dry runs that nobody needs any more; returns how many runs."""
    old = TableRun.objects.filter(ended_at__lt=clock.now() - dt.timedelta(days=KEPT_DAYS)).exclude(stored="")
    count = 0
    for run in old:
        if not TableRun.objects.filter(stored=run.stored, ended_at__isnull=True).exists():
            files.remove(run.stored)
        TableRun.objects.filter(pk=run.pk).update(stored="")
        if run.dry:
            run.refusals.all().delete()
        count += 1
    return count
