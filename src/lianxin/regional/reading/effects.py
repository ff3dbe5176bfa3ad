"""What each move of reading work does, on the locked case, inside the kernel's transaction."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass, field, replace
from typing import Any

from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.machine import Ctx, Effect, Owes, Tell
from lianxin.duty.models import Case
from lianxin.network import roles
from lianxin.network.models import Institution, Practitioner
from lianxin.regional.reading import critical_form, doubles, hooks, policy, queue, reports
from lianxin.regional.reading import forms as f
from lianxin.regional.reading.models import (
    ARBITRATED,
    Entry,
    Item,
    Ordered,
    Reader,
    Reading,
    Report,
    Review,
)
from lianxin.standards.text import T, Text

_WITH = ("person", "orderer", "performer", "centre_of", "origin", "practitioner")


@dataclass
class Ask:
    """What is ordered: reaches the opening's effect as ``ctx.extra["ask"]``; ``made`` is what came of it."""

    items: list[Item]
    requisition: str
    performer: Institution
    centre_of: Institution
    source: str = "staff"
    practitioner: Practitioner | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    made: Reading | None = None


# ------------------------------------------------------------------------------------------------------------- helpers


def load(case: Case) -> Reading | None:
    """The work of a case with what guards, effects and pages read of it."""
    found: Reading | None = (
        Reading.objects.unscoped("the case's own work").select_related(*_WITH).filter(pk=case.pk).first()
    )
    return found


def load_many(cases: list[Case]) -> dict[int, Reading]:
    """The same for many cases in one query."""
    rows = Reading.objects.unscoped("the cases' own work").select_related(*_WITH)
    return {r.pk: r for r in rows.filter(pk__in=[c.pk for c in cases])}


def role_at(institution: Institution, what: str) -> str:
    """Who acquires ("acquire") or asked ("order") at an institution: village doctor, general practitioner, technician, specialist."""
    if institution.kind == "village":
        return roles.VILLAGE_DOCTOR
    if institution.kind in ("township", "community"):
        return roles.TECHNICIAN if what == "acquire" and _has_technician(institution) else roles.GP
    return roles.TECHNICIAN if what == "acquire" else roles.CLINICIAN


def _has_technician(institution: Institution) -> bool:
    from lianxin.network.models import Post

    return bool(Post.objects.live().filter(institution=institution, role=roles.TECHNICIAN).exists())


def origin_of(institution: Institution) -> Institution:
    """Whose turn a study takes in the fairness: the township of a village clinic, else the institution itself."""
    return institution.parent if institution.kind == "village" and institution.parent else institution


def summary(ctx: Ctx) -> Text:
    """What is examined, in a line."""
    subject: Reading | None = ctx.subject
    if subject is None:
        return ctx.machine.label
    return items_text(subject)


def items_text(reading: Reading) -> Text:
    """The ordered items in words."""
    labels = [o.item.label for o in reading.ordered.select_related("item").filter(active=True).order_by("pk")]
    return T("、".join(t.zh for t in labels), ", ".join(t.en for t in labels))


def _owed(ctx: Ctx, state: str, *, due: dt.datetime | None = None, account_id: int | None = None) -> Owes:
    owes = ctx.machine.state(state).owes
    assert owes is not None
    subject: Reading = ctx.subject
    if owes.party == "performer":
        owes = replace(owes, role=role_at(subject.performer, "acquire"))
    elif owes.party == "orderer":
        owes = replace(owes, role=role_at(subject.orderer, "order"), account_id=subject.account_id)
    if owes.party == "centre":
        owes = replace(owes, due=max(due or subject.report_due_at, ctx.now), clock="")
    return replace(owes, account_id=account_id) if account_id is not None else owes


def _to(ctx: Ctx, state: str, topic: str, *, choose: bool = False, **more: Any) -> Effect:
    subject: Reading = ctx.subject
    told = {
        "reading": ctx.case.pk,
        "case": ctx.case.number,
        "accession": subject.accession,
        "centre": subject.centre,
    }
    effect = Effect(to=state if choose else None, events=((f"reading.{topic}", told | more),), outcome={"accession": subject.accession, **more})  # fmt: skip
    if not ctx.machine.state(state).terminal:
        effect.opens = (_owed(ctx, state),)
    return effect


def _account(ctx: Ctx) -> int:
    if ctx.by.account_id is None:
        raise NotAllowed(T("报告须由诊断医师本人签署。", "A report is signed by a person."))
    return ctx.by.account_id


def _seat(ctx: Ctx, seat: str) -> Entry:
    entry = queue.held(ctx.case.pk, ctx.by.account_id, seat)
    if entry is None:
        raise NotAllowed(T("请先认领该检查。", "Claim this study first."))
    return entry


# ------------------------------------------------------------------------------------------------------------ ordering


def order(ctx: Ctx) -> Effect:
    """Open the work: who performs, who reads, by when the report is due."""
    ask: Ask = ctx.extra["ask"]
    first = ask.items[0]
    orderer = Institution.objects.select_related("parent").get(pk=ctx.parties["orderer"])
    subject = Reading(
        case_id=ctx.case.pk, requisition=ask.requisition, accession=accession(ctx.case.pk), person_id=ctx.case.patient_id,
        centre=first.centre, modality=first.modality, orderer=orderer, performer=ask.performer, centre_of=ask.centre_of,
        origin=origin_of(ask.performer), practitioner=ask.practitioner, account_id=ctx.by.account_id,
        diagnosis_code=ctx.data.get("diagnosis_code", ""), diagnosis=ctx.data.get("diagnosis", ""),
        indication=ctx.data["indication"], source=ask.source, facts=ask.facts, ordered_at=ctx.now,
        report_due_at=policy.report_due(ctx.now, first.modality, ctx.case.priority, ask.centre_of.pk),
    )  # fmt: skip
    subject.save(force_insert=True)
    Ordered.objects.bulk_create(
        [Ordered(reading=subject, item=item, fee_fen=item.fee_fen) for item in ask.items]
    )
    ctx.subject = ask.made = subject
    effect = _to(ctx, "ordered", "ordered", items=[item.code for item in ask.items])
    effect.parties = {"performer": ask.performer.pk, "centre": ask.centre_of.pk}
    ctx.parties = ctx.parties | {"performer": ask.performer.pk, "centre": ask.centre_of.pk}
    hooks.ordered(subject)
    return effect


def accession(case_id: int) -> str:
    """A number for devices and bar codes: DICOM allows 16 characters, readers want digits with a check digit (ISO 7064 mod 11,10)."""
    body = f"{case_id:011d}"
    product = 10
    for digit in body:
        product = (product + int(digit)) % 10 or 10
        product = product * 2 % 11
    return f"{body}{(11 - product) % 10}"


def check_in(ctx: Ctx) -> Effect:
    """The patient is there."""
    _save(ctx, checked_in_at=ctx.now)
    return _to(ctx, "checked_in", "checked_in")


def acquire(ctx: Ctx) -> Effect:
    """It was taken; it is on its way to the centre."""
    _acquired(ctx)
    return _to(ctx, "acquired", "acquired", device=ctx.subject.device)


def _acquired(ctx: Ctx) -> None:
    _save(
        ctx, checked_in_at=ctx.subject.checked_in_at or ctx.now, acquired_at=ctx.now,
        device=ctx.data.get("device") or ctx.subject.device,
    )  # fmt: skip


def send(ctx: Ctx) -> Effect:
    """It reached the centre: the study enters the readers' queue."""
    if ctx.case.state != "acquired":
        _acquired(ctx)
    _save(ctx, queued_at=ctx.subject.queued_at or ctx.now)
    queue.enter(ctx.subject, "first", priority=ctx.case.priority, now=ctx.now)
    hooks.queued(ctx.subject)
    return _to(ctx, "queued", "queued")


def return_retake(ctx: Ctx) -> Effect:
    """The reader cannot read it: coded reason back to whoever took it."""
    queue.withdraw(ctx.subject, ctx.by.account_id, ctx.data["code"])
    reports.drop_drafts(ctx.subject)
    _save(ctx, retakes=ctx.subject.retakes + 1)
    effect = _to(ctx, "retake", "retake", code=ctx.data["code"])
    text = T("{no} 需重新采集：{why}", "{no} must be taken again: {why}").format(
        no=ctx.subject.accession, why=ctx.data["reason"]
    )
    effect.notices = (Tell("performer", role_at(ctx.subject.performer, "acquire"), text),)
    return effect


def cancel(ctx: Ctx) -> Effect:
    """Nothing is examined or read any more."""
    queue.withdraw(ctx.subject, ctx.by.account_id, ctx.data["reason"])
    reports.drop_drafts(ctx.subject)
    _save(ctx, live=False)
    return _to(ctx, "cancelled", "cancelled", reason=ctx.data["reason"])


# ------------------------------------------------------------------------------------------------------------- reading


def propose(ctx: Ctx) -> Effect:
    """A reader whose reports need approval hands the draft to an approver."""
    entry = _seat(ctx, "first")
    report = reports.draft_of(ctx.subject, "first", _account(ctx), ctx.data.get("saved", ""))
    report.state = "proposed"
    report.save(update_fields=["state"])
    queue.finish(entry, ctx.by.account_id)
    queue.enter(
        ctx.subject, "approve", priority=ctx.case.priority, excluded=(report.account_id,), now=ctx.now
    )
    _save(ctx, claimed_at=entry.claimed_at)
    return _to(ctx, "proposed", "proposed")


def send_back(ctx: Ctx) -> Effect:
    """The approver wants it changed: the author gets the seat back."""
    entry = _seat(ctx, "approve")
    report = reports.proposed(ctx.subject)
    report.state = "draft"
    report.save(update_fields=["state"])
    queue.finish(entry, ctx.by.account_id)
    queue.enter(ctx.subject, "first", priority=ctx.case.priority, only=report.account_id, now=ctx.now)
    effect = _to(ctx, "queued", "sent_back", reason=ctx.data["reason"])
    text = T("{no} 报告退回修改：{why}", "{no} report sent back: {why}").format(
        no=ctx.subject.accession, why=ctx.data["reason"]
    )
    effect.notices = (Tell("centre", roles.READER, text, report.account_id),)
    return effect


def sign(ctx: Ctx) -> Effect:
    """The reader signs the draft on their screen."""
    entry = _seat(ctx, "first")
    report = reports.draft_of(ctx.subject, "first", _account(ctx), ctx.data.get("saved", ""))
    reports.sign(report, ctx.now)
    queue.finish(entry, ctx.by.account_id)
    _save(ctx, claimed_at=entry.claimed_at, signed_at=ctx.now)
    return _after_first(ctx, report)


def approve(ctx: Ctx) -> Effect:
    """The approver signs what the author proposed."""
    entry = _seat(ctx, "approve")
    report = reports.proposed(ctx.subject)
    if ctx.data.get("saved") and ctx.data["saved"] != reports.mark(report):
        raise _changed()
    report.approver_id = ctx.by.practitioner_id
    reports.sign(report, ctx.now)
    queue.finish(entry, ctx.by.account_id)
    _save(ctx, signed_at=ctx.now)
    return _after_first(ctx, report)


def _changed() -> Refused:
    return Refused(
        {
            "__all__": T(
                "报告内容已变化，请重新查看后再签发。", "The report has changed; look at it again, then sign."
            )
        }
    )


def _why_twice(ctx: Ctx, report: Report) -> str:
    """Why this study is read a second time ("": it is not). Emergencies never wait for it."""
    subject: Reading = ctx.subject
    if ctx.case.priority == "emergency":
        return ""
    if subject.ordered.filter(active=True, item__double_read=True).exists():
        return "selected"
    row = Reader.objects.filter(
        account_id=report.account_id, institution_id=subject.centre_of_id, centre=subject.centre
    )
    if row.filter(new=True).exists():
        return "new_reader"
    percent = float(policy.value("double.random_percent", subject.centre_of_id))
    drawn = random.Random(f"double:{subject.accession}").random() * 100  # a draw anybody can repeat
    return "random" if drawn < percent and _somebody_else(subject, report) else ""


def _somebody_else(subject: Reading, report: Report) -> bool:
    others = Reader.objects.filter(institution_id=subject.centre_of_id, centre=subject.centre, active=True)
    return others.exclude(account_id=report.account_id).exists()


def _after_first(ctx: Ctx, report: Report) -> Effect:
    why = _why_twice(ctx, report)
    if not why:
        return _issue(ctx, report)
    _save(ctx, double=why)
    not_again = tuple({report.account_id, ctx.by.account_id or 0})
    queue.enter(ctx.subject, "second", priority=ctx.case.priority, excluded=not_again, now=ctx.now)
    return _to(ctx, "second_read", "second_read", choose=True, why=why)


def second(ctx: Ctx) -> Effect:
    """The blind second reading with its score; a difference that matters goes to arbitration."""
    entry = _seat(ctx, "second")
    first = reports.signed(ctx.subject, "first")
    own = reports.draft_of(ctx.subject, "second", _account(ctx))
    own.completed_at = own.completed_at or ctx.now
    reports.sign(own, ctx.now)
    queue.finish(entry, ctx.by.account_id)
    Review.objects.create(
        reading=ctx.subject, person_id=ctx.subject.person_id, institution_id=ctx.subject.centre_of_id, first=first,
        second=own, score=ctx.data["score"], note=ctx.data["note"], at=ctx.now,
    )  # fmt: skip
    if ctx.data["score"] not in ARBITRATED:
        doubles.settle(ctx.subject, first.account_id)
        return _issue(ctx, first, score=ctx.data["score"])
    queue.enter(
        ctx.subject, "arbitrate", priority=ctx.case.priority, excluded=(first.account_id, own.account_id), now=ctx.now
    )  # fmt: skip
    return _to(ctx, "arbitration", "arbitration", choose=True, score=ctx.data["score"])


def arbitrate(ctx: Ctx) -> Effect:
    """The arbiter says which reading stands, or writes their own."""
    entry = _seat(ctx, "arbitrate")
    review = (
        Review.objects.unscoped("the case's own review").select_related("first", "second").get(pk=ctx.case.pk)
    )
    decided = ctx.data["decided"]
    if decided == "own":
        report = reports.draft_of(ctx.subject, "arbitrate", _account(ctx))
        reports.sign(report, ctx.now)
    else:
        report = review.first if decided == "first" else review.second
        reports.drop_drafts(ctx.subject)
    review.arbiter_id, review.decided, review.decided_at = ctx.by.account_id, decided, ctx.now
    review.note = "\n".join(filter(None, (review.note, ctx.data["note"])))[:600]
    review.save()
    queue.finish(entry, ctx.by.account_id)
    doubles.settle(ctx.subject, review.first.account_id)
    effect = _issue(ctx, report, decided=decided)
    text = T("{no} 双读不一致，仲裁结论：{what}", "{no} read differently; decided: {what}").format(
        no=ctx.subject.accession, what=dict(f.DECISIONS)[decided]
    )
    effect.notices = (
        *effect.notices,
        *(
            Tell("centre", roles.READER, text, who)
            for who in (review.first.account_id, review.second.account_id)
        ),
    )
    return effect


def _issue(ctx: Ctx, report: Report, **more: Any) -> Effect:
    _save(ctx, issued_at=ctx.now, signed_at=ctx.subject.signed_at or ctx.now)
    ctx.extra["report"] = report
    hooks.issued(ctx.subject, report)
    effect = _to(ctx, "issued", "issued", choose=True, report=report.pk, **more)
    effect.notices = (_tell_orderer(ctx, T("报告已签发：{what}", "Report issued: {what}")),)
    return effect


def _tell_orderer(ctx: Ctx, text: Text) -> Tell:
    subject: Reading = ctx.subject
    return Tell(
        "orderer", role_at(subject.orderer, "order"), text.format(what=items_text(subject)), subject.account_id
    )  # fmt: skip


def amend(ctx: Ctx) -> Effect:
    """A new version goes out; whoever had the old one is told and owes another look."""
    report = reports.amended(ctx.subject, ctx.by, ctx.data, ctx.now)
    ctx.extra["report"] = report
    hooks.issued(ctx.subject, report)
    critical_form.amended(ctx.by, ctx.subject, report.conclusion, report.reason, report.version)
    effect = _to(ctx, "issued", "amended", report=report.pk, version=report.version)
    effect.withdraws = ("acknowledge",)
    effect.notices = (
        _tell_orderer(ctx, T("报告已更正，请重新查看：{what}", "Report amended, look again: {what}")),
    )
    return effect


def acknowledge(ctx: Ctx) -> Effect:
    """Whoever asked has seen it."""
    _save(ctx, acknowledged_at=ctx.now, live=False)
    return _to(ctx, "acknowledged", "acknowledged", note=ctx.data.get("note", ""))


def _save(ctx: Ctx, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(ctx.subject, name, value)
    ctx.subject.save(update_fields=list(fields))
