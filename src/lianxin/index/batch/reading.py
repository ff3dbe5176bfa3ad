"""Forms out of the database as Parquet files, by several processes: each takes ranges of pages, opens the forms, computes keys.

The files hold plain names and numbers: they lie in the run's own folder (mode 0700) and go with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from lianxin.index.batch import workers

PAGES = 4_000
"""Database pages per file: some 100,000 forms."""
_SHARE_BITS = 24  # a file holds fewer forms than this many bits count
_AT_ONCE = 2_000
_CONNECTING = ("dbname", "user", "password", "host", "port")


@dataclass(frozen=True)
class Share:
    """One file's work: pages ``first`` up to ``end``, the first rid, and where the file goes."""

    first: int
    end: int
    rid: int
    path: Path


def forms(place: Path, processes: int = 2, begin: int = 0) -> list[Path]:
    """Write every form of an active person to ``place`` as Parquet; the files, in the order of the table.

    ``begin``: number of the first file, when rids of smaller numbers are taken.
    """
    from django.db import connection

    with connection.cursor() as cur:
        cur.execute("SELECT pg_relation_size('index_form') / current_setting('block_size')::int")
        pages = cur.fetchone()[0]
    shares = [
        Share(first, min(first + PAGES, pages), (begin + n) << _SHARE_BITS, place / f"forms-{n:05d}.parquet")
        for n, first in enumerate(range(0, pages, PAGES))
    ]
    if processes <= 1 or len(shares) <= 1:
        return [share.path for share in shares if take({}, share)]
    return list(_spread(connecting(), shares, processes))


def connecting() -> dict[str, str]:
    """How a helper process reaches the database that this process works with."""
    from django.db import connection

    params = connection.get_connection_params()
    return {name: str(params[name]) for name in _CONNECTING if params.get(name)}


@contextmanager
def opened(where: dict[str, str]) -> Iterator[tuple[Any, Any]]:
    """(cursor, function that opens a transaction): of a connection of its own, or (``where`` is empty) of this process's."""
    if where:
        import psycopg

        with psycopg.connect(**where, autocommit=True) as own, own.cursor() as cur:  # type: ignore[arg-type]
            yield cur, own.transaction
    else:
        from django.db import connection, transaction

        from lianxin.index import store

        with connection.cursor() as django:
            yield store.plain(django), transaction.atomic


def _spread(where: dict[str, str], shares: Sequence[Share], processes: int) -> Iterator[Path]:
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=workers.start) as pool:
        written = pool.map(take, [where] * len(shares), shares)
        for share, rows in zip(shares, written, strict=True):
            if rows:
                yield share.path


def take(where: dict[str, str], share: Share) -> int:
    """Write one share's file; how many forms it holds (0: no file)."""
    from lianxin.index import vault
    from lianxin.index.batch import table

    rows: list[Any] = []
    with opened(where) as (cur, _):
        cur.execute(
            "SELECT f.person_id, f.body FROM index_form f JOIN index_person p ON p.id = f.person_id"
            f" WHERE f.ctid >= '({share.first},0)' AND f.ctid < '({share.end},0)' AND p.status = 'active'"
            " ORDER BY f.person_id, f.ctid"
        )
        while part := cur.fetchmany(_AT_ONCE):
            found = vault.open_all([bytes(body) for _, body in part])
            for (person_id, _), form in zip(part, found, strict=True):
                rows.append((share.rid + len(rows), person_id, form))
    if rows:
        table.write(table.table(rows), share.path)
    return len(rows)
