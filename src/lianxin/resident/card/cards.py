"""Cards: issued, reported lost, issued anew, closed. One is active at most; what was made from any other is void at once.

Every act locks the person's row, so two desks at once give one card, and is audited; the national service, when there is one,
is told by a chore (:mod:`lianxin.resident.card.national`).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from django.db import connection, transaction

from lianxin.access import audit
from lianxin.access.errors import Invalid, NoRelationship, NotPermitted
from lianxin.access.scope import Scope
from lianxin.index import registry
from lianxin.index.models import Person, SourceRecord
from lianxin.resident.card import national
from lianxin.resident.card.models import Card
from lianxin.standards import clock
from lianxin.standards.text import T


def person(person_id: int) -> Person:
    """The person, whoever asks: the caller has checked or checks next."""
    found = (
        Person.objects.unscoped("the card of a person").select_related("home_institution").get(pk=person_id)
    )
    return found if found.merged_into_id is None else registry.get(found.number)


def may_keep(scope: Scope, person_id: int) -> None:
    """Raise unless ``scope`` may handle this person's card: the resident for themselves and family, a desk, the platform."""
    if scope.resident:
        if person_id not in scope.resident_ids:
            raise NoRelationship(person_id)
    else:
        scope.demand("manage_cards")


def active(person_id: int) -> Card | None:
    """The card that is good now."""
    return Card.objects.filter(person_id=person_id, state="active").first()


def of_person(person_id: int) -> list[Card]:
    """All cards, the newest first."""
    return list(Card.objects.filter(person_id=person_id).select_related("institution").order_by("-id"))


def _lock(person_id: int) -> int:
    with connection.cursor() as cursor:
        found = registry.person_id_for_update(cursor, person_id)
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('lianxin.card'), %s)", [found & 0x7FFFFFFF])
    return found


def _new(scope: Scope, person_id: int) -> Card:
    card = Card.objects.create(
        person_id=person_id,
        serial=secrets.token_bytes(8),
        issued_at=clock.now(),
        issued_by_id=scope.account_id,
        institution_id=scope.institution_id,
    )
    audit.write(scope, "create", person_id=person_id, what=f"card {card.pk}", detail={"did": "issued"})
    national.note("apply", person_id, f"apply:{card.pk}")
    return card


def _end(scope: Scope, card: Card, state: str, reason: str) -> None:
    card.state, card.reason = state, reason[:200]
    card.ended_at = max(clock.now(), card.issued_at)
    card.ended_by_id = scope.account_id
    card.save(update_fields=["state", "reason", "ended_at", "ended_by"])
    audit.write(scope, "update", person_id=card.person_id, what=f"card {card.pk}", detail={"did": state})
    if state in ("lost", "closed"):
        national.note("lose" if state == "lost" else "close", card.person_id, f"{state}:{card.pk}")


@transaction.atomic
def ensure(scope: Scope, person_id: int) -> Card:
    """The active card, issued now to who never had one. Raises :class:`Invalid` when the last one was lost or closed: that needs
    :func:`reissue`."""
    may_keep(scope, person_id)
    if card := active(person_id):
        return card
    person_id = _lock(person_id)
    if card := active(person_id):
        return card
    if Card.objects.filter(person_id=person_id, state__in=("lost", "closed")).exists():
        raise Invalid({"card": NO_CARD})
    return _new(scope, person_id)


NO_CARD = T(
    "健康卡已挂失或注销，请先补发新卡。", "The card was reported lost or closed; have a new one issued first."
)


@transaction.atomic
def lose(scope: Scope, person_id: int, reason: str = "") -> None:
    """Report the active card lost: its codes are void from now. Doing it again changes nothing."""
    may_keep(scope, person_id)
    person_id = _lock(person_id)
    if card := active(person_id):
        _end(scope, card, "lost", reason or "挂失")


@transaction.atomic
def reissue(scope: Scope, person_id: int, reason: str = "") -> Card:
    """A new card with a serial of its own; the one before is replaced."""
    may_keep(scope, person_id)
    person_id = _lock(person_id)
    if person(person_id).deceased_on is not None:
        raise Invalid(
            {
                "card": T(
                    "该居民已登记死亡，不能发卡。", "This person is recorded as deceased; no card is issued."
                )
            }
        )
    if card := active(person_id):
        _end(scope, card, "replaced", reason or "补发")
    return _new(scope, person_id)


@transaction.atomic
def close(scope: Scope, person_id: int, reason: str) -> None:
    """Close the card (the person moved away or died). Needs a reason; for desks."""
    if scope.resident:
        raise NotPermitted(T("注销请到窗口办理。", "Closing a card is done at the desk."))
    may_keep(scope, person_id)
    if len(reason.strip()) < 2:
        raise Invalid({"reason": T("请写明注销原因。", "Say why the card is closed.")})
    person_id = _lock(person_id)
    if card := active(person_id):
        _end(scope, card, "closed", reason.strip())


@dataclass(frozen=True)
class Joined:
    """Another card of the person that this one stands beside: a hospital's own card or another document."""

    institution: str
    institution_en: str
    number: str


def others(person_id: int) -> list[Joined]:
    """The cards that institutions gave the person and that lead to the same record; numbers masked but for their last four."""
    rows = (
        SourceRecord.objects.unscoped("the person's own cards")
        .filter(person_id=person_id, disputed=False)
        .select_related("institution")
        .order_by("institution_id", "id")
    )
    return [
        Joined(
            row.institution.name, row.institution.name_en or row.institution.name, f"**{row.local_id[-4:]}"
        )
        for row in rows[:30]
    ]
