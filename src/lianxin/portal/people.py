"""Find a person: by card, number, name, pinyin, initials or phone tail; live while typing, a plain form without scripts.

Who may look: clinical roles and reception. A person without a relationship is shown masked; what to do then is on the
person's own address (``people_door``). Every search with a term is audited by the index.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access.web import page
from lianxin.index import registry
from lianxin.index.models import Person
from lianxin.network import roles

FINDERS = (*sorted(roles.CLINICAL), roles.RECEPTION)
REGISTRARS = (roles.VILLAGE_DOCTOR, roles.GP, roles.FAMILY_DOCTOR, roles.REFERRAL_DESK, roles.RECEPTION)
LIMIT = 20
RECENT = "recent_people"
RECENT_KEPT = 8


def long_enough(q: str) -> bool:
    """Whether a term is worth a search: one Chinese character, two letters, four digits."""
    if any("㐀" <= c <= "鿿" for c in q):
        return True
    digits = sum(c.isdigit() for c in q)
    return digits >= 4 if digits else len(q) >= 2


def may_register(scope: object) -> bool:
    """Grassroots clinicians, the referral desk and reception register new people."""
    return scope.has(*REGISTRARS)  # type: ignore[attr-defined]


def remember(request: HttpRequest, number: str) -> None:
    """Keep the number of a person just seen at the head of this session's short list."""
    before = request.session.get(RECENT, [])
    if before[:1] != [number]:  # a session is written only when it changes
        request.session[RECENT] = [number, *(n for n in before if n != number)][:RECENT_KEPT]


def _recent(request: HttpRequest) -> list[Person]:
    numbers = request.session.get(RECENT, [])
    if not numbers:
        return []
    found = {p.number: p for p in Person.objects.within(request.scope).filter(number__in=numbers)}
    return [found[n] for n in numbers if n in found]


@page(*FINDERS)
def find(request: HttpRequest) -> HttpResponse:
    """The page, or only the hits for htmx; one exact hit of a submitted form (card, ID number) opens at once."""
    q = request.GET.get("q", "").strip()
    live = request.headers.get("HX-Request") == "true" and request.headers.get("HX-Boosted") != "true"
    context = {"q": q, "may_register": may_register(request.scope)}
    if q and not long_enough(q):
        context["too_short"] = True
    elif q:
        hits = registry.find(request.scope, q, limit=LIMIT)
        if len(hits) == 1 and not live and sum(c.isdigit() for c in q) >= 10:
            return redirect("portal:person", number=hits[0].person_number)
        context |= {"hits": hits, "more": len(hits) == LIMIT}
    else:
        context["recent"] = _recent(request)
    return render(request, "portal/people/_hits.html" if live else "portal/people/find.html", context)
