"""The clinical intent: reading it from a form, checking the route, recording consent, knowing the patient at the door."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from django.db.models import Q

from lianxin.access import consent
from lianxin.clinical.referral import catalogue, parties, reasons, rules
from lianxin.clinical.referral.models import Referral
from lianxin.duty.errors import Refused
from lianxin.duty.machine import Ctx
from lianxin.index import facts
from lianxin.index.models import Person
from lianxin.network import directory
from lianxin.network.kinds import TIER_ORDER
from lianxin.network.models import Consortium, Department, Institution, Post
from lianxin.standards import codes
from lianxin.standards.text import T

ICD = "http://hl7.org/fhir/sid/icd-10"
CONSENT_TEXT = "referral-2026.1"


def institution(code: Any, field: str) -> Institution:
    """The active institution with this code (or FHIR id); refuses naming ``field``."""
    found = Institution.objects.filter(code=str(code).removeprefix("Organization/"), active=True).first()
    if found is None:
        raise Refused(
            {
                field: T("没有代码为「{code}」的机构", "There is no institution “{code}”").format(
                    code=str(code)
                )
            }
        )
    return found


def department(owner: Institution | None, code: Any) -> Department:
    """A department of the receiver by its code; refuses naming ``to_department``."""
    found = (
        Department.objects.filter(institution=owner, code=str(code), active=True).first() if owner else None
    )
    if found is None:
        raise Refused(
            {
                "to_department": T(
                    "接诊机构没有科室「{code}」", "The receiver has no department “{code}”"
                ).format(code=str(code))
            }
        )
    return found


def department_of(scope: Any) -> int | None:
    """The department of the post in which somebody acts."""
    return (
        Post.objects.filter(pk=scope.post_id).values_list("department_id", flat=True).first()
        if scope.post_id
        else None
    )


def consortium_for(origin: Institution, target: Institution | None) -> Consortium | None:
    """The consortium whose policy and hub apply: one both belong to, else one of the referrer's."""
    own = directory.consortia_of(origin).select_related("lead").order_by("code")
    if target is not None:
        shared = own.filter(pk__in=directory.consortia_of(target).values("pk")).first()
        if shared is not None:
            return shared
    return own.first()


def check_route(subject: Referral, target: Institution) -> None:
    """Whether the patient may go there at all, in this direction; refuses naming ``to_institution``."""
    origin = subject.from_institution
    if target.pk == origin.pk:
        raise Refused({"to_institution": T("不能转给本机构", "A referral cannot go to its own institution")})
    gap = TIER_ORDER.index(target.tier) - TIER_ORDER.index(origin.tier)
    if (subject.direction == "up" and gap < 0) or (subject.direction == "down" and gap > 0):
        raise Refused(
            {
                "to_institution": T(
                    "转诊方向与机构层级不符", "The direction does not fit the tiers of the two institutions"
                )
            }
        )
    if not directory.may_refer(origin, target):
        raise Refused(
            {
                "to_institution": T(
                    "双方不在同一联合体，也没有生效的转诊协议",
                    "No shared consortium and no referral agreement in force",
                )
            }
        )


def fill(subject: Referral, data: Mapping[str, Any], day: dt.date) -> None:
    """Put a cleaned draft form into the row, ask the catalogue and keep its answer."""
    origin = Institution.objects.get(pk=subject.from_institution_id)
    subject.from_institution = origin
    for name in ("direction", "priority", "reason_code", "reason", "emergency", "override_reason", "pack"):
        setattr(subject, name, data[name])
    target = institution(data["to_institution"], "to_institution") if data.get("to_institution") else None
    subject.to_institution = target
    if target is not None:
        check_route(subject, target)
    subject.to_department = department(target, data["to_department"]) if data.get("to_department") else None
    subject.consortium = consortium_for(origin, target)
    subject.parent = parent(subject, data.get("parent") or "")
    subject.diagnosis_code = rules.icd(data["diagnosis_code"])
    known = codes.lookup(ICD, data["diagnosis_code"].strip()) or codes.lookup(ICD, subject.diagnosis_code)
    subject.diagnosis_name = data.get("diagnosis_name") or (known.display if known else "")
    if not subject.diagnosis_name:
        raise Refused(
            {
                "diagnosis_name": T(
                    "该代码不在诊断目录中，请写明诊断", "This code is not in the list; write the diagnosis"
                )
            }
        )
    given = {**person_facts(subject.person_id, day), **data["facts"]}
    answer = catalogue.answer(subject.diagnosis_code, given, origin, subject.consortium, day)
    subject.answer = {**answer.to_dict(), "given": given}
    fallback = subject.to_department.specialty if subject.to_department else ""
    subject.specialty = data.get("specialty") or answer.specialty or fallback
    if data.get("emergency") is False and answer.emergency and subject.direction == "up":
        # The catalogue's emergency is not overridden by silence: the priority follows it, the doctor sees why.
        subject.priority = "urgent" if subject.priority == "routine" else subject.priority


def parent(subject: Referral, number: str) -> Referral | None:
    """The referral this one follows (same person); refuses naming ``parent``."""
    if not number:
        return None
    found = (
        Referral.objects.unscoped("a referral names the one it follows")
        .filter(case__number=number, person_id=subject.person_id)
        .first()
    )
    if found is None:
        raise Refused(
            {"parent": T("没有该患者的转诊单 {n}", "This patient has no referral {n}").format(n=number)}
        )
    return found


def person_facts(person_id: int, day: dt.date) -> dict[str, Any]:
    """Facts the index knows: the age."""
    born = (
        Person.objects.unscoped("the age enters the catalogue's rules")
        .filter(pk=person_id)
        .values_list("birth_date", flat=True)
        .first()
    )
    if born is None:
        return {}
    return {"age": day.year - born.year - ((day.month, day.day) < (born.month, born.day))}


def discharge_answer(subject: Referral, data: Mapping[str, Any], day: dt.date) -> catalogue.Answer:
    """What the catalogue says at discharge, for the discharge diagnosis (or the referral's) at the receiver."""
    code = data.get("diagnosis_code") or subject.diagnosis_code
    given = {**person_facts(subject.person_id, day), **data.get("facts", {})}
    return catalogue.answer(code, given, subject.to_institution, subject.consortium, day)


def discharge_diagnosis(data: Mapping[str, Any]) -> dict[str, str]:
    """The discharge diagnosis that was given, with its name; what follows is about this one."""
    code = data.get("diagnosis_code") or ""
    if not code:
        return {}
    known = codes.lookup(codes.ICD10, code)
    return {
        "diagnosis_code": code,
        "diagnosis_name": data.get("diagnosis_name") or (known.display if known else code),
    }


def record_consent(ctx: Ctx, evidence: str, comment: str) -> int:
    """Keep the resident's consent in access; returns its id."""
    said = f"{reasons.label('consent', evidence).zh} {comment} {ctx.case.number}"
    kept = consent.record(
        ctx.by,
        ctx.subject.person_id,
        "referral",
        ctx.subject.to_institution_id,
        CONSENT_TEXT,
        " ".join(said.split()),
    )
    return kept.pk


def check_identity(ctx: Ctx) -> None:
    """The person at the counter is the one referred: by person number, card, or identity number; refuses ``identity``."""
    given = str(ctx.data["identity"]).strip().removeprefix("Patient/")
    person = Person.objects.unscoped("identity check at arrival").get(pk=ctx.subject.person_id)
    if given in (person.number, person.card_number):
        return
    kind, number, *_ = facts.read_id(person.id_type, given)
    if number and person.id_blind is not None and bytes(person.id_blind) == facts.id_blind(kind, number):
        return
    raise Refused(
        {
            "identity": T(
                "与转诊单上的患者不符，请核对证件或卡", "Not the patient referred; check the document or card"
            )
        }
    )


def home_code(subject: Referral) -> str:
    """Code of the institution that would take the patient back: the home institution, else the referrer."""
    return home(subject).code


def home(subject: Referral) -> Institution:
    """The patient's home institution if it is of the grassroots, else the referrer."""
    found = (
        Institution.objects.filter(
            Q(
                pk__in=Person.objects.unscoped("where the patient belongs")
                .filter(pk=subject.person_id)
                .values("home_institution_id")
            )
        )
        .filter(active=True)
        .first()
    )
    return found or subject.from_institution


def follower(subject: Referral, code: str) -> Institution:
    """Who follows up after closing: whoever the form names, else the lower of the two sides or the patient's home."""
    if code:
        return institution(code, "followup_institution")
    receiver = subject.to_institution
    if subject.direction == "down" and receiver is not None and receiver.kind in parties.GRASSROOTS_KINDS:
        return receiver
    if subject.from_institution.kind in parties.GRASSROOTS_KINDS:
        return subject.from_institution
    return home(subject)
