"""Who stands at the desk: from a scanned card, a number or a name to a person, and the relationship that opens."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Q

from lianxin.access import relationships
from lianxin.access.errors import Invalid
from lianxin.access.models import Relationship
from lianxin.access.scope import Scope
from lianxin.index import registry
from lianxin.index.models import Person
from lianxin.index.registry import Hit, UnknownPerson
from lianxin.resident.card import qr, verify
from lianxin.resident.schedules.acts import Refused
from lianxin.standards import clock
from lianxin.standards.text import T, Text

HITS = 12
CODE = 60  # characters: a card's code is far longer, whatever else begins like it is a name or initials


@dataclass(frozen=True)
class Found:
    """What a search gave: the person when there is exactly one, else the hits, else why there is nobody."""

    number: str = ""
    hits: tuple[Hit, ...] = ()
    note: Text | None = None


def scanned(text: str) -> bool:
    """Whether the text is a code of an e-health card."""
    return text.strip().startswith(verify.PREFIX) and len(text.strip()) >= CODE


def search(by: Scope, q: str) -> Found:
    """Whom ``q`` means: the code of a card, a card, identity or person number, a name, a phone's tail."""
    text = q.strip()[:400]
    if scanned(text):
        read = qr.read(text, by=by)
        if not read.ok:
            return Found(note=read.words)
        hits = registry.find(by, read.number, limit=2)
    else:
        hits = registry.find(by, text, limit=HITS)
    if len(hits) == 1:
        return Found(hits[0].person_number, tuple(hits))
    if not hits:
        return Found(
            note=T(
                "没有找到这个人，请核对后重输，或先登记新患者。",
                "Nobody found; check what you typed, or register a new person.",
            )
        )
    return Found(hits=tuple(hits))


def get(number: str) -> Person | None:
    """The person of a number, or None."""
    try:
        return registry.get(number)
    except UnknownPerson:
        return None


def sees(by: Scope, person: Person) -> bool:
    """Whether the person's name and coming visits may be shown here.

    A reception opens no record, but serves whoever its institution has a relationship with: it sees who they are, and visits here.
    """
    if by.clinical or by.everything:
        return relationships.sees(by, person.pk)
    mine = Relationship.objects.filter(
        Q(until__isnull=True) | Q(until__gt=clock.now()),
        person_id=person.pk, institution_id__in=by.institution_ids, since__lte=clock.now(), account__isnull=True,
    )  # fmt: skip
    return by.may("book") and mine.exists()


def check_in(by: Scope, person: Person, evidence: str) -> None:
    """Open the relationship of somebody who shows a card or document; raises Refused when it is not theirs."""
    shown = evidence.strip()[:400]
    if scanned(shown):
        read = qr.read(shown, by=by)
        if not read.ok or read.person_id != person.pk:
            raise Refused(
                read.words if not read.ok else T("这张卡不是此人的。", "This card is not this person's."), 422
            )
        shown = read.number
    try:
        registry.check_in(by, person, shown)
    except Invalid as refusal:
        raise Refused(refusal.errors.get("evidence", refusal.message), 422) from None


def at_desk(by: Scope, q: str) -> Person:
    """The one person ``q`` means, with a relationship: one that is there, or opened by the card or document scanned.

    Raises Refused (422) when it is nobody, several people, or a stranger without a card.
    """
    found = search(by, q)
    if not found.number:
        raise Refused(
            found.note
            or T(
                "不止一人符合，请扫健康卡或输入完整证件号。",
                "More than one person fits; scan the card or type the whole ID number.",
            ),
            422,
        )
    person = get(found.number)
    if person is None:
        raise Refused(T("没有找到这个人。", "Nobody found."), 422)
    if not sees(by, person):
        check_in(by, person, q)
    return person
