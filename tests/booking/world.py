"""A small made-up world for the tests of appointments: a county, sessions, residents with accounts, staff. Names are invented."""

from __future__ import annotations

import datetime as dt
from itertools import count
from typing import Any

from lianxin.access import relationships
from lianxin.access.models import Account, ActsFor
from lianxin.access.scope import Scope, scope_for_account
from lianxin.index.models import Person
from lianxin.network.models import Department, Institution, Post
from lianxin.pool.models import Session
from lianxin.standards import clock
from tests.factories import make_department, make_institution, make_post

_serial = count(1)
SYSTEM = Scope.system("test")


def at(day: int, hour: int, minute: int = 0) -> dt.datetime:
    """An instant of the tests' month."""
    return dt.datetime(2026, 11, day, hour, minute, tzinfo=clock.ZONE)


def make_person(name: str = "测试") -> int:
    """Somebody of the index."""
    number = f"{next(_serial):010d}"
    return Person.objects.create(
        number=number, card_number=number, name=name, pinyin="ceshi", initials="cs"
    ).pk


def make_hospital(kind: str = "hospital", **fields: Any) -> Department:
    """A department of a new institution."""
    return make_department(make_institution(kind=kind, **fields))


def make_session(department: Department | None = None, **fields: Any) -> Session:
    """A session of three numbers on the 5th in the morning, open since the 1st."""
    department = department or make_hospital()
    defaults = {
        "institution_id": department.institution_id, "department": department, "specialty": department.specialty,
        "starts_at": at(5, 8), "ends_at": at(5, 12), "capacity": 3, "opens_at": at(1, 7), "fee_fen": 1200,
        "release_county": at(4, 17), "release_township": at(4, 17), "release_village": at(4, 17),
    }  # fmt: skip
    return Session.objects.create(**defaults | fields)


def resident(*people: int) -> Scope:
    """The scope of a resident's account that acts for ``people``."""
    before = ActsFor.objects.filter(person_id=people[0], relation="self").select_related("account").first()
    if before is not None and len(people) == 1:
        with clock.at(at(2, 9)):
            return scope_for_account(before.account)
    account = Account.objects.create(username=f"jm{next(_serial)}", name="居民", resident=True)
    for n, person in enumerate(people):
        ActsFor.objects.create(
            account=account, person_id=person, relation="self" if n == 0 else "guardian", since=at(1, 0)
        )
    with clock.at(at(2, 9)):
        return scope_for_account(account)


def staff(institution: Institution, role: str) -> Scope:
    """The scope of somebody with a post."""
    post: Post = make_post(institution, role)
    account = Account.objects.create(
        username=f"zg{next(_serial)}", name=post.practitioner.name, practitioner=post.practitioner
    )
    return scope_for_account(account, post)


def related(person: int, institution: Institution) -> None:
    """Give an institution access to a person."""
    with clock.at(at(1, 0)):
        relationships.grant(person, institution.pk, "registration", "registration")
