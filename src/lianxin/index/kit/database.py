"""The running index under evaluation: registers a labelled file in a database without people, and reads who is who from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.db import connection

from lianxin.access.scope import Scope
from lianxin.index import registry
from lianxin.index.form import Registration
from lianxin.index.kit.csvfile import Labelled
from lianxin.index.match.model import DEFAULT, Model
from lianxin.index.models import IndexModel, Person
from lianxin.network.models import Institution
from lianxin.standards import clock

BATCH = 200
"""Registrations a transaction: what a queue of messages would bring."""
WHY = "the evaluation registers in a database of its own"


class NotEmpty(ValueError):
    """There are people in the database: an evaluation must not mix with them."""


def register(
    labelled: Labelled, model: Model = DEFAULT, batch: int = BATCH
) -> tuple[list[int], list[tuple[int, int, str]]]:
    """Register everything in the file's order: (person per record after all joins, reviews as (person, person, kind)).

    Raises :class:`NotEmpty` when the database already knows people. What it registers stays: give it a database of its own.
    """
    if Person.objects.unscoped(WHY).exists():
        raise NotEmpty(
            "the database already holds people: evaluate in an empty one (createdb, DATABASE_URL=…, lianxin migrate)"
        )
    if model is not DEFAULT:
        IndexModel.objects.filter(active=True).update(active=False)
        IndexModel.objects.create(
            version=f"evaluation-{clock.now():%Y%m%d%H%M%S}",
            body=model.dump(),
            active=True,
            made_at=clock.now(),
        )
    places = institutions(labelled)
    scope = Scope.system("index-evaluate")
    found: list[int] = []
    for regs in _chunks(labelled.registrations, batch):
        for reg in regs:
            reg.institution_id = places.get(reg.institution_id, reg.institution_id)
        found += [done.person_id for done in registry.register_many(scope, regs)]
    return current(found), asked()


def institutions(labelled: Labelled) -> dict[int, int]:
    """Makes an institution for every one of the file: its number in the file -> its id."""
    out: dict[int, int] = {}
    for number in sorted({reg.institution_id for reg in labelled.registrations}):
        place, _ = Institution.objects.get_or_create(
            code=f"KIT-{number}",
            defaults={"name": f"Institution {number} of the file", "kind": "township", "tier": "township"},
        )
        out[number] = place.pk
    return out


def current(people: Sequence[int]) -> list[int]:
    """Person ids after all merges."""
    into = dict(
        Person.objects.unscoped(WHY).filter(merged_into__isnull=False).values_list("pk", "merged_into_id")
    )
    return [_top(into, p) for p in people]


def asked() -> list[tuple[int, int, str]]:
    """Open reviews between two persons, as (person, person, kind) of today."""
    into: dict[int, Any] = dict(
        Person.objects.unscoped(WHY).filter(merged_into__isnull=False).values_list("pk", "merged_into_id")
    )
    with connection.cursor() as cur:
        cur.execute(
            "SELECT person_a_id, person_b_id, kind FROM index_reviewitem WHERE state IN ('open', 'second') ORDER BY id"
        )
        rows = cur.fetchall()
    return [(_top(into, a), _top(into, b), kind) for a, b, kind in rows]


def _top(into: dict[int, Any], person: int) -> int:
    while person in into:
        person = into[person]
    return person


def _chunks(regs: Sequence[Registration], size: int) -> Iterator[Sequence[Registration]]:
    for start in range(0, len(regs), size):
        yield regs[start : start + size]
