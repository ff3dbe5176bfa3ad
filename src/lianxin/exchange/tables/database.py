"""Rows of a read-only view in a partner's database (PostgreSQL, MySQL, SQL Server, Oracle; SQLite files from the command line).

Only a SELECT of named columns of one named table or view, made by SQLAlchemy with quoted names and bound values: never free SQL.  The
connection is read-only where the database can be told so, has time limits, and streams.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchTableError, SQLAlchemyError

from lianxin.access import seal
from lianxin.exchange.tables.models import NUMBER, TIME, TableSource
from lianxin.exchange.tables.reading import Row, Unreadable
from lianxin.exchange.tables.sheets import text_of
from lianxin.standards import clock
from lianxin.standards.text import T

CONNECT_SECONDS = 10
QUERY_SECONDS = 600
BATCH = 2_000
DRIVERS = {
    "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql",
    "mssql": "mssql+pymssql", "sqlserver": "mssql+pymssql", "oracle": "oracle+oracledb",
}  # fmt: skip
PARAMETERS = frozenset({"charset", "service_name", "sslmode", "ssl_ca", "sid"})
"""What an address may say beside host, port, database, user and password: nothing that names files to read or commands to run."""


class Unreachable(Unreadable):
    """The partner's database, or the view in it, cannot be read now."""


@dataclass(frozen=True)
class Seen:
    """A column of a view: its name and whether it can be a watermark (``time``, ``number`` or "")."""

    name: str
    kind: str
    mark: str


def address(text: str, *, local: bool = False) -> URL:
    """A database address as SQLAlchemy takes it, driver chosen by us; ``local``: SQLite files too (the command line).

    :class:`Unreadable` for other databases, for parameters beyond :data:`PARAMETERS`, and for this machine's own addresses.
    """
    try:
        given = make_url(text.strip())
    except (ArgumentError, ValueError):
        raise Unreadable(
            T("数据库地址应如 postgresql://user:password@10.1.2.3:5432/his。", "A database address is like postgresql://user:password@host:5432/database.")
        ) from None  # fmt: skip
    kind = given.get_backend_name().lower()
    if kind == "sqlite" and local:
        return given
    driver = DRIVERS.get(kind)
    if driver is None:
        raise Unreadable(
            T("只支持 PostgreSQL、MySQL、SQL Server 和 Oracle。", "Only PostgreSQL, MySQL, SQL Server and Oracle can be read.")
        )  # fmt: skip
    if strange := set(given.query) - PARAMETERS:
        raise Unreadable(
            T("地址中不允许的参数：{a}。", "Parameters the address may not have: {a}.").format(a=", ".join(sorted(strange))[:100])
        )  # fmt: skip
    if not local:
        _outside(given.host or "")
    return given.set(drivername=driver)


def _outside(host: str) -> None:
    """Refuse addresses of this machine itself and link-local ones; private networks are where partners' databases are."""
    if not host:
        raise Unreadable(T("地址中缺少主机。", "The address lacks the host."))
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        raise Unreachable(
            T("找不到主机“{h}”。", "The host “{h}” cannot be found.").format(h=host[:100])
        ) from None
    for one in found:
        plain = ipaddress.ip_address(str(one).partition("%")[0])
        if plain.is_loopback or plain.is_link_local or plain.is_unspecified or plain.is_multicast:
            raise Unreadable(
                T("地址指向本机，不允许；本机数据库由管理员用命令登记。", "The address is this machine's own; an administrator enters such a database by command.")
            )  # fmt: skip


def keep_address(source: TableSource, url: URL) -> None:
    """Put an address into a source: sealed whole, shown without its password."""
    source.url = seal.seal(url.render_as_string(hide_password=False))
    source.shown = url.render_as_string(hide_password=True)[:300]


# -------------------------------------------------------------------------------------------------------------------- connection


def engine_of(url: URL) -> Engine:
    """An engine that keeps nothing open, with time limits, read-only where the database knows how."""
    kind = url.get_backend_name()
    known: dict[str, dict[str, Any]] = {
        "postgresql": {
            "connect_timeout": CONNECT_SECONDS,
            "options": f"-c default_transaction_read_only=on -c statement_timeout={QUERY_SECONDS * 1000}"
            " -c idle_in_transaction_session_timeout=600000",
        },
        "mysql": {"connect_timeout": CONNECT_SECONDS, "read_timeout": QUERY_SECONDS, "write_timeout": CONNECT_SECONDS, "local_infile": False},
        "mssql": {"login_timeout": CONNECT_SECONDS, "timeout": QUERY_SECONDS, "read_only": True},
        "oracle": {"tcp_connect_timeout": CONNECT_SECONDS},
    }  # fmt: skip
    made = sa.create_engine(url, poolclass=sa.pool.NullPool, connect_args=known.get(kind, {}))
    begin = {
        "mysql": ["SET SESSION TRANSACTION READ ONLY"],
        "sqlite": ["PRAGMA query_only = ON"],
        "oracle": ["SET TRANSACTION READ ONLY"],
    }.get(kind, [])

    @event.listens_for(made, "connect")
    def _opened(raw: Any, record: Any) -> None:
        if kind == "oracle":
            raw.call_timeout = QUERY_SECONDS * 1000
        cursor = raw.cursor()
        for statement in begin:
            cursor.execute(statement)
        cursor.close()

    return made


@contextmanager
def connected(source: TableSource) -> Iterator[Connection]:
    """A connection to a source's database; :class:`Unreachable` for whatever goes wrong with it."""
    url = make_url(seal.unseal(source.url))
    if source.created_by_id is not None and url.get_backend_name() != "sqlite":
        _outside(url.host or "")  # entered on a page: asked again, a name may lead elsewhere by now
    made = engine_of(url)
    try:
        with made.connect() as connection:
            yield connection
    except Unreadable:
        raise
    except (SQLAlchemyError, OSError) as failure:
        raise Unreachable(_why(failure, url)) from None
    finally:
        made.dispose()


def _why(failure: Exception, url: URL) -> Any:
    """What went wrong, in the database's own words without anything secret."""
    words = " ".join(str(getattr(failure, "orig", None) or failure).split())
    for secret in (url.password, seal_free(url)):
        if secret:
            words = words.replace(str(secret), "***")
    words = re.sub(r"\[SQL:.*", "", words)[:300]
    return T("数据库未能读取：{w}", "The database could not be read: {w}").format(w=words)


def seal_free(url: URL) -> str:
    """The address with its password, to be struck out of error messages."""
    return url.render_as_string(hide_password=False)


def _split(view: str) -> tuple[str | None, str]:
    schema, _, name = view.rpartition(".")
    return schema or None, name


def look(connection: Connection, view: str) -> list[Seen]:
    """The columns of a view; :class:`Unreachable` when it is not there."""
    schema, name = _split(view)
    try:
        found = sa.inspect(connection).get_columns(name, schema=schema)
    except NoSuchTableError:
        found = []
    if not found:
        raise Unreachable(
            T("数据库中没有“{v}”，或该用户无权查看（视图可能已被删除或改名）。", "There is no “{v}” in the database, or the user may not see it (it may have been dropped or renamed).").format(v=view)
        )  # fmt: skip
    return [Seen(str(c["name"]), str(c["type"])[:40], _mark_kind(c["type"])) for c in found]


def _mark_kind(kind: Any) -> str:
    if isinstance(kind, sa.types.DateTime | sa.types.Date) or "TIMESTAMP" in str(kind).upper():
        return TIME
    if isinstance(kind, sa.types.Integer) or (isinstance(kind, sa.types.Numeric) and not kind.scale):
        return NUMBER
    return ""


def views(connection: Connection, limit: int = 500) -> list[str]:
    """Tables and views that the user can see in the default schema."""
    seen = sa.inspect(connection)
    return sorted([*seen.get_table_names(), *seen.get_view_names()])[:limit]


# ------------------------------------------------------------------------------------------------------------------------ reading


def select(source: TableSource, columns: Sequence[str], mark: Any = None) -> sa.Select[Any]:
    """The one statement that is ever sent: named columns of the view, from ``mark`` on, in the order of the mark."""
    schema, name = _split(source.view)
    wanted = list(dict.fromkeys([*columns, *([source.mark_column] if source.mark_column else [])]))
    table = sa.table(name, *(sa.column(c) for c in wanted), schema=schema)
    query = sa.select(*(table.c[c] for c in wanted))
    if source.mark_column:
        column = table.c[source.mark_column]
        query = query.where(column.is_not(None) if mark is None else column >= mark).order_by(column)
    return query


def start_of(source: TableSource) -> Any:
    """Where the next run begins: the mark less the overlap (None: at the beginning). Rows of the mark itself come again: ties."""
    if not source.mark_column or not source.mark:
        return None
    if source.mark_kind == NUMBER:
        return int(Decimal(source.mark)) - source.overlap
    return dt.datetime.fromisoformat(source.mark) - dt.timedelta(seconds=source.overlap)


def mark_text(value: Any) -> str:
    """A watermark as it is kept: whole and comparable."""
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, dt.date):
        return dt.datetime.combine(value, dt.time()).isoformat()
    if isinstance(value, str):
        return _moment(value).isoformat()
    return str(int(value))


def _moment(text: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text.strip())
    except ValueError:
        raise Unreachable(
            T("水位列的值不是时间也不是数字。", "The watermark column holds neither times nor numbers.")
        ) from None


def rows(connection: Connection, source: TableSource, columns: Sequence[str]) -> Iterator[tuple[Row, str]]:
    """Rows of the view from the watermark on, each with the watermark it carries, streamed; columns in the order asked for.

    :class:`Unreachable` when a column is gone.
    """
    there = {seen.name for seen in look(connection, source.view)}
    lost = [c for c in [*columns, source.mark_column] if c and c not in there]
    if lost:
        raise Unreachable(
            T("视图“{v}”已没有这些列：{c}；请核对对应关系。", "The view “{v}” no longer has these columns: {c}; look at the mapping.").format(v=source.view, c=", ".join(lost)[:200])
        )  # fmt: skip
    start = start_of(source)
    if start is not None and source.mark_kind == TIME:
        start = _as_stored(connection, source, start)
    query = select(source, columns, start)
    width = len(columns)
    at = list(query.selected_columns.keys()).index(source.mark_column) if source.mark_column else -1
    streamed = connection.execution_options(stream_results=True, max_row_buffer=BATCH, yield_per=BATCH)
    result = streamed.execute(query)
    for number, record in enumerate(result, 1):
        cells = [_cell(value) for value in record[:width]]
        yield Row(number, cells), mark_text(record[at]) if at >= 0 and record[at] is not None else ""


def _as_stored(connection: Connection, source: TableSource, start: dt.datetime) -> Any:
    """The start in the column's own terms: with a zone or without, a date, or a text (SQLite)."""
    schema, name = _split(source.view)
    kind = next(
        c["type"]
        for c in sa.inspect(connection).get_columns(name, schema=schema)
        if c["name"] == source.mark_column
    )
    zoned = bool(getattr(kind, "timezone", False))
    if zoned and start.tzinfo is None:
        start = start.replace(tzinfo=clock.ZONE)
    if not zoned and start.tzinfo is not None:
        start = start.astimezone(clock.ZONE).replace(tzinfo=None)
    if isinstance(kind, sa.types.Date) and not isinstance(kind, sa.types.DateTime):
        return start.date()
    if connection.dialect.name == "sqlite":
        return start.isoformat(sep=" ", timespec="seconds")
    return start


def _cell(value: Any) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        value = value.astimezone(clock.ZONE)
    return text_of(value).replace("\x00", "")
