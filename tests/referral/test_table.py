"""Every row of the table (referral_machine.md), by its number."""

from __future__ import annotations

import datetime as dt

import pytest

from lianxin.access import relationships
from lianxin.access.consent import holds
from lianxin.access.scope import Scope
from lianxin.clinical.referral import jobs, service
from lianxin.clinical.referral.models import Followup, Leg, Letter, Message
from lianxin.duty import kernel
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.models import Act, Duty
from lianxin.pool import booking
from lianxin.pool.models import Place
from lianxin.standards import calendar, clock
from tests.referral.world import DOWN_PACK, LETTER, PACK, START, World, key, person_at


def duty(world: World, number: str, kind: str) -> Duty:
    return Duty.objects.unscoped("test").get(case__number=number, kind=kind, ended="")


def owner(world: World, number: str) -> tuple[str, str]:
    case = world.case(number)
    return case.owner_institution.code, case.owner_role


def test_01_submit_needs_receiver_pack_consent_and_no_double(world: World) -> None:
    number = world.open(pack={"impression": "结节"}, to_institution="")
    with pytest.raises(NotAllowed, match="转入机构"):
        world.act("gp0", "submit", number, {"consent": True, "consent_evidence": "signed"})
    world.act("gp0", "edit", number, world.draft_data(pack={"impression": "结节"}))
    with pytest.raises(NotAllowed, match="随转资料不全"):
        world.act("gp0", "submit", number, {"consent": True, "consent_evidence": "signed"})
    world.act("gp0", "edit", number, world.draft_data())
    with pytest.raises(Refused) as refused:
        world.act("gp0", "submit", number, {})
    assert set(refused.value.errors) == {"consent", "consent_evidence"}
    assert not relationships.sees(world["desk"], world.person.pk)
    world.act("gp0", "submit", number, {"consent": True, "consent_evidence": "signed"})
    case = world.case(number)
    assert case.state == "submitted"
    assert owner(world, number) == (world.county.lead.code, "referral_desk")
    assert case.due_at == calendar.due(START, "1wd")
    assert Leg.objects.unscoped("test").get(referral_id=case.pk).number == 1
    assert holds(world.person.pk, "referral", world.county.lead.pk)
    assert relationships.sees(world["desk"], world.person.pk)
    double = world.open()
    with pytest.raises(NotAllowed, match=number):
        world.act("gp0", "submit", double, {"consent": True, "consent_evidence": "signed"})
    assert kernel.buttons(world.case(double), world["gp0"])[0].name != "submit"


def test_01_refer_names_every_missing_field(world: World) -> None:
    with pytest.raises(Refused) as refused:
        service.refer(world["gp0"], world.person, world.draft_data(pack={}, to_institution=""), key())
    assert {"to_institution", "pack_impression", "pack_present", "pack_past", "pack_treatment"} <= set(
        refused.value.errors
    )
    assert not Act.objects.exists(), "nothing half-written"


def test_01_override_of_the_catalogue_needs_its_reason(world: World) -> None:
    with pytest.raises(Refused) as refused:
        world.send(facts={"tirads": 2})
    assert "override_reason" in refused.value.errors
    number = world.send(facts={"tirads": 2}, override_reason="患者压迫感明显")
    referral = world.referral(number)
    assert (referral.answer["kind"], referral.override_reason) == ("treat_here", "患者压迫感明显")


def test_02_receive_starts_the_decision_clock(world: World) -> None:
    number = world.until("received")
    assert duty(world, number, "decide").due_at == calendar.due(START, "3wd")
    assert Leg.objects.unscoped("test").get(referral__case__number=number).received_at == START


def test_03_04_a_question_rests_the_clock_until_answered(world: World) -> None:
    number = world.send()
    with pytest.raises(Refused) as refused:
        world.act("desk", "ask_info", number, {"reason_code": "nonsense", "question": ""})
    assert set(refused.value.errors) == {"reason_code", "question"}
    world.act("desk", "ask_info", number, {"reason_code": "missing_result", "question": "请补充甲功"})
    case = world.case(number)
    assert (case.state, case.facts["info"]) == ("received", "asked")
    assert owner(world, number) == (world.county.townships[0].code, "gp")
    assert case.due_at == calendar.due(START, "2wd")
    assert duty(world, number, "decide").paused_since == START
    with clock.at(START + dt.timedelta(days=1)):
        world.act("gp0", "answer_info", number, {"text": "TSH 正常"})
    case = world.case(number)
    assert case.facts["info"] == "none"
    assert owner(world, number) == (world.county.lead.code, "referral_desk")
    assert case.due_at == calendar.due(START, "4wd"), "three working days of its own, one rested"
    assert [m.kind for m in Message.objects.unscoped("test").order_by("number")] == ["question", "answer"]


def test_05_accept_asks_for_capability_or_a_waiting_list(world: World) -> None:
    number = world.send(specialty="05.02")
    world.act("desk", "receive", number)
    with pytest.raises(NotAllowed, match="未登记该专科"):
        world.act("desk", "accept", number)
    other = world.until("received", specialty="03.04")
    world.act("desk", "accept", other, {"waitlist": True, "to_department": "XNK"})
    assert world.case(other).facts["booking"] == "waitlisted"
    assert world.referral(other).to_department.code == "XNK"
    assert duty(world, other, "book").due_at == calendar.due(START, "10wd")


def test_06_another_priority_counts_from_the_start_of_the_pathway(world: World) -> None:
    number = world.until("received")
    with clock.at(START + dt.timedelta(days=2)):
        with pytest.raises(Refused):
            world.act("desk", "accept_other", number, {"priority": "urgent"})
        world.act("desk", "accept_other", number, {"priority": "urgent", "reason_code": "more_urgent"})
    case = world.case(number)
    assert case.priority == "urgent"
    assert case.due_at == calendar.due(START, "7d")


def test_07_return_with_advice(world: World) -> None:
    number = world.until("received")
    world.act("desk", "return_with_advice", number, {"advice": "半年后复查超声"})
    assert owner(world, number) == (world.county.townships[0].code, "gp")
    assert duty(world, number, "plan").button == "settle_return"
    assert Letter.objects.unscoped("test").get().kind == "advice"
    assert not relationships.sees(world["desk"], world.person.pk), "access ends with the duty"
    world.act("gp0", "settle_return", number, {"reason_code": "treat_here", "comment": "按建议随访"})
    assert world.state(number) == "closed_no_return"


def test_08_reject_with_a_code_of_the_day_and_a_comment_when_demanded(world: World) -> None:
    number = world.until("received")
    with pytest.raises(Refused) as refused:
        world.act("desk", "reject", number, {"reason_code": "paper_form"})
    assert "reason_code" in refused.value.errors, "withdrawn since 2024"
    with pytest.raises(Refused) as refused:
        world.act("desk", "reject", number, {"reason_code": "not_indicated"})
    assert set(refused.value.errors) == {"comment"}
    world.act("desk", "reject", number, {"reason_code": "no_capability"})
    assert (world.state(number), owner(world, number)[1]) == ("returned", "gp")
    leg = Leg.objects.unscoped("test").get(referral__case__number=number)
    assert (leg.status, leg.end_code) == ("returned", "no_capability")


def test_09_redirect_keeps_the_pathway_and_never_repeats(world: World) -> None:
    number = world.until("accepted")
    start = world.case(number).pathway_start
    lead, tcm, far = world.county.lead, world.county.tcm, world.county.townships[2]
    with clock.at(START + dt.timedelta(days=1)):
        for bad in (lead.code, world.county.townships[0].code, "NOWHERE"):
            with pytest.raises(Refused) as refused:
                world.act("desk", "redirect", number, {"to_institution": bad, "reason_code": "capacity"})
            assert set(refused.value.errors) == {"to_institution"}
        world.act("manager", "redirect", number, {"to_institution": tcm.code, "reason_code": "capacity"})
        case = world.case(number)
        assert (case.state, case.pathway_start) == ("submitted", start)
        assert case.due_at == calendar.due(clock.now(), "1wd"), "a new acknowledgement clock"
        assert owner(world, number)[0] == tcm.code
        assert not relationships.sees(world["surgeon"], world.person.pk)
        world.act("tcm_desk", "receive", number)
        with pytest.raises(Refused):
            world.act(
                "tcm_desk", "redirect", number, {"to_institution": lead.code, "reason_code": "capacity"}
            )
        world.act("tcm_desk", "redirect", number, {"to_institution": far.code, "reason_code": "closer"})
        world.act("gp2", "receive", number)
        world.act(
            "gp2",
            "redirect",
            number,
            {"to_institution": world.county.townships[1].code, "reason_code": "closer"},
        )
        world.act("gp1", "receive", number)
        with pytest.raises(NotAllowed, match="3 次"):
            world.act("gp1", "redirect", number, {"to_institution": lead.code, "reason_code": "closer"})
    assert [leg.status for leg in Leg.objects.unscoped("test").filter(referral__case__number=number).order_by("number")] == [
        "redirected", "redirected", "redirected", "open",
    ]  # fmt: skip


def test_10_book_takes_a_place_of_the_receiver_only(world: World) -> None:
    number = world.until("accepted")
    session = world.session(capacity=1)
    with pytest.raises(Refused) as refused:
        world.act("desk", "book", number, {})
    assert set(refused.value.errors) == {"session"}
    world.act("gp0", "book", number, {"session": session.pk})
    place = Place.objects.unscoped("test").get()
    assert (place.state, place.case_id, world.referral(number).place_id) == (
        "booked",
        world.case(number).pk,
        place.pk,
    )
    assert owner(world, number) == (world.county.lead.code, "reception")
    other = world.until("accepted", person=person_at(world.county.townships[0], "尤俊达"), specialty="03.04")
    with pytest.raises(booking.Full):
        world.act("desk", "book", other, {"session": session.pk})
    assert world.state(other) == "accepted"


def test_11_no_capacity_is_looked_at_weekly(world: World) -> None:
    number = world.until("accepted")
    world.act("desk", "no_capacity", number)
    case = world.case(number)
    assert (case.state, case.facts["booking"], case.due_at) == (
        "accepted",
        "waitlisted",
        START + dt.timedelta(days=7),
    )


def test_12_reschedule_moves_the_place_and_is_counted(world: World) -> None:
    number = world.until("accepted")
    first, second = world.session(days=2), world.session(days=3)
    world.act("desk", "book", number, {"session": first.pk})
    for n, session in enumerate((second, first, second)):
        world.act("gp0", "reschedule", number, {"session": session.pk, "reason_code": "patient"})
        assert world.referral(number).reschedules == n + 1
    with pytest.raises(NotAllowed, match="上限"):
        world.act("gp0", "reschedule", number, {"session": first.pk, "reason_code": "patient"})
    assert booking.recount() == []
    assert Place.objects.unscoped("test").filter(state="booked").count() == 1


def test_13_a_cancelled_slot_restarts_the_booking_clock(world: World) -> None:
    for by, move in (("desk", "slot_cancelled_by_provider"), ("gp0", "slot_cancelled_by_patient")):
        number = world.until("accepted", specialty={"desk": "03.04", "gp0": "04.01"}[by])
        session = world.session()
        world.act("desk", "book", number, {"session": session.pk})
        with clock.at(START + dt.timedelta(days=1)):
            world.act(by, move, number, {"reason_code": "provider_stopped"})
            assert world.case(number).due_at == calendar.due(clock.now(), "10wd")
        assert world.state(number) == "accepted"
        assert not Place.objects.unscoped("test").filter(session=session, state="booked").exists()


def test_14_arrive_checks_who_it_is(world: World) -> None:
    number = world.until("accepted")
    session = world.session()
    world.act("desk", "book", number, {"session": session.pk})
    stranger = person_at(world.county.townships[0], "尤俊达")
    with pytest.raises(Refused) as refused:
        world.act("lead_reception", "arrive", number, {"identity": stranger.number})
    assert set(refused.value.errors) == {"identity"}
    world.act("lead_reception", "arrive", number, {"identity": world.person.number})
    assert Place.objects.unscoped("test").get().state == "arrived"
    world.act("surgeon", "start_care", number, {"visit_kind": "clinic"})
    assert Place.objects.unscoped("test").get().state == "fulfilled"


def test_15_16_17_no_show_by_the_system_then_people_decide(world: World) -> None:
    number = world.until("accepted")
    with pytest.raises(NotAllowed):
        world.act("desk", "no_show", number)
    session = world.session()
    world.act("desk", "book", number, {"session": session.pk})
    assert jobs.mark_no_shows() == 0
    with clock.at(session.ends_at + dt.timedelta(minutes=29)):
        assert jobs.mark_no_shows() == 0
    with clock.at(session.ends_at + dt.timedelta(minutes=31)):
        assert jobs.mark_no_shows() == 1
        assert (world.state(number), owner(world, number)) == (
            "no_show",
            (world.county.lead.code, "referral_desk"),
        )
        assert Place.objects.unscoped("test").get().state == "no_show"
        with pytest.raises(NotAllowed, match="重新预约"):
            world.act("desk", "hand_back", number)
        again = world.session(days=2)
        world.act("desk", "rebook", number, {"session": again.pk})
    with clock.at(again.ends_at + dt.timedelta(hours=1)):
        assert jobs.mark_no_shows() == 1
        with pytest.raises(NotAllowed, match="上限"):
            world.act("desk", "rebook", number, {"session": again.pk})
        world.act("desk", "hand_back", number)
        assert (world.state(number), owner(world, number)) == (
            "returned",
            (world.county.townships[0].code, "family_doctor"),
        )
    assert booking.recount() == []


def test_18_19_care_is_the_clinicians_and_the_referrer_is_told(world: World) -> None:
    number = world.until("in_care")
    mine = duty(world, number, "outcome")
    assert mine.owner_account_id == world["surgeon"].account_id
    with pytest.raises(NotAllowed):
        world.act("lead_reception", "interim_note", number, {"text": "术后第一天"})
    world.act("surgeon", "interim_note", number, {"text": "术后第一天"})
    assert Letter.objects.unscoped("test").get().kind == "interim"


def test_20_21_discharge_starts_24_hours_and_may_propose_down(world: World) -> None:
    number = world.until("in_care")
    with pytest.raises(NotAllowed, match="先办理出院"):
        world.act("surgeon", "send_outcome", number, LETTER)
    with pytest.raises(NotAllowed):
        world.act("surgeon", "propose_down", number, {"to_institution": world.county.tcm.code})
    world.act("surgeon", "discharge", number, {"facts": {"stable": True, "wound_healing": True}})
    assert world.case(number).due_at == START + dt.timedelta(hours=24)
    assert duty(world, number, "propose_down").button == "propose_down"
    assert world.referral(number).down_proposal["to"] == world.county.townships[0].code
    with pytest.raises(Refused) as refused:
        world.act("surgeon", "send_outcome", number, {k: v for k, v in LETTER.items() if k != "watch_for"})
    assert set(refused.value.errors) == {"watch_for"}
    world.act("surgeon", "decline_down", number, {"reason_code": "declined"})
    world.act("surgeon", "send_outcome", number, LETTER)
    assert owner(world, number) == (world.county.townships[0].code, "gp")
    assert world.case(number).due_at == calendar.due(START, "3wd")


def test_20_not_ready_no_proposal(world: World) -> None:
    number = world.until("in_care")
    world.act("surgeon", "discharge", number, {"facts": {"stable": False}})
    assert not Duty.objects.unscoped("test").filter(kind="propose_down").exists()


def test_22_acknowledge_reconciles_and_makes_a_follow_up(world: World) -> None:
    number = world.until("outcome_sent")
    with pytest.raises(Refused) as refused:
        world.act("gp0", "acknowledge", number, {})
    assert set(refused.value.errors) == {"medication_reconciled"}
    world.act(
        "gp0",
        "acknowledge",
        number,
        {"medication_reconciled": True, "followup_at": START + dt.timedelta(days=5)},
    )
    letter = Letter.objects.unscoped("test").get(kind="outcome")
    assert letter.acknowledged_at == START
    follow = Followup.objects.unscoped("test").get()
    assert follow.case.due_at == START + dt.timedelta(days=5)
    assert follow.institution_id == world.county.townships[0].pk
    assert follow.plan["watch_for"] == LETTER["watch_for"]


def test_23_dispute_goes_back_to_care_with_a_short_clock(world: World) -> None:
    number = world.until("outcome_sent")
    world.act("gp0", "dispute", number, {"reason_code": "drugs", "comment": "剂量不明"})
    case = world.case(number)
    assert (case.state, case.due_at) == ("in_care", START + dt.timedelta(hours=24))
    world.act("surgeon", "send_outcome", number, LETTER)
    world.act("gp0", "acknowledge", number, {"medication_reconciled": True})
    assert world.state(number) == "closed"


@pytest.mark.parametrize("state", ["draft", "submitted", "received"])
def test_24_cancel_before_acceptance(world: World, state: str) -> None:
    number = world.until(state)
    with pytest.raises(Refused):
        world.act("gp0", "cancel", number, {})
    world.act("gp0", "cancel", number, {"reason_code": "improved"})
    assert world.state(number) == "cancelled"
    assert not world.referral(number).live


@pytest.mark.parametrize("state", ["accepted", "booked", "in_care"])
def test_25_cancel_after_acceptance_needs_agreement(world: World, state: str) -> None:
    number = world.until(state)
    with pytest.raises(NotAllowed):
        world.act("gp0", "cancel", number, {"reason_code": "improved"})
    world.act("gp0", "request_cancel", number, {"reason_code": "improved"})
    assert duty(world, number, "cancel_answer").owner_institution_id == world.county.lead.pk
    world.act("desk", "refuse_cancel", number, {"comment": "已安排手术"})
    assert (world.state(number), world.case(number).facts["cancel"]) == (state, "none")
    world.act("gp0", "request_cancel", number, {"reason_code": "patient_wish"})
    world.act("desk", "agree_cancel", number, {"comment": "同意"})
    assert (world.state(number), world.referral(number).end_code) == ("cancelled", "patient_wish")


def test_26_close_without_return_from_anywhere(world: World) -> None:
    states = ["draft", "submitted", "received", "accepted", "booked", "arrived", "in_care", "outcome_sent"]
    for n, state in enumerate(states):
        number = world.until(state, specialty="03.04" if n % 2 else "04.01")
        by = "desk" if n % 2 else "gp0"
        world.act(by, "close_no_return", number, {"reason_code": "moved"})
        referral = world.referral(number)
        assert (world.state(number), referral.end_code, referral.booking) == (
            "closed_no_return",
            "moved",
            "none",
        )


def test_27_running_out_escalates_and_ends_nothing(world: World) -> None:
    from lianxin.duty import escalation

    number = world.send()
    with clock.at(START + dt.timedelta(days=30)):
        assert escalation.escalate(clock.now()) > 0
        assert world.state(number) == "submitted"
        assert duty(world, number, "ack").level > 0


@pytest.mark.parametrize("state", ["draft", "submitted", "received", "accepted", "booked"])
def test_28_green_channel_skips_and_owes_the_rest(world: World, state: str) -> None:
    number = world.until(state, emergency=True, priority="emergency")
    if state == "booked":
        world.act("lead_reception", "arrive", number, {"identity": world.person.number})
        return
    world.act(
        "lead_reception", "arrive_green", number, {"identity": world.person.number, "comment": "救护车送达"}
    )
    assert world.state(number) == "arrived"
    steps = [row["step"] for row in world.referral(number).backfilled]
    assert steps == {"draft": ["submit", "receive", "accept", "book"], "submitted": ["receive", "accept", "book"],
                     "received": ["accept", "book"], "accepted": ["book"]}[state]  # fmt: skip
    by = "gp0" if state == "draft" else "desk"
    assert duty(world, number, "backfill").owner_institution_id == world[by].institution_id
    world.act(
        by, "backfill", number, {"consent_evidence": "emergency", "comment": "急诊送达，补记", "pack": PACK}
    )
    assert world.referral(number).consent_id is not None
    assert not Duty.objects.unscoped("test").filter(case__number=number, kind="backfill", ended="").exists()


def test_28_only_an_emergency(world: World) -> None:
    number = world.send()
    with pytest.raises(NotAllowed, match="非急诊"):
        world.act("lead_reception", "arrive_green", number, {"identity": world.person.number})


def test_down_pack_acceptance_follow_up_and_rounds(world: World) -> None:
    home = world.county.townships[0]
    more = {"direction": "down", "to_institution": home.code, "specialty": "21", "by": "surgeon"}
    relationships.grant(world.person.pk, world.county.lead.pk, "encounter", "test")
    with pytest.raises(Refused) as refused:
        world.send(**more, pack=PACK, diagnosis_code="D34", facts={})
    assert {"pack_summary", "pack_drugs", "pack_rehabilitation", "pack_danger_signs"} <= set(
        refused.value.errors
    )
    number = world.send(
        **more, pack=DOWN_PACK, diagnosis_code="D34", facts={"stable": True, "wound_healing": True}
    )
    world.act("gp0", "receive", number)
    assert duty(world, number, "decide").due_at == calendar.due(START, "2wd"), "its own clocks"
    world.act("gp0", "reject", number, {"reason_code": "not_stable", "comment": "引流未拔"})
    assert owner(world, number) == (world.county.lead.code, "clinician"), (
        "a rejected down-referral stays the hospital's"
    )
    world.act("surgeon", "resend", number, {"to_institution": world.county.townships[1].code})
    world.act("gp1", "receive", number)
    done = world.act("gp1", "accept", number)
    follow = Followup.objects.unscoped("test").get()
    assert follow.case.number == done.act.outcome["more"]["followup"]
    assert (follow.case.owner_role, follow.case.due_at) == ("family_doctor", START + dt.timedelta(days=7))
    world.act("gp1", "book", number, {"appointment_at": START + dt.timedelta(days=1)})
    world.act("reception1", "arrive", number, {"identity": world.person.number})
    world.act("gp1", "start_care", number, {"visit_kind": "inpatient"})
    with pytest.raises(NotAllowed):
        world.act("gp1", "ward_round", number, {"findings": "x", "advice": "y"})
    world.act("surgeon", "ward_round", number, {"findings": "恢复好", "advice": "停抗生素"})
    assert Letter.objects.unscoped("test").get(kind="ward_round").institution_id == world.county.lead.pk


def test_followup_machine(world: World) -> None:
    number = world.until("closed")
    follow = Followup.objects.unscoped("test").get(referral__case__number=number).case.number
    with pytest.raises(NotAllowed, match="尚无随访"):
        world.act("family0", "finish", follow, {"conclusion": "x"})
    with pytest.raises(Refused):
        world.act("family0", "lost", follow, {"reason_code": "not_found"})
    for _ in range(3):
        world.act("family0", "attempt", follow, {"comment": "电话无人接听"})
    world.act("family0", "reschedule", follow, {"next_at": START + dt.timedelta(days=9), "comment": "外出"})
    assert world.case(follow).due_at == START + dt.timedelta(days=9)
    world.act(
        "family0",
        "hand_over",
        follow,
        {"to_institution": world.county.townships[1].code, "reason_code": "nearer"},
    )
    assert owner(world, follow) == (world.county.townships[1].code, "family_doctor")
    world.act("family1", "contact", follow, {"mode": "phone", "findings": "已联系"})
    assert world.state(follow) == "contacted"
    world.act("family1", "lost", follow, {"reason_code": "moved"})
    assert world.state(follow) == "lost"


def test_a_system_scope_cannot_press_buttons(world: World) -> None:
    number = world.send()
    with pytest.raises(NotAllowed):
        kernel.execute("receive", number, Scope.system("test"), {}, None, key())


def test_10_a_held_number_is_confirmed_or_runs_out(world: World) -> None:
    number = world.until("accepted")
    session = world.session()
    world.act("desk", "hold", number, {"session": session.pk})
    place = Place.objects.unscoped("test").get(case_id=world.case(number).pk)
    assert (place.state, world.case(number).facts["booking"], world.state(number)) == (
        "held",
        "held",
        "accepted",
    )
    world.act("desk", "book", number, {})
    place.refresh_from_db()
    assert (place.state, world.state(number)) == ("booked", "booked")

    other = world.until("accepted", person=person_at(world.county.townships[0], "尤俊达"), specialty="03.04")
    world.act("desk", "hold", other, {"session": session.pk})
    with clock.at(clock.now() + dt.timedelta(hours=3)):
        with pytest.raises(Refused, match="过期"):
            world.act("desk", "book", other, {})
        world.act("desk", "no_capacity", other)
    assert (
        not Place.objects.unscoped("test")
        .filter(case_id=world.case(other).pk, state__in=("held", "booked"))
        .exists()
    )
    assert booking.recount() == []
