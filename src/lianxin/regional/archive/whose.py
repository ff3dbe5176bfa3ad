"""Whose an instance is: the order behind its accession number, and whether the header says the same person.

Nothing is attached on a guess. The accession number must be known and performed by the institution that sent it, and what the header says
(number, name, sex, birth date) must not contradict the person of the order; otherwise it waits for somebody to decide.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Q

from lianxin.index.facts import id_blind
from lianxin.index.models import Person, SourceRecord
from lianxin.regional.archive import hooks
from lianxin.regional.archive.header import Facts
from lianxin.standards import pinyin

SEXES = {"M": "male", "F": "female"}


@dataclass(frozen=True)
class Verdict:
    """Whose it is, or why that is not known (``problem``: ``models.PROBLEMS``)."""

    person_id: int | None = None
    number: str = ""
    problem: str = ""
    differs: tuple[str, ...] = ()


def of(facts: Facts, institution_ids: frozenset[int], institution_id: int) -> Verdict:
    """The verdict on a header sent by an institution; ``institution_ids``: that institution and what belongs to it."""
    if not facts.accession:
        return Verdict(problem="no_accession")
    order = hooks.order(facts.accession)
    if order is None:
        return Verdict(problem="unknown_accession")
    if order.performer_id not in institution_ids:
        return Verdict(problem="foreign_device", number=order.number)
    person = Person.objects.unscoped("the order's person is compared with the header").get(pk=order.person_id)
    differs = difference(person, facts, institution_id)
    if differs:
        return Verdict(problem="wrong_person", number=order.number, differs=differs)
    return Verdict(order.person_id, order.number)


def difference(person: Person, facts: Facts, institution_id: int) -> tuple[str, ...]:
    """What of the header contradicts the person: "name", "id", "sex", "birth"; ("nobody",) when it names nobody."""
    if not facts.name.strip("^= ") and not facts.patient_id:
        return ("nobody",)
    wrong = []
    if facts.name.strip("^= ") and not same_name(person.name, facts.name):
        wrong.append("name")
    if facts.patient_id and not same_id(person, facts.patient_id, institution_id):
        wrong.append("id")
    if facts.sex in SEXES and person.sex in SEXES.values() and SEXES[facts.sex] != person.sex:
        wrong.append("sex")
    if facts.birth and person.birth_date and facts.birth != person.birth_date.strftime("%Y%m%d"):
        wrong.append("birth")
    return tuple(wrong)


def same_name(name: str, written: str) -> bool:
    """Whether a PN value (up to three spellings between ``=``) is the person's name: in characters, or in pinyin in either order."""
    wanted = "".join(name.split()).casefold()
    spelt = {"".join(c for c in reading if c.isalpha()) for reading in pinyin.readings(name)}
    for group in written.split("="):
        parts = [part for part in group.replace("^", " ").split() if part]
        if not parts:
            continue
        orders = {"".join(parts), "".join([*parts[1:], parts[0]])}
        folded = {"".join(c for c in one.casefold() if c.isalnum() or c in "·•") for one in orders}
        if wanted in {one.casefold() for one in orders} or wanted in folded:
            return True
        if folded & spelt or {one.replace("v", "u") for one in folded} & {
            one.replace("ü", "u") for one in spelt
        }:
            return True
    return False


def same_id(person: Person, written: str, institution_id: int) -> bool:
    """Whether a patient id is one of the person's: our number, the health card, the identity number, the sender's own record number."""
    if written in (person.number, person.card_number):
        return True
    if person.id_blind is not None and bytes(person.id_blind) == id_blind(
        person.id_type or "01", written.upper()
    ):
        return True
    return (
        SourceRecord.objects.unscoped("the sender's own number of the person")
        .filter(
            Q(local_id=written) | Q(patient_id=written), institution_id=institution_id, person_id=person.pk
        )
        .exists()
    )
