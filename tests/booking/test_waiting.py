"""The waiting list: fair order, no overtaking, offers that pass on by themselves, nobody stuck."""

from __future__ import annotations

import datetime as dt

import pytest

from lianxin.duty.errors import NotAllowed
from lianxin.duty.models import Outbox
from lianxin.network import roles
from lianxin.pool import booking as pool
from lianxin.pool.errors import Full, NotPossible
from lianxin.pool.models import Session
from lianxin.resident.booking import service, waiting
from lianxin.resident.booking.models import Waiting
from lianxin.standards import clock
from tests.booking.world import at, make_hospital, make_person, make_session, related, resident, staff

pytestmark = pytest.mark.django_db


def full_session(**fields: object) -> tuple[Session, int, str]:
    """A session of one number, taken: the session, who has it, the visit's number."""
    session, first = make_session(**({"capacity": 1} | fields)), make_person()
    visit = service.book(resident(first), session.pk, first, f"first{first}")
    return session, first, visit.case.number


def waiters(session: Session, count: int, start: int = 0) -> list[Waiting]:
    found = []
    for n in range(count):
        person = make_person()
        with clock.at(at(2, 9, start + n + 1)):
            found.append(service.wait(resident(person), session.pk, person, f"w{person}"))
    return found


def state(row: Waiting) -> str:
    return Waiting.objects.unscoped("test").get(pk=row.pk).state


def test_a_freed_number_goes_to_who_waited_first_and_no_stranger_overtakes() -> None:
    with clock.at(at(2, 9)):
        session, first, number = full_session()
    one, two = waiters(session, 2)
    assert [waiting.position(r) for r in (one, two)] == [0, 1]
    with clock.at(at(2, 10)):
        service.cancel(resident(first), number, "c")
        stranger = make_person()
        with pytest.raises(Full):
            service.book(resident(stranger), session.pk, stranger, "fast")
        assert (state(one), state(two)) == ("offered", "waiting")
        assert Outbox.objects.filter(topic="booking.offered").count() == 1
        with pytest.raises(NotPossible, match="尚未轮到"):
            service.take_offer(resident(two.person_id), two.pk, "t2")
        visit = service.take_offer(resident(one.person_id), one.pk, "t1")
        assert service.take_offer(resident(one.person_id), one.pk, "t1").pk == visit.pk
    assert (visit.case.state, visit.place.state, state(one)) == ("booked", "booked", "taken")
    assert pool.recount() == []


def test_an_offer_not_answered_passes_on_without_any_timer() -> None:
    with clock.at(at(2, 9)):
        session, first, number = full_session()
    one, two, three = waiters(session, 3)
    with clock.at(at(2, 10)):
        service.cancel(resident(first), number, "c")
    with clock.at(at(2, 10, 31)):
        with pytest.raises(NotPossible, match="已过确认时间"):
            service.take_offer(resident(one.person_id), one.pk, "late")
        stranger = make_person()
        with pytest.raises(Full):
            service.book(resident(stranger), session.pk, stranger, "fast")
        assert [state(r) for r in (one, two, three)] == ["lapsed", "offered", "waiting"]
        service.decline(resident(two.person_id), two.pk)
        assert [state(r) for r in (two, three)] == ["declined", "offered"]
    with clock.at(at(2, 11, 5)):
        assert waiting.upkeep() == 0
        assert state(three) == "lapsed"
        assert service.book(resident(stranger), session.pk, stranger, "now").case.state == "booked"
    assert pool.recount() == []


def test_leaving_gives_the_number_to_the_next() -> None:
    with clock.at(at(2, 9)):
        session, first, number = full_session()
    one, two = waiters(session, 2)
    with clock.at(at(2, 10)):
        service.cancel(resident(first), number, "c")
        assert service.leave(resident(one.person_id), one.pk).state == "left"
        assert service.leave(resident(one.person_id), one.pk).state == "left"
        assert state(two) == "offered"
        with pytest.raises(Waiting.DoesNotExist):
            service.leave(resident(one.person_id), two.pk)


def test_a_released_quota_serves_who_waits_before_a_stranger() -> None:
    with clock.at(at(2, 9)):
        session, _, _ = full_session(capacity=2, reserved_county=1, reserved_township=1)
    (one,) = waiters(session, 1)
    with clock.at(at(4, 17, 1)):
        stranger = make_person()
        with pytest.raises(Full):
            service.book(resident(stranger), session.pk, stranger, "fast")
    assert state(one) == "offered"


def test_clinical_priority_first_then_time() -> None:
    house = make_hospital()
    with clock.at(at(2, 9)):
        session, first, number = full_session(department=house)
    (one,) = waiters(session, 1)
    doctor, urgent = staff(house.institution, roles.CLINICIAN), make_person()
    related(urgent, house.institution)
    with clock.at(at(2, 9, 30)):
        with pytest.raises(NotAllowed):
            service.wait(resident(urgent), session.pk, urgent, "u", urgent=True)
        row = service.wait(doctor, session.pk, urgent, "u", urgent=True)
    with clock.at(at(2, 10)):
        service.cancel(resident(first), number, "c")
        assert (state(row), state(one)) == ("offered", "waiting")
        visit = service.take_offer(doctor, row.pk, "t")
    assert visit.booker_id == house.institution_id


def test_nobody_waits_where_numbers_are_free_or_twice() -> None:
    session, person = make_session(), make_person()
    me = resident(person)
    with clock.at(at(2, 9)):
        with pytest.raises(NotAllowed, match="仍有号源"):
            service.wait(me, session.pk, person, "w")
        taken, *_ = full_session()
        row = service.wait(me, taken.pk, person, "w2")
        assert service.wait(me, taken.pk, person, "w2").pk == row.pk
        assert service.wait(me, taken.pk, person, "w3").pk == row.pk
        assert [w.pk for w in service.waiting_of(me, person)] == [row.pk]


def test_waiting_for_any_session_of_the_day() -> None:
    house = make_hospital()
    with clock.at(at(2, 9)):
        morning, _, _ = full_session(department=house)
        afternoon, second, number = full_session(department=house, starts_at=at(5, 14), ends_at=at(5, 17))
        person = make_person()
        row = service.wait(resident(person), morning.pk, person, "w", whole_day=True)
        service.cancel(resident(second), number, "c")
        visit = service.take_offer(resident(person), row.pk, "t")
    assert visit.session_id == afternoon.pk


def test_extra_numbers_serve_who_waits_and_a_stopped_session_ends_waiting() -> None:
    with clock.at(at(2, 9)):
        session, *_ = full_session()
    one, two = waiters(session, 2)
    with clock.at(at(2, 10)):
        pool.add_numbers(session.pk, 1)
        assert (state(one), state(two)) == ("offered", "waiting")
        pool.stop_session(session.pk, "停诊")
        assert (state(one), state(two)) == ("over", "over")
    assert pool.recount() == []


def test_an_offer_at_night_counts_from_the_morning_and_never_past_the_start() -> None:
    session = make_session()
    assert waiting.offer_until(session, at(2, 23)) == at(3, 7, 30)
    assert waiting.offer_until(session, at(3, 5)) == at(3, 7, 30)
    assert waiting.offer_until(session, at(3, 9)) == at(3, 9, 30)
    assert waiting.offer_until(session, at(5, 7, 50)) == at(5, 8)
    assert waiting.offer_until(session, at(4, 20, 59)) - at(4, 20, 59) == dt.timedelta(minutes=30)
