"""Numbers of a session: taken, held, released, given back; never one too many."""

from __future__ import annotations

import datetime as dt
from itertools import count

import pytest
from django.db import IntegrityError, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lianxin.index.models import Person
from lianxin.network.models import Department
from lianxin.pool import booking, schedule, search
from lianxin.pool.booking import AlreadyBooked, Full, KeyReused, NotPossible
from lianxin.pool.models import Place, Session, Template
from lianxin.standards import clock
from tests.factories import make_department, make_institution

pytestmark = pytest.mark.django_db
_serial = count(1)


def at(day: int, hour: int) -> dt.datetime:
    return dt.datetime(2026, 11, day, hour, tzinfo=clock.ZONE)


def make_person() -> int:
    number = f"{next(_serial):010d}"
    return Person.objects.create(
        number=number, card_number=number, name="测试", pinyin="ceshi", initials="cs"
    ).pk


def make_session(department: Department | None = None, **fields: object) -> Session:
    department = department or make_department(make_institution(kind="hospital"))
    defaults = {
        "institution_id": department.institution_id, "department": department, "specialty": department.specialty,
        "starts_at": at(5, 8), "ends_at": at(5, 12), "capacity": 3, "opens_at": at(1, 7),
        "release_county": at(4, 17), "release_township": at(4, 17), "release_village": at(4, 17),
    }  # fmt: skip
    return Session.objects.create(**defaults | fields)


def counters(session: Session) -> tuple[int, ...]:
    s = Session.objects.get(pk=session.pk)
    return (
        s.taken_public,
        s.taken_county + s.taken_township + s.taken_village,
        s.arrived,
        s.no_shows,
        s.fulfilled,
    )


def test_a_place_lives_through_its_states_and_each_moves_one_counter() -> None:
    session = make_session()
    with clock.at(at(2, 9)):
        place = booking.book(session.pk, make_person(), "public", "a")
        assert (place.seat_no, place.state, counters(session)) == (1, "booked", (1, 0, 0, 0, 0))
        other = booking.book(session.pk, make_person(), "county", "b")
        assert (other.seat_no, counters(session)) == (2, (1, 1, 0, 0, 0))
        booking.arrive(place)
        booking.arrive(place)
        assert counters(session) == (1, 1, 1, 0, 0)
        booking.fulfil(place)
        booking.no_show(other.pk)
        assert counters(session) == (1, 1, 1, 1, 1)
        with pytest.raises(NotPossible, match="已就诊"):
            booking.cancel(place, "晚了")
        third = booking.book(session.pk, make_person(), "public", "c")
        booking.cancel(third, "改期")
        booking.cancel(third, "改期")
        assert counters(session) == (1, 1, 1, 1, 1)
        assert booking.book(session.pk, make_person(), "public", "d").seat_no == 3
    assert booking.recount() == []


def test_the_key_makes_booking_repeatable_and_a_patient_has_one_number() -> None:
    session, person = make_session(), make_person()
    with clock.at(at(2, 9)):
        first = booking.book(session.pk, person, "public", "k")
        assert booking.book(session.pk, person, "public", "k").pk == first.pk
        with pytest.raises(KeyReused):
            booking.book(session.pk, make_person(), "public", "k")
        with pytest.raises(AlreadyBooked) as had:
            booking.book(session.pk, person, "public", "k2")
        assert had.value.place.pk == first.pk
    assert counters(session)[:2] == (1, 0)


def test_full_names_the_three_nearest_others() -> None:
    home = make_department(make_institution(kind="hospital"))
    away = make_department(make_institution(kind="hospital"))
    session = make_session(home, capacity=1)
    next_here = make_session(home, starts_at=at(6, 8), ends_at=at(6, 12))
    there = make_session(away)
    later = make_session(home, starts_at=at(12, 8), ends_at=at(12, 12))
    make_session(make_department(make_institution(kind="hospital"), specialty="04"))
    with clock.at(at(2, 9)):
        booking.book(session.pk, make_person(), "public", "a")
        with pytest.raises(Full) as full:
            booking.book(session.pk, make_person(), "public", "b")
    assert [o.session_id for o in full.value.alternatives] == [next_here.pk, there.pk, later.pk]


def test_reserved_numbers_are_kept_for_the_grassroots_until_release() -> None:
    session = make_session(capacity=5, reserved_county=2, reserved_township=2)
    with clock.at(at(2, 9)):
        for n in range(3):
            booking.book(session.pk, make_person(), "public", f"o{n}")
        with pytest.raises(Full, match="基层预留"):
            booking.book(session.pk, make_person(), "public", "o3")
        assert search.find(institution=session.institution_id) == []
        assert [o.free for o in search.find(institution=session.institution_id, channel="township")] == [2]
        booking.book(session.pk, make_person(), "township", "g0")
    with clock.at(at(4, 17)):
        booking.book(session.pk, make_person(), "public", "o3")
        with pytest.raises(Full):
            booking.book(session.pk, make_person(), "township", "g1")
    assert counters(session)[:2] == (4, 1)


def test_a_hold_past_its_time_counts_as_free() -> None:
    session, holder = make_session(capacity=1), make_person()
    with clock.at(at(2, 9)):
        held = booking.hold(session.pk, holder, "public", "h", minutes=15)
        with pytest.raises(Full):
            booking.book(session.pk, make_person(), "public", "x")
        assert search.find(institution=session.institution_id) == []
    with clock.at(at(2, 10)):
        assert [o.free for o in search.find(institution=session.institution_id)] == [1]
        with pytest.raises(NotPossible, match="过期"):
            booking.confirm(held)
        assert booking.book(session.pk, make_person(), "public", "y").seat_no == 1
        with pytest.raises(NotPossible):
            booking.confirm(held)
    assert counters(session)[:2] == (1, 0)
    assert booking.recount() == []


def test_ones_own_lapsed_hold_is_no_hindrance_and_confirming_keeps_the_number() -> None:
    session, person = make_session(capacity=2), make_person()
    with clock.at(at(2, 9)):
        booking.hold(session.pk, person, "public", "h1")
    with clock.at(at(2, 10)):
        second = booking.hold(session.pk, person, "public", "h2")
        assert booking.confirm(second).state == "booked"
        assert booking.confirm(second).state == "booked"
        booking.hold(session.pk, make_person(), "public", "h3")
    with clock.at(at(2, 11)):
        assert booking.sweep() == 1
    assert counters(session)[:2] == (1, 0)


def test_stopping_a_session_returns_whom_it_hits() -> None:
    session = make_session()
    with clock.at(at(2, 9)):
        first = booking.book(session.pk, make_person(), "public", "a", case_id=77)
        booking.hold(session.pk, make_person(), "county", "b")
        hit = booking.stop_session(session.pk, "医生停诊")
        assert next((p.pk, p.case_id, p.state) for p in hit) == (first.pk, 77, "booked")
        assert len(hit) == 2
        with pytest.raises(Full, match="停诊"):
            booking.book(session.pk, make_person(), "public", "c")
    assert counters(session)[:2] == (0, 0)
    assert booking.recount() == []


def test_the_database_refuses_one_too_many_whatever_the_code_does() -> None:
    session = make_session(capacity=1)
    with clock.at(at(2, 9)):
        place = booking.book(session.pk, make_person(), "public", "a")
    with pytest.raises(IntegrityError), transaction.atomic():
        Session.objects.filter(pk=session.pk).update(taken_township=1)
    with pytest.raises(IntegrityError), transaction.atomic():
        Place.objects.create(
            session=session, institution_id=session.institution_id, seat_no=place.seat_no, person_id=make_person(),
            channel="public", state="booked", key="z", made_at=at(2, 9), changed_at=at(2, 9),
        )  # fmt: skip
    Place.objects.unscoped("test").update(state="cancelled")
    assert len(booking.recount()) == 1


def test_sessions_come_from_templates_and_skip_holidays() -> None:
    department = make_department(make_institution(kind="hospital"))
    for weekday in range(7):
        Template.objects.create(
            institution_id=department.institution_id, department=department, weekday=weekday, start=dt.time(8),
            end=dt.time(12), capacity=20, reserved_county=8, reserved_township=8, since=dt.date(2026, 1, 1),
        )  # fmt: skip
    assert schedule.make_sessions(dt.date(2026, 9, 28), 14) == 6  # National Day: no sessions 1 to 7 October
    assert schedule.make_sessions(dt.date(2026, 9, 28), 14) == 0
    after = Session.objects.get(starts_at=dt.datetime(2026, 10, 8, 8, tzinfo=clock.ZONE))
    assert after.release_township == dt.datetime(2026, 9, 30, 17, tzinfo=clock.ZONE)
    assert after.specialty == "03"
    with clock.at(dt.datetime(2026, 9, 27, 9, tzinfo=clock.ZONE)):
        free = search.free_by_institution("03", [department.institution_id], "public")
    assert free[department.institution_id].free == 20 + 5 * 12  # the first day is released already


STEP = st.tuples(
    st.sampled_from(["hold", "book", "confirm", "cancel", "arrive", "no_show", "fulfil", "sweep", "stop"]),
    st.integers(0, 5),
    st.sampled_from(["public", "township", "county"]),
    st.integers(0, 40),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, max_size=25), st.integers(0, 3))
def test_whatever_happens_the_counters_equal_the_rows(
    steps: list[tuple[str, int, str, int]], reserved: int
) -> None:
    with transaction.atomic():
        session = make_session(capacity=4, reserved_county=reserved, reserved_township=reserved)
        people, places, now = [make_person() for _ in range(6)], [], at(2, 9)
        for n, (what, which, channel, minutes) in enumerate(steps):
            now += dt.timedelta(minutes=minutes)
            with clock.at(now):
                try:
                    if what in ("hold", "book"):
                        places.append(getattr(booking, what)(session.pk, people[which], channel, f"s{n}"))
                    elif what == "cancel" and places:
                        booking.cancel(places[which % len(places)], "x")
                    elif what == "sweep":
                        booking.sweep()
                    elif what == "stop" and which == 0:
                        booking.stop_session(session.pk, "x")
                    elif what not in ("cancel", "stop") and places:
                        getattr(booking, what)(places[which % len(places)])
                except (Full, AlreadyBooked, NotPossible):
                    pass
            assert booking.recount() == []
        now = Session.objects.get(pk=session.pk)
        assert now.taken_public <= 4 - reserved
        transaction.set_rollback(True)
