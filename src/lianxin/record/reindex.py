"""Indexing anew what is stored, while everything goes on: for a new search parameter, or after the extraction was improved.

A run goes over the versions that were there when it began, in the order of their numbers; each batch is one transaction that
also notes how far it came, so that a run broken off goes on where it was and several processes may share one.  What is
written meanwhile is written with the new parameters already.  About 3,800 resources of a consortium a second in one process.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from django.db import connection, transaction

from lianxin.record import custom, extract, rows, store, words
from lianxin.standards import clock

BATCH = 500
SETTLE = custom.EVERY + 2.0  # until every process writes the new parameters, seconds


@dataclass(frozen=True)
class Progress:
    """How far a run is. ``rtype`` "" means every type."""

    id: int
    rtype: str
    total: int
    done: int
    changed: int
    finished: bool


def start(rtypes: Iterable[str] = ("",), *, settle: float | None = None) -> list[int]:
    """Begin a run for each type ("": all); waits until every process knows the parameters and older writes have ended."""
    custom.refresh(now=True)
    time.sleep(SETTLE if settle is None else settle)
    with connection.cursor() as cur:
        cur.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        before = cur.fetchone()[0]
        while True:
            cur.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
            if cur.fetchone()[0] >= before or connection.in_atomic_block:
                break
            time.sleep(0.2)
        begun = []
        for rtype in rtypes:
            cur.execute(
                "INSERT INTO record_reindex (rtype, started, upto, total) SELECT %s, %s, coalesce(max(rid), 0), count(*)"
                " FROM record_resource WHERE NOT deleted AND (%s = '' OR rtype = %s) RETURNING id",
                [rtype, clock.now(), rtype, rtype],
            )
            begun.append(cur.fetchone()[0])
    return begun


def run(seconds: float = float("inf"), tell: Callable[[Progress], None] = lambda progress: None) -> int:
    """Go on with the runs that are not finished, for at most ``seconds``; returns how many resources were looked at."""
    custom.refresh(now=True)
    until, looked = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        with transaction.atomic(), connection.cursor() as own:
            found = _batch(rows.server_cursor(own))
        if found is None:
            break
        progress, count = found
        looked += count
        tell(progress)
    return looked


def _batch(cur: Any) -> tuple[Progress, int] | None:
    cur.execute(
        "SELECT id, rtype, upto, after FROM record_reindex WHERE finished IS NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"
    )
    job = cur.fetchone()
    if job is None:
        return None
    number, rtype, upto, after = job
    cur.execute(
        "SELECT rid, rtype, subj, keys, at, till, body FROM record_resource WHERE rid > %s AND rid <= %s AND NOT deleted"
        " AND (%s = '' OR rtype = %s) ORDER BY rid LIMIT %s FOR UPDATE",
        [after, upto, rtype, rtype, BATCH],
    )
    found = cur.fetchall()
    changed = _index(cur, found) if found else 0
    last = len(found) < BATCH
    cur.execute(
        "UPDATE record_reindex SET after = %s, done = done + %s, changed = changed + %s, finished = %s WHERE id = %s"
        " RETURNING id, rtype, total, done, changed, finished IS NOT NULL",
        [found[-1][0] if found else upto, len(found), changed, clock.now() if last else None, number],
    )
    progress = Progress(*cur.fetchone())
    if last:
        cur.execute(
            "UPDATE record_param SET status = 'active' WHERE status = 'indexing' AND (%s = '' OR rtype = %s)"
            " AND NOT EXISTS (SELECT 1 FROM record_reindex j WHERE j.finished IS NULL AND j.rtype IN ('', record_param.rtype))",
            [rtype, rtype],
        )
    return progress, len(found)


def _index(cur: Any, found: list[tuple[Any, ...]]) -> int:
    """Write the side rows of these versions anew, and the keys of those whose keys or main date changed; returns how many did."""
    again, changed = [], []
    for rid, rtype, subj, keys, at, till, body in found:
        index = extract.index_rows(orjson.loads(store.opened(rtype, body)), subj)
        again.append(rows.Stored(rid, 0, rtype, "", 0, clock.now(), b"", index))
        if set(index.keys) != set(keys) or not _same(index.at, at) or not _same(index.till, till):
            changed.append((rid, "{" + ",".join(map(str, set(index.keys))) + "}", index.at, index.till))
    words.remember([one.rows for one in again])
    rids = [one.rid for one in again]
    for table in rows.SIDE:
        cur.execute(f"DELETE FROM {table} WHERE rid = ANY(%s::bigint[])", [rids])
    rows.insert_side(cur, again)
    if changed:
        cur.execute(
            "UPDATE record_resource r SET keys = u.keys::bigint[], at = u.at, till = u.till FROM unnest(%s::bigint[], %s::text[],"
            " %s::timestamptz[], %s::timestamptz[]) AS u(rid, keys, at, till) WHERE r.rid = u.rid",
            [list(column) for column in zip(*changed, strict=True)],
        )
    return len(changed)


def _same(text: str | None, stored: Any) -> bool:
    if text is None or stored is None:
        return text is None and stored is None
    return datetime.fromisoformat(text) == stored


def status() -> list[Progress]:
    """Every run, the newest first."""
    with connection.cursor() as cur:
        cur.execute(
            "SELECT id, rtype, total, done, changed, finished IS NOT NULL FROM record_reindex ORDER BY id DESC LIMIT 50"
        )
        return [Progress(*row) for row in cur.fetchall()]
