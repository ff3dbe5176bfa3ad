"""What each move of a critical value does, on the locked case, inside the kernel's transaction. Attempts are only ever added."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from lianxin.access import seal
from lianxin.duty.errors import Refused
from lianxin.duty.machine import Ctx, Effect, Owes, Tell
from lianxin.duty.models import Case
from lianxin.index.models import Person
from lianxin.network import roles
from lianxin.network.models import Institution
from lianxin.regional.critical import forms, hooks, policy, routing
from lianxin.regional.critical.models import Attempt, Critical, Note
from lianxin.regional.critical.routing import Recipient
from lianxin.standards.text import T, Text

FINDERS = {
    "laboratory": roles.LABORATORY,
    "reading": roles.READER,
    "ecg": roles.READER,
    "pathology": roles.READER,
}
_WITH = ("person", "orderer", "centre_of", "team", "county", "acknowledged_at_institution")


@dataclass
class Found:
    """What a centre reports: reaches the opening's effect as ``ctx.extra["found"]``; ``made`` is what came of it."""

    fields: dict[str, Any]
    made: Critical | None = None


def load(case: Case) -> Critical | None:
    """The critical value of a case."""
    found: Critical | None = (
        Critical.objects.unscoped("the case's own row").select_related(*_WITH).filter(pk=case.pk).first()
    )
    return found


def load_many(cases: list[Case]) -> dict[int, Critical]:
    """The same for many cases in one query."""
    rows = Critical.objects.unscoped("the cases' own rows").select_related(*_WITH)
    return {r.pk: r for r in rows.filter(pk__in=[c.pk for c in cases])}


def summary(ctx: Ctx) -> Text:
    """What was found, in a line (no value: lines are read over shoulders)."""
    subject: Critical | None = ctx.subject
    return ctx.machine.label if subject is None else subject.label


def _duty(ctx: Ctx, state: str, **changed: Any) -> Owes:
    owes = ctx.machine.state(state).owes
    assert owes is not None
    if owes.party == "centre":
        changed.setdefault("role", FINDERS[ctx.subject.source])
    return replace(owes, **changed)


def _effect(ctx: Ctx, topic: str, **fields: Any) -> Effect:
    told = {"case": ctx.case.number, "critical": ctx.case.pk, "source": ctx.subject.source}
    return Effect(events=((f"critical.{topic}", told),), **fields)


def _save(ctx: Ctx, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(ctx.subject, name, value)
    ctx.subject.save(update_fields=list(fields))


def detect(ctx: Ctx) -> Effect:
    """Keep what was found as it was found; the centre owes the call until somebody was told."""
    found: Found = ctx.extra["found"]
    subject = Critical(
        case_id=ctx.case.pk, person_id=ctx.case.patient_id, reported_at=ctx.now, finder=ctx.by.name[:80], **found.fields
    )  # fmt: skip
    subject.save(force_insert=True)
    ctx.subject = found.made = subject
    effect = _effect(ctx, "detected", opens=(_duty(ctx, "detected"),))
    effect.outcome = {"code": subject.code, "value": subject.value, "unit": subject.unit}
    return effect


# ------------------------------------------------------------------------------------------------------------- telling


def _part(subject: Critical, institution: Institution) -> str:
    if institution.pk == subject.orderer_id:
        return "orderer"
    return "team" if institution.pk == routing.team_of(subject.orderer).pk else "county"


def _parties(subject: Critical, told: Iterable[Recipient]) -> dict[str, int | None]:
    parts = {_part(subject, r.institution): r.institution.pk for r in told}
    return {part: pk for part, pk in parts.items() if part != "orderer"}


def _tell(ctx: Ctx, told: list[Recipient], level: int) -> list[Tell]:
    """A page notice to each, a text message where there is a telephone; each one an attempt."""
    subject: Critical = ctx.subject
    words = T("危急值 {no}：{what}，请立即复述确认。", "Critical value {no}: {what}. Read it back now.")
    notices = []
    for r in told:
        base = f"{ctx.case.number}:{level}:{r.account_id or r.role}"
        fields = {
            "level": level, "recipient": r.name.zh[:80], "recipient_en": r.name.en[:120], "institution": r.institution,
            "role": r.role, "recipient_account_id": r.account_id,
        }  # fmt: skip
        record(subject, f"{base}:page", ctx.now, channel="page", outcome="SENT", **fields)
        if r.phone:
            sent = hooks.send(r.phone, "staff", ctx.case.number, f"critical:{base}")
            record(
                subject, f"{base}:sms", ctx.now, channel="sms", outcome="SENT" if sent else "UNABLE_TO_REACH",
                note="" if sent else "未配置短信通道或号码无效", **fields,
            )  # fmt: skip
        text = words.format(no=ctx.case.number, what=subject.label)
        notices.append(Tell(_part(subject, r.institution), r.role, text, r.account_id))
    return notices


def record(subject: Critical, key: str, at: dt.datetime, **fields: Any) -> Attempt:
    """Add one attempt; the same ``key`` again is the same attempt."""
    made, _ = Attempt.objects.get_or_create(key=key[:160], defaults={"critical": subject, "at": at, **fields})
    return made


def _patient(ctx: Ctx) -> None:
    """Ask the patient by text message to call or come; without a number that is recorded too."""
    subject: Critical = ctx.subject
    person: Person = subject.person
    phone = seal.unseal(person.phone_sealed) if person.phone_sealed else ""
    sent = hooks.send(phone, "patient", ctx.case.number, f"critical:{ctx.case.number}:patient")
    tail = f"（尾号 {person.phone_tail}）" if person.phone_tail else ""
    record(
        subject, f"{ctx.case.number}:patient", ctx.now, channel="sms", recipient=f"患者本人{tail}",
        recipient_en=f"The patient{f' (…{person.phone_tail})' if person.phone_tail else ''}",
        outcome="SENT" if sent else "UNABLE_TO_REACH", note="" if sent else "无手机号或未配置短信通道",
    )  # fmt: skip


def notify(ctx: Ctx) -> Effect:
    """Tell whoever must answer; when the system reaches nobody, the centre goes on owing the call (by telephone)."""
    subject: Critical = ctx.subject
    told = routing.first(subject.orderer, subject.source_case_id, ctx.now)
    if not told:
        record(
            subject, f"{ctx.case.number}:0:nobody", ctx.now, channel="page", recipient=subject.orderer.name[:80],
            recipient_en=(subject.orderer.name_en or subject.orderer.name)[:120], institution=subject.orderer,
            outcome="UNABLE_TO_REACH", note="该机构没有可登录的接收人，请电话通知",
        )  # fmt: skip
        return Effect()
    lead = told[0]
    effect = _effect(ctx, "notified", to="notified", parties=_parties(subject, told))
    effect.opens = (
        _duty(
            ctx,
            "notified",
            party=_part(subject, lead.institution),
            role=lead.role,
            account_id=lead.account_id,
        ),
    )
    effect.notices = _tell(ctx, told, 0)[1:]  # who must answer hears it with the duty
    if not policy.covered(subject.orderer, ctx.now) and policy.value("tell_patient", policy.asks(subject.orderer)):  # fmt: skip
        _patient(ctx)
    _save(ctx, notified_at=ctx.now, **_with(effect.parties))
    return effect


def _with(parties: dict[str, int | None]) -> dict[str, Any]:
    return {f"{part}_id": pk for part, pk in parties.items()}


def escalate(ctx: Ctx) -> Effect:
    """Nobody has read it back: the next ones hear it; at the top the centre must also telephone."""
    subject: Critical = ctx.subject
    level = ctx.data["level"]
    heard = set(
        subject.attempts.exclude(recipient_account_id=None).values_list("recipient_account_id", flat=True)
    )
    told = routing.climbed(level, subject.orderer, heard)
    effect = _effect(ctx, "escalated", parties=_parties(subject, told))
    effect.notices = _tell(ctx, told, level)
    effect.outcome = {"level": level}
    if level == 3:
        role = FINDERS[subject.source]
        effect.opens = (
            Owes(
                "phone",
                T("电话通知危急值", "Telephone the critical value"),
                "centre",
                role,
                "phone",
                "call",
            ),
        )
        text = T("危急值 {no} 15 分钟未确认，请立即电话通知。", "Critical value {no} unread for 15 minutes: telephone now.")  # fmt: skip
        effect.notices = [*effect.notices, Tell("centre", role, text.format(no=ctx.case.number))]
    _save(ctx, level=max(level, subject.level), **_with(effect.parties))
    return effect


# ----------------------------------------------------------------------------------------------------------- answering


def _read_back(ctx: Ctx, heard: str, who: str, part: str, account_id: int | None) -> Effect:
    subject: Critical = ctx.subject
    institution_id = ctx.parties[part]
    institution = Institution.objects.get(pk=institution_id)
    answering = policy.county_roles(institution) if part == "county" else policy.answers(institution)
    effect = _effect(ctx, "acknowledged", to="acknowledged", withdraws=("phone",))
    effect.opens = (_duty(ctx, "acknowledged", party=part, role=answering[0], account_id=account_id),)
    effect.notices = (
        Tell(
            "centre",
            FINDERS[subject.source],
            T("危急值 {no} 已复述确认。", "Critical value {no} was read back.").format(no=ctx.case.number),
        ),
    )
    _save(
        ctx, acknowledged_at=ctx.now, acknowledged_by=who[:80], acknowledged_at_institution_id=institution_id,
        readback=heard[:120], notified_at=subject.notified_at or ctx.now,
    )  # fmt: skip
    return effect


def acknowledge(ctx: Ctx) -> Effect:
    """The recipient typed what they were told; only the right value counts."""
    heard = ctx.data["readback"]
    if not forms.matches(ctx.subject, heard):
        raise WrongReadBack("readback", heard)
    part = next(p for p in ("orderer", "team", "county") if ctx.parties.get(p) in ctx.by.institution_ids)
    who = (ctx.data.get("recipient") if ctx.by.machine else "") or ctx.by.name
    record(
        ctx.subject, f"{ctx.case.number}:ack:{ctx.case.version}", ctx.now, level=ctx.subject.level,
        channel="wire" if ctx.by.machine else "page", recipient=who[:80], institution_id=ctx.by.institution_id,
        recipient_account_id=ctx.by.account_id, outcome="CONFIRMED", heard=heard, by=ctx.by.name[:80], by_account_id=ctx.by.account_id,
    )  # fmt: skip
    return _read_back(ctx, heard, who, part, ctx.by.account_id)


def call(ctx: Ctx) -> Effect:
    """A telephone call by hand; a right read-back over the telephone is an acknowledgement."""
    data, subject = ctx.data, ctx.subject
    confirmed = data["outcome"] == "CONFIRMED"
    if confirmed and not forms.matches(subject, data["heard"]):
        raise WrongReadBack("heard", data["heard"], data["recipient"])
    record(
        subject, f"{ctx.case.number}:call:{ctx.case.version}", ctx.now, level=subject.level, channel="phone",
        recipient=data["recipient"] or subject.orderer.name[:80], institution=subject.orderer, outcome=data["outcome"],
        heard=data["heard"], note=data["note"], by=ctx.by.name[:80], by_account_id=ctx.by.account_id,
    )  # fmt: skip
    if confirmed:
        return _read_back(ctx, data["heard"], data["recipient"], "orderer", None)
    effect = _effect(ctx, "called")
    if ctx.case.state == "detected" and data["outcome"] == "REACHED_NO_READBACK":
        effect.to = "notified"
        role = policy.answers(subject.orderer)[0]
        effect.opens = (_duty(ctx, "notified", role=role),)
        _save(ctx, notified_at=ctx.now)
    return effect


class WrongReadBack(Refused):
    """What was read back is not the value. ``heard`` is what was said, ``recipient`` who said it ("" when they typed it)."""

    def __init__(self, field: str, heard: str, recipient: str = "") -> None:
        super().__init__({field: forms.WRONG})
        self.heard, self.recipient = heard, recipient


def correct(ctx: Ctx) -> Effect:
    """The result was corrected: shown beside the call, told to whoever had it; the call itself stays."""
    subject: Critical = ctx.subject
    Note.objects.create(
        critical=subject, key=f"{ctx.case.number}:correct:{ctx.case.version}", kind="corrected", value=ctx.data["value"],
        unit=ctx.data["unit"], reason=ctx.data["reason"], at=ctx.now, by=ctx.by.name[:80],
    )  # fmt: skip
    text = T(
        "危急值 {no}：检验结果已更正，请查看。", "Critical value {no}: the result was corrected; look at it."
    )
    effect = _effect(ctx, "corrected")
    parts = [p for p in ("orderer", "team", "county") if p in ctx.parties]
    notices = []
    for part in parts:
        institution = Institution.objects.get(pk=ctx.parties[part])
        role = policy.county_roles(institution)[0] if part == "county" else policy.answers(institution)[0]
        notices.append(Tell(part, role, text.format(no=ctx.case.number)))
    effect.notices = notices
    return effect


def act(ctx: Ctx) -> Effect:
    """What was done for the patient."""
    _save(ctx, acted_at=ctx.now, action=ctx.data["action"], action_note=ctx.data["note"])
    return _effect(ctx, "acted", opens=(_duty(ctx, "acted"),))


def close(ctx: Ctx) -> Effect:
    """Seen through to the end."""
    _save(ctx, closed_at=ctx.now, live=False)
    return _effect(ctx, "closed")


def amount(value: str) -> Decimal | None:
    """The number a value says, without its sign; None for words."""
    from lianxin.regional.critical import limits

    said = limits.number(value)
    return said[1] if said else None
