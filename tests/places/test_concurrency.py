"""A session stopped while its referral is being moved: nothing waits for ever, nothing is lost."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connections, transaction

from lianxin.clinical.referral import displaced
from lianxin.duty import outbox
from lianxin.duty.models import Act, Case
from lianxin.pool import booking, plan
from lianxin.pool.models import Place, Session
from lianxin.standards import clock, codes
from tests.referral import world as worlds

from .conftest import furnish

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.concurrency]


@pytest.mark.parametrize("what", ["case", "session"])
def test_a_stop_never_waits_for_a_case_or_another_session(what: str) -> None:
    with clock.at(worlds.START):
        codes.load_shipped()
        house = furnish(worlds.build())
        world = house.world
        number = world.until("accepted")
        wanted = plan.Wanted(("CT-CHEST",), specialty="04.01", clinic=True)
        best = plan.plans(wanted, world.person.pk, world.county.lead.pk, "township")[0]
        world.act("gp0", "book", number, {"plan": best.token})
    held, go, failures = threading.Event(), threading.Event(), []

    def holder() -> None:
        try:
            with transaction.atomic():
                rows: Any = Case.objects.unscoped("test").filter(number=number)
                if what == "session":
                    rows = Session.objects.filter(pk=house.clinic.pk)
                list(rows.select_for_update())
                held.set()
                go.wait(30)
        except Exception as failure:  # told to the test's own thread
            failures.append(failure)
        finally:
            connections.close_all()

    other = threading.Thread(target=holder)
    other.start()
    assert held.wait(30)
    with clock.at(worlds.START):
        booking.stop_session(house.ct.pk, "设备故障")
        assert world.state(number) == "booked", "somebody has it: later"
        go.set()
        other.join()
        while outbox.dispatch():  # a case's events go one after the other
            pass
        assert world.state(number) == "accepted"
    assert failures == []
    assert Act.objects.filter(move="displaced").count() == 1
    assert not Place.objects.unscoped("test").filter(state="booked").exists()
    assert booking.recount() == []
    assert displaced.MOVE_AT["booked"] == "displaced"
