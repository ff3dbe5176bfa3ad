"""Autocommit connections beside Django's: for reads at the door, and for words that every resource shares. One pool per process and database."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from django.db import connection
from psycopg_pool import ConnectionPool

T = TypeVar("T")
SIZE = 16
WAIT = 10.0

_pools: dict[str, ConnectionPool] = {}
_guard = threading.Lock()


def _prepare(conn: psycopg.Connection[Any]) -> None:
    conn.autocommit = True
    conn.execute("SET plan_cache_mode = force_custom_plan")
    conn.execute("SET statement_timeout = '20s'")
    conn.execute("SET join_collapse_limit = 8")  # searches join in any order: PostgreSQL's own default


def _pool() -> ConnectionPool:
    given = connection.settings_dict
    name = f"{given['HOST']}:{given['PORT']}/{given['NAME']}"
    found = _pools.get(name)
    if found is None:
        with _guard:
            found = _pools.get(name)
            if found is None:
                options = {k: v for k, v in given["OPTIONS"].items() if isinstance(v, str | int)}
                keys = {
                    "dbname": "NAME",
                    "user": "USER",
                    "password": "PASSWORD",
                    "host": "HOST",
                    "port": "PORT",
                }
                options.update({k: given[v] for k, v in keys.items() if given[v]})
                found = ConnectionPool(
                    kwargs=options,
                    min_size=1,
                    max_size=SIZE,
                    timeout=WAIT,
                    configure=_prepare,
                    open=True,
                    name="record",
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


def close() -> None:
    """Close every pool (tests, shutdown)."""
    with _guard:
        for pool in _pools.values():
            pool.close()
        _pools.clear()
