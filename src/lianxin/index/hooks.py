"""What rooms above do when registrations change hands (merge, unmerge, move): they register here, in ``AppConfig.ready()``.

Two ways. A table whose rows name a person is a :class:`Follower`: its rows go along when the whole person is merged, and the index
remembers whose each was, so that an unmerge gives back exactly those. What hangs on FHIR Patient ids instead registers
:func:`on_repoint`. :func:`on_risk` lets rooms say why two people should not be merged by one person's word alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lianxin.standards.text import Text

# fn(cursor, patient_ids, from_person_id, to_person_id): in the transaction that moves them
Repoint = Callable[[Any, list[str], int, int], None]
# fn(person_ids of one side, person_ids of the other) -> what makes a merge of the two risky
Risk = Callable[[list[int], list[int]], list[Text]]


@dataclass(frozen=True)
class Follower:
    """A table with a key and ``person_id`` whose rows follow a merged person. All SQL is a programmer's.

    ``stays``: condition over row ``r`` and ``%(keep)s`` of rows that cannot stand beside what the kept person has.
    ``yields``: statement run first, with ``%(gone)s`` and ``%(kept)s``, returning ids of rows that gave way;
    ``resumes``: statement run after they came back, with ``%(ids)s``, returning ids of those that stand again.
    """

    table: str
    key: str = "id"
    stays: str = "FALSE"
    yields: str = ""
    resumes: str = ""


_repoint: list[Repoint] = []
_risks: list[Risk] = []
_followers: dict[str, Follower] = {}


def follow(follower: Follower) -> None:
    """Register a table; rows of it are moved and given back by :mod:`lianxin.index.following`."""
    _followers[follower.table] = follower


def followers() -> list[Follower]:
    """All of them, in the order of registration."""
    return list(_followers.values())


def on_repoint(fn: Repoint) -> None:
    """Register ``fn``: resources about these Patient ids now belong to another person.

    ``patient_ids`` are FHIR Patient ids of the sources that move, and, when a whole person moves, its person number and those
    of whoever was merged into it.
    """
    if fn not in _repoint:
        _repoint.append(fn)


def repoint(cursor: Any, patient_ids: list[str], from_person: int, to_person: int) -> None:
    """Tell everybody who registered."""
    if patient_ids and from_person != to_person:
        for fn in _repoint:
            fn(cursor, patient_ids, from_person, to_person)


def on_risk(fn: Risk) -> None:
    """Register ``fn``: what it names makes a merge need two people's agreement."""
    if fn not in _risks:
        _risks.append(fn)


def risks(one: list[int], other: list[int]) -> list[Text]:
    """What rooms above know against trusting one person's word (blood groups that differ, ...)."""
    return [text for fn in _risks for text in fn(one, other)]
