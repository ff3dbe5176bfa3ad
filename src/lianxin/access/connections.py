"""Autocommit connections beside Django's.

``cursor``/``reading``: from a pool, each statement planned for its own values: right for searches, whose best plan depends on
them.  ``steady``: one connection for each thread, statements prepared once and planned once: right for the door's busiest
statements (read by id, one patient's results, a plain create), where planning would cost more than running.
"""

import select
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from django.db import DEFAULT_DB_ALIAS
from django.db import connections as djangos
from psycopg_pool import ConnectionPool

from lianxin.access.statements import SteadyConnection

T = TypeVar("T")
SIZE = 16
WAIT = 10.0
TIMEOUT = "20s"  # of one statement

_pools: dict[str, ConnectionPool] = {}
_guard = threading.Lock()
_steady: "weakref.WeakSet[psycopg.Connection[Any]]" = weakref.WeakSet()


class _Mine(threading.local):
    name = ""
    cursor: psycopg.Cursor[Any] | None = None


_mine = _Mine()


def database() -> str:
    """Name of the database in use (what Django's connections of every thread share, without asking for one of them)."""
    return str(djangos.settings[DEFAULT_DB_ALIAS]["NAME"])


def _options() -> dict[str, Any]:
    given = djangos.settings[DEFAULT_DB_ALIAS]
    options = {k: v for k, v in given["OPTIONS"].items() if isinstance(v, str | int)}
    keys = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    options.update({k: given[v] for k, v in keys.items() if given[v]})
    return options


def _name() -> str:
    given = djangos.settings[DEFAULT_DB_ALIAS]
    return f"{given['HOST']}:{given['PORT']}/{given['NAME']}"


def _prepare(conn: psycopg.Connection[Any]) -> None:
    conn.autocommit = True
    conn.execute("SET plan_cache_mode = force_custom_plan")
    conn.execute(f"SET statement_timeout = '{TIMEOUT}'")
    conn.execute("SET join_collapse_limit = 8")  # searches join in any order: PostgreSQL's own default


def _hung_up(conn: psycopg.Connection[Any]) -> bool:
    """Whether the server has closed an idle connection: something to read lies on its socket (2 µs, no round trip)."""
    if conn.closed:
        return True
    watch = select.poll()
    watch.register(conn.fileno(), select.POLLIN)
    return bool(watch.poll(0))


def _refuse_dead(conn: psycopg.Connection[Any]) -> None:
    if _hung_up(conn):
        conn.close()  # else the pool would take it back as good
        raise psycopg.OperationalError("the server has closed this connection")


def _pool() -> ConnectionPool:
    name = _name()
    found = _pools.get(name)
    if found is None:
        with _guard:
            found = _pools.get(name)
            if found is None:
                found = ConnectionPool(
                    kwargs=_options(),
                    min_size=1,
                    max_size=SIZE,
                    timeout=WAIT,
                    configure=_prepare,
                    check=_refuse_dead,
                    open=True,
                    name="beside",
                    max_idle=300,
                )
                _pools[name] = found
    return found


@contextmanager
def cursor() -> Iterator[psycopg.Cursor[Any]]:
    """A cursor on an autocommit connection of the pool."""
    with _pool().connection() as conn, conn.cursor() as cur:
        yield cur


def reading(fn: Callable[[psycopg.Cursor[Any]], T]) -> T:
    """Run a read; once more on a fresh connection when the server had gone away."""
    try:
        with cursor() as cur:
            return fn(cur)
    except psycopg.errors.QueryCanceled:
        raise
    except psycopg.OperationalError:
        _pool().check()
        with cursor() as cur:
            return fn(cur)


def _thread_cursor() -> psycopg.Cursor[Any]:
    name = _name()
    if _mine.cursor is None or _mine.name != name or _mine.cursor.connection.closed:
        conn = SteadyConnection.connect(**_options(), autocommit=True, prepare_threshold=0)
        conn.execute("SET plan_cache_mode = force_generic_plan")
        conn.execute(f"SET statement_timeout = '{TIMEOUT}'")
        conn.execute("SET lianxin.audit_link = 'later'")  # access.journal links what is written here
        _steady.add(conn)
        _mine.name, _mine.cursor = name, conn.cursor()
    return _mine.cursor


def steady(fn: Callable[[psycopg.Cursor[Any]], T], *, again: bool = True) -> T:
    """Run ``fn`` with this thread's own cursor; ``again``: once more when the server had gone away (reads only)."""
    if not again and _mine.cursor is not None and _hung_up(_mine.cursor.connection):
        _mine.cursor = None
    try:
        return fn(_thread_cursor())
    except psycopg.errors.QueryCanceled:
        raise
    except psycopg.OperationalError:
        _mine.cursor = None
        if not again:
            raise
        return fn(_thread_cursor())


def sent(args: Iterable[Any]) -> list[Any]:
    """Values of a statement, lists of whole numbers written out as SQL arrays (the statement casts them).

    psycopg would look at every element, and choose a type by the largest: slower, and a new plan each time.
    """
    return [
        "{" + ",".join(map(str, v)) + "}" if type(v) is list and (not v or type(v[0]) is int) else v
        for v in args
    ]


def close() -> None:
    """Close every connection (tests, shutdown)."""
    with _guard:
        for pool in _pools.values():
            pool.close()
        _pools.clear()
        for conn in list(_steady):
            conn.close()
        _steady.clear()


__all__ = ["close", "cursor", "database", "reading", "sent", "steady"]
