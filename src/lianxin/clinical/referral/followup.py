"""The second, smaller machine: a follow-up that somebody at the grassroots owes until it is done or lost for a coded reason.

It opens when a township accepts a patient sent down (first contact within 7 days) and when an outcome letter is acknowledged.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

from django import forms as django_forms

from lianxin.clinical.referral import forms as f
from lianxin.clinical.referral import intent, parties, policy
from lianxin.clinical.referral.models import Followup, FollowupContact, Letter, Referral
from lianxin.duty import kernel
from lianxin.duty.errors import Refused
from lianxin.duty.machine import Ctx, Effect, Machine, Move, Owes, State, Tell
from lianxin.network.models import Institution
from lianxin.standards.text import T, Text

KIND = "followup"
PARTS = {"follower": T("随访机构", "Who follows up"), "origin": T("来源机构", "Where it comes from")}
MODES = (
    ("home", T("入户", "Home visit")),
    ("clinic", T("门诊", "At the clinic")),
    ("phone", T("电话", "Telephone")),
    ("video", T("视频", "Video")),
)


class ContactForm(f.MoveForm):
    """One contact in a few numbers: pressures, glucose, drugs taken, danger signs, when next."""

    mode = f.choice(T("方式", "How"), MODES)
    bp_systolic = f.number(T("收缩压(mmHg)", "Systolic (mmHg)"), low=40, high=300)
    bp_diastolic = f.number(T("舒张压(mmHg)", "Diastolic (mmHg)"), low=20, high=200)
    glucose = django_forms.DecimalField(
        label=T("血糖(mmol/L)", "Glucose (mmol/L)"),
        required=False,
        min_value=0,
        max_value=60,
        max_digits=4,
        decimal_places=1,
    )
    taking_drugs = f.choice(
        T("服药情况", "Drugs"),
        (("yes", T("规律", "Regular")), ("partly", T("间断", "Irregular")), ("no", T("不服药", "None"))),
        required=False,
    )
    danger_signs = f.flag(T("出现危险信号（建议再次上转）", "Danger signs (consider referring up again)"))
    findings = f.text(T("随访情况", "Findings"), required=False)
    next_at = f.moment(T("下次随访", "Next contact"), required=False)


class FinishForm(f.MoveForm):
    """The follow-up is done: what comes of it."""

    conclusion = f.text(T("随访结论", "Conclusion"))


class AttemptForm(f.MoveForm):
    """Tried and not reached."""

    comment = f.text(T("联系情况", "What was tried"))


class MoveDateForm(f.MoveForm):
    """Another day."""

    next_at = f.moment(T("改期至", "Move to"))
    comment = f.text(T("原因", "Why"))


class HandOverForm(f.MoveForm):
    """Somebody else follows up from now on."""

    to_institution = f.text(T("移交机构", "Hand over to"), long=False)
    reason_code = f.reason("hand_over")
    comment = f.text(T("说明", "Comment"), required=False)


class LostForm(f.MoveForm):
    """Lost to follow-up, for a coded reason."""

    reason_code = f.reason("lost")
    comment = f.text(T("说明", "Comment"), required=False)


def _contact_owes(ctx: Ctx, clock_name: str, due: dt.datetime | None = None) -> Owes:
    subject = ctx.subject
    own = STATES[0].owes
    assert own is not None
    return replace(own, role=parties.role_at(subject.institution, "family"), clock=clock_name, due=due)


def _count(subject: Followup) -> int:
    return FollowupContact.objects.unscoped("the follow-up's own contacts").filter(followup=subject).count()


def _write_contact(ctx: Ctx, mode: str, content: dict[str, Any]) -> None:
    FollowupContact.objects.create(
        followup=ctx.subject, person_id=ctx.subject.person_id, number=_count(ctx.subject) + 1, mode=mode,
        practitioner_id=ctx.by.practitioner_id, author=ctx.by.name, content=content, at=ctx.now,
    )  # fmt: skip


def _future(ctx: Ctx, name: str = "next_at") -> dt.datetime | None:
    """A date of the form that must lie ahead and within the policy's horizon."""
    at = ctx.data.get(name)
    if at is None:
        return None
    horizon = ctx.now + dt.timedelta(days=int(policy.value("limit.follow_up_days")))
    if not ctx.now < at <= horizon:
        raise Refused({name: T("日期须在今后一年内", "The date must lie within the year ahead")})
    return at


def _open(ctx: Ctx) -> Effect:
    extra = ctx.extra
    ctx.subject = Followup(
        case_id=ctx.case.pk, person_id=ctx.case.patient_id, referral_id=extra.get("referral_id"),
        institution_id=ctx.parties["follower"], origin_institution_id=extra.get("origin_id"), kind=extra.get("kind", "rehab"),
        plan=extra.get("plan", {}), next_due=extra.get("first_at"),
    )  # fmt: skip
    ctx.subject.save(force_insert=True)
    return Effect(opens=(_contact_owes(ctx, "first", extra.get("first_at")),))


def _contact(ctx: Ctx) -> Effect:
    subject, data = ctx.subject, ctx.data
    content = {
        k: data[k]
        for k in ("bp_systolic", "bp_diastolic", "taking_drugs", "danger_signs", "findings")
        if data.get(k)
    }
    if data.get("glucose") is not None:
        content["glucose"] = float(data["glucose"])
    due = _future(ctx)
    _write_contact(ctx, data["mode"], content)
    subject.contacts += 1
    subject.attempts, subject.next_due = 0, due
    subject.save()
    effect = Effect(opens=(_contact_owes(ctx, "next", due),), discharges=("contact",))
    if data["danger_signs"] and "origin" in ctx.parties:
        effect.notices = (Tell("origin", "clinician", T("随访发现危险信号", "Danger signs at follow-up")),)
    return effect


def _attempt(ctx: Ctx) -> Effect:
    _write_contact(ctx, "failed", {"findings": ctx.data["comment"]})
    ctx.subject.attempts += 1
    ctx.subject.save()
    return Effect(opens=(_contact_owes(ctx, "retry"),), discharges=("contact",))


def _reschedule(ctx: Ctx) -> Effect:
    due = _future(ctx)
    ctx.subject.reschedules += 1
    ctx.subject.next_due = due
    ctx.subject.save()
    return Effect(due={"contact": due} if due else {})


def _hand_over(ctx: Ctx) -> Effect:
    target = intent.institution(ctx.data["to_institution"], "to_institution")
    if target.pk == ctx.subject.institution_id:
        raise Refused({"to_institution": T("已由该机构随访", "It follows up already")})
    ctx.subject.institution = target
    ctx.subject.save()
    role = parties.role_at(target, "family")
    handed = replace(_contact_owes(ctx, "hand_over"), role=role)
    told = Tell("follower", role, T("接到移交的随访", "A follow-up was handed over to you"))
    return Effect(parties={"follower": target.pk}, opens=(handed,), withdraws=("contact",), notices=(told,))


def _finish(ctx: Ctx) -> None:
    ctx.subject.end_code, ctx.subject.end_text = "done", ctx.data["conclusion"]
    ctx.subject.next_due = None
    ctx.subject.save()


def _lost(ctx: Ctx) -> None:
    needed = int(policy.value("count.followup_attempts"))
    if ctx.data["reason_code"] == "not_found" and ctx.subject.attempts < needed:
        raise Refused(
            {
                "reason_code": T(
                    "须先记录至少 {n} 次未联系到，再按失访结案",
                    "Record at least {n} failed attempts before closing as lost",
                ).format(n=str(needed))
            }
        )
    ctx.subject.end_code, ctx.subject.end_text = ctx.data["reason_code"], ctx.data.get("comment") or ""
    ctx.subject.next_due = None
    ctx.subject.save()


def _contacted(ctx: Ctx) -> Text | None:
    if ctx.subject.contacts == 0:
        return T("尚无随访记录，请先完成一次随访", "No contact yet; make one first")
    return None


def _may_reschedule(ctx: Ctx) -> Text | None:
    if ctx.subject.reschedules >= int(policy.value("count.followup_reschedule")):
        return T(
            "改期次数已达上限，请随访、移交或按失访处理",
            "Moved too often; contact, hand over or close as lost",
        )
    return None


def _owes(label: Text, clock: str) -> Owes:
    return Owes("contact", label, "follower", "family_doctor", clock, "contact")


STATES = (
    State(
        "planned",
        T("待首次随访", "First contact due"),
        owes=_owes(T("首次随访", "First follow-up contact"), "first"),
    ),
    State("contacted", T("随访中", "In follow-up"), owes=_owes(T("随访", "Follow-up contact"), "next")),
    State("done", T("随访完成", "Done"), terminal=True),
    State("lost", T("失访", "Lost"), terminal=True),
)
OPEN = ("planned", "contacted")
FOLLOWER = ("follower",)
MOVES = (
    Move("open", T("建立随访", "Open a follow-up"), (), "planned", effect=_open),
    Move("contact", T("完成随访", "Record a contact"), OPEN, "contacted", FOLLOWER, parties.FOLLOWERS, ContactForm,
         effect=_contact, tone="primary"),
    Move("attempt", T("未联系到", "Not reached"), OPEN, None, FOLLOWER, parties.FOLLOWERS, AttemptForm, effect=_attempt),
    Move("reschedule", T("改期", "Reschedule"), OPEN, None, FOLLOWER, parties.FOLLOWERS, MoveDateForm,
         guards=(_may_reschedule,), effect=_reschedule),
    Move("hand_over", T("移交", "Hand over"), OPEN, None, FOLLOWER, parties.FOLLOWERS, HandOverForm, effect=_hand_over),
    Move("finish", T("结束随访", "Finish"), OPEN, "done", FOLLOWER, parties.FOLLOWERS, FinishForm, guards=(_contacted,),
         effect=_finish),
    Move("lost", T("失访结案", "Close as lost"), OPEN, "lost", FOLLOWER, parties.FOLLOWERS, LostForm, effect=_lost,
         tone="danger"),
)  # fmt: skip


def clocks(ctx: Ctx, name: str) -> str:
    """Spans of the follow-up clocks: first (7 d), next, retry, hand_over."""
    referral = ctx.subject.referral if ctx.subject is not None and ctx.subject.referral_id else None
    found = policy.values(referral.consortium if referral else None, ctx.now.date())
    return str(found[f"clock.followup_{name}"])


def load(case: Any) -> Followup | None:
    """The follow-up of a case."""
    rows = Followup.objects.unscoped("the kernel loads the row of the case it checked")
    return rows.select_related("institution", "referral__consortium").filter(pk=case.pk).first()


def load_many(cases: list[Any]) -> dict[int, Followup]:
    """The same for a list of cases."""
    rows = Followup.objects.unscoped("the kernel loads the rows of the cases it checked")
    rows = rows.select_related("institution", "origin_institution", "referral")
    return {r.pk: r for r in rows.filter(pk__in=[c.pk for c in cases])}


def summary(ctx: Ctx) -> Text:
    """One line for worklists: after which referral, of where."""
    referral = ctx.subject.referral
    if referral is None:
        return T("慢病随访", "Long-term follow-up")
    return T("{what} · {where}转回后", "{what}, after {where}").format(
        what=referral.diagnosis_name,
        where=ctx.subject.origin_institution.short_label if ctx.subject.origin_institution else "—",
    )


MACHINE = Machine(
    kind=KIND,
    label=T("随访", "Follow-up"),
    prefix="SF",
    states=STATES,
    moves=MOVES,
    parts=PARTS,
    clocks=clocks,
    path=("planned", "contacted", "done"),
    load=load,
    load_many=load_many,
    summary=summary,
)


def open_for(
    ctx: Ctx,
    subject: Referral,
    owner: Institution,
    at: dt.datetime | None = None,
    letter: Letter | None = None,
) -> str:
    """Make sure ``owner`` follows the patient up after this referral; returns the follow-up's case number.

    One that is open at that institution for this referral (or the one it came from) is kept rather than doubled.
    """
    linked = [subject.pk, *([subject.parent_id] if subject.parent_id else [])]
    children = Referral.objects.unscoped("follow-ups of the patient's way down").filter(parent=subject)
    linked += list(children.values_list("pk", flat=True))
    running = (
        Followup.objects.unscoped("is a follow-up open already?")
        .filter(referral_id__in=linked, institution=owner, case__terminal=False)
        .select_related("case")
        .first()
    )
    if running is not None:
        return running.case.number
    if at is not None and at <= ctx.now:
        raise Refused({"followup_at": T("随访时间须在今后", "The follow-up must lie ahead")})
    mine = owner.pk in ctx.by.institution_ids
    acting = next((i for i in ctx.parties.values() if i in ctx.by.institution_ids), None)
    done = kernel.open_case(
        KIND,
        subject.person_id,
        ctx.by,
        {},
        f"followup:{ctx.case.number}:{ctx.case.version + 1}",
        parties={"follower": owner.pk} | ({} if mine or acting is None else {"origin": acting}),
        priority="routine",
        extra={
            "referral_id": subject.pk,
            "origin_id": subject.from_institution_id
            if subject.direction == "down"
            else subject.to_institution_id,
            "kind": "rehab" if subject.direction == "down" else "review",
            "first_at": at,
            "plan": plan_of(subject, letter),
        },
    )
    return done.case.number


def plan_of(subject: Referral, letter: Letter | None) -> dict[str, Any]:
    """What the follower has to know: from the down-referral's pack or the outcome letter."""
    if letter is not None:
        names = ("diagnosis", "drugs_changed", "watch_for", "who_follows", "follow_when")
        return {name: letter.content.get(name, "") for name in names}
    return {
        name: subject.pack.get(name, "") for name in ("diagnosis", "drugs", "rehabilitation", "danger_signs")
    }
