"""What each move of the channel does, on the locked case, inside the kernel's transaction."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any

from lianxin.duty.machine import Ctx, Effect, Owes, Tell
from lianxin.duty.models import Case
from lianxin.network import roles
from lianxin.network.models import Institution
from lianxin.regional.emergency import forms, policy, rules
from lianxin.regional.emergency.models import MILESTONES, Channel, Milestone
from lianxin.regional.reading.models import Reading
from lianxin.standards.text import T, Text

_WITH = ("person", "first", "centre", "lab")


@dataclass
class Ask:
    """What is known at the opening: reaches the effect as ``ctx.extra["ask"]``; ``made`` is what came of it."""

    first: Institution
    centre: Institution
    lab: Institution
    reading: Reading | None = None
    finding: str = ""
    fmc_at: dt.datetime | None = None
    ecg_at: dt.datetime | None = None
    made: Channel | None = None


def load(case: Case) -> Channel | None:
    """The channel of a case."""
    found: Channel | None = Channel.objects.unscoped("the case's own channel").select_related(*_WITH).filter(pk=case.pk).first()  # fmt: skip
    return found


def load_many(cases: list[Case]) -> dict[int, Channel]:
    """The same for many cases in one query."""
    rows = Channel.objects.unscoped("the cases' own channels").select_related(*_WITH)
    return {r.pk: r for r in rows.filter(pk__in=[c.pk for c in cases])}


def summary(ctx: Ctx) -> Text:
    """The channel in a line."""
    subject: Channel | None = ctx.subject
    return ctx.machine.label if subject is None else T("胸痛绿色通道：{a}", "Chest-pain channel: {a}").format(a=subject.first.label)  # fmt: skip


def first_role(institution: Institution) -> str:
    """Who acts at the institution of first contact."""
    return {"village": roles.VILLAGE_DOCTOR, "township": roles.GP, "community": roles.GP}.get(institution.kind, roles.CLINICIAN)  # fmt: skip


def record(ctx: Ctx, code: str, at: dt.datetime | None, *, reason: str = "") -> dt.datetime:
    """Keep when something happened (default now); a further record of the same is its next version."""
    when = min(at or ctx.now, ctx.now)
    last = Milestone.objects.filter(channel_id=ctx.case.pk, code=code).count()
    Milestone.objects.create(
        channel_id=ctx.case.pk, code=code, at=when, recorded_at=ctx.now, account_id=ctx.by.account_id,
        actor=(ctx.by.name or ctx.by.reason)[:80], version=last + 1,
        reason=reason,
    )  # fmt: skip
    return when


def due_of(subject: Channel, name: str, times: rules.Times, now: dt.datetime) -> dt.datetime:
    """When a target runs out: from its milestone, or from now when that is not known. Never before now: lateness shows as overdue at once."""
    target = policy.target(name, subject.centre_id)
    since = times.get("fmc" if target.since == "fmc_door" else target.since, now)
    return since + dt.timedelta(minutes=target.minutes)


def _owed(ctx: Ctx, state: str, name: str) -> Owes:
    owes = ctx.machine.state(state).owes
    assert owes is not None
    subject: Channel = ctx.subject
    if owes.party == "first":
        owes = replace(owes, role=first_role(subject.first))
    return replace(owes, due=max(due_of(subject, name, forms.times(subject), ctx.now), ctx.now), clock="")


def _to(ctx: Ctx, state: str, clock: str, topic: str, *, choose: bool = False, **more: Any) -> Effect:
    effect = Effect(
        to=state if choose else None, outcome=more,
        events=((f"chest_pain.{topic}", {"case": ctx.case.number, "channel": ctx.case.pk, **more}),),
    )  # fmt: skip
    if clock:
        effect.opens = (_owed(ctx, state, clock),)
    return effect


def _save(ctx: Ctx, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(ctx.subject, name, value)
    ctx.subject.save(update_fields=list(fields))


def _make(ctx: Ctx) -> Channel:
    ask: Ask = ctx.extra["ask"]
    subject = Channel(
        case_id=ctx.case.pk, person_id=ctx.case.patient_id, first=ask.first, centre=ask.centre, lab=ask.lab, reading=ask.reading,
        finding=ask.finding, complaint=ctx.data.get("complaint", "")[:300], opened_at=ctx.now,
    )  # fmt: skip
    subject.save(force_insert=True)
    ctx.subject = ask.made = subject
    parties = {"first": ask.first.pk, "centre": ask.centre.pk, "lab": ask.lab.pk}
    ctx.parties = ctx.parties | parties
    if ctx.data.get("onset_at"):
        record(ctx, "onset", ctx.data["onset_at"])
    record(ctx, "fmc", ctx.data.get("fmc_at") or ask.fmc_at)
    if ask.ecg_at:
        record(ctx, "ecg", max(ask.ecg_at, forms.times(subject)["fmc"]))
    return subject


def open_contact(ctx: Ctx) -> Effect:
    """Somebody with chest pain stands before a doctor: the clocks run from here."""
    subject = _make(ctx)
    has_ecg = "ecg" in forms.times(subject)
    state = "waiting" if has_ecg else "contact"
    effect = _to(ctx, state, "diagnose" if has_ecg else "ecg", "opened", choose=True)
    effect.parties = dict(ctx.parties)
    effect.notices = (Tell("centre", roles.CLINICIAN, T("胸痛患者首诊：{a}", "Chest pain at {a}").format(a=subject.first.label)),)  # fmt: skip
    return effect


def open_confirmed(ctx: Ctx) -> Effect:
    """A reader confirmed an infarction: the channel opens where the way is to be decided."""
    subject = _make(ctx)
    record(ctx, "diagnosed", None)
    effect = _to(ctx, "confirmed", "decide", "opened")
    effect.parties = dict(ctx.parties)
    effect.notices = _alarm(subject)
    return effect


def _alarm(subject: Channel) -> tuple[Tell, ...]:
    text = T("STEMI 已确诊，请立即决定再灌注方式：{a}", "STEMI confirmed, decide on reperfusion now: {a}").format(a=subject.first.label)  # fmt: skip
    stay = T(
        "心电图确诊急性心梗：吸氧、监护、建立静脉通道，等待指令",
        "The ECG shows an infarction: oxygen, monitor, a line; await word",
    )
    return (Tell("centre", roles.CLINICIAN, text), Tell("first", first_role(subject.first), stay))


def ecg(ctx: Ctx) -> Effect:
    """The first ECG was recorded and is on its way to a reader."""
    record(ctx, "ecg", ctx.data.get("at"))
    return _to(ctx, "waiting", "diagnose", "ecg")


def diagnose(ctx: Ctx) -> Effect:
    """It is an infarction."""
    record(ctx, "diagnosed", ctx.data.get("at"))
    effect = _to(ctx, "confirmed", "decide", "diagnosed")
    effect.notices = _alarm(ctx.subject)
    return effect


def decide(ctx: Ctx) -> Effect:
    """Primary PCI here or there, or thrombolysis where the patient is."""
    record(ctx, "decided", ctx.data.get("at"))
    strategy = ctx.data["strategy"]
    lab = int(ctx.data["lab"] or ctx.subject.lab_id)
    _save(ctx, strategy=strategy, lab_id=lab, travel=ctx.data.get("travel"))
    ctx.subject.refresh_from_db(fields=["lab"])
    ctx.parties = ctx.parties | {"lab": lab}
    if strategy == "lysis":
        effect = _to(ctx, "lysing", "needle", "decided", choose=True, strategy=strategy)
        effect.notices = (Tell("first", first_role(ctx.subject.first), T("决定就地溶栓，请核对禁忌证后立即开始", "Thrombolysis on the spot: go through the checklist and begin")),)  # fmt: skip
    else:
        effect = _to(ctx, "activated", "activate", "decided", choose=True, strategy=strategy)
        effect.notices = (Tell("lab", roles.CLINICIAN, T("请启动导管室：急性心梗患者将从{a}转来", "Activate the cath lab: an infarction is coming from {a}").format(a=ctx.subject.first.label)),)  # fmt: skip
    effect.parties = {"lab": lab}
    return effect


def accept(ctx: Ctx) -> Effect:
    """The cath lab is being made ready; whoever has the patient sends them."""
    record(ctx, "activated", ctx.data.get("at"))
    at_door = "door" in forms.times(ctx.subject) or ctx.subject.first_id == ctx.subject.lab_id
    if at_door and "door" not in forms.times(ctx.subject):
        record(ctx, "door", forms.times(ctx.subject)["fmc"])
    if at_door:
        effect = _to(ctx, "arrived", "wire", "activated", choose=True)
    else:
        effect = _to(ctx, "leaving", "depart", "activated", choose=True)
        effect.notices = (Tell("first", first_role(ctx.subject.first), T("导管室已启动，请立即送出，绕行急诊直达导管室", "The cath lab is active: send now, past the emergency room")),)  # fmt: skip
    effect.opens = (*effect.opens, _lab_owes(ctx))
    return effect


def _lab_owes(ctx: Ctx) -> Owes:
    due = max(due_of(ctx.subject, "lab", forms.times(ctx.subject), ctx.now), ctx.now)
    return Owes("lab", T("导管室就绪", "Cath lab ready"), "lab", roles.CLINICIAN, "", "lab_ready", due=due)


def depart(ctx: Ctx) -> Effect:
    """On the road."""
    record(ctx, "departed", ctx.data.get("at"))
    travel = ctx.data.get("travel")
    travel = ctx.subject.travel if travel is None else travel
    travel = int(policy.value("transfer.minutes", ctx.subject.centre_id)) if travel is None else travel
    _save(ctx, transport=ctx.data["transport"], travel=travel)
    effect = _to(ctx, "underway", "", "departed", travel=travel)
    owes = ctx.machine.state("underway").owes
    assert owes is not None
    arrives = max(forms.times(ctx.subject)["departed"] + dt.timedelta(minutes=travel), ctx.now)
    effect.opens = (replace(owes, due=arrives, clock=""),)
    effect.notices = (Tell("lab", roles.CLINICIAN, T("患者已出发，预计 {n} 分钟到达", "The patient is on the road, {n} min").format(n=str(travel))),)  # fmt: skip
    return effect


def arrive(ctx: Ctx) -> Effect:
    """At the door."""
    record(ctx, "door", ctx.data.get("at"))
    _save(ctx, bypassed=bool(ctx.data.get("bypassed")))
    return _to(ctx, "arrived", _wire_clock(ctx), "arrived")


def _wire_clock(ctx: Ctx) -> str:
    """The tighter of 120 minutes from first contact and 90 from the door."""
    times = forms.times(ctx.subject)
    by_contact = due_of(ctx.subject, "wire", times, ctx.now)
    return "wire" if by_contact <= due_of(ctx.subject, "wire_direct", times, ctx.now) else "wire_direct"


def lab_is_owed(ctx: Ctx) -> Text | None:
    """Readiness is recorded once."""
    return None if "lab" in ctx.open_duties else T("导管室已就绪。", "The cath lab is ready already.")


def lab_ready(ctx: Ctx) -> Effect:
    """The lab can begin; nothing else moves."""
    record(ctx, "lab_ready", ctx.data.get("at"))
    return Effect(discharges=("lab",), outcome={"lab": "ready"})


def wire(ctx: Ctx) -> Effect:
    """The wire is through: the clock stops."""
    if "lab_ready" not in forms.times(ctx.subject):
        record(ctx, "lab_ready", ctx.data.get("at"))
    record(ctx, "wire", ctx.data.get("at"))
    took: dict[str, Any] = dict(rules.intervals(forms.times(ctx.subject)))
    effect = _to(ctx, "treated", "outcome", "wire", **took)
    effect.discharges = ("lab",)
    effect.notices = (Tell("first", first_role(ctx.subject.first), T("导丝已通过，用时见绿色通道", "The wire is through; the times stand in the channel")),)  # fmt: skip
    return effect


def lyse(ctx: Ctx) -> Effect:
    """Thrombolysis begins."""
    record(ctx, "needle", ctx.data.get("at"))
    _save(
        ctx,
        checklist={
            "version": policy.checklist_version(), "present": list(ctx.data["present"]), "drug": ctx.data["drug"],
            "weighed": ctx.data.get("weighed", ""), "account": ctx.by.account_id,
        },
    )  # fmt: skip
    return _to(ctx, "lysed", "assess", "needle")


def assess(ctx: Ctx) -> Effect:
    """Reopened or not: either way to a cath lab, at once or within a day (guideline 2019, 5.2.4)."""
    record(ctx, "assessed", ctx.data.get("at"))
    worked = ctx.data["worked"] == "yes"
    _save(ctx, lysis_worked=worked)
    effect = _to(ctx, "activated", "", "assessed", worked=worked)
    owes = ctx.machine.state("activated").owes
    assert owes is not None
    minutes = policy.target("activate", ctx.subject.centre_id).minutes
    effect.opens = (replace(owes, due=ctx.now + dt.timedelta(minutes=minutes), clock=""),)
    text = T("溶栓再通，请安排 2–24 小时内造影", "Reopened: angiography within 2–24 h") if worked else T("溶栓未再通，请立即补救 PCI", "Not reopened: rescue PCI now")  # fmt: skip
    effect.notices = (Tell("lab", roles.CLINICIAN, text),)
    return effect


def to_pci(ctx: Ctx) -> Effect:
    """Thrombolysis is not possible after all: primary PCI, whatever the time."""
    _save(ctx, strategy="pci")
    effect = _to(ctx, "activated", "activate", "decided", strategy="pci")
    effect.notices = (Tell("lab", roles.CLINICIAN, T("不能溶栓，请启动导管室：患者将从{a}转来", "No thrombolysis: activate the cath lab for a patient from {a}").format(a=ctx.subject.first.label)),)  # fmt: skip
    return effect


def close(ctx: Ctx) -> Effect:
    """How it ended."""
    record(ctx, "outcome", ctx.data.get("at"))
    _save(ctx, outcome=ctx.data["outcome"], live=False)
    return _to(ctx, "closed", "", "closed", outcome=ctx.data["outcome"])


def stop(ctx: Ctx) -> Effect:
    """The channel is not needed (any more)."""
    _save(ctx, stopped=ctx.data["code"], live=False)
    effect = _to(ctx, "stopped", "", "stopped", code=ctx.data["code"])
    text = T("胸痛绿色通道已终止：{why}", "The chest-pain channel was stopped: {why}").format(
        why=ctx.data["reason"]
    )
    effect.notices = (Tell("first", first_role(ctx.subject.first), text), Tell("lab", roles.CLINICIAN, text))
    return effect


_CLOCKS = {
    "contact": "ecg", "waiting": "diagnose", "confirmed": "decide", "activated": "activate", "leaving": "depart",
    "lysing": "needle", "lysed": "assess", "treated": "outcome",
}  # fmt: skip


def correct(ctx: Ctx) -> Effect:
    """A recorded time was wrong: the right one stands beside it, and what runs from it is counted anew."""
    code = ctx.data["code"]
    before = forms.times(ctx.subject)[code]
    record(ctx, code, ctx.data["at"], reason=ctx.data["reason"])
    effect = Effect(outcome={"code": code, "before": before.isoformat(), "after": ctx.data["at"].isoformat()})
    state = ctx.machine.state(ctx.case.state)
    name = _wire_clock(ctx) if state.code == "arrived" else _CLOCKS.get(state.code, "")
    if name and state.owes and not (state.code == "activated" and ctx.subject.lysis_worked is not None):
        due = due_of(ctx.subject, name, forms.times(ctx.subject), ctx.now)
        effect.due = {state.owes.kind: max(due, ctx.now)}
    return effect


def label_of(code: str) -> Text:
    """A milestone in words."""
    return MILESTONES[code]
