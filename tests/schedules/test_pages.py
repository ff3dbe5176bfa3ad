"""The board's pages: who may, what bad input answers, what a double click does."""

from __future__ import annotations

import datetime as dt
from typing import Any

from lianxin.pool.models import RosterChange, Session, Template
from lianxin.resident.schedules import jobs
from lianxin.resident.schedules.models import Act
from tests.schedules.world import World, at, places


def form(world: World, **more: Any) -> dict[str, Any]:
    """A template as the page sends it."""
    department = world.county.departments["cardiology"]
    values = {
        "department": department.pk, "kind": "clinic", "practitioner": world.county.posts["clinician"].practitioner_id,
        "resource": "", "clinic_type": "普通", "weekdays": ["1", "3"], "weeks": "", "start": "08:00", "end": "11:30",
        "capacity": "20", "reserved_county": "8", "reserved_township": "6", "reserved_village": "2", "release_days": "1",
        "release_time": "17:00", "opens_days": "14", "opens_time": "07:00", "fee": "15.50", "since": "2026-11-01", "until": "",
        "_key": "k1",
    }  # fmt: skip
    return values | more


def test_the_board_shows_the_own_institution_and_the_office_all_it_follows(world: World) -> None:
    world.template()
    jobs.make_ahead()
    other = world.session(at(3, 9), department=world.county.departments["tcm_rehab"])
    page = world.client("desk").get("/schedules?week=2026-11-05").content.decode()
    assert "单明远" in page
    assert "0/10" in page
    assert f"/schedules/sessions/{other.pk}" not in page
    assert (
        f"/schedules/sessions/{other.pk}"
        not in world.client("desk").get(f"/schedules?institution={world.county.tcm.pk}").content.decode()
    )
    office = world.client("manager").get(f"/schedules?institution={world.county.tcm.pk}")
    assert f"/schedules/sessions/{other.pk}" in office.content.decode()
    assert world.client("clinician").get("/schedules").status_code == 403
    for query in (
        "?week=x&institution=y&department=z",
        "?week=9999-12-31",
        "?department=99999999999999999999",
    ):
        assert world.client("desk").get(f"/schedules{query}").status_code == 200


def test_what_is_not_ours_is_not_there(world: World) -> None:
    template, session = world.template(), world.session()
    stranger = world.client("tcm_desk")
    for path in (
        f"/schedules/sessions/{session.pk}",
        f"/schedules/templates/{template.pk}",
        "/schedules/stops/none",
    ):
        assert stranger.get(path).status_code == 404
    assert (
        stranger.post(f"/schedules/sessions/{session.pk}/extra", {"count": 1, "reason": "加号"}).status_code
        == 404
    )
    answer = stranger.post("/schedules/stop", {"session": session.pk, "reason": "试试"})
    assert answer.status_code == 422
    session.refresh_from_db()
    assert session.status == "open"


def test_a_new_template_makes_its_sessions_once(world: World) -> None:
    desk = world.client("desk")
    assert desk.get("/schedules/templates/new").status_code == 200
    answers = [desk.post("/schedules/templates/new", form(world)) for _ in range(2)]
    assert [a.status_code for a in answers] == [302, 302]
    assert answers[0]["Location"] == answers[1]["Location"]
    assert sorted(Template.objects.values_list("weekday", flat=True)) == [1, 3]
    assert Session.objects.count() == 8
    template = Template.objects.get(weekday=1)
    assert (template.fee_fen, template.reserved_village) == (1550, 2)
    path = f"/schedules/templates/{template.pk}"
    assert desk.get(path).status_code == 200
    changed = form(world, weekdays=["1"], capacity="24", _key="k2")
    assert desk.post(path, changed).status_code == 302
    assert set(Session.objects.filter(template=template).values_list("capacity", flat=True)) == {24}
    assert "2" in desk.get("/schedules/templates").content.decode()


def test_a_bad_template_is_refused_in_words(world: World) -> None:
    desk = world.client("desk")
    rehab = world.county.departments["tcm_rehab"]
    cases: dict[str, dict[str, Any]] = {
        "end": {"end": "07:00"}, "reserved_township": {"reserved_township": "9"}, "reserved_county": {"reserved_county": "21"},
        "capacity": {"capacity": "x"}, "until": {"until": "2026-10-01"}, "weekdays": {"weekdays": ["9"]},
        "resource": {"kind": "exam"}, "department": {"department": rehab.pk}, "fee": {"fee": "-1"}, "since": {"since": "2026-13-01"},
        "practitioner": {"practitioner": world.county.posts["tcm_clinician"].practitioner_id}, "start": {"start": ""},
    }  # fmt: skip
    for field, wrong in cases.items():
        answer = desk.post("/schedules/templates/new", form(world, **wrong))
        assert answer.status_code == 422, field
        assert field in answer.context["form"].errors, field
    too_quick = desk.post("/schedules/templates/new", form(world, capacity="400", reserved_county="0", reserved_township="0", reserved_village="0"))  # fmt: skip
    assert too_quick.status_code == 422
    world.template()
    clash = desk.post("/schedules/templates/new", form(world))
    assert clash.status_code == 422
    assert clash.context["form"].non_field_errors()
    odd = Template.objects.get()
    odd.weeks = "odd"
    odd.save()
    assert desk.post("/schedules/templates/new", form(world, weeks="even")).status_code == 302


def test_a_day_is_changed_and_taken_back(world: World) -> None:
    desk, template = world.client("desk"), world.template()
    jobs.make_ahead()
    path = f"/schedules/templates/{template.pk}/day"
    good = {"day": "2026-11-10", "off": "on", "reason": "外出培训", "_key": "a"}
    for wrong in ({"day": ""}, {"day": "2020-01-01"}, {"off": ""}, {"capacity": "5"}, {"reason": ""}):
        assert desk.post(path, {**good, **wrong}).status_code == 422, wrong
    assert [desk.post(path, good).status_code for _ in range(2)] == [302, 302]
    assert not Session.objects.filter(starts_at=at(10, 8), status="open").exists()
    change = RosterChange.objects.get()
    assert "外出培训" in desk.get(f"/schedules/templates/{template.pk}").content.decode()
    for _ in range(2):
        assert desk.post(f"/schedules/changes/{change.pk}/undo").status_code == 302
    assert Session.objects.filter(starts_at=at(10, 8), status="open").exists()
    world.book(Session.objects.get(starts_at=at(10, 8)))
    refused = desk.post(path, {**good, "_key": "b"})
    assert refused.status_code == 409
    assert b"/schedules/stop?session=" in refused.content


def test_acts_on_a_session(world: World) -> None:
    desk, session = world.client("desk"), world.session(at(4, 8))
    path = f"/schedules/sessions/{session.pk}"
    assert desk.get(path).status_code == 200
    for _ in range(2):
        assert desk.post(f"{path}/extra", {"count": "2", "reason": "病人多", "_key": "k"}).status_code == 302
    session.refresh_from_db()
    assert (session.capacity, session.extra) == (5, 2)
    assert Act.objects.get(kind="extra").detail["count"] == 2
    for name, data, status in (
        ("extra", {"count": "0", "reason": "病人多"}, 422), ("extra", {"count": "9", "reason": "病人多"}, 422),
        ("extra", {"count": "1"}, 422), ("quotas", {"county": "1", "township": "2", "village": "0", "reason": "调整"}, 422),
        ("quotas", {"county": "a", "township": "", "village": "-1", "reason": "调整"}, 422),
        ("fewer", {"count": "5", "reason": "调整"}, 422), ("reopen", {"reason": "恢复"}, 409), ("nothing", {}, 404),
    ):  # fmt: skip
        assert desk.post(f"{path}/{name}", data).status_code == status, (name, data)
    assert (
        desk.post(
            f"{path}/quotas", {"county": "3", "township": "2", "village": "1", "reason": "下沉"}
        ).status_code
        == 302
    )
    surgeon = world.county.posts["surgeon"].practitioner_id
    world.book(session)
    swap = {"practitioner": surgeon, "reason": "替诊", "_key": "s"}
    assert desk.post(f"{path}/substitute", swap).status_code == 422
    assert desk.post(f"{path}/substitute", {**swap, "keep": "on"}).status_code == 302
    session.refresh_from_db()
    assert (session.practitioner_id, session.taken) == (surgeon, 1)
    assert desk.get(f"{path}?act=extra").content.count(b" open>") == 1


def test_an_extra_number_for_one_patient(world: World) -> None:
    desk, session, patient = world.client("desk"), world.session(at(4, 8)), world.patient("占加号")
    for _ in range(3):
        world.book(session)
    path = f"/schedules/sessions/{session.pk}/patient"
    for _ in range(2):
        answer = desk.post(path, {"person": patient.number, "reason": "复诊换药", "_key": "k"})
        assert answer.status_code == 302
        assert "/pools/slips/YY" in answer["Location"]
    session.refresh_from_db()
    assert (session.capacity, session.extra, session.taken) == (4, 1, 4)
    assert [p.person_id for p in places(session)][-1] == patient.pk
    again = desk.post(path, {"person": patient.number, "reason": "复诊换药", "_key": "other"})
    assert again.status_code == 409
    session.refresh_from_db()
    assert session.capacity == 4  # the number went back with the booking that failed
    assert desk.post(path, {"person": "没有这个人", "reason": "复诊"}).status_code == 422
    assert desk.post(path, {"person": "", "reason": ""}).status_code == 422
    stranger = world.patient("占陌生", where=world.county.tcm)
    assert desk.post(path, {"person": stranger.number, "reason": "复诊换药"}).status_code == 422


def test_a_clinic_is_stopped_in_two_steps(world: World) -> None:
    desk, session, later = world.client("desk"), world.session(), world.session(at(4, 8))
    world.book(session, world.patient("占有号"))
    doctor = world.county.posts["clinician"].practitioner_id
    shown = desk.get(
        f"/schedules/stop?practitioner={doctor}&since=2026-11-02&until=2026-11-08"
    ).content.decode()
    assert "占有号" in shown
    assert f'value="{session.pk}" checked' in shown
    assert f'value="{later.pk}" checked' in shown
    assert desk.post("/schedules/stop", {"session": session.pk, "_key": "a"}).status_code == 422
    assert desk.post("/schedules/stop", {"reason": "医生请假", "_key": "a"}).status_code == 422
    wanted = {"session": [session.pk], "reason": "医生请假", "_key": "a"}
    answers = [desk.post("/schedules/stop", wanted) for _ in range(2)]
    assert [a.status_code for a in answers] == [302, 302]
    assert answers[0]["Location"] == answers[1]["Location"]
    after = desk.get(answers[0]["Location"]).content.decode()
    assert "占有号" in after
    assert "待改约" in after
    assert "占有号" not in desk.get(f"{answers[0]['Location']}?show=rebooked").content.decode()
    assert desk.post("/schedules/stop", {**wanted, "_key": "b"}).status_code == 409
    assert Act.objects.filter(kind="stop").count() == 1
    later.refresh_from_db()
    assert later.status == "open"
    for query in ("", "?session=x", "?since=x&practitioner=1", "?session=99999999"):
        assert desk.get(f"/schedules/stop{query}").status_code == 200
    assert desk.get("/schedules/stops?days=x").status_code == 200
    assert "占有号" not in world.client("tcm_desk").get("/schedules/stops").content.decode()
    assert desk.post(f"/schedules/sessions/{session.pk}/reopen", {"reason": "医生返岗"}).status_code == 302


def test_making_and_copying_by_button(world: World) -> None:
    desk = world.client("desk")
    world.template()
    assert [desk.post("/schedules/make", {"_key": "m"}).status_code for _ in range(2)] == [302, 302]
    assert Session.objects.count() == 4
    for weeks, count in (("x", 4), ("27", 4), ("5", 5), ("5", 5)):
        assert (
            desk.post("/schedules/copy", {"week": "2026-11-02", "weeks": weeks, "_key": "c"}).status_code
            == 302
        )
        assert Session.objects.count() == count
    assert desk.post("/schedules/copy", {"week": "2026-01-05", "weeks": "1"}).status_code == 302
    assert Session.objects.filter(starts_at__lt=at(1, 0) - dt.timedelta(days=30)).count() == 0
