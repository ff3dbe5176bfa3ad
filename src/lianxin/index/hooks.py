"""What rooms above do when registrations change hands (merge, unmerge, move): they register here, in ``AppConfig.ready()``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# fn(cursor, patient_ids, from_person_id, to_person_id): in the transaction that moves them
Repoint = Callable[[Any, list[str], int, int], None]

_repoint: list[Repoint] = []


def on_repoint(fn: Repoint) -> None:
    """Register ``fn``: resources about these Patient ids now belong to another person.

    ``patient_ids`` are FHIR Patient ids of the sources that move, and, when a whole person moves, its person number.
    """
    if fn not in _repoint:
        _repoint.append(fn)


def repoint(cursor: Any, patient_ids: list[str], from_person: int, to_person: int) -> None:
    """Tell everybody who registered."""
    if patient_ids and from_person != to_person:
        for fn in _repoint:
            fn(cursor, patient_ids, from_person, to_person)
