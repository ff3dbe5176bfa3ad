"""Missed visits, the bar, its appeal; messages and reminders, each once."""

from __future__ import annotations

import datetime as dt

import pytest

from lianxin.access import seal
from lianxin.access.scope import Scope
from lianxin.duty import kernel, outbox
from lianxin.duty.errors import NotAllowed
from lianxin.index.models import Person
from lianxin.network import roles
from lianxin.resident.booking import jobs, service, telling
from lianxin.resident.booking.errors import Barred
from lianxin.resident.booking.models import Policy, Reminder
from lianxin.resident.sms.models import Message
from lianxin.standards import clock
from tests.booking.world import at, make_hospital, make_person, make_session, related, resident, staff

pytestmark = pytest.mark.django_db


def miss(person: int, desk: Scope, day: int, house: object) -> None:
    session = make_session(house, starts_at=at(day, 8), ends_at=at(day, 12))
    with clock.at(at(day - 1, 9)):
        visit = service.book(resident(person), session.pk, person, f"m{person}-{day}")
    with clock.at(at(day, 13)):
        jobs.mark_missed()
        service.act(desk, visit.case.number, "confirm_missed", {}, None, f"cm{person}-{day}")
        outbox.run()


def test_three_misses_close_public_numbers_and_an_appeal_opens_them() -> None:
    house, person = make_hospital(), make_person()
    Person.objects.unscoped("test").filter(pk=person).update(phone_sealed=seal.seal("13800001111"))
    desk, me = staff(house.institution, roles.RECEPTION), resident(person)
    manager = staff(house.institution, roles.MANAGER)
    for day in (5, 6, 9):
        miss(person, desk, day, house)
    coming = make_session(house, starts_at=at(20, 8), ends_at=at(20, 12))
    with clock.at(at(10, 9)):
        where = service.standing(person)
        assert (where.misses, where.barred_until) == (3, at(9, 13) + dt.timedelta(days=90))
        with pytest.raises(Barred, match="申诉"):
            service.book(me, coming.pk, person, "b")
        doctor = staff(house.institution, roles.CLINICIAN)
        related(person, house.institution)
        assert service.book(doctor, coming.pk, person, "staff").case.state == "booked"
        assert list(Message.objects.filter(template="barred").values_list("person_id", flat=True)) == [person]
        assert Message.objects.filter(template="missed").count() == 2
        appeal = service.appeal(me, person, "住院未能取消", "a1")
        assert service.appeal(me, person, "住院未能取消", "a1").pk == appeal.pk
        with pytest.raises(NotAllowed):
            service.appeal(me, person, "再次", "a2")
        assert service.standing(person).appeal is not None

        with pytest.raises(kernel.Refused):
            kernel.execute("grant", appeal.case, manager, {"words": ""}, None, "g0")
        kernel.execute("grant", appeal.case, manager, {"words": "情况属实"}, None, "g")
        assert service.standing(person).barred_until is None
        assert service.standing(person).misses == 0
        other = make_session(house, specialty="04", starts_at=at(21, 8), ends_at=at(21, 12))
        assert service.book(me, other.pk, person, "b2").case.state == "booked"


def test_the_numbers_are_policy_and_the_bar_ends_by_itself() -> None:
    house, person = make_hospital(), make_person()
    Policy.objects.create(name="miss.count", value=1, effective_from=dt.date(2026, 1, 1), source="试验")
    Policy.objects.create(name="bar.days", value=2, effective_from=dt.date(2026, 1, 1), source="试验")
    desk = staff(house.institution, roles.RECEPTION)
    miss(person, desk, 5, house)
    with clock.at(at(6, 9)):
        assert service.standing(person).barred_until == at(7, 13)
    with clock.at(at(7, 14)):
        assert service.standing(person).barred_until is None
        with pytest.raises(NotAllowed):
            service.appeal(resident(other := make_person()), other, "没有", "x")


def test_reminders_go_out_once_and_not_after_a_change() -> None:
    house, person = make_hospital(), make_person()
    Person.objects.unscoped("test").filter(pk=person).update(phone_sealed=seal.seal("13800002222"))
    session, later = make_session(house), make_session(house, starts_at=at(10, 8), ends_at=at(10, 12))
    me = resident(person)
    with clock.at(at(2, 9)):
        visit = service.book(me, session.pk, person, "b")
    with clock.at(at(4, 18, 1)):
        assert telling.remind() == 1
        assert telling.remind() == 0
        service.reschedule(me, visit.case.number, later.pk, "r")
    with clock.at(at(5, 7)):
        assert telling.remind() == 0
    with clock.at(at(9, 23)):
        assert telling.remind() == 0  # people sleep
    with clock.at(at(10, 7, 5)):
        assert telling.remind() == 1  # the later of the two that are due
    assert Message.objects.filter(template="reminder").count() == 2
    assert sorted(Reminder.objects.values_list("state", flat=True)) == ["sent", "sent", "void", "void"]
