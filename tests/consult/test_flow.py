"""From the question to what was done with the answer, with everything that may come between."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import DatabaseError, IntegrityError, transaction

from lianxin.access import relationships
from lianxin.access.errors import NoRelationship
from lianxin.duty import proof
from lianxin.duty.errors import KeyReused, NotAllowed, Refused
from lianxin.duty.models import Act, Notice
from lianxin.network.models import Agreement
from lianxin.regional.consult import diagram, fees, fhir, moves, pool, service, video
from lianxin.regional.consult.models import Agreed, Consult, Draft, Material, Opinion, Seat, Share
from lianxin.standards import clock
from tests.consult import world

pytestmark = pytest.mark.django_db
SAID = {"impression": "急性脑梗死，在溶栓时间窗内。", "advice": "即刻溶栓并转县医院卒中中心。"}


def seats(consult: Consult) -> list[Seat]:
    """Everybody asked."""
    return list(Seat.objects.unscoped("test").filter(consult=consult).order_by("number"))


def test_an_immediate_consultation_from_question_to_action() -> None:
    county = world.make_world()
    consult = world.ask(county, priority="emergency")
    assert world.state(consult) == "requested"
    host, other = world.expert(county, "clinician"), world.expert(county, "tcm_clinician")
    assert not relationships.sees(world.scope_of(county, "tcm_clinician"), consult.person_id)
    world.act(county, "desk", consult, "assign", experts=[str(host.pk), str(other.pk)])
    assert relationships.sees(world.scope_of(county, "tcm_clinician"), consult.person_id), (
        "access follows the duty"
    )
    with pytest.raises(NotAllowed):
        world.act(county, "surgeon", consult, "accept")  # of the hospital, not at the table
    world.act(county, "clinician", consult, "accept")
    assert world.owed(consult) == {"summary", "opinion2"}
    world.act(county, "tcm_clinician", consult, "opine", **SAID)
    assert world.owed(consult) == {"summary"}
    world.act(county, "clinician", consult, "conclude", **SAID)
    assert world.owed(consult) == {"acknowledge"}
    consult.refresh_from_db()
    assert consult.fee_fen == 20000 + fees.default(county.lead.pk)
    assert sum(s.fen for s in Share.objects.unscoped("test").filter(consult=consult)) == consult.fee_fen
    number = consult.case.number
    assert world.published("ServiceRequest", number)["category"][0]["text"] == "consult"
    assert world.published("Task", f"{number}-consult")["status"] == "completed"
    assert world.published("Encounter", f"{number}-E")["class"]["code"] == "VR"
    summary = world.published("Composition", f"{number}-S")
    assert summary["section"][2]["title"] == "处理建议"
    assert world.published("DocumentReference", f"{number}-O2")["docStatus"] == "final"
    world.act(county, "gp0", consult, "acknowledge", action="referred", reason="已静脉溶栓并转诊")
    assert world.state(consult) == "done"
    assert proof.check() == []
    later = clock.now() + dt.timedelta(days=8)
    with clock.at(later):
        assert not relationships.sees(world.scope_of(county, "tcm_clinician"), consult.person_id)


def test_a_booked_one_waits_for_its_time_and_may_be_missed() -> None:
    county = world.make_world()
    at = clock.now() + dt.timedelta(days=2)
    expert = world.expert(county, "clinician")
    with pytest.raises(Refused):
        world.ask(county, mode="booked", experts=[str(expert.pk)])  # no time
    consult = world.ask(
        county, mode="booked", experts=[str(expert.pk)], scheduled_at=at.strftime("%Y-%m-%dT%H:%M")
    )
    assert world.state(consult) == "assigned"
    world.act(county, "clinician", consult, "accept")
    assert world.state(consult) == "scheduled"
    number = consult.case.number
    assert world.published("Appointment", f"{number}-A")["status"] == "booked"
    later = at + dt.timedelta(days=1)
    world.act(
        county,
        "gp0",
        consult,
        "reschedule",
        scheduled_at=later.strftime("%Y-%m-%dT%H:%M"),
        reason="患者当天有检查",
    )
    world.act(county, "clinician", consult, "missed", code="requester", reason="申请方未上线")
    assert world.state(consult) == "requested"
    assert world.published("Appointment", f"{number}-A")["status"] == "noshow"
    consult.refresh_from_db()
    assert (consult.missed, consult.scheduled_at) == (1, None)
    assert [s.state for s in seats(consult)] == ["left"]
    assert not relationships.sees(world.scope_of(county, "tcm_clinician"), consult.person_id)
    again = (clock.now() + dt.timedelta(days=4)).strftime("%Y-%m-%dT%H:%M")
    world.act(county, "desk", consult, "assign", experts=[str(expert.pk)], scheduled_at=again)
    world.act(county, "clinician", consult, "accept")
    world.act(county, "clinician", consult, "begin")
    assert world.state(consult) == "consulting"


def test_more_is_asked_for_and_it_goes_on_where_it_stood() -> None:
    county = world.make_world()
    consult = world.ask(county, experts=[str(world.expert(county, "clinician").pk)])
    world.act(county, "clinician", consult, "accept")
    world.act(county, "clinician", consult, "ask", reason="请补充凝血功能")
    assert world.owed(consult) == {"answer"}
    with pytest.raises(NotAllowed):
        world.act(county, "clinician", consult, "conclude", **SAID)
    world.act(county, "gp0", consult, "answer", reason="凝血功能正常")
    assert world.state(consult) == "consulting"
    first = Act.objects.filter(case_id=consult.pk, move="ask").get()
    said = world.published("Communication", f"{consult.case.number}-C{first.seq}")
    assert said["payload"][0]["contentString"] == "请补充凝血功能"


def test_declined_or_unanswered_it_goes_back_to_the_desk() -> None:
    county = world.make_world()
    consult = world.ask(county, priority="emergency", experts=[str(world.expert(county, "clinician").pk)])
    assert service.unanswered() == 0
    with clock.at(clock.now() + dt.timedelta(minutes=11)):
        assert service.unanswered() == 1
        assert service.unanswered() == 0
    assert world.state(consult) == "requested"
    assert Notice.objects.filter(case_id=consult.pk, institution=county.lead, role="referral_desk").exists()
    world.act(county, "desk", consult, "assign", experts=[str(world.expert(county, "tcm_clinician").pk)])
    world.act(county, "tcm_clinician", consult, "decline", code="busy", reason="正在手术")
    assert world.state(consult) == "requested"
    world.act(county, "desk", consult, "assign", department=str(county.departments["surgery"].pk))
    world.act(county, "surgeon", consult, "accept")  # whoever is on duty in the department takes it
    assert seats(consult)[-1].practitioner_id == county.posts["surgeon"].practitioner_id
    world.act(county, "surgeon", consult, "conclude", **SAID)
    assert world.state(consult) == "concluded"


def test_a_signed_opinion_stands_and_a_change_is_a_version_with_its_reason() -> None:
    county = world.make_world()
    consult = world.ask(county, experts=[str(world.expert(county, "clinician").pk)])
    world.act(county, "clinician", consult, "accept")
    world.act(county, "clinician", consult, "opine", **SAID)
    changed = SAID | {"advice": "不溶栓，保守治疗。"}
    with pytest.raises(Refused) as refusal:
        world.act(county, "clinician", consult, "opine", **changed)
    assert "reason" in refusal.value.errors
    with pytest.raises(Refused):
        world.act(county, "clinician", consult, "opine", **SAID, reason="改")
    world.act(county, "clinician", consult, "opine", **changed, reason="影像见出血")
    rows = Opinion.objects.unscoped("test").filter(consult=consult)
    assert list(rows.order_by("version").values_list("version", flat=True)) == [1, 2]
    with pytest.raises(DatabaseError), transaction.atomic():
        rows.filter(version=1).update(advice="另写")
    with pytest.raises(DatabaseError), transaction.atomic():
        rows.filter(version=1).delete()
    world.act(county, "clinician", consult, "conclude", **changed)
    world.act(county, "clinician", consult, "amend", **SAID, reason="误写")
    assert world.owed(consult) == {"acknowledge"}
    assert world.published("Composition", f"{consult.case.number}-S")["status"] == "amended"


def test_the_host_waits_for_who_was_invited() -> None:
    county = world.make_world()
    consult = world.ask(county, experts=[str(world.expert(county, "clinician").pk)])
    world.act(county, "clinician", consult, "accept")
    world.act(county, "clinician", consult, "invite", expert=str(world.expert(county, "surgeon").pk))
    assert "opinion2" in world.owed(consult)
    with pytest.raises(NotAllowed):
        world.act(county, "clinician", consult, "conclude", **SAID)
    with pytest.raises(NotAllowed):
        world.act(county, "clinician", consult, "leave", reason="主持不能退出")
    world.act(county, "surgeon", consult, "leave", reason="非本专业")
    assert world.owed(consult) == {"summary"}
    world.act(county, "clinician", consult, "conclude", **SAID)
    share = Share.objects.unscoped("test").filter(consult=consult)
    assert {s.seat_id for s in share} == {seats(consult)[0].pk}


def test_consent_proves_itself() -> None:
    county = world.make_world()
    person = world.make_patient(county)
    for wrong, field in (({"how": "spoken"}, "witness"), ({"how": "guardian"}, "relation"), ({"how": "emergency", "witness": "甲"}, "consent_reason"),
                         ({"given_by": ""}, "given_by"), ({"how": "none"}, "how"), ({"question": " "}, "question")):  # fmt: skip
        with pytest.raises(Refused) as refusal:
            world.ask(county, person=person, **wrong)
        assert field in refusal.value.errors, wrong
    consult = world.ask(county, person=person, how="spoken", witness="护士乙")
    agreed = Agreed.objects.unscoped("test").get(pk=consult.pk)
    assert (agreed.how, agreed.witness, agreed.taken_by) == ("spoken", "护士乙", "全科甲")
    with pytest.raises(IntegrityError), transaction.atomic():
        Agreed.objects.unscoped("test").filter(pk=consult.pk).update(how="guardian", relation="")
    with pytest.raises(Refused):
        service.request(world.scope_of(county, "gp0"), person, world.form(), "scan1", scan=b"MZ not a form")
    with_scan = service.request(
        world.scope_of(county, "gp0"), person, world.form(), "scan2", scan=b"%PDF-1.4 signed"
    )
    kept = Agreed.objects.unscoped("test").get(pk=with_scan.pk)
    assert b"%PDF" not in bytes(kept.scan), "sealed"


def test_only_the_patients_own_and_what_one_may_see_is_laid_out() -> None:
    county = world.make_world()
    mine, other = world.make_patient(county), world.make_patient(county, "gp1")
    with pytest.raises(NoRelationship):
        world.ask(county, person=other)
    for ref in (world.report_of(other), "DiagnosticReport/none", "Patient/1", "nonsense"):
        with pytest.raises(Refused):
            service.request(world.scope_of(county, "gp0"), mine, world.form(), f"m-{ref}", materials=[ref])
    consult = world.ask(county, person=mine)
    assert [m.ref for m in Material.objects.unscoped("test").filter(consult=consult)] == [
        world.report_of(mine)
    ]
    with pytest.raises(Refused):
        service.add_materials(world.scope_of(county, "gp0"), consult.case.number, [world.report_of(other)])
    assert (
        service.add_materials(world.scope_of(county, "gp0"), consult.case.number, [world.report_of(mine)])
        == 0
    )
    with pytest.raises(NotAllowed):
        service.add_materials(world.scope_of(county, "desk"), consult.case.number, [world.report_of(mine)])


def test_the_same_submission_twice_is_one_consultation() -> None:
    county = world.make_world()
    person, by = world.make_patient(county), world.scope_of(county, "gp0")
    one = service.request(by, person, world.form(), "same")
    two = service.request(by, person, world.form(), "same")
    assert one.pk == two.pk
    with pytest.raises(KeyReused):
        service.request(by, person, world.form(question="另一个问题"), "same")
    assert Consult.objects.unscoped("test").count() == 1


def test_a_fee_is_shared_by_agreement_and_nothing_is_lost() -> None:
    county = world.make_world()
    Agreement.objects.create(
        party_a=county.townships[0], party_b=county.lead, kind="referral", number="AG-HZ-1", since=dt.date(2025, 1, 1),
        terms={"consult_share": {"expert": 67, "institution": 33}},
    )  # fmt: skip
    consult = world.ask(county, experts=[str(world.expert(county, "surgeon").pk)])
    world.act(county, "surgeon", consult, "accept")
    world.act(county, "surgeon", consult, "conclude", **SAID)
    rows = {s.kind: (s.fen, s.rule) for s in Share.objects.unscoped("test").filter(consult=consult)}
    assert rows == {"expert": (6701, "协议 AG-HZ-1"), "institution": (3300, "协议 AG-HZ-1")}
    assert fees.valid({"expert": 60, "institution": 39}) is None
    assert fees.valid({"expert": True, "institution": 99}) is None
    assert fees.valid({"king": 100}) is None


def test_each_side_judges_the_other_once() -> None:
    county = world.make_world()
    consult = world.ask(county, experts=[str(world.expert(county, "clinician").pk)])
    gp, expert = world.scope_of(county, "gp0"), world.scope_of(county, "clinician")
    with pytest.raises(NotAllowed):
        service.evaluate(gp, consult.case.number, 5)
    world.act(county, "clinician", consult, "accept")
    world.act(county, "clinician", consult, "conclude", **SAID)
    with pytest.raises(Refused):
        service.evaluate(gp, consult.case.number, 6)
    assert service.evaluate(gp, consult.case.number, 5, "及时").side == "requester"
    assert service.evaluate(expert, consult.case.number, 3, "资料不全").side == "expert"
    with pytest.raises(NotAllowed):
        service.evaluate(gp, consult.case.number, 4)


def test_what_is_typed_is_kept_for_its_author_until_it_is_signed() -> None:
    county = world.make_world()
    consult = world.ask(county, experts=[str(world.expert(county, "clinician").pk)])
    world.act(county, "clinician", consult, "accept")
    by, number = world.scope_of(county, "clinician"), consult.case.number
    service.save_draft(by, number, "summary", {"impression": "写到一半", "other": "不存"})
    row = Draft.objects.unscoped("test").get()
    assert row.content == {"impression": "写到一半", "advice": "", "reason": ""}
    assert service.draft_of(world.scope_of(county, "surgeon"), consult, "summary") is None
    with pytest.raises(NotAllowed):
        service.save_draft(world.scope_of(county, "gp0"), number, "summary", {})
    world.act(county, "clinician", consult, "conclude", **SAID)
    assert not Draft.objects.unscoped("test").exists()


def test_the_room_cannot_be_guessed_and_its_links_end(monkeypatch: pytest.MonkeyPatch) -> None:
    county = world.make_world()
    monkeypatch.delenv("LIANXIN_VIDEO_URL", raising=False)
    plain = world.ask(county, experts=[str(world.expert(county, "clinician").pk)])
    world.act(county, "clinician", plain, "accept")
    plain.refresh_from_db()
    assert (plain.room, video.link(plain, "甲")) == ("", "")
    monkeypatch.setenv("LIANXIN_VIDEO_URL", "https://meet.example.org/")
    consult = world.ask(county, experts=[str(world.expert(county, "surgeon").pk)])
    world.act(county, "surgeon", consult, "accept")
    consult.refresh_from_db()
    assert len(consult.room) > 30
    assert video.link(consult, "甲") == f"https://meet.example.org/{consult.room}"
    monkeypatch.setenv("LIANXIN_VIDEO_APP", "lianxin")
    monkeypatch.setenv("LIANXIN_VIDEO_SECRET", "a-secret-of-the-test-only-32-bytes!")
    token = video.link(consult, "专家", moderator=True).partition("?jwt=")[2]
    assert token.count(".") == 2
    from joserfc import jwt
    from joserfc.jwk import OctKey

    claims = jwt.decode(token, OctKey.import_key("a-secret-of-the-test-only-32-bytes!")).claims
    assert claims["room"] == consult.room
    assert claims["context"] == {"user": {"name": "专家"}}
    with clock.at(clock.now() + dt.timedelta(hours=3)):
        assert video.link(consult, "甲") == ""
    monkeypatch.setenv("LIANXIN_VIDEO_URL", "http://meet.example.org")
    assert video.base() == "", "no unencrypted video"


def test_cancelled_and_refused_end_what_was_owed() -> None:
    county = world.make_world()
    one = world.ask(county, experts=[str(world.expert(county, "clinician").pk)])
    world.act(county, "gp0", one, "cancel", reason="患者已转院")
    assert (world.state(one), world.owed(one)) == ("cancelled", set())
    two = world.ask(county)
    with pytest.raises(NotAllowed):
        world.act(county, "gp0", two, "refuse", reason="x")
    world.act(county, "desk", two, "refuse", reason="不属会诊范围，请门诊就诊")
    assert world.state(two) == "refused"
    assert proof.check() == []


def test_an_expert_who_has_enough_is_shown_as_busy() -> None:
    county = world.make_world()
    expert = world.expert(county, "clinician")
    for _ in range(3):
        world.ask(county, experts=[str(expert.pk)])
    line = next(x for x in pool.lines("03.04") if x.expert == expert)
    assert (line.open, line.free) == (3, False)
    surgeon = world.expert(county, "surgeon")
    surgeon.hours = [[3, "08:00", "12:00"]]
    surgeon.save()
    wednesday = dt.datetime(2026, 3, 4, 9, tzinfo=clock.ZONE)
    assert next(x for x in pool.lines(at=wednesday) if x.expert == surgeon).free
    assert not next(x for x in pool.lines(at=wednesday + dt.timedelta(hours=5)) if x.expert == surgeon).free


def test_the_table_is_sound_and_its_operations_are_offered() -> None:
    moves.MACHINE.validate()
    fhir.register()


def test_the_page_of_the_table_is_true() -> None:
    assert diagram.PAGE.read_text("utf-8") == diagram.page(), "run python -m lianxin.regional.consult.diagram"
