"""What the pages of this room share: whose institutions they show, whom a number means, refusals as words on the page."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from django.http import Http404, HttpRequest

from lianxin.access.errors import NotPermitted
from lianxin.access.scope import Scope
from lianxin.index import registry
from lianxin.index.models import Person
from lianxin.network import directory
from lianxin.network.models import Institution
from lianxin.pool.models import Resource
from lianxin.standards import clock
from lianxin.standards.text import T


def here(scope: Scope) -> Institution:
    """The institution one acts for; NotPermitted without one."""
    if scope.institution_id is None:
        raise NotPermitted(T("请先选择执业机构（岗位）。", "Choose the post you act in first."))
    return Institution.objects.get(pk=scope.institution_id)


def partners(scope: Scope) -> list[Institution]:
    """The own institution first, then the others of its consortia, by code."""
    own = here(scope)
    found = {own.pk: own}
    for consortium in directory.consortia_of(own):
        found |= {i.pk: i for i in directory.members_of(consortium)}
    return sorted(found.values(), key=lambda i: (i.pk != own.pk, i.code))


def person_of(text: str) -> Person | None:
    """The person of a number or card (a QR text ending in one); None when nobody has it."""
    code = text.strip().rpartition("/")[2].rpartition("=")[2].upper()
    if not code:
        return None
    try:
        return registry.get(code)
    except registry.UnknownPerson:
        found = Person.objects.unscoped("resolving a card").filter(card_number=code).first()
        return registry.get(found.number) if found else None


def own_resource(scope: Scope, pk: str, kind: str) -> Resource:
    """A resource of the own institution; 404 for any other."""
    found = Resource.objects.filter(pk=whole(pk), kind=kind, institution_id__in=scope.institution_ids).first()
    if found is None:
        raise Http404
    return found


def whole(text: str) -> int:
    """A whole number of a form or address, 0 when it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


def day_of(request: HttpRequest) -> dt.date:
    """The day asked for (``?day=``), today otherwise."""
    try:
        return dt.date.fromisoformat(request.GET.get("day", ""))
    except ValueError:
        return clock.today()


def moment_of(text: str) -> dt.datetime | None:
    """A local date and time as a browser sends it, None when it is none."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=clock.ZONE)


def midnight(day: dt.date) -> dt.datetime:
    """The first moment of a day."""
    return dt.datetime.combine(day, dt.time(), clock.ZONE)


def key_of(request: HttpRequest, room: str) -> str:
    """The form's idempotency key, the account's own."""
    given = request.POST.get("_key", "")[:64] or uuid.uuid4().hex
    return f"{room}:{request.scope.account_id}:{given}"


def fresh() -> str:
    """A key for a form."""
    return uuid.uuid4().hex


Context = dict[str, Any]
