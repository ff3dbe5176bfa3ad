"""What the referral page shows, worked out from the case, its acts and the referral's rows. No decisions, no writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.urls import reverse

from lianxin.access.scope import Scope
from lianxin.clinical.referral import forms, reasons, rules
from lianxin.clinical.referral.catalogue import KINDS
from lianxin.clinical.referral.models import Followup, Leg, Letter, Message, Referral
from lianxin.duty import journey, machine
from lianxin.duty.models import Act, Case, Duty
from lianxin.network import roles
from lianxin.network.models import Institution
from lianxin.pool import booking, exams, exclusive
from lianxin.pool.models import ExamItem, Place
from lianxin.standards import clock
from lianxin.standards.money import Money
from lianxin.standards.text import T, Text

DIRECTIONS = dict(forms.DIRECTIONS)
LETTER_KINDS = {
    "interim": T("治疗中情况通报", "Interim note"),
    "outcome": T("回转单（结果信）", "Outcome letter"),
    "advice": T("诊疗建议", "Advice"),
    "ward_round": T("上级医院查房", "Ward round"),
}
LEG_STATUS = {
    "open": T("进行中", "Open"),
    "redirected": T("改转", "Passed on"),
    "returned": T("退回", "Returned"),
    "cancelled": T("取消", "Cancelled"),
    "completed": T("完成", "Completed"),
}
LETTER_WORDS = {
    "text": T("情况", "Note"),
    "findings": T("所见", "Findings"),
    "advice": T("建议", "Advice"),
    "next_round": T("下次查房", "Next round"),
    "record_no": T("病案号", "Record number"),
}
TONES = {"primary": "btn-primary", "danger": "btn-outline-danger", "quiet": "btn-outline-primary"}


@dataclass(frozen=True)
class Line:
    """A label and its words."""

    label: Any
    value: Any


@dataclass
class Offer:
    """One button: the move, its form, where it is sent, which version it was drawn for."""

    name: str
    label: Text
    tone: str
    url: str
    number: str
    version: int
    key: str
    form: Any
    open: bool = False
    next: str = ""
    choices: list[dict[str, Any]] | None = None
    choice_field: str = "session"
    chosen: str = ""
    page: str = ""
    css: str = field(init=False)

    @property
    def has_form(self) -> bool:
        """Whether there is anything to fill in; else the button itself makes the move."""
        return self.form is None or self.choices is not None or bool(self.form.visible_fields())

    def __post_init__(self) -> None:
        self.css = TONES.get(self.tone, TONES["quiet"])


def text_of(stored: dict[str, str] | None) -> Text:
    """A stored pair of words."""
    stored = stored or {}
    return Text(stored.get("zh", ""), stored.get("en", "") or stored.get("zh", ""))


def named(thing: Any, short: bool = False) -> Text:
    """The name of an institution (or department) in both languages."""
    if thing is None:
        return T("—", "—")
    zh = (getattr(thing, "short_name", "") or thing.name) if short else thing.name
    return Text(zh, getattr(thing, "name_en", "") or zh)


def state_label(case: Case) -> Text:
    """The state in words, with the side facts that people act upon."""
    label = machine.get(case.kind).state(case.state).label
    facts = case.facts or {}
    more = [
        words
        for fact, value, words in (
            ("info", "asked", T("等待补充资料", "waiting for an answer")),
            ("booking", "waitlisted", T("候诊中", "on the waiting list")),
            ("booking", "held", T("号已暂留", "number held")),
            ("cancel", "asked", T("申请撤销中", "cancellation asked")),
        )
        if facts.get(fact) == value
    ]
    if not more:
        return label
    return Text(
        label.zh + "(" + "、".join(m.zh for m in more) + ")",
        label.en + " (" + ", ".join(m.en for m in more) + ")",
    )


def duties(case: Case) -> list[dict[str, Any]]:
    """Open duties of the case: who owes what by when, most pressing first."""
    rows = (
        Duty.objects.unscoped("the case page shows every open duty of a case already opened to the reader")
        .filter(case=case, ended="")
        .select_related("owner_institution")
        .order_by("due_at")
    )
    return [
        {
            "label": d.label,
            "kind": d.kind,
            "button": d.button,
            "owner": Text(
                f"{named(d.owner_institution, True).zh} {roles.label(d.owner_role).zh}",
                f"{named(d.owner_institution, True).en}, {roles.label(d.owner_role).en}",
            ),
            "due_at": d.due_at,
            "paused": d.paused_since is not None,
            "level": d.level,
        }
        for d in rows
    ]


def acts(case: Case, log: list[Act] | None = None) -> list[dict[str, Any]]:
    """The act log, newest first: dated, signed, with the head of each hash."""
    m = machine.get(case.kind)
    out = []
    for act in reversed(journey.log(case) if log is None else log):
        move = m.move(act.move)
        where = f" · {named(act.institution, True)}" if act.institution else ""
        role = f" · {roles.label(act.role)}" if act.role else ""
        out.append(
            {
                "seq": act.seq,
                "at": act.at,
                "label": move.label if move else act.move,
                "who": f"{act.actor or T('系统', 'System')}{where}{role}",
                "digest": bytes(act.hash).hex()[:12],
            }
        )
    return out


def pack(referral: Referral) -> list[Line]:
    """The pack's lines in the order people know, the empty ones left out."""
    return [Line(p.label, referral.pack[c]) for c, p in rules.PARTS.items() if referral.pack.get(c)]


def letters(referral: Referral, scope: Scope) -> list[Letter]:
    """Letters, newest first, each with its words."""
    found = list(
        Letter.objects.within(scope)
        .filter(referral=referral)
        .select_related("institution")
        .order_by("-number")
    )
    for letter in found:
        letter.kind_label = LETTER_KINDS.get(letter.kind, letter.kind)
        letter.lines = letter_lines(letter)
    return found


def letter_lines(letter: Letter) -> list[Line]:
    """What a letter says, in the order people read it (the stored object has none)."""
    order = [*rules.LETTER_PARTS, *LETTER_WORDS]
    names = sorted(letter.content, key=lambda name: order.index(name) if name in order else len(order))
    return [
        Line(_letter_word(n), letter.content[n]) for n in names if letter.content[n] not in ("", None, [], {})
    ]


def beside(move: str, referral: Referral, scope: Scope) -> list[Line]:
    """What somebody has to have read before filling in the form of a move: the question, the letter, why down."""
    if move == "answer_info":
        asked = [m for m in conversation(referral, scope) if m.kind == "question"][-1:]
        return [Line(getattr(m, "code_label", "") or T("问题", "Question"), m.text) for m in asked]
    if move == "acknowledge":
        sent = [letter for letter in letters(referral, scope) if letter.kind == "outcome"][:1]
        return letter_lines(sent[0]) if sent else []
    if move == "propose_down" and referral.down_proposal.get("why"):
        return [Line(KINDS["ready_down"], text_of(referral.down_proposal["why"]))]
    return []


def _letter_word(name: str) -> Text:
    part = rules.LETTER_PARTS.get(name) or rules.PARTS.get(name)
    return part.label if part else LETTER_WORDS.get(name, Text(name, name))


def conversation(referral: Referral, scope: Scope) -> list[Message]:
    """Questions, answers and notes in order; ``mine`` marks what one's own side said."""
    found = list(
        Message.objects.within(scope)
        .filter(referral=referral)
        .select_related("institution")
        .order_by("number")
    )
    for message in found:
        message.mine = message.institution_id in scope.institution_ids
        message.code_label = reasons.label("question", message.code) if message.code else ""
    return found


def legs(referral: Referral) -> list[Leg]:
    """The path of offers with how each ended."""
    found = list(
        Leg.objects.unscoped("the path of a referral already opened to the reader")
        .filter(referral=referral)
        .select_related("institution")
        .order_by("number")
    )
    for leg in found:
        leg.status_label = LEG_STATUS.get(leg.status, leg.status)
    return found


def related(referral: Referral, scope: Scope) -> list[dict[str, Any]]:
    """The referral this one follows, those that follow it, and follow-ups."""
    out = []
    near = Referral.objects.within(scope).select_related("case", "from_institution", "to_institution")
    others = list(near.filter(parent_id=referral.pk))
    if referral.parent_id:
        others += list(near.filter(pk=referral.parent_id))
    for other in others:
        out.append(
            {
                "url": reverse("referral:show", args=[other.number]),
                "label": f"{DIRECTIONS[other.direction]} {other.diagnosis_name}",
                "route": f"{named(other.from_institution, True)} → {named(other.to_institution, True)}",
                "state": other.state,
                "state_label": state_label(other.case),
            }
        )
    for follow in (
        Followup.objects.within(scope).filter(referral=referral).select_related("case", "institution")
    ):
        out.append(
            {
                "url": reverse("referral:followup", args=[follow.case.number]),
                "label": str(T("随访", "Follow-up")),
                "route": str(named(follow.institution, True)),
                "state": follow.case.state,
                "state_label": state_label(follow.case),
            }
        )
    return out


def booking_line(referral: Referral) -> str:
    """When and where the visit is, when it is booked."""
    if referral.appointment_at is None or referral.case.facts.get("booking") != "booked":
        return ""
    when = referral.appointment_at.astimezone(clock.ZONE)
    where = named(referral.to_department or referral.to_institution)
    note = f" · {referral.appointment_note}" if referral.appointment_note else ""
    return f"{when:%m-%d %H:%M} {where}{note}"


def plan_lines(referral: Referral) -> dict[str, Any]:
    """The whole arrangement when it is more than a number: examinations and bed with preparation and consent, in time order."""
    places = list(
        Place.objects.unscoped("the referral's own places")
        .filter(case_id=referral.pk, state__in=exams.LIVE)
        .select_related("session__department", "session__resource")
    )
    claims = exclusive.of_case(referral.pk)
    items = {i.code: i for i in ExamItem.objects.filter(code__in={p.item for p in places if p.item})}
    if not items and not claims:
        return {}
    lines: list[dict[str, Any]] = []
    for place in places:
        session, item = place.session, items.get(place.item)
        where = f"{named(session.department)} {session.resource.label if session.resource else ''}"
        line = {
            "at": place.at,
            "what": T("门诊 {type}", "Clinic {type}").format(type=session.clinic_type),
            "state": place.state_label,
        }
        if item is not None:
            missing = exams.missing(referral.person_id, [item], referral.pk) if item.contrast else None
            line |= {
                "what": item.label, "prepare": Text(item.preparation, item.preparation_en), "contrast": item.contrast,
                "missing": missing, "url": reverse("places:booked", args=[place.pk]),
            }  # fmt: skip
        lines.append(line | {"where": where.strip()})
    for claim in claims:
        words = T("床位 {code}", "Bed {code}").format(code=claim.resource.code)
        where = str(named(claim.resource.department))
        lines.append({"at": claim.during.lower, "what": words, "where": where, "state": claim.state_label})
    lines.sort(key=lambda line: line["at"])
    return {"plan_lines": lines, "plan_exams": bool(items)}


def free_numbers(referral: Referral, institution: Institution | None = None) -> list[dict[str, Any]]:
    """Numbers of the receiver that may still be taken for this referral within two weeks, soonest first."""
    institution_id = institution.pk if institution else referral.to_institution_id
    if institution_id is None:
        return []
    asked: list[dict[str, Any]] = []
    if referral.specialty:
        asked = [{"specialty": referral.specialty}, {"specialty": referral.specialty.partition(".")[0]}]
    asked += [{"department": referral.to_department_id}] if referral.to_department_id else []
    offers: list[Any] = []
    for narrowed in [*asked, {}]:  # the specialty, else the department, else whatever the receiver offers
        offers = booking.find(
            institution=institution_id,
            channel=booking.channel_of(referral.from_institution.tier),
            limit=12,
            **narrowed,
        )
        if offers:
            break
    return [
        {
            "value": str(o.session_id),
            "when": f"{o.starts_at.astimezone(clock.ZONE):%m-%d %H:%M}",
            "department": o.department,
            "doctor": o.practitioner,
            "kind": o.clinic_type,
            "left": o.free,
            "fee": Money(o.fee_fen).yuan() if o.fee_fen else "",
        }
        for o in offers
    ]


def answer_words(referral: Referral) -> dict[str, Any]:
    """The catalogue's answer as it was shown at diagnosis entry."""
    stored = referral.answer or {}
    return {
        "answer_label": KINDS.get(stored.get("kind", ""), ""),
        "answer_why": text_of(stored.get("why")),
    }
