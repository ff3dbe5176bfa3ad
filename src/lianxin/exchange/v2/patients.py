"""PID and NK1 as a FHIR Patient, tolerant of how Chinese vendors fill them.

Chinese names often stand whole in PID-5.1, identity numbers in PID-19 or in PID-3 under many type codes, the sex as 1 and 2
(GB/T 2261.1) or 男 and 女.  Nothing is invented; what cannot be read is left out, and a birth date that is none is refused.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any

from lianxin.exchange.v2 import authorities, errors
from lianxin.exchange.v2.errors import Place, Refused
from lianxin.exchange.v2.message import Message, Segment
from lianxin.index.foreign import CONTACT_NUMBER
from lianxin.index.golden import CARD_SYSTEM, RESIDENT_ID_SYSTEM
from lianxin.standards.text import T

if TYPE_CHECKING:
    from lianxin.exchange.v2.mapping import PatientSettings

RESIDENT_TYPES = frozenset(
    {"NI", "NNCHN", "NN", "NNCN", "IDCARD", "ID", "01", "SFZ", "身份证", "居民身份证", "CZ"}
)
CARD_TYPES = frozenset({"EHC", "EHEALTH", "JKK", "电子健康卡", "健康卡"})
DOCUMENTS = {"PPN": "PPN", "PP": "PPN", "03": "PPN", "DL": "DL"}
"""Types of PID-3.5 that are documents, as HL7 table 0203 calls them."""
LOCAL_FIRST = ("MR", "PI", "PT", "")
"""Types of a local number, the one that identifies best first."""
SEXES = {
    "M": "male", "F": "female", "O": "other", "A": "other", "U": "unknown", "N": "unknown",
    "1": "male", "2": "female", "0": "unknown", "9": "unknown", "男": "male", "女": "female", "未知": "unknown",
}  # fmt: skip
IDENTIFIER_TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
RELATION = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
MOTHERS_NAME = "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName"
ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
RELATIONS = {
    "MTH": "MTH", "FTH": "FTH", "PAR": "PRN", "GRD": "GUARD", "SPO": "SPS", "CHD": "CHILD", "SIB": "SIB", "EMC": "", "母亲": "MTH",
    "父亲": "FTH", "监护人": "GUARD", "配偶": "SPS",
}  # fmt: skip
_DATE = re.compile(r"(\d{4})(?:-?(\d{2})(?:-?(\d{2})(?:[T ]?[\d:.]*(?:[+-]\d{4})?)?)?)?")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def text_of(value: str) -> str:
    """A value as FHIR takes it: no control characters, no blanks around it."""
    return " ".join(_CONTROL.sub("", value).split())


def date_of(value: str, place: Place) -> str:
    """A date (DT or DTM) as FHIR: a year, a month or a day; "" for none (or a filler of zeros); refused when it is no date."""
    plain = value.strip()
    if not plain or not plain.strip("0 -:"):
        return ""
    found = _DATE.fullmatch(plain)
    if found:
        year, month, day = found.groups()
        if month in (None, "00"):
            return year
        if day in (None, "00"):
            return f"{year}-{month}" if 1 <= int(month) <= 12 else _no_date(place)
        try:
            return dt.date(int(year), int(month), int(day)).isoformat()
        except ValueError:
            pass
    return _no_date(place)


def _no_date(place: Place) -> str:
    raise Refused(
        errors.DATA_TYPE,
        T(
            "{place} 不是合法的日期，应为 YYYYMMDD。", "{place} is no valid date; it should be YYYYMMDD."
        ).format(place=str(place)),
        place,
    )


def numbers_of(segment: Segment, field: int, institution_id: int, fallback: str) -> list[dict[str, Any]]:
    """CX repetitions as Identifiers; documents and cards by what they are, everything else by its assigning authority."""
    out: list[dict[str, Any]] = []
    for n, parts in enumerate(segment.repetitions(field), 1):
        value = text_of(parts[0])
        if not value:
            continue
        kind = (parts[4] if len(parts) > 4 else "").strip().upper()
        hd = segment.subs(field, 4, n) if len(parts) > 3 else []
        namespace, universal, universal_type = (*hd, "", "", "")[:3]
        made = _document(kind, value)
        if made is None:
            system = authorities.system_of(
                institution_id, text_of(namespace), universal.strip(), universal_type.strip(), fallback
            )
            made = {"system": system, "value": value}
            if kind:
                made["type"] = (
                    {"coding": [{"system": IDENTIFIER_TYPE, "code": kind}]}
                    if kind.isascii()
                    else {"text": kind}
                )
        if made not in out:
            out.append(made)
    return out


def _document(kind: str, value: str) -> dict[str, Any] | None:
    if kind in CARD_TYPES:
        return {"system": CARD_SYSTEM, "value": value}
    if kind in DOCUMENTS:
        return {"type": {"coding": [{"system": IDENTIFIER_TYPE, "code": DOCUMENTS[kind]}]}, "value": value}
    if kind in RESIDENT_TYPES and _resident(value):
        return {"use": "official", "system": RESIDENT_ID_SYSTEM, "value": value.upper()}
    return None


def _resident(value: str) -> bool:
    """Whether it can be meant as an identity number (15 or 18 places), right or mistyped."""
    return bool(re.fullmatch(r"\d{15}|\d{17}[\dXx]", value))


def local_number(identifiers: list[dict[str, Any]]) -> tuple[str, str] | None:
    """System and value of the number its sender knows the patient by."""
    best: tuple[int, str, str] | None = None
    for one in identifiers:
        system = one.get("system", "")
        if not system or system in (RESIDENT_ID_SYSTEM, CARD_SYSTEM):
            continue
        coding = one.get("type", {}).get("coding", [{}])
        kind = coding[0].get("code", "")
        rank = LOCAL_FIRST.index(kind) if kind in LOCAL_FIRST else len(LOCAL_FIRST)
        if best is None or rank < best[0]:
            best = rank, system, one["value"]
    return best[1:] if best else None


def name_of(parts: list[str]) -> dict[str, Any] | None:
    """One XPN as a HumanName; a Chinese name as its text, family first."""
    family, given, second = (text_of(p) for p in (*parts, "", "", "")[:3])
    suffix, prefix = (text_of(p) for p in (*parts, "", "", "", "", "")[3:5])
    if not family and not given:
        return None
    made: dict[str, Any] = {}
    if not f"{family}{given}".isascii():
        made["text"] = f"{family}{given}{second}"
    if family:
        made["family"] = family
    if givens := [g for g in (given, second) if g]:
        made["given"] = givens
    if prefix and family.isascii():
        made["prefix"] = [prefix]
    if suffix and family.isascii():
        made["suffix"] = [suffix]
    kind = (parts[6] if len(parts) > 6 else "").upper()
    made["use"] = {"L": "official", "M": "maiden", "N": "nickname", "P": "usual", "S": "anonymous"}.get(
        kind, "official"
    )
    return made


def _names(segment: Segment) -> list[dict[str, Any]]:
    """Names of PID-5; written ones (ideographic) before alphabetic and phonetic ones."""
    reps = segment.repetitions(5)
    reps.sort(key=lambda p: {"I": 0, "": 1}.get((p[7] if len(p) > 7 else "").upper(), 2))
    return [name for name in map(name_of, reps) if name is not None]


def phones_of(segment: Segment, field: int, use: str) -> list[dict[str, Any]]:
    """XTN repetitions as ContactPoints (telephones only)."""
    out = []
    for parts in segment.repetitions(field):
        padded = [*parts, *[""] * 12][:12]
        number = text_of(padded[0] or padded[11] or "".join(padded[4:7]))
        equipment = padded[2].upper()
        if equipment in ("INTERNET", "X.400") or "@" in number or not any(c.isdigit() for c in number):
            continue
        digits = re.sub(r"\D", "", number)
        mobile = equipment == "CP" or (len(digits) == 11 and digits.startswith("1"))
        out.append({"system": "phone", "value": number, "use": "mobile" if mobile else use})
    return out


def address_of(segment: Segment) -> dict[str, Any] | None:
    """The first address with something in it."""
    for parts in segment.repetitions(11):
        street, other, city, state, zip_code, country = (
            text_of(p) for p in (*parts, "", "", "", "", "", "")[:6]
        )
        county = text_of(parts[8]) if len(parts) > 8 else ""
        lines = [x for x in (street, other) if x]
        made: dict[str, Any] = {
            "use": "home", "line": lines, "city": city, "state": state, "postalCode": zip_code, "country": country,
            "district": county if county.isdigit() and len(county) >= 6 else "",
        }  # fmt: skip
        whole = f"{state}{city}{'' if county.isdigit() else county}{street}{other}"
        if whole and not whole.isascii():
            made["text"] = whole
        made = {k: v for k, v in made.items() if v}
        if len(made) > 1:
            return made
    return None


def patient_of(
    message: Message,
    pid: Segment,
    institution_id: int,
    fallback: str,
    settings: PatientSettings | None = None,
) -> dict[str, Any]:
    """What PID (with NK1) says, as a Patient; raises Refused when it has no local number or no name.

    ``settings``: where this sender writes its local number, and its codes of the sexes.
    """
    field = settings.number_field if settings else 3
    identifiers = numbers_of(pid, field, institution_id, fallback)
    for other in (3, 2):
        identifiers = identifiers or numbers_of(pid, other, institution_id, fallback)
    identifiers += [i for i in numbers_of(pid, 4, institution_id, fallback) if i not in identifiers]
    if local_number(identifiers) is None:
        raise Refused(
            errors.REQUIRED,
            T("缺少患者标识 PID-3。", "The patient identifier PID-3 is missing."),
            Place("PID", 1, 3),
        )
    national = text_of(pid.text(19))
    if _resident(national) and not any(i.get("system") == RESIDENT_ID_SYSTEM for i in identifiers):
        identifiers.append({"use": "official", "system": RESIDENT_ID_SYSTEM, "value": national.upper()})
    names = _names(pid)
    if not names:
        raise Refused(
            errors.REQUIRED,
            T("缺少患者姓名 PID-5。", "The patient name PID-5 is missing."),
            Place("PID", 1, 5),
        )
    made: dict[str, Any] = {
        "resourceType": "Patient",
        "identifier": identifiers,
        "active": True,
        "name": names,
        "telecom": [*phones_of(pid, 13, "home"), *phones_of(pid, 14, "work"), *phones_of(pid, 40, "home")],
        "gender": _sex(pid, settings),
        "birthDate": date_of(pid.text(7), Place("PID", 1, 7)),
        **_deceased(pid),
        "address": [a for a in (address_of(pid),) if a],
        **_births(pid),
        "contact": _contacts(message, pid),
        "extension": [{"url": MOTHERS_NAME, "valueString": m} for m in (_mother(pid),) if m],
    }
    return {k: v for k, v in made.items() if v not in ("", [], None)}


def _sex(pid: Segment, settings: PatientSettings | None) -> str:
    given = pid.text(8).strip()
    if settings is not None:
        return settings.sex(given)
    return SEXES.get(given.upper(), "unknown") if given else ""


def _mother(pid: Segment) -> str:
    reps = pid.repetitions(6)
    name = name_of(reps[0]) if reps else None
    return (
        (name.get("text") or " ".join([*name.get("given", []), name.get("family", "")]).strip())
        if name
        else ""
    )


def _births(pid: Segment) -> dict[str, Any]:
    order = pid.text(25).strip()
    if order.isdigit() and 0 < int(order) < 20:
        return {"multipleBirthInteger": int(order)}
    return {"multipleBirthBoolean": True} if pid.text(24).upper() == "Y" else {}


def _deceased(pid: Segment) -> dict[str, Any]:
    died = date_of(pid.text(29), Place("PID", 1, 29))
    if died:
        return {"deceasedDateTime": died}
    return {"deceasedBoolean": True} if pid.text(30).upper() == "Y" else {}


def _contacts(message: Message, pid: Segment) -> list[dict[str, Any]]:
    """NK1 as contacts with their numbers (NK1-33); the mother's name (PID-6) and identity number (PID-21) go with her."""
    out: list[dict[str, Any]] = []
    for segment in message.every("NK1"):
        reps = segment.repetitions(2)
        name = name_of(reps[0]) if reps else None
        if name is None:
            continue
        code = RELATIONS.get(segment.text(3).strip().upper(), "")
        made: dict[str, Any] = {"name": name, **_numbered(segment, 33)}
        if code:
            made["relationship"] = _relation(code)
        if phones := phones_of(segment, 5, "home"):
            made["telecom"] = phones
        out.append(made)
    mother, number = _mother(pid), _numbered(pid, 21)
    known = next((c for c in out if c.get("relationship") == _relation("MTH")), None)
    if known is not None:
        out[out.index(known)] = {**number, **known}
    elif mother or number:
        name = {"text": mother} if mother else {"extension": [{"url": ABSENT, "valueCode": "unknown"}]}
        out.append({"name": name, "relationship": _relation("MTH"), **number})
    return out


def _relation(code: str) -> list[dict[str, Any]]:
    return [{"coding": [{"system": RELATION, "code": code}]}]


def _numbered(segment: Segment, field: int) -> dict[str, Any]:
    """The identity number in a CX field of a relative, as a contact's extension; numbers of other kinds are not kept."""
    for parts in segment.repetitions(field):
        value = text_of(parts[0])
        kind = (parts[4] if len(parts) > 4 else "").strip().upper()
        if _resident(value) and kind in (*RESIDENT_TYPES, ""):
            number = {"system": RESIDENT_ID_SYSTEM, "value": value.upper()}
            return {"extension": [{"url": CONTACT_NUMBER, "valueIdentifier": number}]}
    return {}


def overlay(old: dict[str, Any], new: dict[str, Any], pid: Segment) -> dict[str, Any]:
    """What was known with what is said now: an empty field says nothing, two quotes take away, numbers of one system replace."""
    gone = {
        "telecom": pid.deleted(13), "birthDate": pid.deleted(7), "gender": pid.deleted(8), "address": pid.deleted(11),
        "deceasedDateTime": pid.deleted(29) or "deceasedBoolean" in new, "deceasedBoolean": pid.deleted(30) or "deceasedDateTime" in new,
        "multipleBirthInteger": pid.deleted(25), "multipleBirthBoolean": pid.deleted(24) or "multipleBirthInteger" in new,
    }  # fmt: skip
    kept = {k: v for k, v in old.items() if not gone.get(k) and k not in ("meta", "text", "link")}
    systems = {i.get("system") for i in new["identifier"] if i.get("system")}
    earlier = [
        i for i in old.get("identifier", []) if i.get("system") not in systems and i not in new["identifier"]
    ]
    return {**kept, **new, "identifier": [*new["identifier"], *earlier]}
