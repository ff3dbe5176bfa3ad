"""What each move does to the referral's own rows, on the locked case, inside the kernel's transaction.

An effect changes the subject (the :class:`Referral`) and returns the :class:`Effect` the kernel writes to the act. It refuses
(`Refused`, fields named) what the form alone could not know. Letters, consent and slots have their own modules.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import connection

from lianxin.access import audit, relationships
from lianxin.clinical.referral import followup, guards, intent, parties, policy, slots
from lianxin.clinical.referral.letters import add_letter, add_message
from lianxin.clinical.referral.models import Leg, Letter, Referral
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.machine import Ctx, Effect, Owes, Tell
from lianxin.standards import calendar
from lianxin.standards.text import T, Text

FREE = {"info": "none", "booking": "none", "cancel": "none"}
SKIPPED = {
    "draft": ("submit", "receive", "accept", "book"),
    "submitted": ("receive", "accept", "book"),
    "received": ("accept", "book"),
    "returned": ("accept", "book"),
    "accepted": ("book",),
    "no_show": ("rebook",),
}


def spec(ctx: Ctx, name: str) -> str:
    """The span of a clock for this referral."""
    subject = ctx.subject
    found = policy.values(subject.consortium, ctx.now.date())
    return policy.clock_spec(name, subject.direction, ctx.case.priority, found)


def set_facts(subject: Referral, **facts: str) -> dict[str, str]:
    """Side facts, on the row (for the database's own checks) and for the act."""
    for name, value in facts.items():
        setattr(subject, name, value)
    if facts.get("info") == "none":
        subject.info_asked_at = None
    return facts


def open_leg(subject: Referral) -> Leg:
    """The leg that is running; MachineError-worthy when there is none, so it is asked only where one must be."""
    return Leg.objects.unscoped("the referral's own leg").get(referral=subject, status="open")


def legs_of(subject: Referral) -> Any:
    """All legs in order."""
    return Leg.objects.unscoped("the referral's own legs").filter(referral=subject).order_by("number")


def new_leg(ctx: Ctx) -> Leg:
    """Open the next leg to the receiver now chosen."""
    subject = ctx.subject
    return Leg.objects.create(
        referral=subject,
        person_id=subject.person_id,
        number=legs_of(subject).count() + 1,
        institution_id=subject.to_institution_id,
        department_id=subject.to_department_id,
        opened_at=ctx.now,
    )


def end_leg(ctx: Ctx, status: str, code: str = "", text: str = "") -> None:
    """End the running leg, if any."""
    Leg.objects.unscoped("the referral's own leg").filter(referral=ctx.subject, status="open").update(
        status=status, ended_at=ctx.now, end_code=code, end_text=text
    )


def words(ctx: Ctx) -> str:
    """What the actor wrote beside a code."""
    return str(ctx.data.get("comment") or "")


# ---------------------------------------------------------------- draft and submit


def open_draft(ctx: Ctx) -> Effect:
    """Create the referral's row with what is known; nothing leaves the referrer yet."""
    person_id = ctx.case.patient_id
    relationships.require(ctx.by, person_id)
    ctx.subject = Referral(
        case_id=ctx.case.pk, person_id=person_id, from_institution_id=ctx.parties["referrer"],
        from_practitioner_id=ctx.by.practitioner_id, from_department_id=intent.department_of(ctx.by),
    )  # fmt: skip
    intent.fill(ctx.subject, ctx.data, ctx.now.date())
    ctx.subject.case = ctx.case
    ctx.subject.save(force_insert=True)
    return _draft_effect(ctx)


def edit_draft(ctx: Ctx) -> Effect:
    """Change the intent while it is a draft; only the referrer does."""
    intent.fill(ctx.subject, ctx.data, ctx.now.date())
    ctx.subject.save()
    return _draft_effect(ctx)


def _draft_effect(ctx: Ctx) -> Effect:
    subject = ctx.subject
    hub = subject.consortium.lead_id if subject.consortium_id else None
    # An emergency may reach the hospital before its papers: the receiver takes part from the draft on.
    receiver = subject.to_institution_id if subject.emergency else None
    return Effect(parties={"hub": hub, "receiver": receiver}, priority=subject.priority)


def _one_at_a_time(subject: Referral) -> None:
    """Two drafts of one person sent at once: the second waits here, then sees the first in the duplicate guard."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 11))", [f"referral:{subject.person_id}"]
        )


def submit(ctx: Ctx) -> Effect:
    """Record consent, start the pathway's clock and open the first leg."""
    subject = ctx.subject
    _one_at_a_time(subject)
    double = guards.not_a_double(ctx)
    if double is not None:
        raise NotAllowed(double)
    subject.consent_id = intent.record_consent(ctx, ctx.data["consent_evidence"], words(ctx))
    subject.live, subject.submitted_at = True, ctx.now
    subject.save()
    new_leg(ctx)
    return Effect(parties={"receiver": subject.to_institution_id}, pathway_start=ctx.now)


def receive(ctx: Ctx) -> None:
    """The receiver has it."""
    leg = open_leg(ctx.subject)
    leg.received_at = ctx.now
    leg.save(update_fields=["received_at"])


# ---------------------------------------------------------------- questions


def ask(ctx: Ctx) -> Effect:
    """A coded question; the decision clock rests, the referrer's clock starts."""
    subject = ctx.subject
    if ctx.case.state == "submitted":
        receive(ctx)
    add_message(ctx, "question", ctx.data["question"], ctx.data["reason_code"])
    facts = set_facts(subject, info="asked")
    subject.info_asked_at = ctx.now
    subject.save()
    return Effect(facts=facts, pauses=("decide",))


def answer(ctx: Ctx) -> Effect:
    """The answer; the decision clock runs on with the time it had left."""
    add_message(ctx, "answer", ctx.data["text"])
    facts = set_facts(ctx.subject, info="none")
    ctx.subject.save()
    return Effect(facts=facts, resumes=("decide",))


def note(ctx: Ctx) -> Effect:
    """A line of conversation; nothing else changes."""
    add_message(ctx, "note", ctx.data["text"])
    other = "receiver" if ctx.is_party("referrer") else "referrer"
    role = parties.role_at(parties.player(ctx.subject, other), "doctor" if other == "referrer" else "desk")
    tell = [Tell(other, role, T("有新留言", "New message"))] if other in ctx.parties else []
    return Effect(notices=tell)


# ---------------------------------------------------------------- decisions


def accept(ctx: Ctx) -> Effect:
    """Accept (perhaps at another priority, perhaps on the waiting list); a grassroots receiver of a patient sent down also
    gets the follow-up duty."""
    subject = ctx.subject
    if ctx.data.get("to_department"):
        subject.to_department = intent.department(subject.to_institution, ctx.data["to_department"])
    waiting = bool(ctx.data.get("waitlist"))
    facts = set_facts(subject, info="none", booking="waitlisted" if waiting else "none")
    priority = ctx.data.get("priority") or None
    if priority:
        subject.priority = priority
        add_message(ctx, "note", words(ctx) or str(ctx.data["reason_code"]), ctx.data["reason_code"])
    subject.save()
    effect = Effect(facts=facts, priority=priority, withdraws=("info",))
    if subject.direction == "down" and subject.to_institution.kind in parties.GRASSROOTS_KINDS:
        effect.outcome["followup"] = followup.open_for(ctx, subject, subject.to_institution)
    return effect


def _give_back(ctx: Ctx, code: str, text: str, about: Text) -> Effect:
    """The ball is with the referrer again; the receiver's access ends unless the patient may still come as an emergency."""
    subject = ctx.subject
    end_leg(ctx, "returned", code, text)
    slots.release(ctx, code)
    facts = set_facts(subject, **FREE)
    subject.save()
    return Effect(
        facts=facts,
        parties={} if subject.emergency else {"receiver": None},
        withdraws=("info", "cancel_answer"),
        notices=(Tell("referrer", parties.role_at(subject.from_institution, "doctor"), about),),
    )


def advise(ctx: Ctx) -> Effect:
    """Return with advice: the advice is a letter to the referrer."""
    add_letter(ctx, "advice", {"advice": ctx.data["advice"]})
    return _give_back(ctx, "advice", ctx.data["advice"], T("退回并附诊疗建议", "Returned with advice"))


def reject(ctx: Ctx) -> Effect:
    """Reject with a coded reason."""
    return _give_back(ctx, ctx.data["reason_code"], words(ctx), T("转诊被退回", "Referral rejected"))


def hand_back(ctx: Ctx) -> Effect:
    """Too many no-shows: the referrer or family doctor calls the patient."""
    return _give_back(
        ctx, "no_show", words(ctx), T("患者多次爽约，请联系", "Patient did not come; please call")
    )


def pass_on(ctx: Ctx) -> Effect:
    """A new leg to another institution; the pathway's start is kept, no institution is asked twice."""
    subject = ctx.subject
    target = intent.institution(ctx.data["to_institution"], "to_institution")
    asked = {leg.institution_id for leg in legs_of(subject)}
    if target.pk in asked or target.pk == subject.from_institution_id:
        raise Refused(
            {
                "to_institution": T(
                    "该机构已在转诊路径中，请选择其他机构", "It is on the path already; choose another"
                )
            }
        )
    intent.check_route(subject, target)
    reason = ctx.data.get("reason_code") or "resent"
    end_leg(ctx, "redirected", reason, words(ctx))
    slots.release(ctx, "redirect")
    old = subject.to_institution
    subject.to_institution = target
    subject.to_department = (
        intent.department(target, ctx.data["to_department"]) if ctx.data.get("to_department") else None
    )
    subject.hops += 1
    facts = set_facts(subject, **FREE)
    subject.save()
    new_leg(ctx)
    about = T("已由{old}改转至{new}", "Passed on from {old} to {new}").format(old=old.label, new=target.label)
    return Effect(
        facts=facts,
        parties={"receiver": target.pk},
        withdraws=("info", "cancel_answer"),
        notices=(Tell("referrer", parties.role_at(subject.from_institution, "doctor"), about),),
    )


# ---------------------------------------------------------------- booking


def book(ctx: Ctx) -> Effect:
    """Take a place of the pool, or a time of the receiver's own; the reception expects the patient."""
    slots.take(ctx)
    facts = set_facts(ctx.subject, booking="booked")
    ctx.subject.save()
    return Effect(
        facts=facts, due={"attend": attend_due(ctx)}, notices=_both(ctx, T("已预约 {at}", "Booked for {at}"))
    )


def hold(ctx: Ctx) -> Effect:
    """Keep a number while the patient is asked; the booking clock runs on and the hold runs out by itself."""
    slots.keep(ctx, int(policy.value("limit.hold_minutes", ctx.subject.consortium, ctx.now.date())))
    facts = set_facts(ctx.subject, booking="held")
    ctx.subject.save()
    return Effect(facts=facts)


def rebook(ctx: Ctx) -> Effect:
    """Book again after a no-show."""
    return book(ctx)


def reschedule(ctx: Ctx) -> Effect:
    """Give the place back and take another, in one transaction; counted, both told."""
    slots.exchange(ctx, ctx.data["reason_code"])
    ctx.subject.reschedules += 1
    facts = set_facts(ctx.subject, booking="booked")
    ctx.subject.save()
    return Effect(
        facts=facts, due={"attend": attend_due(ctx)}, notices=_both(ctx, T("已改约至 {at}", "Moved to {at}"))
    )


def attend_due(ctx: Ctx) -> dt.datetime:
    """By when the reception has to have said whether the patient came."""
    end = ctx.subject.appointment_end or ctx.subject.appointment_at
    return max(end, ctx.now) + dt.timedelta(minutes=policy.minutes(spec(ctx, "attend_grace")))


def _both(ctx: Ctx, text: Text) -> list[Tell]:
    subject = ctx.subject
    said = text.format(at=f"{subject.appointment_at.astimezone(ctx.now.tzinfo):%Y-%m-%d %H:%M}")
    return [
        Tell("referrer", parties.role_at(subject.from_institution, "doctor"), said),
        Tell("receiver", parties.role_at(subject.to_institution, "reception"), said),
    ]


def waitlist(ctx: Ctx) -> Effect:
    """No capacity: on the waiting list, looked at every week, never expiring silently."""
    slots.release(ctx, "waitlisted")
    facts = set_facts(ctx.subject, booking="waitlisted")
    ctx.subject.save()
    return Effect(facts=facts, due={"book": calendar.due(ctx.now, spec(ctx, "waitlist"))})


def slot_lost(ctx: Ctx) -> Effect:
    """The booking falls through; the booking clock starts again."""
    slots.release(ctx, ctx.data["reason_code"])
    facts = set_facts(ctx.subject, booking="none")
    ctx.subject.save()
    return Effect(facts=facts)


def no_show(ctx: Ctx) -> Effect:
    """The session is over and nobody came: the system says so, people decide what next."""
    slots.missed(ctx)
    ctx.subject.no_shows += 1
    facts = set_facts(ctx.subject, booking="none")
    ctx.subject.save()
    return Effect(
        facts=facts,
        notices=(
            Tell(
                "referrer",
                parties.role_at(ctx.subject.from_institution, "doctor"),
                T("患者未到诊", "Did not come"),
            ),
        ),
    )


# ---------------------------------------------------------------- arrival and care


def arrive(ctx: Ctx) -> Effect:
    """The patient is here and is the one referred."""
    intent.check_identity(ctx)
    slots.arrived(ctx)
    subject = ctx.subject
    subject.arrived_at, subject.visit_number = ctx.now, ctx.data.get("visit_number") or ""
    facts = set_facts(subject, booking="none", info="none")
    subject.save()
    return Effect(facts=facts, withdraws=("info",))


def arrive_green(ctx: Ctx) -> Effect:
    """Green channel: straight to arrival; the steps skipped are named, audited, and owed to be written up."""
    subject, source = ctx.subject, ctx.case.state
    skipped = SKIPPED.get(source, ())
    intent.check_identity(ctx)
    slots.arrived(ctx)
    if subject.submitted_at is None:
        _one_at_a_time(subject)
        double = Referral.objects.unscoped("the duplicate guard").filter(
            person_id=subject.person_id,
            specialty=subject.specialty,
            direction=subject.direction,
            emergency=True,
            live=True,
        )
        subject.submitted_at, subject.live = ctx.now, not double.exists()
    if not legs_of(subject).filter(status="open").exists():
        reopened = (
            legs_of(subject)
            .filter(institution_id=subject.to_institution_id)
            .update(status="open", ended_at=None)
        )
        if not reopened:
            new_leg(ctx)
    Leg.objects.unscoped("the referral's own leg").filter(
        referral=subject, status="open", received_at=None
    ).update(received_at=ctx.now)
    subject.arrived_at, subject.visit_number = ctx.now, ctx.data.get("visit_number") or ""
    subject.backfilled = [{"step": step, "skipped_at": ctx.now.isoformat()} for step in skipped]
    facts = set_facts(subject, **FREE)
    subject.save()
    if words(ctx):
        add_message(ctx, "note", words(ctx), "green_channel")
    audit.write(
        ctx.by, "update", person_id=subject.person_id, what=f"referral {ctx.case.number}",
        detail={"green_channel": list(skipped), "from": source},
    )  # fmt: skip
    party = "referrer" if "submit" in skipped else "receiver"
    owed = Owes(
        "backfill", T("补记绿色通道省略的手续", "Write up the steps the green channel skipped"), party,
        parties.role_at(parties.player(subject, party), "doctor" if party == "referrer" else "desk"),
        "backfill", "backfill",
    )  # fmt: skip
    return Effect(
        facts=facts, opens=(owed,) if skipped else (), withdraws=("info", "cancel_answer"), outcome={"skipped": list(skipped)},
    )  # fmt: skip


def backfill(ctx: Ctx) -> Effect:
    """The skipped steps are written up: consent, papers, account."""
    subject = ctx.subject
    if subject.consent_id is None:
        subject.consent_id = intent.record_consent(ctx, ctx.data["consent_evidence"], words(ctx))
    subject.pack = {**subject.pack, **{k: v for k, v in ctx.data["pack"].items() if v}}
    subject.backfilled = [
        {**row, "written_at": ctx.now.isoformat(), "by": ctx.by.name, "account": words(ctx)}
        for row in subject.backfilled
    ]
    subject.save()
    return Effect(outcome={"written": [row["step"] for row in subject.backfilled]})


def start_care(ctx: Ctx) -> None:
    """Care begins; a clinic place is used up."""
    subject = ctx.subject
    subject.visit_kind, subject.care_started_at = ctx.data["visit_kind"], ctx.now
    subject.visit_number = ctx.data.get("visit_number") or subject.visit_number
    slots.used(ctx)
    subject.save()


def interim(ctx: Ctx) -> Effect:
    """A note on the course; the referrer is told."""
    add_letter(ctx, "interim", {"text": ctx.data["text"]})
    role = parties.role_at(ctx.subject.from_institution, "doctor")
    return Effect(notices=(Tell("referrer", role, T("有新的诊治进展", "News on the course of care")),))


def discharge(ctx: Ctx) -> Effect:
    """Discharge: the outcome clock starts; when the catalogue says so, a down-referral is proposed."""
    subject = ctx.subject
    subject.discharged_at = ctx.now
    slots.left(ctx)
    answer = intent.discharge_answer(subject, ctx.data, ctx.now.date())
    found = intent.discharge_diagnosis(ctx.data)
    effect = Effect(outcome={"catalogue": answer.kind})
    if subject.visit_kind != "clinic":
        effect.due = {"outcome": calendar.due(ctx.now, spec(ctx, "outcome"))}
    if answer.kind == "ready_down" and subject.to_institution.kind not in parties.GRASSROOTS_KINDS:
        subject.down_proposal = {
            **answer.to_dict(),
            "given": ctx.data["facts"],
            "to": intent.home_code(subject),
            **found,
        }
        effect.opens = (
            Owes(
                "propose_down", T("按目录建议下转", "Propose the down-referral the catalogue suggests"), "receiver",
                parties.role_at(subject.to_institution, "doctor"), "propose_down", "propose_down",
            ),
        )  # fmt: skip
    else:
        subject.down_proposal = found
    subject.save()
    return effect


def not_down(ctx: Ctx) -> Effect:
    """The proposal is declined with a reason."""
    subject = ctx.subject
    subject.down_proposal = {
        **subject.down_proposal,
        "declined": ctx.data["reason_code"],
        "comment": words(ctx),
    }
    subject.save()
    return Effect(discharges=("propose_down",))


def ward_round(ctx: Ctx) -> Effect:
    """A specialist of the upper hospital at the bedside below: kept as a letter, published as an encounter."""
    content = {
        "findings": ctx.data["findings"],
        "advice": ctx.data["advice"],
        "next_round": ctx.data["next_round"].isoformat() if ctx.data.get("next_round") else "",
    }
    add_letter(ctx, "ward_round", content)
    role = parties.role_at(ctx.subject.to_institution, "doctor")
    return Effect(notices=(Tell("receiver", role, T("上级医院已查房", "The upper hospital made its round")),))


# ---------------------------------------------------------------- outcome


def send_outcome(ctx: Ctx) -> Effect:
    """The outcome letter goes to the referrer."""
    names = ("diagnosis", "done", "drugs_changed", "watch_for", "who_follows", "record_no")
    content = {name: ctx.data[name] for name in names} | {"follow_when": ctx.data["follow_when"].isoformat()}
    add_letter(ctx, "outcome", content)
    facts = set_facts(ctx.subject, cancel="none")
    ctx.subject.save()
    return Effect(facts=facts, withdraws=("cancel_answer",))


def waiting_letter(subject: Referral) -> Letter:
    """The outcome letter that waits for the referrer."""
    letters = Letter.objects.unscoped("the referral's own letter").filter(referral=subject, kind="outcome")
    return letters.filter(acknowledged_at=None, disputed_at=None).latest("number")


def acknowledge(ctx: Ctx) -> Effect:
    """The loop closes: drugs reconciled, follow-up owned by somebody."""
    subject = ctx.subject
    letter = waiting_letter(subject)
    letter.acknowledged_at, letter.acknowledged_by = ctx.now, ctx.by.name
    letter.medication_reconciled = True
    letter.save()
    owner = intent.follower(subject, ctx.data.get("followup_institution") or "")
    number = followup.open_for(ctx, subject, owner, at=ctx.data.get("followup_at"), letter=letter)
    effect = end(ctx, "completed", "closed", words(ctx))
    effect.outcome = {"letter": letter.number, "followup": number}
    return effect


def dispute(ctx: Ctx) -> Effect:
    """The letter goes back for mending."""
    letter = waiting_letter(ctx.subject)
    letter.disputed_at = ctx.now
    letter.dispute_reason = f"{ctx.data['reason_code']} {words(ctx)}".strip()
    letter.save()
    role = parties.role_at(ctx.subject.to_institution, "doctor")
    return Effect(notices=(Tell("receiver", role, T("回转单有异议", "The outcome letter is disputed")),))


# ---------------------------------------------------------------- endings


def end(ctx: Ctx, leg_status: str, code: str, text: str) -> Effect:
    """Whatever the ending: the leg ends, no booking stays (I3), the duplicate guard lets go."""
    subject = ctx.subject
    end_leg(ctx, leg_status, code, text)
    slots.release(ctx, code)
    facts = set_facts(subject, **FREE)
    subject.live, subject.ended_at, subject.end_code, subject.end_text = False, ctx.now, code, text
    subject.save()
    return Effect(facts=facts)


def cancel(ctx: Ctx) -> Effect:
    """The referrer withdraws before acceptance."""
    return end(ctx, "cancelled", ctx.data["reason_code"], words(ctx))


def ask_cancel(ctx: Ctx) -> Effect:
    """After acceptance the receiver has to agree."""
    add_message(ctx, "note", words(ctx) or ctx.data["reason_code"], f"cancel:{ctx.data['reason_code']}")
    facts = set_facts(ctx.subject, cancel="asked")
    ctx.subject.end_code = ctx.data["reason_code"]
    ctx.subject.save()
    return Effect(facts=facts)


def agree_cancel(ctx: Ctx) -> Effect:
    """Cancelled as asked."""
    return end(ctx, "cancelled", ctx.subject.end_code, words(ctx))


def refuse_cancel(ctx: Ctx) -> Effect:
    """Not cancelled; the answer is in the conversation."""
    add_message(ctx, "note", words(ctx), "cancel_refused")
    facts = set_facts(ctx.subject, cancel="none")
    ctx.subject.end_code = ""
    ctx.subject.save()
    return Effect(facts=facts)


def close_no_return(ctx: Ctx) -> Effect:
    """Ended without a return, for a coded reason; counted apart."""
    return end(ctx, "cancelled", ctx.data["reason_code"], words(ctx))


def settle(ctx: Ctx) -> Effect:
    """What becomes of a returned referral."""
    return end(ctx, "returned", ctx.data["reason_code"], words(ctx))


# ---------------------------------------------------------------- down


def propose_down(ctx: Ctx) -> Effect:
    """Open the down-referral (a case of its own, the hospital's duty until a receiver accepts it)."""
    from lianxin.clinical.referral import service

    subject = ctx.subject
    proposal = subject.down_proposal
    child = service.open_child_down(ctx, ctx.data)
    subject.down_proposal = {**proposal, "child": child}
    subject.save()
    return Effect(outcome={"child": child})
