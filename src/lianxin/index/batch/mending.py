"""The indexes that a first load puts aside and builds again afterwards; ``mend`` builds what a killed load left missing."""

from __future__ import annotations

import threading
from typing import Any

from django.db import connection, transaction

from lianxin.index import rebuild
from lianxin.index.models import Person

_ASIDE = tuple(Person._meta.indexes)
_FORMS = {"index_form_keys": rebuild.KEYS_INDEX, "index_form_person": rebuild.PERSON_INDEX}
_MEMORY = "512MB"
_KEYS_MEMORY = "4MB"
"""Built in one go, a GIN index has every page half empty (a third more disk); in small portions later ones fill the gaps."""
ONE_LOAD = 0x4C58_0010
"""Advisory lock of the one load that may run."""


def missing() -> list[str]:
    """Names of indexes that should be there and are not."""
    names = [*(index.name for index in _ASIDE), *_FORMS]
    with connection.cursor() as cur:
        cur.execute("SELECT relname FROM pg_class WHERE relkind = 'i' AND relname = ANY(%s)", [names])
        there = {row[0] for row in cur.fetchall()}
    return [name for name in names if name not in there]


@transaction.atomic
def set_aside() -> None:
    """Drop them: for a load into an empty index. Uniqueness stays guarded by its own indexes."""
    with connection.cursor() as cur:
        for name in (*(index.name for index in _ASIDE), *_FORMS):
            cur.execute(f"DROP INDEX IF EXISTS {name}")


def mend(processes: int = 1) -> list[str]:
    """Build what is missing (at once what can be, with two or more processes); the names built."""
    names = missing()
    if not names:
        return []
    orders = [_order(name) for name in names]
    if processes <= 1:
        with transaction.atomic(), connection.cursor() as cur:
            _build(cur, orders)
        return names
    # The keys take as long as all the others together: each half on a connection of its own.
    forms = [o for name, o in zip(names, orders, strict=True) if name in _FORMS]
    rest = [o for name, o in zip(names, orders, strict=True) if name not in _FORMS]
    troubles: list[BaseException] = []
    helper = threading.Thread(target=_beside, args=(forms, troubles))
    helper.start()
    try:
        with transaction.atomic(), connection.cursor() as cur:
            _build(cur, rest)
    finally:
        helper.join()
    if troubles:
        raise troubles[0]
    with connection.cursor() as cur:
        cur.execute("ANALYZE index_person; ANALYZE index_form; ANALYZE index_sourcerecord")
    return names


def mend_alone() -> list[str]:
    """Build what a killed load left missing, unless a load is running (it does so itself at its end)."""
    if not missing():
        return []
    with connection.cursor() as cur:
        cur.execute("SELECT pg_try_advisory_lock(%s)", [ONE_LOAD])
        if not cur.fetchone()[0]:
            return []
        try:
            return mend()
        finally:
            cur.execute("SELECT pg_advisory_unlock(%s)", [ONE_LOAD])


def _order(name: str) -> str:
    if name in _FORMS:
        return _FORMS[name]
    index = next(i for i in _ASIDE if i.name == name)
    with connection.schema_editor(collect_sql=True) as editor:
        return str(index.create_sql(Person, editor))


def _build(cur: Any, orders: list[str]) -> None:
    cur.execute("SET CONSTRAINTS ALL IMMEDIATE")  # what a load has just written is proven first
    for order in orders:
        memory = _KEYS_MEMORY if order == rebuild.KEYS_INDEX else _MEMORY
        cur.execute(f"SET LOCAL maintenance_work_mem = '{memory}'")
        cur.execute(order)


def _beside(orders: list[str], troubles: list[BaseException]) -> None:
    import psycopg

    from lianxin.index.batch.reading import connecting

    try:
        with psycopg.connect(**connecting()) as own, own.cursor() as cur:  # type: ignore[arg-type]
            _build(cur, orders)
    except BaseException as trouble:  # told to whoever waits for this thread
        troubles.append(trouble)
