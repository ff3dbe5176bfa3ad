"""What each move of a consultation does, on the locked case, inside the kernel's transaction."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.db.models import Max

from lianxin.access import seal
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.machine import Ctx, Effect, Owes, Tell
from lianxin.duty.models import Case
from lianxin.network import roles
from lianxin.network.models import Institution, Practitioner
from lianxin.regional.consult import fees, guards, pool, video
from lianxin.regional.consult.forms import department_of
from lianxin.regional.consult.models import (
    MOST_LIVE,
    MOST_SEATS,
    Agreed,
    Consult,
    Draft,
    Expert,
    Material,
    Opinion,
    Seat,
)
from lianxin.standards.text import T, Text

_WITH = ("person", "requester", "desk", "practitioner")


@dataclass(frozen=True)
class Chosen:
    """Something of the record to be laid before the experts."""

    ref: str
    title: str
    source: str = ""
    at: dt.datetime | None = None


@dataclass
class Ask:
    """What the opening's effect needs beside the form: reaches it as ``ctx.extra["ask"]``; ``made`` is what came of it."""

    requester: Institution
    desk: Institution
    practitioner: Practitioner | None = None
    materials: Sequence[Chosen] = ()
    scan: bytes = b""
    scan_type: str = ""
    made: Consult | None = field(default=None)


def load(case: Case) -> Consult | None:
    """The consultation of a case with what guards, effects and pages read of it."""
    found: Consult | None = (
        Consult.objects.unscoped("the case's own consultation")
        .select_related(*_WITH)
        .filter(pk=case.pk)
        .first()
    )
    return found


def load_many(cases: list[Case]) -> dict[int, Consult]:
    """The same for many cases in one query."""
    rows = Consult.objects.unscoped("the cases' own consultations").select_related(*_WITH)
    return {r.pk: r for r in rows.filter(pk__in=[c.pk for c in cases])}


def summary(ctx: Ctx) -> Text:
    """What it is about, in a line."""
    subject: Consult | None = ctx.subject
    if subject is None:
        return ctx.machine.label
    mode = subject.mode_label
    return T(f"{subject.diagnosis}（{mode.zh}）", f"{subject.diagnosis} ({mode.en.lower()})")


def asker_role(institution: Institution) -> str:
    """Who asks at an institution: village doctor, general practitioner, specialist."""
    if institution.kind == "village":
        return roles.VILLAGE_DOCTOR
    return roles.GP if institution.kind in ("township", "community") else roles.CLINICIAN


def _seat_role(seat: Seat) -> str:
    if seat.practitioner is not None:
        post = pool.post_of(seat.practitioner, seat.institution_id)
        if post is not None:
            return str(post.role)
    return roles.CLINICIAN


def _save(ctx: Ctx, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(ctx.subject, name, value)
    ctx.subject.save(update_fields=list(fields))


def _owed(ctx: Ctx, state: str) -> Owes:
    owes = ctx.machine.state(state).owes
    assert owes is not None
    subject: Consult = ctx.subject
    if owes.party == "requester":
        return replace(owes, role=asker_role(subject.requester), account_id=subject.account_id)
    if owes.party == "host":
        seat = guards.host(ctx)
        assert seat is not None
        owes = replace(owes, role=_seat_role(seat), account_id=pool.account_of(seat.practitioner))
        if owes.kind == "begin" and subject.scheduled_at is not None:
            owes = replace(owes, due=max(subject.scheduled_at, ctx.now), clock="")
    return owes


def _opinion_owed(seat: Seat) -> Owes:
    """What an invited expert owes. It has no button: one expert's signature must not discharge another's duty."""
    return Owes(
        f"opinion{seat.number}", T("签署会诊意见", "Sign an opinion"), seat.part, _seat_role(seat), "opinion", "",
        account_id=pool.account_of(seat.practitioner),
    )  # fmt: skip


def _waiting(subject: Consult) -> list[Seat]:
    return [s for s in guards.seats(subject) if not s.host and s.state in ("invited", "accepted")]


def _to(ctx: Ctx, state: str, topic: str, *, choose: bool = False, **more: Any) -> Effect:
    told = {"consult": ctx.case.pk, "case": ctx.case.number, "mode": ctx.subject.mode}
    effect = Effect(to=state if choose else None, events=((f"consult.{topic}", told | more),), outcome=more)
    if not ctx.machine.state(state).terminal:
        effect.opens = (_owed(ctx, state),)
    return effect


def _tell_requester(ctx: Ctx, text: Text) -> Tell:
    subject: Consult = ctx.subject
    return Tell("requester", asker_role(subject.requester), text, subject.account_id)


def _tell_seats(seats: Sequence[Seat], text: Text) -> list[Tell]:
    return [
        Tell(s.part, _seat_role(s), text, pool.account_of(s.practitioner)) for s in seats if s.state != "left"
    ]


# ------------------------------------------------------------------------------------------------------------ the table


def _seat(ctx: Ctx, experts: Sequence[int], department: int | None, *, host: bool) -> list[Seat]:
    """Sit experts (or a department) down; the first hosts when ``host``. Refused when one is not in the pool or sits already."""
    subject: Consult = ctx.subject
    all_seats = guards.seats(subject)
    live = [s for s in all_seats if s.state != "left"]
    count = max(1, len(experts))
    if len(all_seats) + count > MOST_SEATS or len(live) + count > MOST_LIVE:
        raise Refused({"experts": T("本次会诊的专家席位已满。", "All seats of this consultation are used.")})
    number = (
        Seat.objects.unscoped("the next seat").filter(consult=subject).aggregate(n=Max("number"))["n"] or 0
    )
    made = []
    if department is not None:
        place = department_of(department)
        row = Seat(consult=subject, institution=place.institution, department=place)
        row.fee_fen = fees.default(subject.desk_id)
        made.append(row)
    for pk in experts:
        expert = (
            Expert.objects.select_related("practitioner", "institution", "department")
            .filter(pk=pk, active=True)
            .first()
        )
        if expert is None or any(s.expert_id == pk for s in live):
            raise Refused(
                {
                    "experts": T(
                        "专家不在库中，或已在本次会诊中。",
                        "The expert is not in the pool, or is here already.",
                    )
                }
            )
        row = Seat(
            consult=subject, expert=expert, practitioner=expert.practitioner, institution=expert.institution
        )
        row.department = expert.department
        row.fee_fen = expert.fee_fen or fees.default(subject.desk_id)
        made.append(row)
    for offset, row in enumerate(made, 1):
        row.number, row.invited_at, row.host = number + offset, ctx.now, host and offset == 1
        row.save(force_insert=True)
    return made


def _release(ctx: Ctx, reason: str) -> dict[str, int | None]:
    """Everybody who has not signed leaves the table; the parts that end."""
    parties: dict[str, int | None] = {"host": None}
    for seat in guards.seats(ctx.subject):
        if seat.state in ("invited", "accepted"):
            seat.state, seat.reason, seat.answered_at = "left", reason[:300], ctx.now
            parties[seat.part] = None
        seat.host = False if seat.state != "left" else seat.host
        seat.save(update_fields=["state", "reason", "answered_at", "host"])
    return {p: i for p, i in parties.items() if p in ctx.parties}


def _seated(seats: Sequence[Seat]) -> dict[str, int | None]:
    parties: dict[str, int | None] = {s.part: s.institution_id for s in seats}
    host = next((s for s in seats if s.host), None)
    return parties | ({"host": host.institution_id} if host else {})


def _invitation(subject: Consult) -> Text:
    if subject.scheduled_at is not None:
        return T("{at} 远程会诊邀请：{what}", "Invitation to a consultation on {at}: {what}").format(
            at=f"{subject.scheduled_at:%m-%d %H:%M}", what=T("请查看资料", "please look at the materials")
        )
    return T("即时会诊邀请，请尽快应答。", "An immediate consultation asks for you; please answer.")


def request(ctx: Ctx) -> Effect:
    """Open a consultation: consent and materials are written with it; straight to the experts when they are named."""
    ask: Ask = ctx.extra["ask"]
    data = ctx.data
    if ctx.case.priority == "emergency" and data["mode"] != "immediate":
        raise Refused({"mode": T("急诊会诊须为即时会诊。", "An emergency is an immediate consultation.")})
    subject = Consult(
        case_id=ctx.case.pk, person_id=ctx.case.patient_id, requester=ask.requester, desk=ask.desk,
        practitioner=ask.practitioner, account_id=ctx.by.account_id, mode=data["mode"], specialty=data["specialty"],
        diagnosis=data["diagnosis"], diagnosis_code=data["diagnosis_code"], history=data["history"], question=data["question"],
        phone=data["phone"], scheduled_at=data.get("scheduled_at") if data["mode"] == "booked" else None, requested_at=ctx.now,
    )  # fmt: skip
    subject.save(force_insert=True)
    Agreed.objects.create(
        consult=subject, how=data["how"], given_by=data["given_by"], relation=data["relation"], witness=data["witness"],
        reason=data["consent_reason"], taken_by=(ctx.by.name or ctx.by.reason)[:80], account_id=ctx.by.account_id, at=ctx.now,
        scan=seal.seal_bytes(ask.scan) if ask.scan else None, scan_type=ask.scan_type,
    )  # fmt: skip
    lay(subject, ask.materials, ctx.now, ctx.by.account_id)
    ctx.subject = ask.made = subject
    parties: dict[str, int | None] = {"desk": ask.desk.pk}
    ctx.parties = ctx.parties | {"desk": ask.desk.pk}
    if not data["experts"] and not data["department"]:
        effect = _to(ctx, "requested", "requested", choose=True)
        effect.notices = [
            Tell(
                "desk",
                roles.REFERRAL_DESK,
                T("新的远程会诊申请，请分派。", "A new consultation; please assign it."),
            )
        ]
    else:
        seats = _seat(ctx, data["experts"], data["department"], host=True)
        parties |= _seated(seats)
        subject.assigned_at = ctx.now
        subject.save(update_fields=["assigned_at"])
        effect = _to(ctx, "assigned", "assigned", choose=True)
        effect.notices = _tell_seats(seats, _invitation(subject))
    effect.parties = parties
    return effect


def lay(subject: Consult, materials: Sequence[Chosen], at: dt.datetime, account_id: int | None) -> int:
    """Lay things of the record before the experts (what lies there already stays); how many came."""
    held = set(
        Material.objects.unscoped("what lies there").filter(consult=subject).values_list("ref", flat=True)
    )
    rows = [
        Material(consult=subject, ref=m.ref, title=m.title[:200] or m.ref, source=m.source[:120], at=m.at, added_at=at, account_id=account_id)
        for m in {m.ref: m for m in materials}.values() if m.ref not in held
    ]  # fmt: skip
    Material.objects.bulk_create(rows)
    return len(rows)


def assign(ctx: Ctx) -> Effect:
    """The desk chooses the experts (again: others)."""
    ended = _release(ctx, "改派")
    if ctx.data.get("scheduled_at") and ctx.subject.mode == "booked":
        ctx.subject.scheduled_at = ctx.data["scheduled_at"]
    _save(ctx, assigned_at=ctx.now, scheduled_at=ctx.subject.scheduled_at, back="")
    seats = _seat(ctx, ctx.data["experts"], ctx.data["department"], host=True)
    effect = _to(ctx, "assigned", "assigned", experts=[s.expert_id for s in seats])
    effect.parties = ended | _seated(seats)
    effect.withdraws = [k for k in ctx.open_duties if k.startswith("opinion") or k == "accept"]
    effect.notices = [*_tell_seats(seats, _invitation(ctx.subject))]
    return effect


def invite(ctx: Ctx) -> Effect:
    """One more expert; while the consultation is under way they owe an opinion at once."""
    seats = _seat(ctx, [ctx.data["expert"]], None, host=False)
    effect = Effect(parties=_seated(seats), notices=_tell_seats(seats, _invitation(ctx.subject)))
    effect.outcome = {"seat": seats[0].number}
    if ctx.case.state == "consulting":
        effect.opens = [_opinion_owed(s) for s in seats]
    return effect


def leave(ctx: Ctx) -> Effect:
    """An invited expert does not take part."""
    seat = guards.mine(ctx)
    assert seat is not None
    seat.state, seat.reason, seat.answered_at = "left", ctx.data["reason"][:300], ctx.now
    seat.save(update_fields=["state", "reason", "answered_at"])
    text = T("受邀专家不参加会诊：{why}", "An invited expert does not take part: {why}").format(
        why=ctx.data["reason"][:120]
    )
    return Effect(
        parties={seat.part: None},
        notices=[Tell("host", roles.CLINICIAN, text)],
        outcome={"seat": seat.number},
    )


def accept(ctx: Ctx) -> Effect:
    """The host takes it: an immediate one begins, a booked one waits for its time."""
    seat = guards.mine(ctx)
    assert seat is not None
    if seat.practitioner_id is None and ctx.by.practitioner_id:
        seat.practitioner = Practitioner.objects.get(pk=ctx.by.practitioner_id)
    seat.state, seat.answered_at = "accepted", ctx.now
    seat.save(update_fields=["state", "answered_at", "practitioner"])
    subject: Consult = ctx.subject
    if ctx.data.get("scheduled_at") and subject.mode == "booked":
        subject.scheduled_at = ctx.data["scheduled_at"]
    if subject.mode == "booked" and subject.scheduled_at is None:
        raise Refused({"scheduled_at": T("请约定会诊时间。", "Agree on a time.")})
    _save(ctx, accepted_at=ctx.now, scheduled_at=subject.scheduled_at, **video.room(subject, ctx.now))
    if subject.mode == "booked":
        effect = _to(ctx, "scheduled", "scheduled", choose=True, at=subject.scheduled_at)
        words = T("会诊已约定：{at}", "Consultation agreed for {at}").format(
            at=f"{subject.scheduled_at:%m-%d %H:%M}"
        )
        others = [s for s in guards.seats(subject) if not s.host]
        effect.notices = [_tell_requester(ctx, words), *_tell_seats(others, words)]
        return effect
    return _begun(ctx, "专家已接受，会诊开始。", "The expert has accepted; the consultation begins.")


def begin(ctx: Ctx) -> Effect:
    """The booked consultation starts."""
    return _begun(ctx, "会诊已开始，请参加。", "The consultation has begun; please join.")


def _begun(ctx: Ctx, zh: str, en: str) -> Effect:
    _save(ctx, begun_at=ctx.now)
    others = _waiting(ctx.subject)
    effect = _to(ctx, "consulting", "begun", choose=True)
    effect.opens = [*effect.opens, *(_opinion_owed(s) for s in others)]
    words = T(zh, en)
    effect.notices = [_tell_requester(ctx, words), *_tell_seats(others, words)]
    return effect


def decline(ctx: Ctx) -> Effect:
    """The host cannot: the desk chooses anew."""
    return _back_to_desk(
        ctx,
        "declined",
        f"{ctx.data['code']}：{ctx.data['reason']}",
        T("专家婉拒，请改派。", "The expert declined; assign another."),
    )


def timeout(ctx: Ctx) -> Effect:
    """Nobody answered in time: the desk chooses anew."""
    return _back_to_desk(
        ctx,
        "unanswered",
        "超时未应答",
        T("专家未在时限内应答，请立即改派。", "No answer in time; assign another at once."),
    )


def missed(ctx: Ctx) -> Effect:
    """The consultation did not take place: the desk arranges it anew."""
    _save(ctx, missed=ctx.subject.missed + 1)
    who = ctx.data["code"]
    return _back_to_desk(
        ctx,
        "missed",
        f"{who}：{ctx.data['reason']}",
        T("会诊未按时进行，请重新安排。", "It did not take place; arrange it anew."),
    )


def _back_to_desk(ctx: Ctx, topic: str, reason: str, text: Text) -> Effect:
    parties = _release(ctx, reason)
    ctx.extra["was_at"] = ctx.subject.scheduled_at
    _save(ctx, scheduled_at=None, room="", room_until=None)
    effect = _to(ctx, "requested", topic, reason=reason[:200])
    effect.parties = parties
    effect.notices = [Tell("desk", roles.REFERRAL_DESK, text), _tell_requester(ctx, text)]
    return effect


def reschedule(ctx: Ctx) -> Effect:
    """Another time for a booked consultation."""
    at = ctx.data["scheduled_at"]
    ctx.subject.scheduled_at = at
    _save(ctx, scheduled_at=at, **video.room(ctx.subject, ctx.now))
    words = T("会诊改期：{at}（{why}）", "Consultation moved to {at} ({why})").format(
        at=f"{at:%m-%d %H:%M}", why=ctx.data["reason"][:80]
    )
    return Effect(
        due={"begin": at},
        outcome={"at": at},
        notices=[_tell_requester(ctx, words), *_tell_seats(guards.seats(ctx.subject), words)],
    )


def ask(ctx: Ctx) -> Effect:
    """More is needed from whoever asked."""
    _save(ctx, back=ctx.case.state)
    effect = _to(ctx, "asked", "asked")
    words = T("会诊需补充资料：{what}", "The consultation needs more: {what}").format(
        what=ctx.data["reason"][:160]
    )
    effect.notices = [_tell_requester(ctx, words)]
    return effect


def answer(ctx: Ctx) -> Effect:
    """The answer is there: it goes on from where it stood."""
    back = ctx.subject.back or "requested"
    _save(ctx, back="")
    effect = _to(ctx, back, "answered", choose=True)
    words = T("申请方已补充资料。", "What was missing has been added.")
    seats = [s for s in guards.seats(ctx.subject) if s.state != "left"]
    effect.notices = _tell_seats(seats, words) if seats else [Tell("desk", roles.REFERRAL_DESK, words)]
    return effect


# ------------------------------------------------------------------------------------------------------------ opinions


def _sign(ctx: Ctx, seat: Seat | None) -> Opinion:
    """The next signed version of a seat's opinion, or of the summary (``seat`` None). Refused when nothing changed or no reason is given."""
    rows = Opinion.objects.unscoped("the consultation's own opinions").filter(consult=ctx.subject, seat=seat)
    last = rows.order_by("-version").first()
    if last is not None and not ctx.data.get("reason"):
        raise Refused({"reason": T("再次签署须写明修改原因。", "Say why it is changed.")})
    if last is not None and (last.impression, last.advice) == (ctx.data["impression"], ctx.data["advice"]):
        raise Refused({"advice": T("与已签署的意见相同，无需再签。", "This is what was signed already.")})
    if ctx.by.account_id is None and ctx.by.client_id is None:
        raise NotAllowed(T("会诊意见须由专家本人签署。", "An opinion is signed by an expert."))
    institution = seat.institution_id if seat else ctx.parties["host"]
    made: Opinion = Opinion.objects.create(
        consult=ctx.subject, seat=seat, version=(last.version if last else 0) + 1, institution_id=institution,
        practitioner_id=ctx.by.practitioner_id or (seat.practitioner_id if seat else None), author=(ctx.by.name or ctx.by.reason)[:80],
        account_id=ctx.by.account_id, impression=ctx.data["impression"], advice=ctx.data["advice"],
        reason=(ctx.data.get("reason") or "") if last else "", signed_at=ctx.now,
    )  # fmt: skip
    kind = "opinion" if seat else "summary"
    Draft.objects.unscoped("signed: the draft is done").filter(
        consult=ctx.subject, account_id=ctx.by.account_id or 0, kind=kind
    ).delete()
    return made


def opine(ctx: Ctx) -> Effect:
    """An expert signs their own opinion."""
    seat = guards.mine(ctx)
    assert seat is not None
    if seat.practitioner_id is None and ctx.by.practitioner_id:
        seat.practitioner_id = ctx.by.practitioner_id
    made = _sign(ctx, seat)
    seat.state, seat.answered_at = "given", ctx.now
    seat.save(update_fields=["state", "answered_at", "practitioner"])
    duty = f"opinion{seat.number}"
    effect = Effect(
        discharges=[duty] if duty in ctx.open_duties else [],
        outcome={"seat": seat.number, "version": made.version},
    )
    if not seat.host:
        words = T("{who} 已签署会诊意见。", "{who} has signed an opinion.").format(who=made.author)
        host = guards.host(ctx)
        effect.notices = _tell_seats([host], words) if host else []
    return effect


def conclude(ctx: Ctx) -> Effect:
    """The host signs the summary; it goes to whoever asked and into the record."""
    made = _sign(ctx, None)
    seat = guards.host(ctx)
    assert seat is not None
    seat.state, seat.answered_at = "given", ctx.now
    seat.save(update_fields=["state", "answered_at"])
    for left in _waiting(ctx.subject):
        left.state, left.reason = "left", "会诊结束时未签署"
        left.save(update_fields=["state", "reason"])
    total = fees.settle(ctx.subject, ctx.now)
    _save(ctx, concluded_at=ctx.now, room_until=ctx.now if ctx.subject.room else None, fee_fen=total)
    effect = _to(ctx, "concluded", "concluded", opinion=made.pk)
    effect.withdraws = [k for k in ctx.open_duties if k.startswith("opinion")]
    effect.notices = [
        _tell_requester(ctx, T("会诊意见已出，请查看并处理。", "The opinion is there; see it and act."))
    ]
    return effect


def amend(ctx: Ctx) -> Effect:
    """A corrected summary: whoever had the old one looks again."""
    made = _sign(ctx, None)
    effect = Effect(
        outcome={"version": made.version}, withdraws=["acknowledge"], opens=(_owed(ctx, "concluded"),)
    )
    effect.notices = [
        _tell_requester(ctx, T("会诊意见已更正，请重新查看。", "The opinion was corrected; look again."))
    ]
    return effect


def acknowledge(ctx: Ctx) -> Effect:
    """Whoever asked says what was done."""
    _save(ctx, acknowledged_at=ctx.now, action=ctx.data["action"], action_note=ctx.data["reason"], live=False)
    effect = Effect(
        outcome={"action": ctx.data["action"]},
        events=(("consult.done", {"consult": ctx.case.pk, "case": ctx.case.number}),),
    )
    words = T("申请方已查看并处理会诊意见。", "The opinion was seen and acted upon.")
    effect.notices = _tell_seats([s for s in guards.seats(ctx.subject) if s.state == "given"], words)
    return effect


def close(ctx: Ctx) -> Effect:
    """Cancelled by the requester, or refused by the desk."""
    told = guards.seats(ctx.subject)
    words = T("会诊已取消：{why}", "Consultation cancelled: {why}").format(why=ctx.data["reason"][:160])
    notices = [*_tell_seats([s for s in told if s.part in ctx.parties], words)]
    if "requester" not in ctx.mine:
        notices.append(_tell_requester(ctx, words))
    else:
        notices.append(Tell("desk", roles.REFERRAL_DESK, words))
    for seat in told:
        if seat.state in ("invited", "accepted"):
            seat.state, seat.reason = "left", ctx.data["reason"][:300]
            seat.save(update_fields=["state", "reason"])
    _save(ctx, live=False, room="", room_until=None)
    return Effect(
        notices=notices, events=(("consult.closed", {"consult": ctx.case.pk, "case": ctx.case.number}),)
    )
