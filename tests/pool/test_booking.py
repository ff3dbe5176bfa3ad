"""Numbers of a session: taken, held, released, given back; never one too many."""

from __future__ import annotations

import datetime as dt
from collections import deque
from itertools import count

import pytest
from django.db import IntegrityError, transaction

from lianxin.index.models import Person
from lianxin.network.models import Department
from lianxin.pool import booking, demand, hooks, schedule, search
from lianxin.pool.booking import AlreadyBooked, Full, KeyReused, NotPossible
from lianxin.pool.models import Demand, Place, Session, Template, TurnedAway
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


def test_what_belongs_to_an_item_is_never_given_to_one_without() -> None:
    """An examination of three steps takes numbers 1 to 3: somebody without an item gets the fourth, not the second."""
    session = make_session(kind="exam", capacity=6)
    with clock.at(at(2, 9)):
        booking.book(session.pk, make_person(), "public", "ct", units=3, item="CT")
        assert booking.book(session.pk, make_person(), "public", "plain").seat_no == 4
        with pytest.raises(Full, match="已约满") as full:
            booking.book(session.pk, make_person(), "public", "more", units=3, item="CT")
    assert "预留" not in full.value.text.zh


def test_another_time_of_the_same_session_is_ones_own_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    session, waiting = make_session(capacity=3, reserved_county=1, reserved_township=1), make_person()

    def serve(session_id: int) -> None:
        booking.book(session_id, waiting, "public", "waited")

    with clock.at(at(2, 9)):
        mine = booking.book(session.pk, make_person(), "public", "a")
        booking.book(session.pk, make_person(), "public", "b")
        monkeypatch.setattr(hooks, "_freed", [serve])
        moved = booking.reschedule(mine, session.pk, "c", "换时段", seat=3)
        assert (moved.seat_no, moved.person_id) == (3, mine.person_id)
        assert booking.reschedule(mine, session.pk, "c", "换时段", seat=3).pk == moved.pk
        booking.cancel(moved, "不来了")
    assert Place.objects.unscoped("test").get(person_id=waiting).state == "booked"
    assert booking.recount() == []


def test_only_who_finds_no_number_was_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, str, int]] = []
    monkeypatch.setattr(hooks, "_refused", [lambda *what: told.append(what)])
    monkeypatch.setattr(demand, "_waiting", deque())
    session, stopped = make_session(capacity=2, reserved_county=1, reserved_township=1), make_session()
    later = make_session(opens_at=at(3, 7))
    one, two = make_person(), make_person()
    with clock.at(at(2, 9)):
        booking.stop_session(stopped.pk, "停诊")
        booking.book(session.pk, one, "public", "a")
        for who, what in ((one, session), (two, stopped), (two, later)):
            with pytest.raises(booking.BookingError):
                booking.book(what.pk, who, "public", f"x{what.pk}")
        assert told == []
        with pytest.raises(Full, match="基层预留"):
            booking.book(session.pk, two, "public", "c")
        with pytest.raises(Full):
            booking.book(session.pk, two, "public", "d")
        booking.book(session.pk, make_person(), "township", "e")
        with pytest.raises(Full):
            booking.book(session.pk, two, "township", "f")
        assert told == [(session.pk, "public", 1), (session.pk, "public", 1), (session.pk, "township", 1)]
        assert demand.flush() == 2  # once through each channel
    turned = TurnedAway.objects.filter(session_id=session.pk)
    assert sorted(turned.values_list("channel", "times")) == [("public", 2), ("township", 1)]
    assert demand.fold(before=at(2, 0).date()) == 0
    assert demand.fold(before=at(3, 0).date()) == 2
    assert list(Demand.objects.values_list("channel", "people", "times", "minutes").order_by("channel")) == [
        ("public", 1, 2, [540]), ("township", 1, 1, [540]),
    ]  # fmt: skip


def test_who_is_served_after_all_was_not_turned_away_and_nobody_can_be_read_from_a_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demand, "_waiting", deque())
    session, person = make_session(capacity=1), make_person()
    with clock.at(at(2, 9)):
        first = booking.book(session.pk, make_person(), "public", "a")
        with (
            pytest.raises(Full),
            transaction.atomic(),
        ):  # the refused transaction rolls back; the refusal is kept
            booking.book(session.pk, person, "public", "b")
        demand.at_end_of_request()
        row = TurnedAway.objects.get()
        assert str(person).encode() not in bytes(row.who)
        booking.cancel(first, "不来了")
        booking.book(session.pk, person, "public", "c")
    assert demand.fold(before=at(3, 0).date()) == 0
    assert not Demand.objects.exists()
    assert not TurnedAway.objects.exists()


def test_a_session_that_is_gone_is_refused_in_words() -> None:
    session = make_session()
    Session.objects.filter(pk=session.pk).delete()
    with pytest.raises(NotPossible):
        booking.book(session.pk, make_person(), "public", "gone")
