"""The person and the institution a document speaks of: recordTarget as a FHIR Patient, the custodian as one of ours."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q

from lianxin.access.scope import Scope, institutions_for
from lianxin.exchange.cda.model import Document, Id, Org, Party
from lianxin.exchange.feeds import people
from lianxin.exchange.feeds.errors import Refusal
from lianxin.exchange.feeds.models import CONSISTENCY, QUARANTINE, WARN
from lianxin.exchange.feeds.quality import Found
from lianxin.exchange.ihe import domains
from lianxin.exchange.v2.patients import RELATION, SEXES
from lianxin.index.foreign import CONTACT_NUMBER
from lianxin.index.golden import CARD_SYSTEM, RESIDENT_ID_SYSTEM
from lianxin.network import directory
from lianxin.network.models import Institution
from lianxin.standards.text import T, Text

RECORD_NUMBER = "2.16.156.10011.1.2"
"""城乡居民健康档案编号."""
VISITS = ("2.16.156.10011.1.11", "2.16.156.10011.1.12", "2.16.156.10011.1.13")
"""门(急)诊号, 住院号 and their like: numbers of visits, which some hospitals begin anew."""
URI = "urn:ietf:rfc:3986"
UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
OID = re.compile(r"[0-2](?:\.\d+)+")
PATIENT = "/ClinicalDocument/recordTarget/patientRole"
CUSTODIAN = "/ClinicalDocument/custodian"


@dataclass
class Said:
    """A Patient as a document tells it, the numbers to find it by (the best first), and what could not be read."""

    patient: dict[str, Any]
    numbers: list[people.Number]
    weak: set[str]
    warnings: list[Text] = field(default_factory=list)


def identifier(one: Id, fallback: str) -> dict[str, str] | None:
    """An II as an Identifier: an OID or UUID says its system by itself, else ``fallback`` does."""
    root, extension = one.root.strip(), one.extension.strip()
    if not extension:
        if UUID.fullmatch(root):
            return {"system": URI, "value": f"urn:uuid:{root.lower()}"}
        return {"system": URI, "value": f"urn:oid:{root}"} if OID.fullmatch(root) else None
    if OID.fullmatch(root):
        return {"system": f"urn:oid:{root}", "value": extension}
    if UUID.fullmatch(root):
        return {"system": f"urn:uuid:{root.lower()}", "value": extension}
    return {"system": fallback, "value": extension}


def patient_of(document: Document, institution_id: int) -> Said:
    """recordTarget as a Patient of ``institution_id``; refuses one without any number."""
    told = document.patient
    numbers: list[people.Number] = []
    identifiers: list[dict[str, Any]] = []
    weak: set[str] = set()
    late: list[people.Number] = []

    def add(one: dict[str, Any]) -> None:
        if one not in identifiers:
            identifiers.append(one)

    own = ""
    for one in told.ids:
        value = one.extension.strip() or one.root.strip()
        if value in (told.resident_id, told.card):
            continue
        if not one.extension.strip() and not UUID.fullmatch(one.root.strip()):
            continue  # a masked or empty number: its root alone says nobody
        if not OID.fullmatch(one.root) and not UUID.fullmatch(one.root):
            own = own or domains.own_system(institution_id)
        made = identifier(one, own)
        if made is None:
            continue
        if one.root in VISITS:
            weak.add(made["system"])
            late.append((made["system"], made["value"]))
        else:
            if one.root != RECORD_NUMBER:
                made["type"] = {
                    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]
                }  # type: ignore[assignment]
            numbers.append((made["system"], made["value"]))
        add(made)
    if told.resident_id:
        add({"use": "official", "system": RESIDENT_ID_SYSTEM, "value": told.resident_id.upper()})
        numbers.append((RESIDENT_ID_SYSTEM, told.resident_id.upper()))
    if told.card:
        add({"system": CARD_SYSTEM, "value": told.card})
        numbers.append((CARD_SYSTEM, told.card))
    numbers += late
    if not numbers:
        raise Refusal(
            "required",
            T(
                "文档没有患者标识（recordTarget/patientRole/id），无法归档；请填写患者号、身份证号或健康卡号。",
                "The document names no patient (recordTarget/patientRole/id); give a patient number, identity number or card.",
            ),
            PATIENT,
        )
    said = Said({}, numbers, weak)
    said.patient = _resource(document, identifiers, said.warnings)
    return said


def _resource(document: Document, identifiers: list[dict[str, Any]], warnings: list[Text]) -> dict[str, Any]:
    told = document.patient
    birth = _date(told.birth)
    if told.birth and not birth:
        warnings.append(
            T(
                "患者出生日期无法识别，未采用。",
                "The birth date of the patient cannot be read and was left out.",
            )
        )
    if not told.name:
        warnings.append(T("患者没有姓名。", "The patient has no name."))
    sex = SEXES.get(told.sex.code.strip().upper()) or SEXES.get(told.sex.label.strip()[:1])
    made: dict[str, Any] = {
        "resourceType": "Patient",
        "identifier": identifiers,
        "active": True,
        "name": [{"use": "official", "text": " ".join(told.name.split())}] if told.name.strip() else [],
        "telecom": [_phone(p) for p in told.phones if any(c.isdigit() for c in p)],
        "gender": sex or ("unknown" if told.sex else ""),
        "birthDate": birth,
        "address": [{"use": "home", "text": a} for a in told.addresses if a.strip()],
        "maritalStatus": {"text": told.marital.label} if told.marital.label else None,
        "contact": [c for c in (_contact(told.guardian),) if c],
    }
    return {k: v for k, v in made.items() if v not in ("", [], None)}


def _phone(text: str) -> dict[str, str]:
    plain = text.strip().removeprefix("tel:").strip()
    digits = re.sub(r"\D", "", plain)
    mobile = len(digits) == 11 and digits.startswith("1")
    return {"system": "phone", "value": plain[:60], "use": "mobile" if mobile else "home"}


def _contact(guardian: Party | None) -> dict[str, Any] | None:
    """The guardian, with an identity number when there is one."""
    if guardian is None or not guardian.name.strip():
        return None
    made: dict[str, Any] = {"name": {"text": guardian.name.strip()}}
    number = next((i.extension for i in guardian.ids if re.fullmatch(r"\d{17}[\dXx]", i.extension)), "")
    if number:
        value = {"system": RESIDENT_ID_SYSTEM, "value": number.upper()}
        made["extension"] = [{"url": CONTACT_NUMBER, "valueIdentifier": value}]
    made["relationship"] = [{"coding": [{"system": RELATION, "code": "GUARD"}]}]
    if guardian.phone.strip():
        made["telecom"] = [_phone(guardian.phone)]
    return made


def _date(ts: str) -> str:
    """A TS as a FHIR date, as exact as it is; "" when it is none."""
    digits = re.match(r"\d+", ts.strip().replace("-", ""))
    if digits is None:
        return ""
    year, month, day = digits[0][:4], digits[0][4:6], digits[0][6:8]
    try:
        if len(day) == 2 and day != "00":
            return dt.date(int(year), int(month), int(day)).isoformat()
        if len(month) == 2 and month != "00":
            return dt.date(int(year), int(month), 1).isoformat()[:7]
    except ValueError:
        return ""
    return year if len(year) == 4 and 1850 < int(year) < 2200 else ""


def disagreement(before: dict[str, Any] | None, said: dict[str, Any]) -> Found | None:
    """Whether the Patient as it stood is somebody else: another name and another birth date or identity number."""
    if before is None or not people.name_of(before) or not people.name_of(said):
        return None
    if people.name_of(before) == people.name_of(said):
        return None
    other = _differ(before.get("birthDate"), said.get("birthDate")) or _differ(
        _resident(before), _resident(said)
    )
    same = bool(_resident(before)) and _resident(before) == _resident(said)
    if other and not same:
        return Found(
            "document.person",
            QUARANTINE,
            PATIENT,
            T(
                "该患者号在贵机构登记的是另一个人（姓名和出生日期或证件号不一致），文档已暂存待核。",
                "Your institution registered somebody else under this number (name and birth date or identity number differ).",
            ),
            CONSISTENCY,
        )
    return Found(
        "document.name",
        WARN,
        PATIENT,
        T("患者姓名与贵机构登记的不同。", "The name differs from what your institution registered."),
        CONSISTENCY,
    )


def _differ(one: Any, two: Any) -> bool:
    return bool(one and two and one[:10] != two[: len(one)] and two[:10] != one[: len(two)])


def _resident(patient: dict[str, Any]) -> str:
    found = (
        i.get("value", "") for i in patient.get("identifier", []) if i.get("system") == RESIDENT_ID_SYSTEM
    )
    return next(found, "")


# ------------------------------------------------------------------------------------------------------------- institutions


def owner_of(document: Document, remembered: dict[Any, Institution | None]) -> Institution | None:
    """The institution of ours that keeps a document: its custodian, else its author's, by code (ours, USCC, 组织机构代码) or name.

    ``remembered`` spares asking again for the documents of one batch.
    """
    for org in [document.custodian, *(a.org for a in document.authors)]:
        for one in org.chain() if org else ():
            key = (*sorted(i.extension.strip() for i in one.ids), one.name.strip())
            if key not in remembered:
                remembered[key] = _institution(one)
            if found := remembered[key]:
                return found
    return None


def _institution(org: Org) -> Institution | None:
    codes = {i.extension.strip() for i in org.ids if i.extension.strip()}
    wanted = Q(code__in=codes) | Q(uscc__in=codes)
    for code in codes:
        plain = code.replace("-", "").upper()
        if re.fullmatch(r"[0-9A-Z]{9}", plain):
            wanted |= Q(uscc__regex=f"^.{{8}}{plain}.$")
    found = list(Institution.objects.filter(wanted)[:2]) if codes else []
    if len(found) == 1:
        return found[0]
    name = org.name.strip()
    named = list(Institution.objects.filter(name=name)[:2]) if name else []
    return named[0] if len(named) == 1 else None


def source_of(
    scope: Scope, document: Document, remembered: dict[Any, Institution | None] | None = None
) -> Institution:
    """The institution a document comes from. Refuses one that another institution keeps.

    A system that belongs to an institution sends its own documents (and those of its village clinics); the platform's own
    systems send for everybody, and what names none of ours comes from outside.
    """
    known = {} if remembered is None else remembered
    owner = owner_of(document, known)
    if scope.institution_id is None:
        return owner or directory.outside()
    own = known.get(scope.institution_id) or Institution.objects.get(pk=scope.institution_id)
    known[scope.institution_id] = own
    if owner is None or owner.pk == own.pk:
        return own
    if owner.pk in (scope.institution_ids or institutions_for(own)):
        return owner
    raise Refusal(
        "forbidden",
        T(
            "文档由{other}保管，贵机构只能报送本机构的文档。",
            "The document is kept by {other}; your institution sends its own documents only.",
        ).format(other=owner.label),
        CUSTODIAN,
    )
