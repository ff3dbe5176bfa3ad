"""Booking for somebody: who may, what is written, what the same request gives, what each row of the table does."""

from __future__ import annotations

import pytest
from django.db import connection

from lianxin.access.errors import NoRelationship, NotPermitted
from lianxin.duty import kernel, machine
from lianxin.duty.errors import KeyReused, NotAllowed
from lianxin.duty.models import Case, Duty, Outbox
from lianxin.network import roles
from lianxin.pool import booking as pool
from lianxin.pool.errors import Full
from lianxin.pool.models import Session
from lianxin.resident.booking import diagram, jobs, service
from lianxin.resident.booking.errors import TooMany
from lianxin.resident.booking.models import Appointment
from lianxin.standards import clock
from tests.booking.world import (
    SYSTEM,
    at,
    make_hospital,
    make_person,
    make_session,
    related,
    resident,
    staff,
)

pytestmark = pytest.mark.django_db


def booked(capacity: int = 3, **fields: object) -> tuple[Appointment, object, object]:
    """A resident's visit, the resident, and the provider's reception."""
    session, person = make_session(capacity=capacity, **fields), make_person()
    me = resident(person)
    with clock.at(at(2, 9)):
        visit = service.book(me, session.pk, person, f"k{person}")
    return visit, me, staff(session.institution, roles.RECEPTION)


def test_a_resident_books_and_everything_stands() -> None:
    session, person = make_session(), make_person()
    me = resident(person)
    with clock.at(at(2, 9)):
        mine = service.book(me, session.pk, person, "k1")
        again = service.book(me, session.pk, person, "k1")
        with pytest.raises(KeyReused):
            service.book(me, make_session().pk, person, "k1")
    assert again.pk == mine.pk
    assert (mine.case.state, mine.channel, mine.source, mine.fee_fen) == (
        "booked",
        "public",
        "resident",
        1200,
    )
    assert (mine.place.seat_no, mine.place.state, mine.place.case_id) == (1, "booked", mine.pk)
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
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM record_resource WHERE rtype = 'Appointment'")
        assert cursor.fetchone() == (1,)


def test_who_may_book_for_whom() -> None:
    session, person = make_session(), make_person()
    stranger, far = resident(make_person()), make_hospital()
    doctor, reception = staff(far.institution, roles.CLINICIAN), staff(far.institution, roles.RECEPTION)
    with clock.at(at(2, 9)):
        with pytest.raises(NotPermitted):
            service.book(stranger, session.pk, person, "a")
        with pytest.raises(NoRelationship):
            service.book(doctor, session.pk, person, "b")
        with pytest.raises(NotPermitted):
            service.book(reception, session.pk, person, "c")
        with pytest.raises(NotPermitted):
            service.book(staff(far.institution, roles.PHARMACIST), session.pk, person, "d")
        related(person, far.institution)
        visit = service.book(doctor, session.pk, person, "e")
        assert (visit.channel, visit.source, visit.booker_id) == ("county", "staff", far.institution_id)
        own = make_session(far, specialty="04")
        assert service.book(reception, own.pk, person, "f").case.state == "booked"
        with pytest.raises(NotAllowed):
            service.book(doctor, make_session(specialty="05").pk, person, "g", channel="village")
    assert Appointment.objects.within(stranger).count() == 0


def test_limits_and_times() -> None:
    house, person = make_hospital(), make_person()
    first, second = make_session(house), make_session(house, starts_at=at(5, 14), ends_at=at(5, 17))
    me = resident(person)
    with clock.at(at(2, 9)):
        mine = service.book(me, first.pk, person, "a")
        with pytest.raises(TooMany):
            service.book(me, second.pk, person, "b")
        moved = service.reschedule(me, mine.case.number, second.pk, "c")
        assert (moved.session_id, moved.moves, moved.place.state) == (second.pk, 1, "booked")
        assert service.reschedule(me, mine.case.number, second.pk, "c").moves == 1
    with clock.at(at(5, 13, 30)), pytest.raises(NotAllowed, match="截止时间"):
        service.cancel(me, mine.case.number, "d")
    with clock.at(at(5, 15)), pytest.raises(NotAllowed, match="已开始"):
        service.book(resident(other := make_person()), second.pk, other, "e")
    assert pool.recount() == []


def test_a_visit_from_arrival_to_end() -> None:
    visit, me, desk = booked()
    with clock.at(at(4, 9)), pytest.raises(NotAllowed, match="就诊日"):
        service.arrive(desk, visit.case.number, "a")
    with clock.at(at(5, 8)):
        with pytest.raises(NotAllowed):
            service.arrive(me, visit.case.number, "a")
        assert service.arrive(desk, visit.case.number, "a").case.state == "arrived"
        assert service.arrive(desk, visit.case.number, "a").case.state == "arrived"
        done = service.fulfil(desk, visit.case.number, "b")
    assert (done.case.state, done.live, done.place.state) == ("fulfilled", False, "fulfilled")
    session = Session.objects.get(pk=visit.session_id)
    assert (session.arrived, session.fulfilled) == (1, 1)
    assert [r.state for r in visit.reminders.all()] == ["void", "void"]
    assert pool.recount() == []


def test_a_hospitals_own_system_has_the_last_word() -> None:
    visit, _me, desk = booked(owner="hospital")
    assert (visit.case.state, visit.place.state) == ("requested", "booked")
    assert Outbox.objects.filter(topic="appointment.requested").count() == 1
    with clock.at(at(2, 10)):
        with pytest.raises(NotAllowed):
            service.act(desk, visit.case.number, "confirmed", {}, None, "x")
        yes = service.act(SYSTEM, visit.case.number, "confirmed", {"external": "H1"}, None, "y")
    assert yes.case.state == "booked"
    assert visit.reminders.count() == 2
    other, *_ = booked(owner="hospital")
    with clock.at(at(2, 10)):
        no = service.act(SYSTEM, other.case.number, "refused", {"reason": "院内号满"}, None, "z")
        assert (no.case.state, no.place.state, no.live) == ("to_rebook", "cancelled", True)
        mend = make_session(starts_at=at(6, 8), ends_at=at(6, 12))
        again = service.reschedule(staff(no.institution, roles.RECEPTION), no.case.number, mend.pk, "zz")
    assert (again.case.state, again.session_id, again.fee_fen) == ("booked", mend.pk, 1200)
    assert pool.recount() == []


def test_a_stopped_session_owes_every_patient_another_time() -> None:
    house = make_hospital()
    session = make_session(house, capacity=5)
    people = [make_person() for _ in range(4)]
    with clock.at(at(2, 9)):
        visits = [service.book(resident(p), session.pk, p, f"k{p}") for p in people]
        referral = pool.book(session.pk, make_person(), "county", "referral")
        service.cancel(resident(people[0]), visits[0].case.number, "c")
        hit = pool.stop_session(session.pk, "医生外出")
    assert {p.pk for p in hit} == {referral.pk, *(v.place_id for v in visits[1:])}
    states = list(
        Case.objects.unscoped("test")
        .filter(kind="appointment")
        .order_by("pk")
        .values_list("state", flat=True)
    )
    assert states == ["cancelled", "to_rebook", "to_rebook", "to_rebook"]
    duties = Duty.objects.unscoped("test").filter(
        ended="", kind="rebook", owner_institution=session.institution_id
    )
    assert duties.count() == 3
    assert Outbox.objects.filter(topic="appointment.displaced").count() == 3
    with clock.at(at(2, 10)):
        other = make_session(house, starts_at=at(6, 8), ends_at=at(6, 12), fee_fen=5000)
        mine = service.reschedule(resident(people[1]), visits[1].case.number, other.pk, "r")
    assert (mine.case.state, mine.fee_fen, mine.booked_at) == ("booked", 1200, at(2, 9))
    assert pool.recount() == []


def test_nobody_comes_and_people_judge() -> None:
    visit, me, desk = booked()
    with clock.at(at(5, 12, 20)):
        assert jobs.mark_missed() == 0
    with clock.at(at(9, 8)):  # the ticker was off for days
        assert jobs.mark_missed() == 1
        assert jobs.mark_missed() == 0
        missed = service.get(desk, visit.case.number)
        assert (missed.case.state, missed.place.state) == ("missed", "booked")
        with pytest.raises(NotAllowed):
            service.cancel(me, visit.case.number, "c")
        excused = service.act(desk, visit.case.number, "excuse", {"reason": "医院原因"}, None, "e")
    assert (excused.case.state, excused.place.state, excused.waived) == ("cancelled", "cancelled", True)
    assert service.standing(visit.person_id).misses == 0
    assert pool.recount() == []


def test_full_is_full_and_nothing_is_left_behind() -> None:
    session = make_session(capacity=1)
    with clock.at(at(2, 9)):
        a, b = make_person(), make_person()
        service.book(resident(a), session.pk, a, "a")
        with pytest.raises(Full):
            service.book(resident(b), session.pk, b, "b")
    assert Case.objects.unscoped("test").count() == 1
    assert pool.recount() == []


def test_a_number_held_before_becomes_the_visit() -> None:
    session, person = make_session(capacity=1), make_person()
    with clock.at(at(2, 9)):
        held = pool.hold(session.pk, person, "public", "h")
        visit = service.book(resident(person), session.pk, person, "k")
    assert (visit.place_id, visit.place.state) == (held.pk, "booked")
    assert pool.recount() == []


def test_where_somebody_stands_in_the_queue() -> None:
    session = make_session()
    with clock.at(at(2, 9)):
        visits = [
            service.book(resident(p), session.pk, p, f"k{p}")
            for p in (make_person(), make_person(), make_person())
        ]
    desk = staff(session.institution, roles.RECEPTION)
    with clock.at(at(5, 8)):
        service.arrive(desk, visits[0].case.number, "a")
        found = service.queue(service.get(desk, visits[2].case.number))
    assert (found.seat_no, found.ahead, found.arrived) == (3, 2, 1)


def test_the_table_is_sound_and_offers_what_succeeds() -> None:
    machine.get("appointment").validate()
    machine.get("booking_appeal").validate()
    visit, me, desk = booked()
    with clock.at(at(2, 9)):
        case = Case.objects.unscoped("test").get(pk=visit.pk)
        assert {a.name for a in kernel.allowed(case, me) if a.ok} == {"reschedule", "cancel"}
        assert {a.name for a in kernel.allowed(case, desk) if a.ok} == {"reschedule", "cancel"}
    with clock.at(at(5, 8, 30)):
        assert {a.name for a in kernel.allowed(case, desk) if a.ok} == {"arrive", "reschedule", "cancel"}
        assert {a.name for a in kernel.allowed(case, me) if a.ok} == set()


def test_the_diagram_in_the_documents_is_the_table() -> None:
    assert diagram.PAGE.read_text("utf-8") == diagram.page()
