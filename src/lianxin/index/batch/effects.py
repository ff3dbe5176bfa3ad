"""What rooms above tell about people whom a proposal touches: how many clinical records they have. They register in ``ready()``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

# fn(cursor, person_ids) -> number of clinical records of those who have any
Counter = Callable[[Any, Collection[int]], dict[int, int]]

_counters: list[Counter] = []


def register(fn: Counter) -> None:
    """Count with ``fn`` what hangs on a person."""
    if fn not in _counters:
        _counters.append(fn)


def records(cur: Any, person_ids: Collection[int]) -> dict[int, int]:
    """Clinical records of these persons; who has none is left out."""
    out: dict[int, int] = {}
    for fn in _counters:
        for person_id, count in fn(cur, person_ids).items():
            out[person_id] = out.get(person_id, 0) + count
    return out
