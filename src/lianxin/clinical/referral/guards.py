"""Why a move may not be made now. Guards look at the case and never at the form, so a button offered is a move that succeeds.

Each returns None (go on) or the words shown to the person who asks why.
"""

from __future__ import annotations

import datetime as dt

from lianxin.clinical.referral import parties, policy, rules
from lianxin.clinical.referral.models import MAX_HOPS, Letter, Referral
from lianxin.duty.machine import Ctx
from lianxin.network.models import Capability, Department
from lianxin.standards.text import T, Text


def setting(ctx: Ctx, name: str) -> int:
    """A count of the policy for this referral."""
    return int(policy.value(name, ctx.subject.consortium, ctx.now.date()))


def receiver_chosen(ctx: Ctx) -> Text | None:
    """A referral goes to somebody."""
    if ctx.subject.to_institution_id is None:
        return T("请先选择转入机构", "Choose the receiving institution first")
    return None


def specialty_chosen(ctx: Ctx) -> Text | None:
    """The specialty is part of the request (and of the guard against doubles)."""
    if not ctx.subject.specialty:
        return T("请先选择专科", "Choose the specialty first")
    return None


def pack_complete(ctx: Ctx) -> Text | None:
    """The mandatory pack of that disease and direction is there."""
    subject = ctx.subject
    parts = rules.pack_parts(subject.direction, subject.emergency, subject.answer.get("pack", ""))
    missing = [part.label for part in parts if not str(subject.pack.get(part.code) or "").strip()]
    if not missing:
        return None
    return T("随转资料不全，请补充：{parts}", "The papers are incomplete; add: {parts}").format(
        parts=T("、".join(m.zh for m in missing), ", ".join(m.en for m in missing))
    )


def override_written(ctx: Ctx) -> Text | None:
    """Going against the catalogue needs a reason (and is kept: overrides are what the catalogue learns from)."""
    from lianxin.clinical.referral.catalogue import override_needed

    answer = ctx.subject.answer
    needed = override_needed(answer.get("kind", ""), bool(answer.get("rule")), ctx.subject.direction)
    if needed and not ctx.subject.emergency and not ctx.subject.override_reason.strip():
        return T(
            "与目录建议不一致，请填写理由（目录：{why}）",
            "This goes against the catalogue; write why (catalogue: {why})",
        ).format(why=Text(**answer["why"]))
    return None


def not_a_double(ctx: Ctx) -> Text | None:
    """No open referral of the same person, specialty and direction, but for the one this referral follows."""
    subject = ctx.subject
    other = (
        Referral.objects.unscoped("the duplicate guard looks at the person's other referrals")
        .filter(
            person_id=subject.person_id,
            specialty=subject.specialty,
            direction=subject.direction,
            emergency=subject.emergency,
            live=True,
        )
        .exclude(pk__in=[subject.pk, subject.parent_id or 0])
        .select_related("case")
        .first()
    )
    if other is None:
        return None
    return T(
        "该患者同一专科已有未结束的转诊 {number}，请在原单上办理",
        "An open referral {number} of the same specialty exists; use it",
    ).format(number=other.case.number)


def capable(ctx: Ctx) -> Text | None:
    """The receiver has the specialty asked for, as far as its departments and capabilities are registered."""
    subject = ctx.subject
    if (
        subject.direction == "down"
        or subject.emergency
        or not subject.specialty
        or not subject.to_institution_id
    ):
        return None
    wanted = parties.covering(subject.specialty)
    departments = Department.objects.filter(institution_id=subject.to_institution_id, active=True)
    offered = set(departments.exclude(specialty="").order_by().values_list("specialty", flat=True))
    if not offered or not offered.isdisjoint(wanted):
        return None
    if (
        Capability.objects.live(ctx.now.date())
        .filter(institution_id=subject.to_institution_id, kind="specialty", code__in=wanted)
        .exists()
    ):
        return None
    return T(
        "本机构未登记该专科能力，请退回或改转其他机构",
        "This specialty is not registered here; return it or pass it on",
    )


def no_question_open(ctx: Ctx) -> Text | None:
    """One question at a time."""
    if ctx.facts.get("info") == "asked":
        return T("已有未答复的问题，请等待转出机构答复", "A question is waiting for its answer")
    return None


def hops_left(ctx: Ctx) -> Text | None:
    """At most three hops."""
    if ctx.subject.hops >= MAX_HOPS:
        return T(
            "已改转 {n} 次，不能再转，请退回转出机构",
            "Passed on {n} times already; return it to the referrer",
        ).format(n=str(MAX_HOPS))
    return None


def may_reschedule(ctx: Ctx) -> Text | None:
    """Rescheduling is counted and limited."""
    if ctx.subject.reschedules >= setting(ctx, "count.reschedule"):
        return T(
            "改约次数已达上限，请取消预约后重新安排",
            "Rescheduled too often; cancel the booking and arrange anew",
        )
    return None


def may_rebook(ctx: Ctx) -> Text | None:
    """After too many no-shows the referral goes back to the referrer."""
    if ctx.subject.no_shows > setting(ctx, "count.no_show"):
        return T("爽约次数已超上限，请交回转出机构", "Too many no-shows; hand back to the referrer")
    return None


def may_hand_back(ctx: Ctx) -> Text | None:
    """Only after more no-shows than the policy bears."""
    if ctx.subject.no_shows <= setting(ctx, "count.no_show"):
        return T("爽约次数未超上限，请重新预约", "Not yet too many no-shows; book again")
    return None


def session_over(ctx: Ctx) -> Text | None:
    """No-show only when the session has ended and the grace has passed."""
    end = ctx.subject.appointment_end
    grace = dt.timedelta(minutes=policy.minutes(str(policy.value("grace.no_show", ctx.subject.consortium))))
    if end is None or ctx.now < end + grace:
        return T("就诊时段尚未结束", "The session is not over yet")
    return None


def green_channel(ctx: Ctx) -> Text | None:
    """Only an emergency skips the steps."""
    if not ctx.subject.emergency:
        return T(
            "非急诊绿色通道转诊，请按预约流程登记到诊",
            "Not an emergency; register the arrival from a booking",
        )
    return receiver_chosen(ctx)


def not_discharged(ctx: Ctx) -> Text | None:
    """Discharge once."""
    if ctx.subject.discharged_at is not None:
        return T("已办理出院或结束就诊", "Already discharged")
    return None


def discharged(ctx: Ctx) -> Text | None:
    """The letter of an inpatient is written after discharge."""
    if ctx.subject.visit_kind != "clinic" and ctx.subject.discharged_at is None:
        return T(
            "住院患者请先办理出院，再发送回转单",
            "Discharge the inpatient first, then send the outcome letter",
        )
    return None


def may_propose_down(ctx: Ctx) -> Text | None:
    """After the visit has ended, and once: a second down-referral waits for the end of the first."""
    if ctx.subject.discharged_at is None:
        return T("请先办理出院或结束就诊", "Discharge the patient first")
    open_child = (
        Referral.objects.unscoped("is a down-referral open already?")
        .filter(parent=ctx.subject, direction="down", ended_at=None)
        .select_related("case")
        .first()
    )
    if open_child is not None:
        return T("下转单 {number} 尚未结束", "Down-referral {number} is still open").format(
            number=open_child.case.number
        )
    return None


def proposal_open(ctx: Ctx) -> Text | None:
    """There is a proposal to decline."""
    if "propose_down" not in ctx.open_duties:
        return T("当前没有待办的下转建议", "No down-referral is proposed now")
    return None


def letter_waiting(ctx: Ctx) -> Text | None:
    """A letter is there and waits."""
    waiting = Letter.objects.unscoped("the referral's own letters").filter(
        referral=ctx.subject, kind="outcome", acknowledged_at=None, disputed_at=None
    )
    if not waiting.exists():
        return T("没有待确认的回转单", "No outcome letter is waiting")
    return None


def backfill_due(ctx: Ctx) -> Text | None:
    """Steps were skipped and have not been written up."""
    if "backfill" not in ctx.open_duties:
        return T("没有需要补记的步骤", "Nothing is left to write up")
    return None


def no_cancel_asked(ctx: Ctx) -> Text | None:
    """One request to cancel at a time."""
    if ctx.facts.get("cancel") == "asked":
        return T(
            "已提出取消申请，请等待接收机构答复", "Cancellation has been asked for and waits for an answer"
        )
    return None


def goes_down(ctx: Ctx) -> Text | None:
    """Ward rounds are visits by the upper hospital to a patient sent down."""
    if ctx.subject.direction != "down":
        return T("仅下转患者由上级医院查房", "Ward rounds are for patients sent down")
    upper = parties.player(ctx.subject, "referrer")
    if upper is not None and upper.kind in parties.GRASSROOTS_KINDS:
        return T("由上级医院查房", "The upper hospital makes the rounds")
    return None
