"""Find and book for a patient."""

from __future__ import annotations

from lianxin.pool.models import Place
from lianxin.resident.booking import service
from lianxin.resident.booking.models import Waiting
from tests.schedules.world import World, at, places


def test_book_once_with_the_slip_and_see_it_among_the_visits(world: World) -> None:
    session, patient, desk = world.session(), world.patient("占挂号"), world.client("desk")
    assert desk.get(f"/pools?q={patient.number}").context["who"] == patient
    page = desk.get(f"/pools?person={patient.number}&specialty=03.04")
    assert [x["o"].session_id for x in page.context["offers"]] == [session.pk]
    data = {"person": patient.number, "session": session.pk, "_key": "k"}
    answers = [desk.post("/pools/book", data) for _ in range(2)]
    assert [a.status_code for a in answers] == [302, 302]
    assert answers[0]["Location"] == answers[1]["Location"]
    assert len(places(session)) == 1
    for size in ("", "?size=80"):
        slip = desk.get(answers[0]["Location"] + size).content.decode()
        assert "占挂号" in slip
        assert "data:image/svg" in slip
        assert "心血管内科" in slip
    assert "占挂号" not in world.client("tcm_desk").get(answers[0]["Location"]).content.decode()
    page = desk.get(f"/pools?person={patient.number}")
    assert len(page.context["visits"]) == 1
    again = desk.post("/pools/book", {**data, "_key": "other"})
    assert again.status_code == 409
    assert "请勿重复预约" in again.content.decode()


def test_full_offers_others_and_the_waiting_list(world: World) -> None:
    session, other = world.session(capacity=1), world.session(at(4, 8))
    world.book(session)
    patient, desk = world.patient(), world.client("desk")
    answer = desk.post("/pools/book", {"person": patient.number, "session": session.pk, "_key": "k"})
    assert answer.status_code == 409
    assert [x["o"].session_id for x in answer.context["alternatives"]] == [other.pk]
    page = desk.get(f"/pools?person={patient.number}&specialty=03.04")
    assert [x["s"].pk for x in page.context["full"]] == [session.pk]
    for _ in range(2):
        assert (
            desk.post(
                "/pools/wait", {"person": patient.number, "session": session.pk, "_key": "w"}
            ).status_code
            == 302
        )
    row = Waiting.objects.unscoped("test").get()
    assert desk.post("/pools/wait", {"person": patient.number, "session": other.pk}).status_code == 409
    service.cancel(world.scope("desk"), _number(session), "c", "不来")
    row.refresh_from_db()
    assert row.state == "offered"
    assert desk.get(f"/pools?person={patient.number}").context["waiting"][0].state == "offered"
    for _ in range(2):
        answer = desk.post(f"/pools/waiting/{row.pk}/take")
        assert answer.status_code == 302
        assert "/pools/slips/" in answer["Location"]
    assert places(session)[0].person_id == patient.pk
    assert desk.post(f"/pools/waiting/{row.pk}/dance").status_code == 404
    assert world.client("tcm_desk").post(f"/pools/waiting/{row.pk}/leave").status_code == 404


def _number(session: object) -> str:
    place = Place.objects.unscoped("test").filter(session=session).exclude(state="cancelled").get()
    from lianxin.duty.models import Case

    return Case.objects.unscoped("test").get(pk=place.case_id).number


def test_move_and_cancel_with_a_reason(world: World) -> None:
    session, other = world.session(), world.session(at(4, 8))
    patient, desk = world.patient(), world.client("desk")
    visit = world.book(session, patient)
    page = desk.get(f"/pools?person={patient.number}&move={visit.number}")
    assert page.context["moving"]["a"].number == visit.number
    data = {"person": patient.number, "move": visit.number, "session": other.pk, "_key": "m"}
    for _ in range(2):
        assert desk.post("/pools/book", data).status_code == 302
    assert places(session) == []
    assert len(places(other)) == 1
    stranger = world.patient()
    assert desk.post("/pools/book", {**data, "person": stranger.number, "_key": "n"}).status_code == 422
    path = f"/pools/appointments/{visit.number}/cancel"
    assert desk.post(path, {"reason": ""}).status_code == 422
    assert world.client("tcm_desk").post(path, {"reason": "不来了"}).status_code == 404
    for _ in range(2):
        assert desk.post(path, {"reason": "不来了", "_key": "c"}).status_code == 302
    assert places(other) == []


def test_a_stranger_is_masked_until_the_card_is_shown(world: World) -> None:
    session, desk = world.session(), world.client("desk")
    stranger = world.patient("占路人", where=world.county.tcm)
    page = desk.get(f"/pools?person={stranger.number}")
    assert page.status_code == 200
    assert "占路人" not in page.content.decode()
    data = {"person": stranger.number, "session": session.pk, "_key": "k"}
    refused = desk.post("/pools/book", data)
    assert refused.status_code == 403
    assert "占路人" not in refused.content.decode()
    assert desk.post("/pools/check-in", {"person": stranger.number, "evidence": "123"}).status_code == 422
    assert desk.post("/pools/check-in", {"person": "x", "evidence": "123"}).status_code == 422
    assert places(session) == []


def test_what_is_not_there_is_said(world: World) -> None:
    session, patient, desk = world.session(), world.patient(), world.client("desk")
    for data in (
        {},
        {"person": patient.number},
        {"session": session.pk},
        {"person": patient.number, "session": "x"},
    ):
        assert desk.post("/pools/book", data).status_code == 422
    gone = desk.post("/pools/book", {"person": patient.number, "session": 99_999_999})
    assert gone.status_code in (409, 422)
    assert (
        desk.post(
            "/pools/book", {"person": patient.number, "session": session.pk, "move": "YY-none"}
        ).status_code
        == 422
    )
    assert desk.get("/pools/slips/YY-none").status_code == 404
    for query in ("?q=zz&person=1&day=x&days=9&institution=x", "?person=0000000000", "?q=%25%27"):
        assert desk.get(f"/pools{query}").status_code == 200, query
    assert world.client("system_admin").get("/pools").status_code == 403


def test_a_township_books_at_the_hospital_through_its_own_channel(world: World) -> None:
    session = world.session(
        capacity=2, reserved_county=2, reserved_township=2, release_county=at(3, 7), release_township=at(3, 7)
    )
    township = world.county.townships[0]
    patient = world.patient(where=township)
    gp, reception = world.client("gp0"), world.client("reception0")
    page = gp.get(f"/pools?person={patient.number}")
    assert [x["o"].session_id for x in page.context["offers"]] == [session.pk]
    assert gp.post("/pools/book", {"person": patient.number, "session": session.pk}).status_code == 302
    assert places(session)[0].channel == "township"
    # a reception books its own institution's numbers only
    assert reception.get(f"/pools?person={patient.number}").context["offers"] == []
    assert reception.post("/pools/book", {"person": patient.number, "session": session.pk}).status_code == 403
