"""A county with people in the index, desks at two institutions, and phones."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.test import Client

from lianxin.access import seal
from lianxin.access.models import Account
from lianxin.access.scope import Scope, scope_for_account
from lianxin.index.models import Person
from lianxin.index.registry import Registration, register
from lianxin.network import roles
from lianxin.resident.card import accounts
from lianxin.resident.sms.models import Gateway, Message
from lianxin.standards.identifiers import resident_id_make
from tests.factories import make_institution, make_post

ADDRESS = "127.0.0.1"
PHONE = "13800001111"
OTHER_PHONE = "13900002222"


@dataclass
class World:
    """What the tests of this room start from."""

    home: Any
    hospital: Any
    desk: Scope
    other_desk: Scope
    people: dict[str, Person] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def person(
        self, name: str, born: str, serial: int, phone: str = "", *, numbered: bool = True, **more: Any
    ) -> Person:
        """A registered person with an identity number of their own."""
        number = resident_id_make("331023", dt.date.fromisoformat(born), serial)
        reg = Registration(
            self.home.pk, "urn:t", f"l{serial}-{name}", name, "male" if serial % 2 else "female",
            birth_date=dt.date.fromisoformat(born), id_no=number if numbered else "", phone=phone, **more,
        )  # fmt: skip
        found = Person.objects.unscoped("test").get(pk=register(Scope.system("test"), reg).person_id)
        self.people[name], self.ids[name] = found, number
        return found

    def account(self, phone: str = PHONE) -> Account:
        """A signed-in phone's account."""
        return accounts.of_phone(phone)

    def scope(self, phone: str = PHONE) -> Scope:
        """The scope of that account now."""
        return scope_for_account(self.account(phone))


def last_code(phone: str = PHONE) -> str:
    """The sign-in code that was last sent to a phone."""
    row = (
        Message.objects.filter(template="login_code", phone_tail=phone[-4:])
        .exclude(text_sealed="")
        .latest("pk")
    )
    found = re.search(r"\d{6}", seal.unseal(row.text_sealed))
    assert found
    return found[0]


@pytest.fixture
def world(db: None) -> World:
    """Two institutions with a desk each, and a gateway that keeps messages."""
    return build()


def build() -> World:
    """See :func:`world` (for tests with committed data)."""
    home, hospital = make_institution(kind="township"), make_institution(kind="hospital")
    Gateway.objects.get_or_create(kind="kept")

    def desk(institution: Any) -> Scope:
        post = make_post(institution, roles.RECEPTION)
        return scope_for_account(
            Account.objects.create_user(
                f"d{post.pk}", "Lianxin-2026", name="甄窗口", practitioner=post.practitioner
            )
        )

    return World(home, hospital, desk(home), desk(hospital))


@pytest.fixture
def signed_in(world: World) -> Callable[[Account], Client]:
    """A browser with an account signed in."""

    def sign(account: Account) -> Client:
        browser = Client()
        browser.force_login(account, "lianxin.access.accounts.Backend")
        return browser

    return sign
