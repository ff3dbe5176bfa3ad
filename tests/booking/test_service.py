"""Booking for somebody: who may, what is written, what the same request gives."""

from __future__ import annotations

import pytest

from lianxin.duty.models import Duty, Outbox
from lianxin.network import roles
from lianxin.pool.models import Session
from lianxin.resident.booking import service
from lianxin.standards import clock
from tests.booking.world import at, make_person, make_session, resident

pytestmark = pytest.mark.django_db


def test_a_resident_books_and_everything_stands() -> None:
    session, person = make_session(), make_person()
    me = resident(person)
    with clock.at(at(2, 9)):
        mine = service.book(me, session.pk, person, "k1")
        again = service.book(me, session.pk, person, "k1")
    assert again.pk == mine.pk
    assert (mine.case.state, mine.channel, mine.source, mine.fee_fen) == (
        "booked",
        "public",
        "resident",
        1200,
    )
    assert mine.place.seat_no == 1 and mine.place.state == "booked" and mine.place.case_id == mine.pk
    duty = Duty.objects.unscoped("test").get(case_id=mine.pk)
    assert (duty.kind, duty.owner_institution_id, duty.owner_role) == (
        "attend",
        session.institution_id,
        roles.RECEPTION,
    )
    assert duty.due_at == at(5, 14)
    assert Outbox.objects.filter(topic="appointment.booked").count() == 1
    assert [r.kind for r in mine.reminders.order_by("due_at")] == ["evening", "hours"]
    assert Session.objects.get(pk=session.pk).taken_public == 1
