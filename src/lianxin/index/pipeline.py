"""Prepared statements of the index, run one by one or several in one go (libpq's pipeline), on whatever connection they are told."""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg.pq import ConnStatus, TransactionStatus

from lianxin.access.statements import GOOD, Statement

_prepared: WeakKeyDictionary[Any, set[bytes]] = WeakKeyDictionary()


class Prepared(Statement):
    """A prepared statement that runs on any psycopg connection within its transaction, not on steady ones alone."""

    __slots__ = ()

    def ready(self, conn: psycopg.Connection[Any]) -> None:
        """See to it that the statement is prepared on a connection, and that psycopg has begun the transaction."""
        pg = conn.pgconn
        if not conn.autocommit and pg.transaction_status == TransactionStatus.IDLE:
            conn.execute("SELECT 1")
        made = _prepared.get(conn)
        if made is None:
            made = _prepared[conn] = set()
        if self.name not in made:
            _checked(pg.prepare(self.name, self.sql))
            made.add(self.name)

    def run(self, cur: psycopg.Cursor[Any], values: Sequence[Any]) -> Any:
        """The result; see :class:`lianxin.access.statements.Statement`."""
        self.ready(cur.connection)
        return _checked(cur.connection.pgconn.exec_prepared(self.name, values, self.formats, 1))


Step = tuple[Prepared, Sequence[Any]]
BEGIN, COMMIT = Prepared("BEGIN", 0), Prepared("COMMIT", 0)


def together(
    cur: psycopg.Cursor[Any], steps: Sequence[Step], meanwhile: Callable[[], None] | None = None
) -> list[Any]:
    """Results of several statements sent in one go (libpq's pipeline): each begins when the one before is done and sees what was
    committed until then; after an error the rest is not run. ``meanwhile`` is done while the server works."""
    conn = cur.connection
    for statement, _ in steps:
        statement.ready(conn)
    if len(steps) == 1 and meanwhile is None:
        return [steps[0][0].run(cur, steps[0][1])]
    pg = conn.pgconn
    pg.enter_pipeline_mode()
    found = []
    try:
        for statement, values in steps:
            pg.send_query_prepared(statement.name, values, statement.formats, 1)
        pg.pipeline_sync()
        _send(pg)
        if meanwhile is not None:
            meanwhile()
        for _ in steps:
            found.append(_next(pg))
            while _next(pg) is not None:
                pass
        _next(pg)  # the sync
    finally:
        if pg.status == ConnStatus.OK:
            pg.exit_pipeline_mode()
    for result in found:
        _checked(result)
    return found


def _send(pg: Any) -> None:
    """Everything that waits to be sent; what is answered meanwhile is taken in, or both sides would wait for each other."""
    while pg.flush():
        for _, ready in _polled(pg, select.POLLIN | select.POLLOUT):
            if ready & select.POLLIN:
                pg.consume_input()


def _next(pg: Any) -> Any:
    """The next result, waited for without holding up the process's other threads (libpq's own waiting would)."""
    while pg.is_busy():
        _polled(pg, select.POLLIN)
        pg.consume_input()
    return pg.get_result()


def _polled(pg: Any, events: int) -> list[tuple[int, int]]:
    watch = select.poll()
    watch.register(pg.socket, events)
    return watch.poll()


def _checked(result: Any) -> Any:
    if result is None:
        raise psycopg.OperationalError("the server has closed this connection")
    if result.status not in GOOD:
        raise psycopg.errors.error_from_result(result)
    return result


def command(pg: Any, words: bytes) -> None:
    """BEGIN, COMMIT or ROLLBACK at once."""
    _checked(pg.exec_(words))
