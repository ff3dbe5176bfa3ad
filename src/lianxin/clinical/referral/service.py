"""What pages, the FHIR door and scenarios call. Every change goes through ``duty.kernel``; nothing here moves a case itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from lianxin.access import relationships
from lianxin.access.scope import Scope
from lianxin.clinical.referral import catalogue, intent, moves, parties, rules
from lianxin.clinical.referral.models import Followup, FollowupContact, Leg, Letter, Message, Referral
from lianxin.duty import journey, kernel
from lianxin.duty import worklist as duty_worklist
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.machine import Ctx
from lianxin.duty.models import Case, Duty
from lianxin.index.models import Person
from lianxin.network.models import Institution
from lianxin.standards import clock
from lianxin.standards.text import T

KIND = "referral"


def _person_id(person: Person | int) -> int:
    return person if isinstance(person, int) else person.pk


def acting_institution(scope: Scope) -> Institution:
    """The institution on whose behalf ``scope`` refers; NotAllowed when it has none."""
    if scope.institution_id is None:
        raise NotAllowed(T("请先选择执业机构（岗位）", "Choose the post you act in first"))
    return Institution.objects.get(pk=scope.institution_id)


def open_referral(scope: Scope, person: Person | int, data: Mapping[str, Any], key: str) -> kernel.Done:
    """Open a referral as a draft (fields of ``forms.DraftForm``). Raises Refused, NotAllowed, NoRelationship."""
    referrer = acting_institution(scope)
    priority = (
        "emergency"
        if data.get("emergency") in (True, "on", "true", "1")
        else data.get("priority") or "routine"
    )
    if priority not in dict(moves.f.PRIORITIES):
        raise Refused({"priority": T("优先级不在可选范围内", "Priority is not one of the choices")})
    return kernel.open_case(
        KIND, _person_id(person), scope, dict(data), key, parties={"referrer": referrer.pk}, priority=priority
    )  # fmt: skip


draft = open_referral


def act(
    scope: Scope,
    number: str,
    move: str,
    form: Mapping[str, Any] | None = None,
    version: int | None = None,
    key: str = "",
) -> kernel.Done:
    """Make a move on a referral (or follow-up) that ``scope`` may see. Raises like ``duty.kernel.execute``, or ``pool.Full``."""
    return kernel.execute(move, number, scope, form or {}, version, key)


def submit(scope: Scope, number: str, form: Mapping[str, Any], version: int | None, key: str) -> kernel.Done:
    """Send the draft."""
    return act(scope, number, "submit", form, version, key)


def refer(scope: Scope, person: Person | int, data: Mapping[str, Any], key: str) -> kernel.Done:
    """Open and send in one transaction (a page with everything on it, or a bundle over FHIR): both happen or neither."""
    with transaction.atomic():
        opened = open_referral(scope, person, data, f"{key}:open")
        if not opened.replayed:
            _refuse_incomplete(opened.case)
        return submit(scope, opened.case.number, data, None, f"{key}:submit")


def _refuse_incomplete(case: Case) -> None:
    """Name every field that still keeps the draft from being sent (the guards of submit would name only the first)."""
    referral = moves.load(case)
    assert referral is not None
    errors: dict[str, Any] = {}
    if referral.to_institution_id is None:
        errors["to_institution"] = T("请选择转入机构", "Choose the receiving institution")
    if not referral.specialty:
        errors["specialty"] = T("请选择专科", "Choose the specialty")
    parts = rules.pack_parts(referral.direction, referral.emergency, referral.answer.get("pack", ""))
    errors |= {f"pack_{code}": text for code, text in rules.pack_missing(parts, referral.pack).items()}
    answer = referral.answer
    needed = catalogue.override_needed(answer.get("kind", ""), bool(answer.get("rule")), referral.direction)
    if needed and not referral.emergency and not referral.override_reason.strip():
        errors["override_reason"] = T(
            "与目录建议不一致，请填写理由", "This goes against the catalogue; write why"
        )
    if errors:
        raise Refused(errors)


def open_child_down(ctx: Ctx, data: Mapping[str, Any]) -> str:
    """The down-referral of a referral in care, as a draft with its pack; the number. Runs inside the parent's move."""
    subject = ctx.subject
    form = {
        "direction": "down",
        "to_institution": data["to_institution"],
        "specialty": data.get("specialty") or subject.specialty,
        "diagnosis_code": subject.down_proposal.get("diagnosis_code") or subject.diagnosis_code,
        "diagnosis_name": subject.down_proposal.get("diagnosis_name") or subject.diagnosis_name,
        "priority": "routine",
        "reason_code": "rehabilitation",
        "reason": "",
        "parent": ctx.case.number,
        "facts": subject.down_proposal.get("given", {}),
        "pack": {"record_no": subject.visit_number, **{k: v for k, v in data["pack"].items() if v}},
    }
    done = kernel.open_case(
        KIND, subject.person_id, ctx.by, form, f"down:{ctx.case.number}:{ctx.case.version + 1}",
        parties={"referrer": subject.to_institution_id}, priority="routine",
    )  # fmt: skip
    return done.case.number


def propose_down(
    scope: Scope, number: str, data: Mapping[str, Any], key: str, version: int | None = None
) -> kernel.Done:
    """Open the down-referral from a referral in care; ``done.act.outcome["more"]["child"]`` is the new draft's number."""
    return act(scope, number, "propose_down", data, version, key)


def child_number(done: kernel.Done) -> str:
    """Number of the down-referral that ``propose_down`` opened."""
    return str(done.act.outcome["more"]["child"])


def diagnose(
    scope: Scope, person: Person | int | None, diagnosis_code: str, given: Mapping[str, Any]
) -> tuple[catalogue.Answer, list[rules.Fact], dict[str, Any]]:
    """At diagnosis entry: the catalogues' answer, the questions to ask, and the errors in the facts given (by fact)."""
    here = acting_institution(scope)
    consortium = intent.consortium_for(here, None)
    facts, errors = rules.read_facts(given)
    if person is not None:
        facts = {**intent.person_facts(_person_id(person), clock.today()), **facts}
    answer = catalogue.answer(diagnosis_code, facts, here, consortium)
    return answer, catalogue.facts_for(diagnosis_code, consortium, tier=here.tier), errors


# ---------------------------------------------------------------- for pages


@dataclass
class CaseView:
    """Everything a referral's page shows; lists are in order, moves in the table's order."""

    case: Case
    referral: Referral
    person: Person
    legs: list[Leg]
    letters: list[Letter]
    messages: list[Message]
    allowed: list[kernel.Allowed]
    journey: list[Any]
    duties: list[Duty]
    followups: list[Followup]
    children: list[Referral]
    pack: list[tuple[rules.Part, str]]
    sees_record: bool
    mine: frozenset[str] = field(default_factory=frozenset)

    @property
    def buttons(self) -> list[kernel.Allowed]:
        """Moves that would succeed."""
        return [a for a in self.allowed if a.ok]

    @property
    def refused(self) -> list[kernel.Allowed]:
        """Moves that would not, each with ``why``."""
        return [a for a in self.allowed if not a.ok]

    @property
    def state_label(self) -> Any:
        """Where it stands, in words."""
        return moves.BY_STATE[self.case.state].label


def case_view(scope: Scope, number: str) -> CaseView:
    """The referral as ``scope`` may see it; ``Case.DoesNotExist`` when it may not. Clinical content only with a relationship
    (a consortium office sees the case, its clocks and its path, not the papers)."""
    case = kernel.get_case(number, scope)
    if case.kind != KIND:
        raise Case.DoesNotExist(number)
    referral = moves.load(case)
    if referral is None:
        raise Case.DoesNotExist(number)
    why = "the case was reached within the scope"
    sees = scope.clinical and relationships.sees(scope, case.patient_id)
    children = (
        Referral.objects.unscoped(why)
        .filter(parent=referral)
        .select_related("case", "to_institution", "from_institution")
    )
    context = kernel.context(case, scope)
    own: dict[str, Any] = {"referral": referral}
    parts = rules.pack_parts(referral.direction, referral.emergency, referral.answer.get("pack", ""))
    shown = [*parts, *(p for code, p in rules.PARTS.items() if code in referral.pack and p not in parts)]
    return CaseView(
        case=case,
        referral=referral,
        person=case.patient,
        legs=list(Leg.objects.unscoped(why).filter(**own).select_related("institution", "department").order_by("number")),
        letters=list(Letter.objects.unscoped(why).filter(**own).select_related("institution", "practitioner").order_by("number"))
        if sees else [],
        messages=list(Message.objects.unscoped(why).filter(**own).select_related("institution").order_by("number"))
        if sees else [],
        allowed=kernel.allowed(case, scope),
        journey=journey.journey(case),
        duties=list(
            Duty.objects.unscoped(why).filter(case=case, ended="").select_related("owner_institution").order_by("due_at")
        ),
        followups=list(Followup.objects.unscoped(why).filter(**own).select_related("case", "institution")),
        children=list(children.order_by("pk")),
        pack=[(part, str(referral.pack.get(part.code, ""))) for part in shown] if sees else [],
        sees_record=sees,
        mine=context.mine,
    )  # fmt: skip


@dataclass
class FollowupView:
    """Everything a follow-up's page shows."""

    case: Case
    followup: Followup
    person: Person
    contacts: list[FollowupContact]
    allowed: list[kernel.Allowed]
    journey: list[Any]


def followup_view(scope: Scope, number: str) -> FollowupView:
    """The follow-up as ``scope`` may see it; ``Case.DoesNotExist`` otherwise."""
    case = kernel.get_case(number, scope)
    why = "the case was reached within the scope"
    row = (
        Followup.objects.unscoped(why)
        .select_related("institution", "referral__case")
        .filter(pk=case.pk)
        .first()
    )
    if row is None:
        raise Case.DoesNotExist(number)
    contacts = FollowupContact.objects.unscoped(why).filter(followup=row).order_by("number")
    return FollowupView(
        case, row, case.patient, list(contacts), kernel.allowed(case, scope), journey.journey(case)
    )


def desk(
    scope: Scope, states: tuple[str, ...], side: str = "to", directions: tuple[str, ...] = ("up", "across")
) -> Any:
    """Referrals at a desk: to (``side="to"``) or from my institutions, in these states, most pressing first."""
    mine = scope.institution_ids | scope.oversight_ids
    field_name = "to_institution_id__in" if side == "to" else "from_institution_id__in"
    rows = Referral.objects.within(scope).filter(
        case__state__in=states, direction__in=directions, **{field_name: mine}
    )
    return rows.select_related("case", "person", "from_institution", "to_institution", "consortium").order_by(
        "case__due_at"
    )


def referrals_of(scope: Scope, person: Person | int) -> list[Referral]:
    """A person's referrals that ``scope`` may see, newest first."""
    rows = Referral.objects.within(scope).filter(person_id=_person_id(person))
    return list(
        rows.select_related("case", "from_institution", "to_institution").order_by("-case__opened_at")
    )


def worklist(scope: Scope, **options: Any) -> list[Any]:
    """Open duties of mine (the kernel's worklist)."""
    return list(duty_worklist.worklist(scope, **options))


def grassroots(institution: Institution) -> bool:
    """Whether it is a township, community or village institution."""
    return institution.kind in parties.GRASSROOTS_KINDS
