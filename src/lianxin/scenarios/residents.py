"""Residents with accounts for the demonstration: a parent with a child, an elder who let somebody act for them.

They are people of the scenario; everything goes through the doors residents and desks use. Messages are kept, not sent: the code of a
sign-in stands on the system administrator's page of text messages.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from django.db.models import Exists, OuterRef, Q

from lianxin.access import seal
from lianxin.access.models import Account
from lianxin.access.scope import Scope, scope_for_account
from lianxin.duty.models import Case
from lianxin.index.models import Person
from lianxin.network import roles
from lianxin.network.models import Post
from lianxin.resident.card import accounts, binding, cards, family
from lianxin.resident.card.models import Phone
from lianxin.resident.sms import phones
from lianxin.resident.sms.models import Gateway
from lianxin.scenarios.build import DemoAccount
from lianxin.standards import clock
from lianxin.standards.text import T

_WHY = "residents of the demonstration"
_LOOKED_AT = 400


def open_accounts() -> int:
    """Make the accounts unless there are some already; returns how many there are. Fewer people than needed: fewer accounts."""
    if Phone.objects.exists():
        return Phone.objects.count()
    Gateway.objects.get_or_create(kind="kept")
    today = clock.today()
    parent = _adult(today, 30, 45)
    if parent is None:
        return 0
    account = _bound(parent)
    child = _child(parent, today)
    desk = _desk()
    if child is not None and desk is not None:
        family.at_desk(desk, child, accounts.number_of(account), "guardian", "户口簿原件（演示）")
    elder = _adult(today, 68, 85, but=parent)
    if elder is not None:
        own = _bound(elder)
        code = family.invite(scope_for_account(own), own)
        family.accept(scope_for_account(account), account, elder.name, code)
    for one in (parent, child, elder):
        if one is not None:
            cards.ensure(Scope.system(_WHY), one.pk)
    return Phone.objects.count()


def listed() -> list[DemoAccount]:
    """The accounts as the list of the demonstration shows them: the phone number is the user name, a code the password."""
    rows = Phone.objects.select_related("account").order_by("id")[:3]
    return [
        DemoAccount(
            seal.unseal(row.sealed),
            "/manage/sms",
            T("居民（/m/login）", "Resident (/m/login)"),
            row.account.name,
            "—",
        )
        for row in rows
    ]


def _bound(person: Person) -> Account:
    account = accounts.of_phone(seal.unseal(person.phone_sealed))
    binding.bind(
        scope_for_account(account),
        account,
        person.name,
        seal.unseal(person.id_sealed),
        proof=person.card_number,
    )
    return account


def _people(since: dt.date, until: dt.date) -> Iterator[Person]:
    """Those first who were referred: their pages have something to tell."""
    rows = Person.objects.unscoped(_WHY).filter(
        status="active", birth_date__range=(since, until), deceased_on__isnull=True, id_type="01"
    )
    told = Case.objects.unscoped(_WHY).filter(kind="referral", person_id=OuterRef("pk"))
    yield from rows.filter(~Q(id_sealed="")).order_by(Exists(told).desc(), "id")[:_LOOKED_AT]


def _adult(today: dt.date, youngest: int, oldest: int, but: Person | None = None) -> Person | None:
    """Somebody of that age with a mobile number that is nobody else's, about whom the index has no question."""
    since, until = (
        today.replace(year=today.year - oldest, day=1),
        today.replace(year=today.year - youngest, day=1),
    )
    for person in _people(since, until):
        try:
            phones.mobile(seal.unseal(person.phone_sealed))
        except phones.NotAPhone:
            continue
        shared = Person.objects.unscoped(_WHY).filter(phone_blind=person.phone_blind).count() > 1
        fitting = binding.candidates(person.name, seal.unseal(person.id_sealed))
        if (
            not shared
            and len(fitting) == 1
            and not binding.unsure([person.pk])
            and (but is None or person.pk != but.pk)
        ):
            return person
    return None


def _child(parent: Person, today: dt.date) -> Person | None:
    """A child of the parent's name, of the same institution when there is one."""
    named = [
        p
        for p in _people(
            today.replace(year=today.year - 12, day=1), today.replace(year=today.year - 2, day=1)
        )
        if p.name[:1] == parent.name[:1]
    ]
    near = [p for p in named if p.home_institution_id == parent.home_institution_id]
    return next(iter(near or named), None)


def _desk() -> Scope | None:
    """The desk that has seen the household book: a reception of the consortium."""
    post = (
        Post.objects.live().filter(role=roles.RECEPTION).select_related("practitioner").order_by("id").first()
    )
    account = Account.objects.filter(practitioner=post.practitioner).first() if post else None
    return scope_for_account(account, post) if account else None
