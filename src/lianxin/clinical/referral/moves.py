"""The transition table of the closed-loop referral (numbers: rows of the domain table; the diagram is generated from it).

One machine serves every direction. ``_entering`` re-states the duty of the state being entered with the role that owes it at
that institution (a township has no referral office). Clocks are policy data: see ``policy``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lianxin.clinical.referral import displaced as ds
from lianxin.clinical.referral import effects as fx
from lianxin.clinical.referral import forms as f
from lianxin.clinical.referral import guards as g
from lianxin.clinical.referral import parties, policy
from lianxin.clinical.referral.models import Referral
from lianxin.clinical.referral.publish import publish
from lianxin.duty.machine import Ctx, Machine, Move, Owes, State
from lianxin.network import roles
from lianxin.standards.text import T, Text

PARTS = {
    "referrer": T("转出机构", "Referrer"),
    "receiver": T("接诊机构", "Receiver"),
    "hub": T("牵头单位", "Lead institution"),
}
SIDE_FACTS = {
    "info": ("none", "asked"),
    "booking": ("none", "waitlisted", "held", "booked"),
    "cancel": ("none", "asked"),
}

# duty kind -> which kind of role owes it at its institution (see parties.role_at)
DUTY_ROLES = {
    "draft": "doctor",
    "ack": "desk",
    "decide": "desk",
    "info": "doctor",
    "book": "desk",
    "attend": "reception",
    "rebook": "desk",
    "start_care": "doctor",
    "outcome": "doctor",
    "letter_ack": "doctor",
    "plan": "doctor",
    "cancel_answer": "desk",
}


def owes(kind: str, zh: str, en: str, party: str, clock: str, button: str, since: str = "now") -> Owes:
    """A duty with the role its owner has at a hospital; narrowed to the institution when it is opened."""
    role = parties.role_at(None, DUTY_ROLES[kind])
    return Owes(kind, T(zh, en), party, role, clock, button, since)


def at_place(ctx: Ctx, duty: Owes) -> Owes:
    """The duty with the role that owes it at the institution that plays its part."""
    return replace(duty, role=parties.role_at(parties.player(ctx.subject, duty.party), DUTY_ROLES[duty.kind]))


STATES = (
    State("draft", T("草稿", "Draft"), fhir_status="draft",
          owes=owes("draft", "完善并提交转诊", "Complete and send the referral", "referrer", "draft", "submit")),
    State("submitted", T("已提交", "Submitted"), fhir_status="requested",
          owes=owes("ack", "签收转诊", "Acknowledge the referral", "receiver", "ack", "receive")),
    State("received", T("已签收", "Received"), fhir_status="received", business="awaiting-triage",
          owes=owes("decide", "审核并决定是否接收", "Decide on the referral", "receiver", "decide", "accept")),
    State("accepted", T("已接收", "Accepted"), fhir_status="accepted", business="awaiting-booking",
          owes=owes("book", "安排就诊或床位", "Arrange a visit or bed", "receiver", "book", "book", "pathway")),
    State("booked", T("已预约", "Booked"), fhir_status="in-progress", business="booked",
          owes=owes("attend", "到诊登记", "Register the arrival", "receiver", "attend_grace", "arrive")),
    State("arrived", T("已到诊", "Arrived"), fhir_status="in-progress", business="arrived",
          owes=owes("start_care", "开始诊治", "Start care", "receiver", "start_care", "start_care")),
    State("in_care", T("诊治中", "In care"), fhir_status="in-progress", business="awaiting-report",
          owes=owes("outcome", "诊治并发送回转单", "Treat and send the outcome letter", "receiver", "care", "send_outcome")),
    State("outcome_sent", T("已回转", "Outcome sent"), fhir_status="completed", business="awaiting-acknowledgement",
          owes=owes("letter_ack", "确认回转单、核对用药并安排随访",
                    "Acknowledge the letter, reconcile drugs, arrange follow-up", "referrer", "letter_ack", "acknowledge")),
    State("returned", T("已退回", "Returned"), fhir_status="rejected", business="returned",
          owes=owes("plan", "处置退回的转诊", "Decide what to do now it came back", "referrer", "plan", "settle_return")),
    State("no_show", T("爽约", "No-show"), fhir_status="in-progress", business="no-show",
          owes=owes("rebook", "联系患者并重新预约", "Call the patient and book again", "receiver", "rebook", "rebook")),
    State("closed", T("已闭环", "Closed"), terminal=True, fhir_status="completed", business="closed", access_days=7),
    State("cancelled", T("已取消", "Cancelled"), terminal=True, fhir_status="cancelled", business="cancelled"),
    State("closed_no_return", T("无回转结案", "Closed without return"), terminal=True, fhir_status="cancelled",
          business="closed-no-return"),
)  # fmt: skip
BY_STATE = {state.code: state for state in STATES}
LIVE = tuple(state.code for state in STATES if not state.terminal)
SENT = tuple(code for code in LIVE if code != "draft")
PATH = (
    "draft",
    "submitted",
    "received",
    "accepted",
    "booked",
    "arrived",
    "in_care",
    "outcome_sent",
    "closed",
)

INFO = owes("info", "答复接诊机构的问题", "Answer the receiver's question", "referrer", "info", "answer_info")
CANCEL = owes(
    "cancel_answer",
    "答复取消申请",
    "Answer the request to cancel",
    "receiver",
    "cancel_answer",
    "agree_cancel",
)


def _entering(target: str, *also: Owes) -> Callable[[Ctx], list[Owes]]:
    """Opens the duty of the target state (and others), each with the role that owes it there."""
    own = BY_STATE[target].owes

    def opens(ctx: Ctx) -> list[Owes]:
        return [at_place(ctx, duty) for duty in (*also, *((own,) if own else ()))]

    return opens


def _restarted(target: str, clock: str | None = None) -> Callable[[Ctx], list[Owes]]:
    """The same, its clock running from now (a booking that fell through, a disputed letter)."""
    own = BY_STATE[target].owes
    assert own is not None
    return lambda ctx: [replace(at_place(ctx, own), since="now", clock=clock or own.clock)]


def _in_care(ctx: Ctx) -> list[Owes]:
    """The clinician who starts care owes the outcome."""
    own = BY_STATE["in_care"].owes
    assert own is not None
    mine = ctx.by.account_id if ctx.by.has(roles.CLINICIAN, roles.WARD) else None
    return [replace(at_place(ctx, own), account_id=mine)]


def _call(ctx: Ctx) -> list[Owes]:
    """After too many no-shows: the family doctor calls."""
    own = BY_STATE["returned"].owes
    assert own is not None
    label = T("电话联系未到诊的患者并处置", "Call the patient who did not come, and decide")
    return [
        replace(own, label=label, clock="call", role=parties.role_at(ctx.subject.from_institution, "family"))
    ]


def move(name: str, zh: str, en: str, sources: tuple[str, ...], target: str | None, **more: Any) -> Move:
    """A row of the table; its target's duty is opened with the right role unless the row says otherwise."""
    if target and not BY_STATE[target].terminal:
        more.setdefault("opens", _entering(target))
    return Move(name, T(zh, en), sources, target, **more)


REF, REC = ("referrer",), ("receiver",)
MOVES = (
    Move("open", T("新建转诊", "New referral"), (), "draft", parties=REF, roles=parties.REFERRERS, form=f.DraftForm,
         effect=fx.open_draft, opens=_entering("draft")),
    Move("edit", T("修改", "Edit"), ("draft",), None, parties=REF, roles=parties.REFERRERS, form=f.DraftForm,
         effect=fx.edit_draft),
    # 1
    move("submit", "提交", "Send", ("draft",), "submitted", parties=REF, roles=parties.REFERRERS, form=f.SubmitForm,
         guards=(g.receiver_chosen, g.specialty_chosen, g.pack_complete, g.override_written, g.not_a_double),
         effect=fx.submit, tone="primary"),
    # 2
    move("receive", "签收", "Acknowledge", ("submitted",), "received", parties=REC, roles=parties.BOOKERS, effect=fx.receive,
         tone="primary"),
    # 3
    move("ask_info", "询问补充", "Ask for information", ("submitted", "received"), "received", parties=REC,
         roles=parties.TRIAGE, form=f.AskForm, guards=(g.no_question_open,), opens=_entering("received", INFO),
         effect=fx.ask),
    # 4
    move("answer_info", "答复", "Answer", ("received",), None, parties=REF, roles=parties.REFERRERS, form=f.AnswerForm,
         when={"info": "asked"}, discharges=("info",), effect=fx.answer, tone="primary"),
    # 5
    move("accept", "接收", "Accept", ("received",), "accepted", parties=REC, roles=parties.TRIAGE, form=f.AcceptForm,
         guards=(g.capable,), effect=fx.accept, tone="primary"),
    # 6
    move("accept_other", "调整优先级接收", "Accept at another priority", ("received",), "accepted", parties=REC,
         roles=parties.TRIAGE, form=f.AcceptOtherForm, guards=(g.capable,), effect=fx.accept),
    # 7
    move("return_with_advice", "退回并附建议", "Return with advice", ("received",), "returned", parties=REC,
         roles=parties.TRIAGE, form=f.AdviceForm, effect=fx.advise),
    # 8
    move("reject", "退回", "Reject", ("received",), "returned", parties=REC, roles=parties.TRIAGE, form=f.RejectForm,
         effect=fx.reject, tone="danger"),
    # 9
    move("redirect", "改转", "Pass on", ("received", "accepted"), "submitted", parties=("receiver", "hub"),
         roles=parties.TRIAGE, form=f.RedirectForm, guards=(g.hops_left,), effect=fx.pass_on),
    # 10
    move("book", "预约", "Book", ("accepted",), "booked", parties=("receiver", "referrer"), roles=parties.BOOKERS,
         form=f.SlotForm, effect=fx.book, tone="primary"),
    Move("hold", T("暂留号源", "Hold a number"), ("accepted",), None, parties=("receiver", "referrer"), roles=parties.BOOKERS,
         form=f.HoldForm, effect=fx.hold),
    # 11
    Move("no_capacity", T("列入候诊", "Put on the waiting list"), ("accepted",), None, parties=REC, roles=parties.BOOKERS,
         form=f.OptionalCommentForm, effect=fx.waitlist),
    # 12
    Move("reschedule", T("改约", "Reschedule"), ("booked",), None, parties=("receiver", "referrer"), roles=parties.BOOKERS,
         form=f.RescheduleForm, guards=(g.may_reschedule,), effect=fx.reschedule),
    # 13
    move("slot_cancelled_by_provider", "停诊取消预约", "Booking cancelled by the hospital", ("booked",), "accepted",
         parties=REC, roles=parties.BOOKERS, form=f.SlotCancelForm, opens=_restarted("accepted"), effect=fx.slot_lost),
    move("slot_cancelled_by_patient", "患者取消预约", "Booking cancelled by the patient", ("booked",), "accepted",
         parties=("receiver", "referrer"), roles=parties.BOOKERS, form=f.SlotCancelForm, opens=_restarted("accepted"),
         effect=fx.slot_lost),
    move("displaced", "停诊，重新安排", "Session stopped: arrange anew", ("booked",), "accepted", opens=_restarted("accepted"),
         effect=ds.displaced, system=True),
    Move("part_lost", T("停诊取消部分安排", "Part of the arrangement lost"), ("accepted", "arrived", "in_care"), None,
         effect=ds.part_lost, system=True),
    # 14
    move("arrive", "到诊登记", "Register arrival", ("booked",), "arrived", parties=REC, roles=parties.ARRIVAL,
         form=f.ArriveForm, effect=fx.arrive, tone="primary"),
    # 15
    move("no_show", "爽约", "No-show", ("booked",), "no_show", guards=(g.session_over,), effect=fx.no_show, system=True),
    # 16
    move("rebook", "重新预约", "Book again", ("no_show",), "booked", parties=REC, roles=parties.BOOKERS, form=f.SlotForm,
         guards=(g.may_rebook,), effect=fx.rebook, tone="primary"),
    # 17
    move("hand_back", "交回转出机构", "Hand back", ("no_show",), "returned", parties=REC, roles=parties.BOOKERS,
         form=f.OptionalCommentForm, guards=(g.may_hand_back,), opens=_call, effect=fx.hand_back),
    # 18
    move("start_care", "开始诊治", "Start care", ("arrived",), "in_care", parties=REC, roles=parties.CARE,
         form=f.StartCareForm, opens=_in_care, effect=fx.start_care, tone="primary"),
    # 19
    Move("interim_note", T("诊治进展", "Interim note"), ("in_care",), None, parties=REC, roles=parties.CARE, form=f.NoteForm,
         effect=fx.interim),
    # 20
    Move("discharge", T("出院/结束就诊", "Discharge"), ("in_care",), None, parties=REC, roles=parties.CARE,
         form=f.DischargeForm, guards=(g.not_discharged,), effect=fx.discharge),
    Move("decline_down", T("不下转", "Do not send down"), ("in_care", "outcome_sent"), None, parties=REC,
         roles=parties.CARE, form=f.NotDownForm, guards=(g.proposal_open,), discharges=("propose_down",), effect=fx.not_down),
    # 21
    move("send_outcome", "发送回转单", "Send the outcome letter", ("in_care",), "outcome_sent", parties=REC,
         roles=parties.CARE, form=f.OutcomeForm, guards=(g.discharged,), effect=fx.send_outcome, tone="primary"),
    # 22
    move("acknowledge", "确认回转并闭环", "Acknowledge and close", ("outcome_sent",), "closed", parties=REF,
         roles=parties.REFERRERS, form=f.AcknowledgeForm, guards=(g.letter_waiting,), effect=fx.acknowledge, tone="primary"),
    # 23
    move("dispute", "对回转单提出异议", "Dispute the letter", ("outcome_sent",), "in_care", parties=REF,
         roles=parties.REFERRERS, form=f.DisputeForm, guards=(g.letter_waiting,), opens=_restarted("in_care", "outcome"),
         effect=fx.dispute),
    # 24
    move("cancel", "撤回", "Withdraw", ("draft", "submitted", "received", "returned"), "cancelled", parties=REF,
         roles=parties.REFERRERS, form=f.CancelForm, effect=fx.cancel, tone="danger"),
    # 25
    Move("request_cancel", T("申请取消", "Ask to cancel"), ("accepted", "booked", "arrived", "in_care", "no_show"), None,
         parties=REF, roles=parties.REFERRERS, form=f.CancelForm, guards=(g.no_cancel_asked,),
         opens=lambda ctx: [at_place(ctx, CANCEL)], effect=fx.ask_cancel, tone="danger"),
    move("agree_cancel", "同意取消", "Agree to cancel", ("accepted", "booked", "arrived", "in_care", "no_show"), "cancelled",
         parties=REC, roles=parties.TRIAGE, form=f.AnswerCancelForm, when={"cancel": "asked"}, effect=fx.agree_cancel,
         tone="danger"),
    Move("refuse_cancel", T("不同意取消", "Refuse to cancel"), ("accepted", "booked", "arrived", "in_care", "no_show"), None,
         parties=REC, roles=parties.TRIAGE, form=f.AnswerCancelForm, when={"cancel": "asked"}, discharges=("cancel_answer",),
         effect=fx.refuse_cancel),
    # 26
    move("close_no_return", "无回转结案", "Close without return", LIVE, "closed_no_return",
         parties=("referrer", "receiver"), roles=parties.TRIAGE, form=f.NoReturnForm, effect=fx.close_no_return,
         tone="danger"),
    # 28
    move("arrive_green", "绿色通道到诊", "Green-channel arrival",
         ("draft", "submitted", "received", "accepted", "booked", "returned", "no_show"), "arrived", parties=REC,
         roles=parties.ARRIVAL, form=f.GreenForm, guards=(g.green_channel,), effect=fx.arrive_green, tone="danger"),
    Move("backfill", T("补记手续", "Write up skipped steps"), ("arrived", "in_care", "outcome_sent"), None,
         parties=("referrer", "receiver"), roles=parties.REFERRERS, form=f.BackfillForm, guards=(g.backfill_due,),
         discharges=("backfill",), effect=fx.backfill),
    # beside the table: what a returned referral becomes, the conversation, rounds on patients sent down
    move("resend", "转往其他机构", "Send elsewhere", ("returned",), "submitted", parties=REF, roles=parties.REFERRERS,
         form=f.ResendForm, guards=(g.hops_left,), effect=fx.pass_on),
    move("settle_return", "处置并结案", "Settle", ("returned",), "closed_no_return", parties=REF, roles=parties.REFERRERS,
         form=f.SettleForm, effect=fx.settle, tone="primary"),
    Move("note", T("留言", "Message"), SENT, None, parties=("referrer", "receiver"), form=f.NoteForm, effect=fx.note),
    Move("propose_down", T("发起下转", "Send down"), ("in_care", "outcome_sent"), None, parties=REC, roles=parties.CARE,
         form=f.ProposeDownForm, guards=(g.may_propose_down,), discharges=("propose_down",), effect=fx.propose_down),
    Move("ward_round", T("上级查房", "Ward round"), ("in_care",), None, parties=REF,
         roles=(roles.CLINICIAN, roles.WARD), form=f.RoundForm, guards=(g.goes_down,), effect=fx.ward_round,
         tone="primary"),
)  # fmt: skip


def clocks(ctx: Ctx, name: str) -> str:
    """The span of a clock for this referral's direction, priority and consortium, on the day of the act."""
    subject = ctx.subject
    if name == "care":
        name = "care_clinic" if subject.visit_kind == "clinic" else "care_inpatient"
    found = policy.values(subject.consortium, ctx.now.date())
    return policy.clock_spec(name, subject.direction, ctx.case.priority, found)


RELATED = (
    "from_institution", "to_institution", "to_department", "consortium", "place", "parent", "from_practitioner",
)  # fmt: skip


def _brought(case: Any) -> bool:
    """Whether the case came with its referral (a page read both at once); a case locked for a move never does."""
    return Referral._meta.get_field("case").remote_field.is_cached(case)


def load(case: Any) -> Referral | None:
    """The referral of a case with the institutions it names; the one a page came by, when it brought the case with it."""
    if _brought(case):
        return case.referral
    found = Referral.objects.unscoped("the kernel loads the row of the case it checked").select_related(
        *RELATED
    )
    subject = found.filter(pk=case.pk).first()
    if subject is not None:
        subject.case = case
    return subject


def load_many(cases: list[Any]) -> dict[int, Referral]:
    """The same for a list of cases."""
    if all(_brought(case) for case in cases):
        return {case.pk: case.referral for case in cases}
    found = Referral.objects.unscoped("the kernel loads the rows of the cases it checked").select_related(
        *RELATED
    )
    return {row.pk: row for row in found.filter(pk__in=[case.pk for case in cases])}


def summary(ctx: Ctx) -> Text:
    """One line for worklists: direction, diagnosis, from and to."""
    subject = ctx.subject
    words = {"up": T("上转", "Up"), "down": T("下转", "Down"), "across": T("平转", "Across")}
    to = subject.to_institution
    return T("{way} {what} {a}→{b}", "{way}: {what}, {a} → {b}").format(
        way=words[subject.direction],
        what=subject.diagnosis_name,
        a=subject.from_institution.short_label,
        b=to.short_label if to else "?",
    )


MACHINE = Machine(
    kind="referral",
    label=T("转诊", "Referral"),
    prefix="ZZ",
    states=STATES,
    moves=MOVES,
    parts=PARTS,
    clocks=clocks,
    side_facts=SIDE_FACTS,
    path=PATH,
    publish=publish,
    load=load,
    load_many=load_many,
    summary=summary,
    onlookers=("hub",),
    pause_max=str(policy.defaults()["pause.info_max"]),
)
