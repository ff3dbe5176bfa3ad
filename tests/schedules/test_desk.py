"""Today's desk: arriving, calling, seeing, missing, coming without a number."""

from __future__ import annotations

import datetime as dt

from lianxin.pool import booking as pool
from lianxin.resident.booking import jobs as booking_jobs
from lianxin.resident.schedules import queue
from lianxin.resident.schedules.models import Call
from lianxin.standards import clock
from tests.schedules.world import World, at, places


def test_arrive_call_and_see_in_turn(world: World) -> None:
    session = world.session(capacity=6)
    visits = [world.book(session, world.patient(f"占{n}号")) for n in "甲乙丙"]
    with clock.at(at(3, 8, 5)):
        desk = world.client("reception")
        path = f"/desk/today/{session.pk}"
        for n in (2, 0):
            for _ in range(2):
                assert desk.post(f"{path}/arrive", {"place": visits[n].place_id}).status_code == 302
        page = desk.get("/desk/today")
        assert page.context["next"]["p"].seat_no == 1
        for _ in range(2):
            assert desk.post(f"{path}/call", {"place": visits[0].place_id, "_key": "c"}).status_code == 302
        assert Call.objects.get().times == 1
        desk.post(f"{path}/call", {"place": visits[0].place_id, "_key": "d"})
        assert Call.objects.get().times == 2
        page = desk.get(f"/desk/today?session={session.pk}&show=here")
        assert (page.context["next"]["p"].seat_no, page.context["called"]["p"].seat_no) == (3, 1)
        assert desk.post(f"{path}/fulfil", {"place": visits[0].place_id}).status_code == 302
        assert desk.post(f"{path}/fulfil", {"place": visits[1].place_id}).status_code == 409
        assert desk.post(f"{path}/call", {"place": visits[1].place_id}).status_code == 409
        assert desk.post(f"{path}/arrive", {"place": "x"}).status_code == 422
        assert desk.post(f"{path}/excuse", {"place": visits[1].place_id}).status_code == 422
        assert desk.post(f"{path}/dance", {}).status_code == 404
        assert (
            desk.get(f"/desk/today?session={session.pk}&part=list").templates[0].name
            == "schedules/_today.html"
        )
    assert [p.state for p in places(session)] == ["fulfilled", "booked", "arrived"]


def test_who_comes_late_is_called_in_order_of_coming(world: World) -> None:
    session = world.session(capacity=6)  # one number every half hour
    visits = [world.book(session) for _ in range(3)]
    for n, moment in ((1, at(3, 8, 20)), (2, at(3, 8, 25)), (0, at(3, 9, 10))):
        with clock.at(moment):
            pool.arrive(visits[n].place_id)
    waiting = queue.in_turn(places(session), dt.timedelta(minutes=15))
    assert [p.seat_no for p in waiting] == [2, 3, 1]
    assert queue.is_late(waiting[2], dt.timedelta(minutes=15))


def test_a_scanned_slip_or_card_arrives(world: World) -> None:
    session, other = world.session(), world.session(at(3, 14))
    patient = world.patient("占扫码")
    visit, afternoon = world.book(session, patient), world.book(other, world.patient("占下午"))
    desk = world.client("reception")
    with clock.at(at(3, 8)):
        path = f"/desk/today/{session.pk}/scan"
        for _ in range(2):
            assert desk.post(path, {"q": visit.number}).status_code == 302
        assert places(session)[0].state == "arrived"
        assert desk.post(path, {"q": "占下午"}).status_code == 302
        assert places(other)[0].state == "arrived"
        assert desk.post(path, {"q": ""}).status_code == 422
        assert desk.post(path, {"q": "占试"}).status_code == 422
        assert desk.post(path, {"q": world.patient("占没号").number}).status_code == 422
    assert afternoon.place_id == places(other)[0].pk


def test_who_comes_without_a_number_gets_a_free_one_then_an_extra_one(world: World) -> None:
    session = world.session(capacity=1)
    desk = world.client("reception")
    first, second = world.patient("占现场"), world.patient("占加塞")
    with clock.at(at(3, 8, 10)):
        path = f"/desk/today/{session.pk}/walk_in"
        for patient, key in ((first, "a"), (first, "a"), (second, "b")):
            answer = desk.post(path, {"q": patient.number, "_key": key})
            assert answer.status_code == 302, answer.context["trouble"]
        session.refresh_from_db()
        assert (session.capacity, session.extra, session.taken, session.arrived) == (2, 1, 2, 2)
        assert desk.post(path, {"q": second.number, "_key": "c"}).status_code == 409
        assert desk.post(path, {"q": "", "_key": "d"}).status_code == 422
        stranger = world.patient("占外人", where=world.county.tcm)
        refused = desk.post(path, {"q": stranger.number, "_key": "e"})
        assert refused.status_code == 422
        assert "占外人" not in refused.content.decode()
        for _ in range(9):
            desk.post(path, {"q": world.patient().number})
        session.refresh_from_db()
        assert session.extra == 10
        assert desk.post(path, {"q": world.patient().number}).status_code == 422
    assert pool.recount() == []


def test_missed_visits_are_confirmed_together_or_excused(world: World) -> None:
    session = world.session()
    visits = [world.book(session) for _ in range(3)]
    with clock.at(at(3, 18)):
        booking_jobs.mark_missed()
        desk = world.client("reception")
        path = f"/desk/today/{session.pk}"
        page = desk.get(f"/desk/today?session={session.pk}")
        assert page.context["missed"] == 3
        assert (
            desk.post(f"{path}/excuse", {"place": visits[0].place_id, "reason": "大雪封路"}).status_code
            == 302
        )
        for _ in range(2):
            assert desk.post(f"{path}/confirm_all").status_code == 302
        page = desk.get(f"/desk/today?session={session.pk}")
        assert page.context["missed"] == 0
    for visit in visits:
        visit.case.refresh_from_db()
    assert [v.case.state for v in visits] == ["cancelled", "no_show", "no_show"]


def test_a_doctor_sees_the_own_session_and_others_nothing(world: World) -> None:
    own = world.session()
    surgery = world.session(department=world.county.departments["surgery"])
    world.book(own, world.patient("占心内"))
    world.book(surgery, world.patient("占外科"))
    with clock.at(at(3, 8)):
        doctor = world.client("clinician")
        page = doctor.get("/desk/today").content.decode()
        assert "占心内" in page
        assert "占外科" not in page
        assert "占外科" in doctor.get(f"/desk/today?all=1&session={surgery.pk}").content.decode()
        other = world.client("reception0")
        answer = other.get(f"/desk/today?session={own.pk}")
        assert answer.status_code == 200
        assert "占心内" not in answer.content.decode()
        assert other.post(f"/desk/today/{own.pk}/confirm_all").status_code == 404
        assert world.client("manager").get("/desk/today").status_code == 403


def test_a_referrals_number_is_received_on_its_own_page(world: World) -> None:
    session, patient = world.session(), world.patient()
    place = pool.book(session.pk, patient.pk, "county", "no case")
    with clock.at(at(3, 8)):
        desk = world.client("reception")
        assert desk.post(f"/desk/today/{session.pk}/arrive", {"place": place.pk}).status_code == 302
        assert desk.post(f"/desk/today/{session.pk}/confirm_missed", {"place": place.pk}).status_code == 409
        assert desk.post(f"/desk/today/{session.pk}/fulfil", {"place": place.pk}).status_code == 302
    assert places(session)[0].state == "fulfilled"
