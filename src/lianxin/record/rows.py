"""Putting resources and their side rows into the tables: one statement for a few, COPY for many."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from lianxin.record.extract import Rows

COPY_FROM = 12  # resources from which COPY is cheaper than one statement with arrays

RESOURCE = (
    ("rid", "bigint"), ("key", "bigint"), ("person_id", "bigint"), ("subj", "bigint"), ("updated", "timestamptz"),
    ("at", "timestamptz"), ("till", "timestamptz"), ("institution_id", "integer"), ("version", "integer"),
    ("platform", "boolean"), ("deleted", "boolean"), ("rtype", "text"), ("id", "text"), ("keys", "text"), ("body", "bytea"),
)  # fmt: skip
SIDE: dict[str, tuple[tuple[str, str], ...]] = {
    "record_date": (("rid", "bigint"), ("lo", "timestamptz"), ("hi", "timestamptz"), ("ctx", "bigint"), ("number", "smallint"),
                    ("item", "smallint")),
    "record_quantity": (("rid", "bigint"), ("lo", "float8"), ("hi", "float8"), ("ctx", "bigint"), ("code", "integer"),
                        ("name", "integer"), ("sys", "integer"), ("number", "smallint"), ("item", "smallint")),
    "record_string": (("rid", "bigint"), ("ctx", "bigint"), ("number", "smallint"), ("item", "smallint"), ("kind", "smallint"),
                      ("val", "text"), ("raw", "text")),
}  # fmt: skip
_NAMES = ",".join(name for name, _ in RESOURCE)
_UNNEST = ", ".join(f"%s::{kind}[]" for _, kind in RESOURCE)
_VALUES = ", ".join("u.keys::bigint[]" if name == "keys" else f"u.{name}" for name, _ in RESOURCE)


@dataclass(slots=True)
class Stored:
    """One version as it goes into the tables; ``body`` is packed (record.bodies), empty for a deletion."""

    rid: int
    key: int
    rtype: str
    id: str
    version: int
    updated: datetime
    body: bytes
    rows: Rows
    person_id: int | None = None
    subj: int | None = None
    institution_id: int | None = None
    platform: bool = False
    deleted: bool = False

    def columns(self) -> tuple[Any, ...]:
        """Values in the order of ``RESOURCE``."""
        rows = self.rows
        return (
            self.rid, self.key, self.person_id, self.subj, self.updated, rows.at, rows.till, self.institution_id, self.version,
            self.platform, self.deleted, self.rtype, self.id, "{" + ",".join(map(str, set(rows.keys))) + "}", self.body,
        )  # fmt: skip


def server_cursor(cur: Any) -> psycopg.Cursor[Any]:
    """A plain psycopg cursor (server-side binding) on the connection behind any cursor, Django's too."""
    inner = getattr(cur, "cursor", cur)
    return psycopg.Cursor(inner.connection)


def new_rids(cur: Any, count: int) -> list[int]:
    """Fresh version numbers, ascending."""
    cur.execute("SELECT nextval('record_rid') FROM generate_series(1, %s)", [count], prepare=True)
    return sorted(row[0] for row in cur.fetchall())


def side_tuples(batch: Iterable[Stored]) -> dict[str, list[tuple[Any, ...]]]:
    """Side rows of a batch, table by table (each row once)."""
    dates: list[tuple[Any, ...]] = []
    quantities: list[tuple[Any, ...]] = []
    strings: list[tuple[Any, ...]] = []
    for one in batch:
        rid, rows = one.rid, one.rows
        dates += [(rid, *row) for row in dict.fromkeys(rows.dates)]
        quantities += [(rid, *row) for row in dict.fromkeys(rows.quantities)]
        strings += [(rid, *row) for row in dict.fromkeys(rows.strings)]
    return {"record_date": dates, "record_quantity": quantities, "record_string": strings}


def escape(text: str) -> str:
    """Text as a field of COPY."""
    if "\\" in text or "\n" in text or "\t" in text or "\r" in text:
        text = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return text


def _field(value: Any) -> str:
    if value is None:
        return "\\N"
    if type(value) is str:
        return escape(value)
    if type(value) is bytes:
        return "\\\\x" + value.hex()
    return str(value)


def copy(cur: Any, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """COPY rows into a table."""
    text = "\n".join(["\t".join(map(_field, row)) for row in rows])
    if not text:
        return
    with cur.copy(f"COPY {table} ({','.join(columns)}) FROM STDIN") as out:
        data = text.encode() + b"\n"
        for start in range(0, len(data), 1 << 20):
            out.write(data[start : start + (1 << 20)])


def insert(cur: Any, batch: Sequence[Stored]) -> None:
    """Insert new resources with their side rows (psycopg cursor)."""
    if not batch:
        return
    if len(batch) >= COPY_FROM:
        copy(cur, "record_resource", [name for name, _ in RESOURCE], [s.columns() for s in batch])
    else:
        columns = [list(c) for c in zip(*(s.columns() for s in batch), strict=True)]
        cur.execute(
            f"INSERT INTO record_resource ({_NAMES}) SELECT {_VALUES} FROM unnest({_UNNEST}) AS u({_NAMES})",
            columns,
            prepare=True,
        )
    insert_side(cur, batch)


def insert_side(cur: Any, batch: Sequence[Stored]) -> None:
    """Insert only the side rows of a batch."""
    tables = side_tuples(batch)
    if len(batch) >= COPY_FROM:
        for table, rows in tables.items():
            copy(cur, table, [c for c, _ in SIDE[table]], rows)
        return
    parts, params = [], []
    for table, rows in tables.items():
        if rows:
            names = ",".join(c for c, _ in SIDE[table])
            casts = ",".join(f"%s::{t}[]" for _, t in SIDE[table])
            parts.append(f"INSERT INTO {table} ({names}) SELECT * FROM unnest({casts})")
            params += [list(c) for c in zip(*rows, strict=True)]
    if parts:
        body = ", ".join(f"w{i} AS ({p} RETURNING 1)" for i, p in enumerate(parts[:-1]))
        cur.execute((f"WITH {body} " if body else "") + parts[-1], params, prepare=True)


def replace(cur: Any, batch: Sequence[Stored]) -> None:
    """Put new versions in the place of those with the same keys: the old ones go to the history, side rows are made anew."""
    keys = [s.key for s in batch]
    gone = ", ".join(
        f"d{i} AS (DELETE FROM {t} WHERE rid = ANY(SELECT rid FROM old))" for i, t in enumerate(SIDE)
    )
    cur.execute(
        "WITH old AS (SELECT rid FROM record_resource WHERE key = ANY(%s::bigint[])), "
        f"{gone} INSERT INTO record_history (rid, key, person_id, updated, institution_id, version, deleted, rtype, id, body)"
        " SELECT rid, key, person_id, updated, institution_id, version, deleted, rtype, id, body FROM record_resource"
        " WHERE key = ANY(%s::bigint[])",
        [keys, keys],
        prepare=True,
    )
    columns = [list(c) for c in zip(*(s.columns() for s in batch), strict=True)]
    cur.execute(
        "UPDATE record_resource r SET rid = u.rid, person_id = u.person_id, subj = u.subj, updated = u.updated, at = u.at,"
        " till = u.till, institution_id = u.institution_id, version = u.version, platform = u.platform, deleted = u.deleted,"
        f" keys = u.keys::bigint[], body = u.body FROM unnest({_UNNEST}) AS u({_NAMES}) WHERE r.key = u.key",
        columns,
        prepare=True,
    )
    insert_side(cur, [s for s in batch if not s.deleted])
