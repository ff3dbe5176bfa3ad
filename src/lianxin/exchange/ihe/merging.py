"""A sender says that two of its own numbers are one patient (HL7 v2 A40, ITI-104 with ``replaced-by``).

What it says holds for its own two registrations, and for nobody else's:

* both belong to one person already: nothing changes;
* the one that is given up is all its person has: the two persons become one (the older number stays);
* its person has other registrations too: only this one goes along, and people are asked whether the persons are one;
* the two carry valid, different identity numbers: nothing is joined, people are asked;
* people have said that the two are different: nothing is joined.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lianxin.access import seal
from lianxin.access.errors import Invalid
from lianxin.access.scope import Scope
from lianxin.exchange.ihe.identifiers import Held
from lianxin.index import golden, links, reviews
from lianxin.index.facts import OWN_ID_YEARS, RESIDENT_ID
from lianxin.index.models import Person, SourceRecord
from lianxin.standards.identifiers import IdentifierError, resident_id
from lianxin.standards.text import T, Text

SAME, JOINED, MOVED, ASKED = "same", "joined", "moved", "asked"
WHY = "来源机构合并院内号"
TOLD = {
    MOVED: T(
        "该院内号已并入，两人是否为同一人已交人工复核。",
        "The number was joined to the other; whether the two persons are one has been put to people.",
    ),
    ASKED: T(
        "两个院内号各有有效且不同的身份证号，或已由人工判定为不同人，未合并；由人工复核。",
        "The two numbers carry valid, different identity numbers, or people found them to be two: not merged, and left to people.",
    ),
}


def resolve(cur: Any, scope: Scope, gone: Held, keep: Held, why: str = WHY) -> str:
    """Carry out what a sender said of two of its numbers: ``gone`` is ``keep``. Returns SAME, JOINED, MOVED or ASKED.

    Inside the caller's transaction on Django's connection. Both must be registrations of the sender itself.
    """
    acting = replace(scope, everything=True, reason=scope.reason or why)
    people = {
        p.pk: p
        for p in Person.objects.unscoped("a sender merged two of its numbers").filter(
            pk__in=(gone.person_id, keep.person_id)
        )
    }
    if len(people) == 1 or gone.source_id == keep.source_id:
        return SAME
    one, other = people[gone.person_id], people[keep.person_id]
    source = SourceRecord.objects.unscoped("a sender merged two of its numbers").get(pk=gone.source_id)
    said = other.pk in links.apart(cur, [one.pk])[one.pk]
    if said or _differ(_own_id(source), _person_id(other)):
        _ask(cur, one, other, gone.source_id)
        return ASKED
    alone = (
        not SourceRecord.objects.unscoped("a sender merged two of its numbers")
        .filter(person_id=one.pk)
        .exclude(pk=source.pk)
        .exists()
    )
    try:
        if alone:
            older, younger = sorted((one, other), key=lambda p: p.pk)
            links.merge(acting, older, younger, why)
            return JOINED
        links.move(acting, source, other, why, apart=False)
    except Invalid:  # the index's own guards: two valid identity numbers, or a person that changed meanwhile
        _ask(cur, one, other, gone.source_id)
        return ASKED
    _ask(cur, one, other, gone.source_id)
    return MOVED


def _ask(cur: Any, one: Person, other: Person, source_id: int) -> None:
    reviews.open_many(cur, [("two_matches", one.pk, other.pk, source_id, None, None, [], "")])


def _own_id(source: SourceRecord) -> str:
    """The valid identity number that a registration gives as its person's own, "" when there is none."""
    reg = golden.spoken(source).reg
    if reg.id_type not in ("", RESIDENT_ID):
        return ""
    try:
        found = resident_id(reg.id_no)
    except IdentifierError:
        return ""
    guardian = reg.birth_date is not None and abs(found.birth_date.year - reg.birth_date.year) >= OWN_ID_YEARS
    return "" if guardian else found.number


def _person_id(person: Person) -> str:
    return seal.unseal(person.id_sealed) if person.id_type == RESIDENT_ID and person.id_sealed else ""


def _differ(one: str, other: str) -> bool:
    return bool(one and other and one != other)


def told(outcome: str) -> Text | None:
    """What to tell the sender beside "accepted", if anything."""
    return TOLD.get(outcome)
