"""The door's few busiest statements, sent through libpq at once.

A psycopg cursor spends about 50 µs of Python on a statement (adapting values, planning its own preparation, building the row);
a read by id needs less than that in all.  A :class:`Statement` is prepared once on a thread's steady connection
(:func:`lianxin.access.connections.steady`) and then costs one call of libpq.  Values go and come as bytes: those sent are SQL
text, except where ``binary`` says raw bytes, and the statement casts each; those answered are PostgreSQL's binary forms, which
:func:`whole`, :func:`seconds`, :func:`instant` and ``bytes.decode`` read.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

import psycopg
from psycopg.pq import ConnStatus, ExecStatus

MOST = 200  # statements prepared on one connection
GOOD = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)
_EPOCH_SECONDS = 946_684_800  # PostgreSQL counts time from 2000-01-01 UTC
_EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_numbers = count()


class SteadyConnection(psycopg.Connection[Any]):
    """A connection that remembers which statements it has prepared."""

    prepared: dict[bytes, None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prepared = {}


class Statement:
    """One statement with ``$1`` … in it (or ``%s``, numbered in order); ``binary``: numbers of values sent as raw bytes, from 1."""

    __slots__ = ("formats", "name", "sql")

    def __init__(self, sql: str, values: int, binary: Iterable[int] = ()) -> None:
        raw = set(binary)
        if "%s" in sql:
            assert sql.count("%s") == values
            first, *rest = sql.split("%s")
            sql = first + "".join([f"${n}{part}" for n, part in enumerate(rest, 1)])
        self.sql = sql.encode()
        self.name = b"door_%d" % next(_numbers)
        self.formats = [1 if n in raw else 0 for n in range(1, values + 1)] if raw else None

    def run(self, cur: psycopg.Cursor[Any], values: Sequence[Any]) -> Any:
        """The result (libpq's) of ``values`` (bytes or None) on the steady connection behind a cursor; errors are psycopg's."""
        conn = cur.connection
        assert isinstance(conn, SteadyConnection)
        pg = conn.pgconn
        if self.name not in conn.prepared:
            if len(conn.prepared) >= MOST:  # the eldest goes: plans take memory of the server
                eldest = next(iter(conn.prepared))
                del conn.prepared[eldest]
                _checked(pg, pg.exec_(b"DEALLOCATE " + eldest))
            _checked(pg, pg.prepare(self.name, self.sql))
            conn.prepared[self.name] = None
        return _checked(pg, pg.exec_prepared(self.name, values, self.formats, 1))

    def row(self, cur: psycopg.Cursor[Any], values: Sequence[Any]) -> list[bytes | None] | None:
        """The first row, or None."""
        found = self.run(cur, values)
        if not found.ntuples:
            return None
        get = found.get_value
        return [get(0, column) for column in range(found.nfields)]

    def rows(self, cur: psycopg.Cursor[Any], values: Sequence[Any]) -> list[list[bytes | None]]:
        """Every row."""
        found = self.run(cur, values)
        get, columns = found.get_value, range(found.nfields)
        return [[get(n, column) for column in columns] for n in range(found.ntuples)]


def _checked(pg: Any, result: Any) -> Any:
    if result.status in GOOD:
        return result
    if pg.status == ConnStatus.BAD:
        raise psycopg.OperationalError(result.get_error_message())
    raise psycopg.errors.error_from_result(result)


def text(value: object) -> bytes | None:
    """A number, instant or text as a value to send; DataError for U+0000, at which libpq would cut the text off."""
    return None if value is None else _whole_text(str(value)).encode()


def _whole_text(value: str) -> str:
    if "\0" in value:
        raise psycopg.DataError("a text contains U+0000")
    return value


def plain_array(values: Iterable[object]) -> str:
    """Numbers or instants as an array in SQL's own notation: a third of what it costs to have psycopg look at each."""
    return "{" + ",".join(["NULL" if v is None else str(v) for v in values]) + "}"


def text_array(values: Iterable[str | None]) -> str:
    """Texts, likewise; DataError for U+0000."""
    return _whole_text("{" + ",".join(["NULL" if v is None else _quoted(v) for v in values]) + "}")


def _quoted(value: str) -> str:
    if "\\" in value or '"' in value:
        value = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{value}"'


def bytes_array(values: Iterable[bytes]) -> str:
    """Raw bytes, likewise."""
    return "{" + ",".join(['"\\\\x' + v.hex() + '"' for v in values]) + "}"


def writer(kind: str) -> Callable[[Iterable[Any]], str]:
    """How a column of an SQL type is written as an array."""
    return text_array if kind == "text" else bytes_array if kind == "bytea" else plain_array


def whole(value: bytes | None) -> int:
    """A number that was answered (not NULL)."""
    assert value is not None
    return int.from_bytes(value, "big", signed=True)


def seconds(value: bytes | None) -> int:
    """An instant that was answered, in whole seconds since 1970."""
    return whole(value) // 1_000_000 + _EPOCH_SECONDS


def instant(value: bytes | None) -> dt.datetime | None:
    """An instant that was answered; OverflowError beyond the years 1 to 9999."""
    return None if value is None else _EPOCH + dt.timedelta(microseconds=whole(value))
