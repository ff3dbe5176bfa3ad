"""The index's front door: everything rooms above call.

``register``/``register_many`` take what a system says and answer who it is; ``find`` and ``check_in`` serve desks; ``get``,
``by_patient_id`` and ``persons_of_patients`` resolve numbers and FHIR ids; ``merge``, ``unmerge``, ``move``, ``reviews`` and
``decide`` change links; ``golden_patient`` shows the result; ``hooks.on_repoint`` tells rooms above when records change hands.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection, transaction

from lianxin.access import audit, connections, relationships
from lianxin.access.errors import Invalid
from lianxin.access.scope import Scope
from lianxin.index import engine, numbers
from lianxin.index.asking import Explained, Matched, explain, match
from lianxin.index.engine import POLICY, Registered
from lianxin.index.facts import id_blind, read_id, tidy
from lianxin.index.finding import Hit, age_on, find
from lianxin.index.foreign import registration_from_patient
from lianxin.index.form import Registration
from lianxin.index.golden import golden_patient, mask_id, mask_name, mask_phone
from lianxin.index.hooks import on_repoint
from lianxin.index.links import merge, move, unmerge
from lianxin.index.models import Person, ReviewItem
from lianxin.index.reviews import answer
from lianxin.index.reviews import queue as reviews
from lianxin.standards import clock
from lianxin.standards.identifiers import normalise
from lianxin.standards.text import T

__all__ = [
    "POLICY",
    "Explained",
    "Hit",
    "Matched",
    "Registered",
    "Registration",
    "UnknownPerson",
    "age_on",
    "by_patient_id",
    "check_in",
    "decide",
    "explain",
    "find",
    "get",
    "golden_patient",
    "mask_id",
    "mask_name",
    "mask_phone",
    "match",
    "merge",
    "move",
    "on_repoint",
    "person_id_for_update",
    "persons_of_patients",
    "register",
    "register_many",
    "registration_from_patient",
    "reviews",
    "unmerge",
]


def decide(scope: Scope, item_id: int, same: bool, note: str = "") -> ReviewItem:
    """A human's answer to a review: the same person, or two (:func:`lianxin.index.reviews.answer`)."""
    return answer(scope, item_id, "same" if same else "different", note)


class UnknownPerson(LookupError):
    """No person has this number."""


def register(scope: Scope, reg: Registration, *, cursor: Any = None) -> Registered:
    """Register or update one person (permission ``register_person``); the same content again changes nothing.

    With ``cursor`` it runs inside that cursor's transaction, else in Django's. Raises Invalid or NotPermitted.
    """
    if cursor is None and not connection.in_atomic_block:
        try:
            return connections.steady(lambda cur: engine.register_one(cur, scope, reg), again=False)
        except engine.NotPlain:
            pass
    return register_many(scope, [reg], cursor)[0]


def register_many(scope: Scope, regs: Iterable[Registration], cursor: Any = None) -> list[Registered]:
    """Register many; results in the same order, all or nothing within the transaction."""
    batch = list(regs)
    if cursor is not None:
        return engine.register_batch(cursor, scope, batch)
    with transaction.atomic(), connection.cursor() as cur:
        return engine.register_batch(cur, scope, batch)


def get(number: str, follow: bool = True) -> Person:
    """The person with a person number; ``follow``: a merged one leads to who it is now. Raises :class:`UnknownPerson`.

    A look-up of identity only: what the caller may see of the person is for ``relationships.require`` to say.
    """
    people = Person.objects.unscoped("resolving a person number").select_related("home_institution")
    person = people.filter(number=number).first()
    if person is None:
        raise UnknownPerson(number)
    while follow and person.merged_into_id is not None:
        person = people.get(pk=person.merged_into_id)
    return person


_RESOLVE = """
WITH RECURSIVE wanted AS (SELECT unnest(%s::text[]) AS ref),
found AS (
  SELECT w.ref, s.person_id FROM wanted w JOIN index_sourcerecord s ON s.patient_id = w.ref
  UNION ALL
  SELECT w.ref, p.id FROM wanted w JOIN index_person p ON p.number = w.ref
), up(ref, id, into_id) AS (
  SELECT f.ref, p.id, p.merged_into_id FROM found f JOIN index_person p ON p.id = f.person_id
  UNION ALL SELECT u.ref, p.id, p.merged_into_id FROM up u JOIN index_person p ON p.id = u.into_id
)
SELECT ref, id FROM up WHERE into_id IS NULL
"""


def persons_of_patients(patient_ids: Sequence[str], *, cursor: Any = None) -> dict[str, int]:
    """Person ids of many FHIR Patient ids (of sources, or 10-digit person numbers) in one query; unknown ids are left out."""
    if not patient_ids:
        return {}
    if cursor is not None:
        cursor.execute(_RESOLVE, [list(patient_ids)])
        return dict(cursor.fetchall())
    with connection.cursor() as own:
        own.execute(_RESOLVE, [list(patient_ids)])
        return dict(own.fetchall())


def by_patient_id(patient_id: str, *, cursor: Any = None) -> int | None:
    """Person id of one FHIR Patient id or person number, or None."""
    return persons_of_patients([patient_id], cursor=cursor).get(patient_id)


def person_id_for_update(cursor: Any, person_id: int) -> int:
    """Lock a person against merging until the transaction ends; returns the living person's id (after merges)."""
    while True:
        cursor.execute("SELECT merged_into_id FROM index_person WHERE id = %s FOR SHARE", [person_id])
        row = cursor.fetchone()
        if row is None:
            raise UnknownPerson(str(person_id))
        if row[0] is None:
            return person_id
        person_id = row[0]


@transaction.atomic
def check_in(scope: Scope, person: Person, evidence: str) -> dt.datetime:
    """The person stands at the desk: ``evidence`` is the identity number or e-health card number read from what they show.

    When it is exactly theirs, the institution gets an encounter relationship (30 days); returns its end. Raises
    :class:`Invalid` naming ``evidence`` otherwise. Both outcomes are audited.
    """
    scope.demand("register_person")
    if scope.institution_id is None:
        raise Invalid(
            {"institution": T("请先选择所在机构的岗位。", "Choose a post at an institution first.")}
        )
    shown = normalise(tidy(evidence).split(":")[-1])
    kind, number, *_ = read_id("", shown)
    card = numbers.is_card_number(shown) and shown == person.card_number
    # A document other than the identity card is typed without its kind: it is compared as the kind the person has.
    kind = kind if kind == person.id_type else person.id_type
    own = bool(number and person.id_blind) and bytes(person.id_blind or b"") == id_blind(kind, number)
    if not card and not own:
        raise Invalid(
            {
                "evidence": T(
                    "证件号或健康卡号与此人不符，请核对证件后重新输入完整号码。",
                    "The number is not this person's; read the whole number from the card again.",
                )
            }
        )
    until = clock.now() + dt.timedelta(days=POLICY["encounter_days"])
    source = f"check-in:{scope.institution_id}:{clock.today()}"
    relationships.grant(person.pk, scope.institution_id, "encounter", source, until)
    audit.write(
        scope,
        "create",
        person_id=person.pk,
        what="check-in",
        detail={"shown": "card" if card else "document"},
    )
    return until
