"""The indexes and foreign keys that a first load puts aside and makes again afterwards; ``mend`` makes what
a killed load left missing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction

from lianxin.index import rebuild
from lianxin.index.batch import reading
from lianxin.index.batch.models import Proposal
from lianxin.index.models import Person

_PERSON = tuple(Person._meta.indexes)
_INDEXES = {
    "index_form_person": rebuild.PERSON_INDEX,
    "index_sourcerecord_person_id_198a00a3": "CREATE INDEX index_sourcerecord_person_id_198a00a3 ON index_sourcerecord (person_id)",
    "index_linkevent_person_id_af8146a2": "CREATE INDEX index_linkevent_person_id_af8146a2 ON index_linkevent (person_id)",
    "access_rel_institution": "CREATE INDEX access_rel_institution ON access_relationship (institution_id, person_id)",
}
_KEYS = "index_form_keys"
_REFERENCES = {
    "index_sourcerecord_person_id_198a00a3_fk_index_person_id": ("index_sourcerecord", "person_id", "index_person"),
    "access_relationship_person_fk": ("access_relationship", "person_id", "index_person"),
}  # fmt: skip
"""Foreign keys, name -> (table, column, what it points to): asked row by row they cost half of the writing, and lock every row."""
_KEPT = ("index_source_once", "index_person_number", "access_relationship_once")
"""Unique indexes that stay while a load writes: filled out of order, a quarter of them is air until they are made anew."""
_MEMORY = "512MB"
_KEYS_MEMORY = "4MB"
"""Built in one go, a GIN index has every page half empty (a third more disk); in small portions later ones fill the gaps."""
ONE_LOAD = 0x4C58_0010
"""Advisory lock of the one load that may run."""
ONE_RELINK = 0x4C58_0011
"""The same of the one re-link."""


def missing() -> list[str]:
    """Names of indexes and references that should be there and are not."""
    names = [_KEYS, *_INDEXES, *(index.name for index in _PERSON), *_REFERENCES]
    with connection.cursor() as cur:
        cur.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'i' AND relname = ANY(%s)"
            " UNION ALL SELECT conname FROM pg_constraint WHERE contype = 'f' AND conname = ANY(%s)",
            [names, names],
        )
        there = {row[0] for row in cur.fetchall()}
    return [name for name in names if name not in there]


def set_aside() -> None:
    """Drop them: for a load into an empty index. Uniqueness stays guarded by its own indexes."""
    orders = [
        f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}" for name, (table, _, _) in _REFERENCES.items()
    ]
    names = (_KEYS, *_INDEXES, *(index.name for index in _PERSON))
    orders += [f"DROP INDEX IF EXISTS {name}" for name in names]
    with connection.cursor() as cur:
        for order in orders:
            with transaction.atomic():  # one table's lock at a time: readers wait for a moment only
                cur.execute("SET CONSTRAINTS ALL IMMEDIATE")
                cur.execute(order)


def mend(processes: int = 1) -> list[str]:
    """Build what is missing (at once what can be, with two or more processes); the names built. Foreign keys are proven of every
    row; raises IntegrityError when one points nowhere."""
    names = missing()
    if not names:
        return []
    orders = [(_order(name), _KEYS_MEMORY if name == _KEYS else _MEMORY) for name in names]
    if _KEYS in names:
        orders += [(f"REINDEX INDEX {name}", _MEMORY) for name in _KEPT]
    if processes <= 1:
        _build(orders, {})
        return names
    # The keys take as long as all the others together: they get a connection of their own.
    beside = [order for order in orders if order[1] == _KEYS_MEMORY]
    troubles: list[BaseException] = []
    helper = threading.Thread(target=_beside, args=(beside, reading.connecting(), troubles))
    helper.start()
    try:
        _build([order for order in orders if order not in beside], {})
    finally:
        helper.join()
    if troubles:
        raise troubles[0]
    with connection.cursor() as cur:
        cur.execute(
            "ANALYZE index_person, index_form, index_sourcerecord, index_linkevent, access_relationship"
        )
    return names


@contextmanager
def one(lock: int) -> Iterator[bool]:
    """Whether this is the only one at it in the whole installation; the lock goes with the connection, also of a killed process."""
    with connection.cursor() as cur:
        cur.execute("SELECT pg_try_advisory_lock(%s)", [lock])
        free = bool(cur.fetchone()[0])
        try:
            yield free
        finally:
            if free:
                cur.execute("SELECT pg_advisory_unlock(%s)", [lock])


def mend_alone() -> list[str]:
    """Make what a killed load or re-link left undone, unless one is running (it does so itself); the names built."""
    with one(ONE_RELINK) as free:
        if free:
            give_up()
    if not missing():
        return []
    with one(ONE_LOAD) as free:
        return mend() if free else []


def give_up() -> None:
    """Proposals of re-links that were killed have failed; for whoever holds :data:`ONE_RELINK`."""
    Proposal.objects.filter(state="building").update(state="failed")


def _order(name: str) -> str:
    if name == _KEYS:
        return rebuild.KEYS_INDEX
    if name in _INDEXES:
        return _INDEXES[name]
    if name in _REFERENCES:
        table, column, to = _REFERENCES[name]
        return (
            f"ALTER TABLE {table} ADD CONSTRAINT {name} FOREIGN KEY ({column}) REFERENCES {to} (id)"
            " DEFERRABLE INITIALLY DEFERRED"
        )
    index = next(i for i in _PERSON if i.name == name)
    with connection.schema_editor(collect_sql=True) as editor:
        return str(index.create_sql(Person, editor))


def _build(orders: list[tuple[str, str]], where: dict[str, str]) -> None:
    """Each order in a transaction of its own; ``where``: see :func:`lianxin.index.batch.reading.opened`."""
    with reading.opened(where) as (cur, begin):
        for order, memory in orders:
            with begin():
                cur.execute("SET CONSTRAINTS ALL IMMEDIATE")  # what a load has just written is proven first
                cur.execute(f"SET LOCAL maintenance_work_mem = '{memory}'")
                cur.execute(order)


def _beside(orders: list[tuple[str, str]], where: dict[str, str], troubles: list[BaseException]) -> None:
    try:
        _build(orders, where)
    except BaseException as trouble:  # told to whoever waits for this thread
        troubles.append(trouble)
