"""Bookings of a hospital's own sessions: its system says yes, no, nothing, too late or twice; never lost, never booked twice."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Iterator
from contextvars import copy_context

import pytest
from django.db import connection

from lianxin.duty.models import Case
from lianxin.pool.models import Session
from lianxin.resident.booking import service
from lianxin.resident.booking.models import Appointment
from lianxin.resident.scheduling import asking
from lianxin.resident.scheduling.models import BookingSystem, Question
from lianxin.standards import clock
from tests.referral.world import START, World, key

from .hospital import Hospital, running
from .world import people, session, township


@pytest.fixture
def hospital() -> Iterator[Hospital]:
    with running() as found:
        yield found


def system(world: World, hospital: Hospital, **more: object) -> BookingSystem:
    return BookingSystem.objects.create(
        name="人民医院 HIS",
        institution=world.county.lead,
        way="fhir",
        url=hospital.url,
        seconds=1,
        created_at=clock.now(),
        **more,
    )


def theirs(world: World, capacity: int = 5, **more: object) -> Session:
    return session(world, capacity, owner="hospital", external_id=f"S{more.get('days', 2)}", **more)


def book(world: World, one: Session, person_id: int | None = None) -> Appointment:
    return service.book(world["gp0"], one.pk, person_id or world.person.pk, key())


def state(appointment: Appointment) -> str:
    return Case.objects.unscoped("test").get(pk=appointment.pk).state


def question(appointment: Appointment) -> Question:
    return Question.objects.unscoped("test").get(place_id=appointment.place_id)


def later(minutes: float) -> dt.datetime:
    return START + dt.timedelta(minutes=minutes)


def test_yes_confirms_and_no_makes_it_owed_again(committed: World, hospital: Hospital) -> None:
    world = committed
    with clock.at(START):
        system(world, hospital)
        first = book(world, theirs(world))
        assert state(first) == "requested", "the number is kept, the hospital has the last word"
        client = township(world)
        assert client("GET", f"Appointment/place-{first.place_id}").json["status"] == "pending"
        asking.step()
        told = client("GET", f"Appointment/place-{first.place_id}").json
        assert (told["status"], told["identifier"][0]["value"]) == ("booked", first.case.number)
        booker = next(
            p
            for p in told["participant"]
            if p.get("type", [{}])[0].get("coding", [{}])[0].get("code") == "AUT"
        )
        assert booker["actor"]["identifier"]["value"] == world.county.townships[0].code
        assert state(first) == "booked"
        assert question(first).theirs == "H1"
        hospital.mood = "full"
        second = book(world, theirs(world, days=3), people(world, 1)[0].pk)
        asking.step()
        assert state(second) == "to_rebook"
        assert question(second).state == "refused"
        row = Appointment.objects.unscoped("test").get(pk=second.pk)
        assert "该时段已满" in row.reason
        assert row.place.state == "cancelled"
        assert asking.step() == 0


@pytest.mark.parametrize("mood", ["lost", "slow", "twice", "strict"])
def test_an_answer_that_is_lost_is_asked_for_by_the_key(
    committed: World, hospital: Hospital, mood: str
) -> None:
    world = committed
    with clock.at(START):
        system(world, hospital)
        one = book(world, theirs(world))
        hospital.mood = mood
        asking.step()
        if mood in ("lost", "slow"):
            assert state(one) == "requested"
            assert question(one).state == "waiting"
            assert one.case.number in {
                c.number for c in Case.objects.unscoped("test").filter(duties__isnull=False)
            }
    until = time.monotonic() + 20
    while not hospital.made and time.monotonic() < until:  # the slow one books after we stopped waiting
        time.sleep(0.05)
    hospital.mood = "yes"
    with clock.at(later(5)):
        asking.step()
        assert state(one) == "booked"
    assert list(hospital.made.values()) == [1]
    assert hospital.asked[question(one).key] == 1, "found by its key, not asked for again"


def test_a_hospital_that_is_down_keeps_the_booking_a_duty(committed: World, hospital: Hospital) -> None:
    world = committed
    with clock.at(START):
        own = system(world, hospital)
        one = book(world, theirs(world))
        hospital.up = False
        asking.step()
        own.refresh_from_db()
        assert own.failures == 1
        assert own.last_error
        assert state(one) == "requested"
        assert Case.objects.unscoped("test").get(pk=one.pk).due_at is not None
    hospital.up = True
    with clock.at(later(30)):
        asking.step()
        assert state(one) == "booked"


def test_what_is_given_up_here_is_given_back_there(committed: World, hospital: Hospital) -> None:
    world = committed
    with clock.at(START):
        system(world, hospital)
        one, day = book(world, theirs(world)), theirs(world, days=3)
        asking.step()
        service.cancel(world["gp0"], one.case.number, key(), "改主意")
        asking.step()
        assert hospital.cancelled == ["H1"]
        assert question(one).state == "undone"
        hospital.mood = "lost"
        two = book(world, day)
        place = two.place_id
        asking.step()
        service.cancel(world["gp0"], two.case.number, key(), "改主意")
    with clock.at(later(10)):
        asking.step()
        asking.step()
    assert hospital.cancelled == ["H1", "H2"], "it booked before its answer was lost"
    assert Question.objects.unscoped("test").get(place_id=place).state == "undone"


def test_one_never_sent_is_simply_closed_and_the_desk_may_decide(
    committed: World, hospital: Hospital
) -> None:
    world = committed
    with clock.at(START):
        own = system(world, hospital, paused=True)
        one = book(world, theirs(world))
        asking.step()
        assert question(one).state == "waiting"
        service.act(world["lead_reception"], one.case.number, "confirm", {"external": "X1"}, None, key())
        asking.step()
        assert question(one).state == "closed"
        two = book(world, theirs(world, days=3))
        asking.step()
        service.cancel(world["gp0"], two.case.number, key(), "改主意")
        BookingSystem.objects.filter(pk=own.pk).update(paused=False)
        asking.step()
    assert hospital.asked == {}
    assert question(two).state == "closed"


def test_two_workers_ask_once(committed: World, hospital: Hospital) -> None:
    world = committed
    with clock.at(START):
        system(world, hospital)
        day = theirs(world, 6)
        for person in people(world, 6):
            book(world, day, person.pk)

        def work() -> None:
            try:
                for _ in range(3):
                    asking.step()
            finally:
                connection.close()

        threads = [threading.Thread(target=copy_context().run, args=(work,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(hospital.asked.values()) == [1] * 6
    assert {c.state for c in Case.objects.unscoped("test").filter(kind="appointment")} == {"booked"}


def test_nobody_is_asked_without_a_system(committed: World) -> None:
    world = committed
    with clock.at(START):
        one = book(world, theirs(world))
        assert asking.note(one.pk) is None
        assert asking.step() == 0
        assert state(one) == "requested"
