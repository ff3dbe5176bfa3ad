"""Forms as Arrow tables, the shape in which both batch engines take them: ``rid``, ``pid``, the columns of a form, its keys.

``rid`` is the record's own id (a form or a source), ``pid`` the person it belongs to now (0: to nobody yet). Tables travel as
Parquet files in a folder that only its owner may open, because they hold plain names and numbers; the folder goes with the run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lianxin.index.form import COLUMNS, Form
from lianxin.index.match import keys

SCHEMA: Any = pa.schema(
    [
        ("rid", pa.int64()),
        ("pid", pa.int64()),
        *((name, pa.int32() if kind == "int" else pa.string()) for name, kind in COLUMNS),
        ("keys", pa.list_(pa.int32())),
    ]
)
"""Columns and types; every batch of a run has exactly these."""

_NAMES = [name for name, _ in COLUMNS]
_values = attrgetter(*_NAMES)


def table(rows: Sequence[tuple[int, int, Form]]) -> Any:
    """An Arrow table of ``(rid, pid, form)``; the keys are computed here."""
    columns: list[Any] = [
        pa.array([row[0] for row in rows], pa.int64()),
        pa.array([row[1] for row in rows], pa.int64()),
    ]
    fields = list(zip(*[_values(row[2]) for row in rows], strict=True)) or [()] * len(COLUMNS)
    for (_, kind), values in zip(COLUMNS, fields, strict=True):
        columns.append(pa.array(values, pa.int32() if kind == "int" else pa.string()))
    columns.append(_keys([keys.digests_of(row[2]) for row in rows]))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _keys(digests: Sequence[Sequence[bytes]]) -> Any:
    """Lists of 4-byte digests as lists of whole numbers, without a Python number for each."""
    ends = np.zeros(len(digests) + 1, np.int32)
    np.cumsum([len(one) for one in digests], out=ends[1:])
    values = np.frombuffer(b"".join(map(b"".join, digests)), ">i4").astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values))


def write(table: Any, path: Path) -> None:
    """A table as a Parquet file that only its owner may read, made to be written and read once."""
    with open(path, "xb", opener=_private) as file:
        pq.write_table(table, file, compression="none", use_dictionary=False, write_statistics=False)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def forms_of(table: Any) -> Iterator[tuple[int, int, Form]]:
    """The rows of an Arrow table back as ``(rid, pid, form)``."""
    values = [table.column(name).to_pylist() for name in ("rid", "pid", *_NAMES)]
    for rid, pid, *fields in zip(*values, strict=True):
        yield rid, pid, Form(*fields)


@contextmanager
def workplace(home: Path) -> Iterator[Path]:
    """A folder of its own (mode 0700) under ``home``, gone with everything in it afterwards; also sweeps what a killed run left.

    A run holds a lock on its folder, so that only folders of dead runs are swept.
    """
    import fcntl

    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.chmod(0o700)
    for old in home.glob("run-*"):
        with open(old / "lock", "w") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(old, ignore_errors=True)
    place = Path(tempfile.mkdtemp(prefix="run-", dir=home))
    with open(place / "lock", "w") as mine:
        fcntl.flock(mine, fcntl.LOCK_EX)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def chunks(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of at most ``size``."""
    part: list[Any] = []
    for row in rows:
        part.append(row)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
