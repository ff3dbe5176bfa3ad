"""A county with schedules: templates of two doctors, sessions of a week, patients known to the hospital. All names invented."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from itertools import count
from typing import Any

from django.test import Client

from lianxin.access import relationships
from lianxin.access.models import Account
from lianxin.access.scope import Scope, scope_for_account
from lianxin.index import numbers
from lianxin.index.models import Person
from lianxin.network import roles
from lianxin.pool.models import Place, Session, Template
from lianxin.resident.booking import service
from lianxin.resident.booking.models import Appointment
from lianxin.standards import clock
from tests.factories import SmallCounty, make_post, small_county

_serial = count(1)
MONDAY = dt.date(2026, 11, 2)


def at(day: int, hour: int, minute: int = 0) -> dt.datetime:
    """An instant of November 2026 (the 2nd is a Monday)."""
    return dt.datetime(2026, 11, day, hour, minute, tzinfo=clock.ZONE)


NOW = at(2, 7, 30)


@dataclass
class World:
    """The county, an account for each post, and short hands."""

    county: SmallCounty
    accounts: dict[str, Account]

    def scope(self, key: str) -> Scope:
        """The scope of an account in its only post."""
        return scope_for_account(self.accounts[key])

    def client(self, key: str) -> Client:
        """A browser signed in as that account."""
        client = Client()
        client.force_login(self.accounts[key])
        return client

    def template(self, **fields: Any) -> Template:
        """The cardiologist's Tuesday morning: ten numbers, four kept."""
        department = self.county.departments["cardiology"]
        values = {
            "institution": self.county.lead, "department": department, "practitioner": self.county.posts["clinician"].practitioner,
            "weekday": 1, "start": dt.time(8), "end": dt.time(12), "capacity": 10, "reserved_county": 4, "reserved_township": 3,
            "reserved_village": 1, "fee_fen": 1500, "since": dt.date(2026, 1, 1),
        }  # fmt: skip
        return Template.objects.create(**values | fields)

    def session(self, start: dt.datetime | None = None, **fields: Any) -> Session:
        """A cardiology session of three numbers, open since yesterday, nothing kept."""
        department = fields.pop("department", self.county.departments["cardiology"])
        start = start or at(3, 8)
        values = {
            "institution": department.institution, "department": department, "specialty": department.specialty, "starts_at": start,
            "ends_at": start + dt.timedelta(hours=3), "capacity": 3, "opens_at": start - dt.timedelta(days=14), "fee_fen": 1500,
            "practitioner": self.county.posts["clinician"].practitioner if department == self.county.departments["cardiology"] else None,
        }  # fmt: skip
        return Session.objects.create(**values | fields)

    def patient(self, name: str = "", where: Any = None) -> Person:
        """Somebody the institution (the hospital unless told) may serve."""
        n = next(_serial)
        person = Person.objects.create(
            number=numbers.person_number(n), card_number=numbers.card_number(n), name=name or f"占试{n}", pinyin="zhanshi", initials="zs", sex="female",
            birth_date=dt.date(1970, 1, 1),
        )  # fmt: skip
        relationships.grant(person.pk, (where or self.county.lead).pk, "registration", "test")
        return person

    def book(self, session: Session, person: Person | None = None, by: str = "desk") -> Appointment:
        """An appointment of a patient."""
        who = person or self.patient()
        return service.book(self.scope(by), session.pk, who.pk, uuid.uuid4().hex)


def places(session: Session) -> list[Place]:
    """The session's live places by number."""
    rows = Place.objects.unscoped("test").filter(session=session).exclude(state="cancelled")
    return list(rows.order_by("seat_no"))


def build() -> World:
    """The county with accounts; ``reception`` serves the lead hospital."""
    county = small_county()
    county.posts["reception"] = make_post(county.lead, roles.RECEPTION)
    accounts = {
        key: Account.objects.create(username=f"{key}-{next(_serial)}", name=post.practitioner.name, practitioner=post.practitioner)
        for key, post in county.posts.items()
        if key in ("desk", "clinician", "surgeon", "manager", "reception", "reception0", "tcm_desk", "gp0", "system_admin")
    }  # fmt: skip
    return World(county, accounts)
