"""The transition tables of a recall's duties: a holder finds and sends back what it has; a doctor contacts a patient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lianxin.access.policies import PERMISSIONS
from lianxin.duty.errors import Refused
from lianxin.duty.machine import Ctx, Effect, Machine, Move, Owes, State
from lianxin.duty.models import Case
from lianxin.network import roles
from lianxin.record import publish as record
from lianxin.regional.sterile import forms as f
from lianxin.regional.sterile import policy, scan
from lianxin.regional.sterile.models import Duty, Recall, Set
from lianxin.standards import clock
from lianxin.standards.text import T, Text

RECALL_KIND, CONTACT_KIND = "sterile_recall", "sterile_contact"
USERS = tuple(sorted(PERMISSIONS["use_sterile"].roles))
DOCTORS = tuple(sorted(PERMISSIONS["order_tests"].roles))
CS = "http://lianxin.example/cs"


def load(case: Case) -> Duty | None:
    """The recall's row of a case."""
    rows = Duty.objects.unscoped("the case's own row").select_related(
        "recall__load", "institution", "centre", "person"
    )
    found: Duty | None = rows.filter(pk=case.pk).first()
    return found


def load_many(cases: list[Case]) -> dict[int, Duty]:
    """The same for many cases in one query."""
    rows = Duty.objects.unscoped("the cases' own rows").select_related(
        "recall__load", "institution", "centre", "person"
    )
    return {r.pk: r for r in rows.filter(pk__in=[c.pk for c in cases])}


def summary(ctx: Ctx) -> Text:
    """Which sets, why."""
    subject: Duty | None = ctx.subject
    if subject is None:
        return ctx.machine.label
    n = str(len(subject.codes))
    return T("召回 {n} 包：{r}", "{n} sets recalled: {r}").format(n=n, r=subject.recall.reason[:80])


def _open(ctx: Ctx) -> Effect:
    row: Recall = ctx.extra["recall"]
    part = "holder" if ctx.machine.kind == RECALL_KIND else "doctor"
    subject = Duty(
        case_id=ctx.case.pk, recall=row, institution_id=ctx.parties[part], centre_id=ctx.parties["centre"],
        person_id=ctx.extra["person"], codes=ctx.extra["codes"],
    )  # fmt: skip
    subject.save(force_insert=True)
    ctx.subject = load(ctx.case)
    owes = ctx.machine.state("open").owes
    assert owes is not None
    role = policy.keeper(subject.institution) if part == "holder" else policy.doctor(subject.institution)
    return Effect(
        opens=(replace(owes, role=role),),
        events=((f"sterile.{part}", {"recall": row.pk, "case": ctx.case.number}),),
    )


def _save(ctx: Ctx, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(ctx.subject, name, value)
    ctx.subject.save(update_fields=list(fields))


def _quarantine(ctx: Ctx) -> Effect:
    codes = scan.codes_of(ctx.data["codes"])
    subject: Duty = ctx.subject
    strange = sorted(set(codes) - set(subject.codes))
    if strange:
        raise Refused(
            {"codes": T("不在召回清单内：{c}", "Not of this recall: {c}").format(c="、".join(strange[:20]))}
        )
    missing = sorted(set(subject.codes) - set(codes))
    note = ctx.data["note"].strip()
    if missing and not note:
        raise Refused(
            {
                "note": T(
                    "还有 {n} 包未封存（{c}），请说明去向。",
                    "{n} sets are not accounted for ({c}); say where they are.",
                ).format(n=str(len(missing)), c="、".join(missing[:20]))
            }
        )
    if subject.institution_id != subject.centre_id:
        scan.change(ctx.by, "give_back", codes, f"{ctx.case.number}:{ctx.case.version}")
    _save(ctx, note=note[:600], outcome="missing" if missing else "all")
    return Effect(outcome={"codes": codes, "missing": missing})


def _confirm(ctx: Ctx) -> Effect:
    subject: Duty = ctx.subject
    still = (
        Set.objects.filter(code__in=subject.codes, state="recalled")
        .exclude(holder_id=subject.centre_id)
        .count()
    )
    if still and not ctx.data["note"].strip():
        raise Refused(
            {
                "note": T("还有 {n} 包未收回，请说明。", "{n} sets have not come back; say why.").format(
                    n=str(still)
                )
            }
        )
    _save(ctx, live=False)
    return Effect()


def _contact(ctx: Ctx) -> Effect:
    outcome = ctx.data["outcome"]
    _save(ctx, outcome=outcome, note=ctx.data["note"][:600], live=outcome != "well")
    return Effect(to={"well": "closed", "symptoms": "watching", "unreachable": "open"}[outcome])


def _finish(ctx: Ctx) -> Effect:
    _save(ctx, note="\n".join(filter(None, (ctx.subject.note, ctx.data["note"])))[:600], live=False)
    return Effect()


def _publish(ctx: Ctx) -> None:
    subject: Duty = ctx.subject
    flag = {
        "resourceType": "Flag", "id": f"{ctx.case.number}-flag",
        "identifier": [{"system": "http://lianxin.example/id/sterile-recall", "value": ctx.case.number}],
        "status": "active" if ctx.act.to_state != "closed" else "inactive",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/flag-category", "code": "safety"}]}],
        "code": {"coding": [{"system": f"{CS}/flag", "code": "sterile-recall", "display": "使用过被召回的器械包"}], "text": "使用过被召回的器械包：" + "、".join(subject.codes)},
        "subject": {"reference": f"Patient/{ctx.case.patient.number}"},
        "period": {"start": ctx.case.opened_at.astimezone(clock.ZONE).isoformat(timespec="seconds")},
        "author": {"reference": f"Organization/{subject.centre.code}", "display": subject.centre.name},
    }  # fmt: skip
    record.publish([flag], person_id=subject.person_id, institution_id=subject.institution_id)


RECALL = Machine(
    kind=RECALL_KIND,
    label=T("器械包召回", "Recall of sets"),
    prefix="ZH",
    personal=False,
    parts={"holder": T("持有机构", "Holder"), "centre": T("消毒供应中心", "Sterile supply centre")},
    states=(
        State("open", T("待封存", "To be put aside"), owes=Owes("quarantine", T("封存并退回召回的器械包", "Put recalled sets aside and send them back"), "holder", roles.STERILE, "quarantine", "quarantine")),
        State("returning", T("退回中", "Coming back"), owes=Owes("confirm", T("核对收回", "Check what came back"), "centre", roles.STERILE, "confirm", "confirm")),
        State("closed", T("已结案", "Closed"), terminal=True),
    ),
    moves=(
        Move("open", T("发起召回", "Recall"), (), "open", effect=_open, system=True),
        Move("quarantine", T("封存退回", "Put aside"), ("open",), "returning", ("holder",), USERS, f.QuarantineForm, effect=_quarantine, tone="primary"),
        Move("confirm", T("核对结案", "Check and close"), ("returning",), "closed", ("centre",), (roles.STERILE,), f.CloseForm, effect=_confirm, tone="primary"),
    ),
    clocks={"quarantine": "2h", "confirm": "3d"},
    path=("open", "returning", "closed"),
    load=load,
    load_many=load_many,
    summary=summary,
    escalation=("0m", "1h", "4h", "1d"),
)  # fmt: skip
CONTACT = Machine(
    kind=CONTACT_KIND,
    label=T("召回患者联系", "Contact of a recall"),
    prefix="ZL",
    parts={"doctor": T("患者所在机构", "Patient's institution"), "centre": T("消毒供应中心", "Sterile supply centre")},
    onlookers=("centre",),
    states=(
        State("open", T("待联系", "To be contacted"), owes=Owes("contact", T("联系使用过召回器械包的患者", "Contact the patient of a recalled set"), "doctor", roles.CLINICIAN, "contact", "contact")),
        State("watching", T("观察随访", "Being watched"), owes=Owes("finish", T("完成随访", "Finish the follow-up"), "doctor", roles.CLINICIAN, "finish", "finish")),
        State("closed", T("已结案", "Closed"), terminal=True, access_days=30),
    ),
    moves=(
        Move("open", T("发起召回", "Recall"), (), "open", effect=_open, system=True),
        Move("contact", T("记录联系", "Record the contact"), ("open",), None, ("doctor",), DOCTORS, f.ContactForm, effect=_contact, choices=("open", "watching", "closed"), tone="primary"),
        Move("finish", T("随访结案", "Finish"), ("watching",), "closed", ("doctor",), DOCTORS, f.FinishForm, effect=_finish, tone="primary"),
    ),
    clocks={"contact": "1d", "finish": "14d"},
    path=("open", "closed"),
    publish=_publish,
    load=load,
    load_many=load_many,
    summary=summary,
    escalation=("0m", "4h", "1d", "2d"),
)  # fmt: skip
