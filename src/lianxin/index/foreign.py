"""A FHIR R4 Patient as a registration. Tolerant: foreign and synthetic patients without Chinese identifiers are people too."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from lianxin.index.form import Registration
from lianxin.index.golden import CARD_SYSTEM, NUMBER_SYSTEM, RESIDENT_ID_SYSTEM
from lianxin.index.normal import names as normal

DOCUMENT_TYPES = {"PPN": "03", "SS": "99", "DL": "05"}
"""HL7 v2-0203 identifier types to CV02.01.101: passport, social security number, driving licence; earlier ones preferred."""
_RESIDENT_SYSTEMS = frozenset({RESIDENT_ID_SYSTEM, "urn:oid:2.16.156.10011.1.3"})


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _date(value: Any) -> dt.date | None:
    """A full date or date-time."""
    try:
        return dt.date.fromisoformat(_text(value)[:10])
    except ValueError:
        return None


def _name(names: list[dict[str, Any]]) -> str:
    """The official (or first) name: its text, else family and given, joined the way its script does."""
    order = {"official": 0, "usual": 1, "": 2}
    for name in sorted(names, key=lambda n: order.get(_text(n.get("use")), 3)):
        if text := _text(name.get("text")):
            return text
        family = _text(name.get("family"))
        given = name.get("given")
        parts = [p for p in (_text(g) for g in given) if p] if isinstance(given, list) else []
        if family or parts:
            return (
                " ".join([*parts, family]).strip()
                if (family or parts[0]).isascii()
                else family + "".join(parts)
            )
    return ""


_MOTHER = frozenset({"MTH", "NMTH", "GESTM"})
_GUARDIAN = frozenset({"GUARD", "FTH", "NFTH", "PRN", "PRNFOST"})
"""v3-RoleCode: those whose name stands for a child's; other contacts (a husband, a neighbour) say nothing about who somebody is."""


CONTACT_NUMBER = "http://lianxin.example/fhir/StructureDefinition/contact-identifier"
"""Extension of ``Patient.contact`` with a ``valueIdentifier``: R4 gives a contact no number of its own, and a newborn has only its mother's."""


@dataclass
class _Relative:
    name: str = ""
    number: str = ""


def _relatives(contacts: list[dict[str, Any]]) -> tuple[_Relative, _Relative]:
    """(mother, guardian) among the contacts, with their identity numbers."""
    mother, guardian = _Relative(), _Relative()
    for contact in contacts:
        name = contact.get("name")
        who = _name([name]) if isinstance(name, dict) else ""
        number = _contact_number(contact)
        for kind in _dicts(contact.get("relationship")) if who or number else ():
            codes = {_text(c.get("code")) for c in _dicts(kind.get("coding"))}
            text = _text(kind.get("text"))
            if codes & _MOTHER or text in ("母亲", "mother"):
                whose = mother
            elif codes & _GUARDIAN or text in ("监护人", "父亲", "guardian", "father"):
                whose = guardian
            else:
                continue
            if not whose.name and not whose.number:
                whose.name, whose.number = who, number
    return mother, guardian


def _contact_number(contact: dict[str, Any]) -> str:
    """The identity number of a contact; numbers of other kinds say nothing here."""
    for one in _dicts(contact.get("extension")):
        number = one.get("valueIdentifier") if one.get("url") == CONTACT_NUMBER else None
        if isinstance(number, dict) and _text(number.get("system")) in _RESIDENT_SYSTEMS:
            return _text(number.get("value"))
    return ""


def _latin_parts(people_names: list[dict[str, Any]], name: str) -> tuple[str, str]:
    """(family, given) of the name in Latin letters where they do not follow from the text by themselves (van der Berg)."""
    for one in people_names:
        family, given = _text(one.get("family")), one.get("given")
        parts = [p for p in (_text(g) for g in given) if p] if isinstance(given, list) else []
        if family.isascii() and family and name.isascii() and name == _name([one]):
            apart = normal.read("", family, " ".join(parts))
            return (family, " ".join(parts)) if apart.surname != normal.read(name).surname else ("", "")
    return "", ""


def _codes(identifier: dict[str, Any]) -> set[str]:
    kind = identifier.get("type")
    return {_text(c.get("code")) for c in _dicts(kind.get("coding"))} if isinstance(kind, dict) else set()


def _identity(identifiers: list[dict[str, Any]]) -> tuple[str, str, str]:
    """(document type, number, e-health card number)."""
    card = number = kind = ""
    best = len(DOCUMENT_TYPES) + 1
    for one in identifiers:
        value, system = _text(one.get("value")), _text(one.get("system"))
        if not value:
            continue
        if system in _RESIDENT_SYSTEMS:
            kind, number, best = "01", value, -1
        elif system == CARD_SYSTEM:
            card = value
        elif system.startswith("http://lianxin.example/id/document-") and best > 0:
            kind, number, best = system.rpartition("-")[2], value, 0
        else:
            for rank, (code, document) in enumerate(DOCUMENT_TYPES.items()):
                if code in _codes(one) and rank + 1 < best:
                    kind, number, best = document, value, rank + 1
    return kind, number, card


def _local_id(patient: dict[str, Any], identifiers: list[dict[str, Any]]) -> tuple[str, str]:
    """(system, local id): a medical record number when there is one, else the Patient's own id."""
    for one in identifiers:
        if "MR" in _codes(one) and _text(one.get("value")):
            return _text(one.get("system")) or "urn:lianxin:mr", _text(one.get("value"))
    for one in identifiers:
        system = _text(one.get("system"))
        known = system in _RESIDENT_SYSTEMS or system in (CARD_SYSTEM, NUMBER_SYSTEM)
        coded = _codes(one) & {*DOCUMENT_TYPES, "BCT"}
        if system and not known and not coded and _text(one.get("value")):
            return system, _text(one.get("value"))
    return "urn:lianxin:fhir", _text(patient.get("id"))


def registration_from_patient(
    resource: dict[str, Any],
    institution_id: int,
    *,
    patient_id: str | None = None,
    home_institution_id: int | None = None,
    system: str | None = None,
    local_id: str | None = None,
) -> Registration:
    """What a FHIR Patient says, as a :class:`Registration` for ``institution_id``.

    ``patient_id`` (default the resource's id) becomes the source's Patient id. Never raises for odd content: what cannot be
    read is left empty, and a patient without any name gets 无名氏, a placeholder that is never linked.
    """
    identifiers = _dicts(resource.get("identifier"))
    kind, number, card = _identity(identifiers)
    from_system, from_local = _local_id(resource, identifiers)
    address = next(iter(_dicts(resource.get("address"))), {})
    lines = address.get("line")
    words = [
        *([_text(line) for line in lines] if isinstance(lines, list) else []),
        *(_text(address.get(k)) for k in ("city", "state")),
    ]
    phones = [t for t in _dicts(resource.get("telecom")) if _text(t.get("system")) in ("phone", "sms")]
    phones.sort(key=lambda t: _text(t.get("use")) != "mobile")
    people_names = _dicts(resource.get("name"))
    current = [n for n in people_names if _text(n.get("use")) not in ("old", "maiden")]
    former = [n for n in people_names if _text(n.get("use")) in ("old", "maiden")]
    name = _name(current or people_names)
    family, given = _latin_parts(people_names, name)
    mother, guardian = _relatives(_dicts(resource.get("contact")))
    birth = _date(resource.get("birthDate"))
    order = resource.get("multipleBirthInteger")
    certificate = next((_text(i.get("value")) for i in identifiers if "BCT" in _codes(i)), "")
    sex = _text(resource.get("gender"))
    deceased = _date(resource.get("deceasedDateTime"))
    district = _text(address.get("district"))
    pid = patient_id or _text(resource.get("id")) or None
    return Registration(
        institution_id=institution_id,
        system=(system or from_system)[:200],
        local_id=(local_id or from_local or pid or "")[:200],
        name=name or "无名氏",
        sex=sex if sex in ("male", "female", "other") else "unknown",
        birth_date=birth,
        id_type=kind,
        id_no=number,
        phone=_text(phones[0].get("value")) if phones else "",
        address=_text(address.get("text")) or " ".join(w for w in words if w),
        division=district if district.isdigit() else "",
        home_institution_id=home_institution_id,
        card=card,
        deceased_on=deceased,
        patient_id=pid,
        phone2=_text(phones[1].get("value")) if len(phones) > 1 else "",
        guardian_name=guardian.name,
        guardian_id_no=guardian.number,
        mother_name=mother.name,
        mother_id_no=mother.number,
        birth_text="" if birth else _text(resource.get("birthDate"))[:40],
        family=family,
        given=given,
        birth_certificate=certificate,
        birth_order=order if type(order) is int and 0 < order < 10 else 0,
        former_name=_name(former) if current else "",
    )
