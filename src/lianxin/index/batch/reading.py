"""Forms out of the database as Parquet files, by several processes: each takes ranges of ids, opens the sealed forms, computes keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from lianxin.index.batch import workers

RANGE = 100_000
"""Forms per file: some 30 MB in memory."""
_CONNECTING = ("dbname", "user", "password", "host", "port")


@dataclass(frozen=True)
class Share:
    """One file's work: ids ``first`` to ``last`` inclusive, and where the file goes."""

    first: int
    last: int
    path: Path


def forms(place: Path, processes: int = 2) -> list[Path]:
    """Write every form of an active person to ``place`` as Parquet; the files, in order of ids."""
    from django.db import connection

    with connection.cursor() as cur:
        cur.execute("SELECT min(id), max(id), count(*) FROM index_form")
        low, high, count = cur.fetchone()
    if not count:
        return []
    parts = max(1, -(-count // RANGE))
    step = -(-(high - low + 1) // parts)
    shares = [
        Share(first, first + step - 1, place / f"forms-{n:05d}.parquet")
        for n, first in enumerate(range(low, high + 1, step))
    ]
    params = connection.get_connection_params()
    where = {name: str(params[name]) for name in _CONNECTING if params.get(name)}
    if processes <= 1 or len(shares) == 1:
        return [share.path for share in shares if take(where, share)]
    return list(_spread(where, shares, processes))


def _spread(where: dict[str, str], shares: Sequence[Share], processes: int) -> Iterator[Path]:
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=workers.start) as pool:
        written = pool.map(take, [where] * len(shares), shares)
        for share, rows in zip(shares, written, strict=True):
            if rows:
                yield share.path


def take(where: dict[str, str], share: Share) -> int:
    """Write one share's file; how many forms it holds (0: no file)."""
    import psycopg
    import pyarrow.parquet as pq

    from lianxin.access import seal
    from lianxin.index.batch import table
    from lianxin.index.form import unpack

    rows: list[Any] = []
    with psycopg.connect(**where, autocommit=True) as own, own.cursor(binary=True) as cur:  # type: ignore[arg-type]
        cur.execute(
            "SELECT f.id, f.person_id, f.body FROM index_form f JOIN index_person p ON p.id = f.person_id"
            " WHERE f.id BETWEEN %s AND %s AND p.status = 'active' ORDER BY f.id",
            [share.first, share.last],
        )
        for form_id, person_id, body in cur:
            rows.append((form_id, person_id, unpack(seal.unseal_bytes(body))))
    if rows:
        pq.write_table(table.table(rows), share.path, compression="zstd", compression_level=1)
        share.path.chmod(0o600)
    return len(rows)
