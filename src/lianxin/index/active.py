"""What every process holds of the index's slowly changing knowledge: the active model, keys too full to tell anything, and values
that say nothing. Each look-up tells the newest marks of the three (:mod:`lianxin.index.store`); a process behind them reads on.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from lianxin.access import connections, seal
from lianxin.index.form import NOTHING, Generic
from lianxin.index.match import model as models
from lianxin.index.match.model import Model

MARKS = (
    "COALESCE((SELECT id FROM index_indexmodel WHERE active), 0)",
    "COALESCE((SELECT max(id) FROM index_crowd), 0)",
    "COALESCE((SELECT max(epoch) FROM index_generic), 0)",
)
"""SQL of the three marks, each read from an index."""

_READ = f"SELECT {', '.join(MARKS)}"


@dataclass
class Held:
    """What this process knows of one database."""

    marks: tuple[int, int, int] = (-1, 0, 0)
    model: Model = models.DEFAULT
    crowd: set[int] = field(default_factory=set)
    generic: Generic = NOTHING
    institutions: set[int] = field(default_factory=set)


_held: dict[str, Held] = {}
_guard = threading.Lock()


def held() -> Held:
    """What is held now for the current database, as it stands."""
    name = connections.database()
    found = _held.get(name)
    if found is None:
        with _guard:
            found = _held.setdefault(name, Held())
    return found


def fresh(cur: Any, marks: tuple[int, int, int] | None = None) -> Held:
    """The same, read on when the database is ahead; ``marks`` when a statement has just told them."""
    mine = held()
    if marks is None:
        cur.execute(_READ)
        marks = tuple(cur.fetchone())
    if marks != mine.marks:
        with _guard:
            _read_on(cur, mine, marks)
    return mine


def ready(cur: Any) -> Held:
    """What is held, read for the first time when this process has not yet: before the first registration is put into form."""
    mine = held()
    return mine if mine.marks[0] >= 0 else fresh(cur)


def unknown(cur: Any, mine: Held, institutions: set[int]) -> set[int]:
    """Those among ``institutions`` that do not exist (no row of a registration is held against their table when it is written)."""
    if not institutions <= mine.institutions:
        cur.execute("SELECT id FROM network_institution")
        mine.institutions = {row[0] for row in cur.fetchall()}
    return institutions - mine.institutions


def _read_on(cur: Any, mine: Held, marks: tuple[int, int, int]) -> None:
    model, crowd, generic = marks
    if model != mine.marks[0]:
        cur.execute("SELECT body FROM index_indexmodel WHERE id = %s", [model])
        row = cur.fetchone()
        mine.model = models.load(bytes(row[0])) if row else models.DEFAULT
    if crowd < mine.marks[1]:
        mine.crowd = set()  # built anew, or another database under the same name
    if crowd != mine.marks[1]:
        cur.execute(
            "SELECT key FROM index_crowd WHERE id > %s", [mine.marks[1] if crowd > mine.marks[1] else 0]
        )
        mine.crowd = mine.crowd | {row[0] for row in cur.fetchall()}
    if generic != mine.marks[2]:
        values: dict[str, set[str]] = {"phone": set(), "id": set(), "birth": set()}
        cur.execute("SELECT kind, value_sealed FROM index_generic WHERE active")
        for kind, sealed in cur.fetchall():
            values.setdefault(kind, set()).add(seal.unseal_bytes(bytes(sealed)).decode())
        mine.generic = Generic(*(frozenset(values[kind]) for kind in ("phone", "id", "birth")))
    mine.marks = marks


def forget() -> None:
    """Hold nothing any more (tests, a database that was replaced)."""
    with _guard:
        _held.clear()


def current_model(cur: Any = None) -> Model:
    """The active model, read again when another process has changed it."""
    if cur is not None:
        return fresh(cur).model
    with connection.cursor() as own:
        return fresh(own).model
