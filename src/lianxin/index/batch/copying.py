"""COPY of many rows at once: columns are turned into text by Arrow and numpy, several times faster than row by row in Python."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

# Every text is quoted, so an unquoted nothing is NULL and "" is the empty text.
_OPTIONS = csv.WriteOptions(include_header=False, quoting_style="needed")
_HEX = np.frombuffer("".join(f"{n:02x}" for n in range(256)).encode(), np.uint16)


def copy_rows(cur: Any, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Append ``rows`` to a table; of one column all values are of one type or None."""
    if rows:
        copy(cur, table, dict(zip(columns, map(_array, zip(*rows, strict=True)), strict=True)))


def copy(cur: Any, table: str, columns: Mapping[str, Any]) -> None:
    """Append columns (Arrow or numpy arrays of one length; a single value stands for itself in every row) to a table."""
    size = max(len(values) for values in columns.values() if not isinstance(values, str))
    if not size:
        return
    arrays = [_text(values, size) for values in columns.values()]
    text = io.BytesIO()
    csv.write_csv(pa.Table.from_arrays(arrays, names=list(columns)), text, _OPTIONS)
    with cur.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT csv)") as out:
        out.write(text.getbuffer())


def _text(values: Any, size: int) -> Any:
    """A column as COPY reads it."""
    if isinstance(values, str):
        return pa.repeat(values, size)
    array = values if isinstance(values, pa.Array) else pa.array(values)
    if pa.types.is_binary(array.type):
        return hexed(array)
    if pa.types.is_list(array.type):
        joined = pc.binary_join(array.cast(pa.list_(pa.string())), ",")
        return pc.binary_join_element_wise("{", joined, "}", "")
    return array


def hexed(array: Any) -> Any:
    """Binary values as PostgreSQL writes bytes: ``\\x`` and two figures each."""
    ends = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(array.buffers()[2] or b"", np.uint8)[ends[0] : ends[-1]]
    figures = pa.py_buffer(_HEX[data].tobytes())
    plain = pa.Array.from_buffers(
        pa.string(), len(array), [None, pa.py_buffer(((ends - ends[0]) * 2).tobytes()), figures]
    )
    shown = pc.binary_join_element_wise("\\x", plain, "")
    return shown if not array.null_count else pc.if_else(array.is_valid(), shown, None)


def _array(values: Sequence[Any]) -> Any:
    sample = next((v for v in values if v is not None), None)
    match sample:
        case None:
            return pa.nulls(len(values), pa.string())
        case int():
            return pa.array(values, pa.int64())
        case bytes():
            return pa.array(values, pa.binary())
        case dt.date():
            return pa.array(values, pa.date32())
    return pa.array(values, pa.string())
