"""COPY of many rows at once: columns are turned into text by Arrow, several times faster than row by row in Python."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pyarrow import csv

# Every text is quoted, so an unquoted nothing is NULL and "" is the empty text.
_OPTIONS = csv.WriteOptions(include_header=False, quoting_style="needed")


def copy(cur: Any, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Append ``rows`` to a table; of one column all values are of one type or None."""
    if not rows:
        return
    arrays = [_array(values) for values in zip(*rows, strict=True)]
    text = io.BytesIO()
    csv.write_csv(pa.Table.from_arrays(arrays, names=list(columns)), text, _OPTIONS)
    with cur.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT csv)") as out:
        out.write(text.getbuffer())


def _array(values: Sequence[Any]) -> Any:
    sample = next((v for v in values if v is not None), None)
    match sample:
        case None:
            return pa.nulls(len(values), pa.string())
        case bool():
            return pa.array([None if v is None else "true" if v else "false" for v in values], pa.string())
        case int():
            return pa.array(values, pa.int64())
        case bytes():
            return pa.array([None if v is None else "\\x" + v.hex() for v in values], pa.string())
        case dt.datetime() | dt.date():
            return pa.array([None if v is None else v.isoformat() for v in values], pa.string())
        case list():
            return pa.array(
                [None if v is None else "{" + ",".join(map(str, v)) + "}" for v in values], pa.string()
            )
    return pa.array(values, pa.string())
