"""The referral's small county with beds, devices with their mornings, a theatre; clients signed in as its people."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from django.conf import settings
from django.test import Client

from lianxin.access.models import Account
from lianxin.pool import exams
from lianxin.pool.models import Resource, Session
from lianxin.standards import clock, codes
from tests.factories import make_department
from tests.referral import world as worlds

As = Callable[[str], Client]


@dataclass
class House:
    """The lead hospital's places."""

    world: worlds.World
    beds: list[Resource]
    ct: Session
    us: Session
    clinic: Session
    theatre: Resource


def furnish(world: worlds.World) -> House:
    """Two surgical beds (one for women), CT and ultrasound mornings in two days, a surgeon's afternoon, a theatre."""
    exams.load_shipped()
    lead, surgery = world.county.lead, world.county.departments["surgery"]
    beds = [
        Resource.objects.create(institution=lead, department=surgery, kind="bed", code=f"W{n}", name=f"外科 {n} 床", sex=sex)
        for n, sex in ((1, "any"), (2, "female"))
    ]  # fmt: skip
    images = make_department(lead, "YX", specialty="32", name="影像科", name_en="Imaging")
    day = (
        (clock.now() + dt.timedelta(days=2)).astimezone(clock.ZONE).replace(minute=0, second=0, microsecond=0)
    )

    def morning(code: str, *items: str) -> Session:
        device = Resource.objects.create(
            institution=lead, department=images, kind="device", code=code, name=code, items=list(items)
        )  # fmt: skip
        return Session.objects.create(
            institution=lead, department=images, resource=device, kind="exam", specialty="32", starts_at=day.replace(hour=8),
            ends_at=day.replace(hour=12), capacity=24, opens_at=clock.now(),
        )  # fmt: skip

    clinic = Session.objects.create(
        institution=lead, department=surgery, specialty="04", starts_at=day.replace(hour=14), ends_at=day.replace(hour=17),
        capacity=18, opens_at=clock.now(),
    )  # fmt: skip
    theatre = Resource.objects.create(
        institution=lead, kind="theatre", code="OR1", name="一号手术间", clean_minutes=30
    )
    return House(
        world, beds, morning("CT1", "CT-CHEST", "CT-ABDO-C"), morning("US1", "US-ABDO", "US-HEART"), clinic, theatre
    )  # fmt: skip


@pytest.fixture
def house(db: None) -> Iterator[House]:
    """On a Monday morning."""
    with clock.at(worlds.START):
        codes.load_shipped()
        yield furnish(worlds.build())


@pytest.fixture
def as_(house: House) -> As:
    """``as_("gp0")``: a client signed in as that person of the county."""

    def sign_in(name: str) -> Client:
        client = Client(headers={"accept-language": "zh-hans"})
        account = Account.objects.get(pk=house.world[name].account_id)
        client.force_login(account, backend=settings.AUTHENTICATION_BACKENDS[0])
        return client

    return sign_in
