"""For whom a resident acts now: themselves or one of the family, chosen once and always shown.

The choice is kept in the session and checked against the scope at every request: when the right to act for somebody has ended,
the choice falls back to oneself.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import OuterRef, Q, Subquery
from django.http import HttpRequest

from lianxin.access.models import ActsFor
from lianxin.index.models import Person
from lianxin.standards import clock
from lianxin.standards.text import T, Text

SESSION_KEY = "lianxin_for"
RELATIONS: dict[str, Text] = {
    "self": T("本人", "myself"),
    "guardian": T("我是监护人", "I am the guardian"),
    "delegate": T("受托办理", "on their behalf"),
}
_ORDER = ("self", "guardian", "delegate")


@dataclass(frozen=True)
class Member:
    """Somebody the account acts for, and by what right."""

    person: Person
    relation: str

    @property
    def relation_label(self) -> Text:
        """The right in words."""
        return RELATIONS[self.relation]

    @property
    def own(self) -> bool:
        """Whether it is the account holder."""
        return self.relation == "self"


def family(request: HttpRequest) -> list[Member]:
    """Everybody the account acts for now, oneself first; read once a request."""
    found: list[Member] | None = getattr(request, "phone_family", None)
    if found is None:
        found = _family(request)
        request.phone_family = found  # type: ignore[attr-defined]
    return found


def _family(request: HttpRequest) -> list[Member]:
    scope = getattr(request, "scope", None)
    if scope is None or not scope.resident_ids:
        return []
    now = clock.now()
    rights = ActsFor.objects.filter(
        Q(until__isnull=True) | Q(until__gt=now),
        account_id=scope.account_id,
        since__lte=now,
        person_id=OuterRef("pk"),
    )
    people = Person.objects.within(scope).annotate(
        right=Subquery(rights.order_by("-id").values("relation")[:1])
    )
    members = [Member(person, person.right) for person in people.filter(right__isnull=False)]
    return sorted(members, key=lambda m: (_ORDER.index(m.relation), m.person.pk))


def member(request: HttpRequest) -> Member | None:
    """Whom the pages are about now, or None (nobody signed in, or no identity bound yet)."""
    members = family(request)
    chosen = request.session.get(SESSION_KEY) if members else None
    return next((m for m in members if m.person.pk == chosen), members[0] if members else None)


def choose(request: HttpRequest, person_id: int) -> Member | None:
    """Act for ``person_id`` from now on; None (and nothing changed) when the account may not."""
    found = next((m for m in family(request) if m.person.pk == person_id), None)
    if found is not None:
        request.session[SESSION_KEY] = person_id
    return found
