"""Putting resources and their index rows into the tables: one statement for a few, COPY for many."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from lianxin.record.extract import Rows

COPY_FROM = 12  # resources from which COPY is cheaper than one statement with arrays

RESOURCE = (
    "rid",
    "key",
    "person_id",
    "subj",
    "updated",
    "at",
    "institution_id",
    "version",
    "platform",
    "rtype",
    "id",
    "body",
)
TABLES: dict[str, tuple[tuple[str, str], ...]] = {
    "record_token": (("tok", "bigint"), ("subj", "bigint"), ("rid", "bigint"), ("sys", "integer"), ("pid", "smallint")),
    "record_ref": (("target", "bigint"), ("rid", "bigint"), ("pid", "smallint"), ("ttype", "smallint")),
    "record_date": (("lo", "timestamptz"), ("hi", "timestamptz"), ("rid", "bigint"), ("pid", "smallint")),
    "record_quantity": (
        ("rid", "bigint"), ("unit", "bigint"), ("name", "bigint"), ("sys", "integer"), ("pid", "smallint"),
        ("lo", "numeric"), ("hi", "numeric"),
    ),
    "record_string": (("rid", "bigint"), ("pid", "smallint"), ("kind", "smallint"), ("val", "text"), ("raw", "text")),
}  # fmt: skip


@dataclass(slots=True)
class Stored:
    """One resource as it goes into the tables."""

    rid: int
    key: int
    rtype: str
    id: str
    version: int
    updated: datetime
    body: str
    rows: Rows
    person_id: int | None = None
    subj: int | None = None
    at: str | None = None
    institution_id: int | None = None
    platform: bool = False

    def columns(self) -> tuple[Any, ...]:
        """Values in the order of ``RESOURCE``."""
        return (
            self.rid, self.key, self.person_id, self.subj, self.updated, self.at, self.institution_id, self.version,
            self.platform, self.rtype, self.id, self.body,
        )  # fmt: skip


def server_cursor(cur: Any) -> psycopg.Cursor[Any]:
    """A plain psycopg cursor (server-side binding) on the connection behind any cursor, Django's too."""
    inner = getattr(cur, "cursor", cur)
    return psycopg.Cursor(inner.connection)


def new_rids(cur: Any, count: int) -> list[int]:
    """Fresh row numbers."""
    cur.execute("SELECT nextval('record_rid') FROM generate_series(1, %s)", [count])
    return [row[0] for row in cur.fetchall()]


def index_tuples(batch: Iterable[Stored]) -> dict[str, list[tuple[Any, ...]]]:
    """Index rows of a batch, table by table (each row once)."""
    tokens: list[tuple[Any, ...]] = []
    refs: list[tuple[Any, ...]] = []
    dates: list[tuple[Any, ...]] = []
    quantities: list[tuple[Any, ...]] = []
    strings: list[tuple[Any, ...]] = []
    for one in batch:
        rid, subj, rows = one.rid, one.subj or 0, one.rows
        tokens += [(tok, subj, rid, sys, pid) for tok, sys, pid in dict.fromkeys(rows.tokens)]
        refs += [(target, rid, pid, ttype) for target, pid, ttype in dict.fromkeys(rows.refs)]
        dates += [(lo, hi, rid, pid) for lo, hi, pid in rows.dates]
        quantities += [
            (rid, unit, name, sys, pid, lo, hi) for unit, name, sys, pid, lo, hi in rows.quantities
        ]
        strings += [(rid, pid, kind, val, raw) for pid, kind, val, raw in dict.fromkeys(rows.strings)]
    return {
        "record_token": tokens, "record_ref": refs, "record_date": dates, "record_quantity": quantities,
        "record_string": strings,
    }  # fmt: skip


def escape(text: str) -> str:
    """Text as COPY wants it."""
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "\n" in text or "\r" in text or "\t" in text:
        text = text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return text


def _field(value: Any) -> str:
    if value is None:
        return "\\N"
    if type(value) is str:
        return escape(value)
    return str(value)


def copy(
    cur: Any, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]], *, plain: bool = False
) -> None:
    """COPY rows into a table; ``plain``: no value is None or needs escaping."""
    show = str if plain else _field
    text = "\n".join(["\t".join(map(show, row)) for row in rows])
    if not text:
        return
    with cur.copy(f"COPY {table} ({','.join(columns)}) FROM STDIN") as out:
        data = text.encode() + b"\n"
        for start in range(0, len(data), 1 << 20):
            out.write(data[start : start + (1 << 20)])


def insert(cur: Any, batch: Sequence[Stored]) -> None:
    """Insert new resources with their index rows (psycopg cursor)."""
    if not batch:
        return
    if len(batch) >= COPY_FROM:
        copy(cur, "record_resource", RESOURCE, [s.columns() for s in batch])
    else:
        columns = [list(c) for c in zip(*(s.columns() for s in batch), strict=True)]
        cur.execute(
            f"INSERT INTO record_resource ({','.join(RESOURCE)}) SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[],"
            " %s::bigint[], %s::timestamptz[], %s::timestamptz[], %s::bigint[], %s::int[], %s::bool[], %s::text[], %s::text[],"
            " %s::text[])",
            columns,
            prepare=True,
        )
    insert_index(cur, batch)


def insert_index(cur: Any, batch: Sequence[Stored]) -> None:
    """Insert only the index rows of a batch."""
    tables = index_tuples(batch)
    if len(batch) >= COPY_FROM:
        for table, rows in tables.items():
            copy(cur, table, [c for c, _ in TABLES[table]], rows, plain=table != "record_string")
        return
    parts, params = [], []
    for table, rows in tables.items():
        if rows:
            names = ",".join(c for c, _ in TABLES[table])
            casts = ",".join(f"%s::{t}[]" for _, t in TABLES[table])
            parts.append(f"INSERT INTO {table} ({names}) SELECT * FROM unnest({casts})")
            params += [list(c) for c in zip(*rows, strict=True)]
    if parts:
        body = ", ".join(f"w{i} AS ({p} RETURNING 1)" for i, p in enumerate(parts[:-1]))
        cur.execute((f"WITH {body} " if body else "") + parts[-1], params, prepare=True)


def clear_index(cur: Any, rids: Sequence[int]) -> None:
    """Remove the index rows of resources."""
    body = ", ".join(f"d{i} AS (DELETE FROM {t} WHERE rid = ANY(%s::bigint[]))" for i, t in enumerate(TABLES))
    cur.execute(f"WITH {body} SELECT 1", [list(rids)] * len(TABLES), prepare=True)
