"""A small county with a patient, and a signed-in client for any of its people."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.conf import settings
from django.test import Client

from lianxin.access.models import Account
from lianxin.standards import clock, codes
from tests.referral import world as worlds

As = Callable[[str], Client]


@pytest.fixture
def world(db: None) -> Iterator[worlds.World]:
    """A county on a Monday morning, with the shipped codes."""
    with clock.at(worlds.START):
        codes.load_shipped()
        yield worlds.build()


@pytest.fixture
def as_(world: worlds.World) -> As:
    """``as_("gp0")``: a client signed in as that person of the county."""

    def sign_in(name: str) -> Client:
        client = Client(headers={"accept-language": "zh-hans"})
        client.force_login(
            Account.objects.get(pk=world[name].account_id), backend=settings.AUTHENTICATION_BACKENDS[0]
        )
        return client

    return sign_in
