"""Data elements that belong together as one resource (``data/families.tsv``), and how each part is written into it and read back.

A resource made so carries the elements it holds as extensions ``DATA_ELEMENT`` (code and the name the sender gave), in order: by
them it becomes the same elements again.  A part refuses (False) what it could not give back; such an element stays an Observation.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lianxin.exchange.cda import values
from lianxin.exchange.cda.elements import SYSTEM
from lianxin.exchange.cda.kinds import rows
from lianxin.exchange.cda.model import Code, Value
from lianxin.record.profiles.build import BASE

Json = dict[str, Any]
Put = Callable[[Json, Value], bool]
Get = Callable[[Json], "Value | None"]

DATA_ELEMENT = BASE + "StructureDefinition/data-element"
ELEMENTS = f"urn:oid:{SYSTEM}"
ICD10 = "http://hl7.org/fhir/sid/icd-10"
_ICD = re.compile(r"[A-Z]\d{2}(?:\.[0-9A-Za-z]{1,6})?[+*†]?(?:[0-9A-Za-z]{0,3})?")
_TERMS = "http://terminology.hl7.org/CodeSystem/"
_NEVER = re.compile(r"(?:无|否认|没有|未发现|不详|无特殊|无过敏史|否认药物及食物过敏史|none|no)[。.]?", re.I)


@dataclass(frozen=True)
class Row:
    """One element of a family. ``section``, ``kind``, ``value``: where and with what type it belongs to it."""

    family: str
    resource: str
    element: str
    part: str
    section: str
    kind: str
    value: str


ROWS = [Row(**row) for row in rows("families.tsv")]
BY_ELEMENT = {row.element: row for row in ROWS}
BY_RESOURCE: dict[str, list[Row]] = {}
for _row in ROWS:
    BY_RESOURCE.setdefault(_row.resource, []).append(_row)


def row_for(element: str, section: str, kind: str) -> Row | None:
    """The row of an element where it stands, or None when it belongs to no family there."""
    row = BY_ELEMENT.get(element)
    if row is None or (row.section and row.section != section) or (row.kind and row.kind != kind):
        return None
    return row


# ------------------------------------------------------------------------------------------------------ what a part is


def _text(value: Value) -> str:
    return value.text if value.type in values.TEXTS and value.code is None else ""


def _concept(name: str) -> tuple[Put, Get]:
    """A coded part: codings of ``name``; its text is left to the part "name" of the same resource."""

    def put(made: Json, value: Value) -> bool:
        code = value.code
        if code is None:
            text = _text(value)
            if not _ICD.fullmatch(text):
                return False
            code = Code(text, "2.16.156.10011.2.3.3.11.3")
        held = made.setdefault(name, {})
        if held.get("coding"):
            return False
        found = values.concept(code)
        if not found.get("coding"):
            if held.get("text"):
                return False
            held["text"] = found.get("text", "")
        else:
            held["coding"] = found["coding"]
            if code.text and code.text != code.display:
                held["coding"].append({"display": code.text})
        return bool(held)

    def get(made: Json) -> Value | None:
        held = made.get(name, {})
        if held.get("coding"):
            return Value("CD", code=values.code_of({"coding": held["coding"]}))
        return Value("CD", code=Code(text=held["text"])) if held.get("text") else None

    return put, get


def _words(*path: str) -> tuple[Put, Get]:
    """A text at a path of members; a number in the path is a place in a list of one."""

    def put(made: Json, value: Value) -> bool:
        text = _text(value)
        if not text:
            return False
        held: Any = made
        for step, following in itertools.pairwise(path):
            if step == "0":
                if not held:
                    held.append({})
                held = held[0]
            else:
                held = held.setdefault(step, [] if following == "0" else {})
        if held.get(path[-1]):
            return False
        held[path[-1]] = text
        return True

    def get(made: Json) -> Value | None:
        held: Any = made
        for step in path:
            if step == "0":
                held = held[0] if held else {}
            else:
                held = held.get(step) if isinstance(held, dict) else None
            if not held:
                return None
        return Value("ST", held) if isinstance(held, str) else None

    return put, get


def _when(name: str) -> tuple[Put, Get]:
    def put(made: Json, value: Value) -> bool:
        when = values.instant(value.text) if value.type in ("TS", "ST") else ""
        if not when or name in made:
            return False
        made[name] = when
        return True

    def get(made: Json) -> Value | None:
        return Value("TS", values.stamp(made[name])) if made.get(name) else None

    return put, get


def _coded(*path: str) -> tuple[Put, Get]:
    """A CodeableConcept of its own at a path."""

    def put(made: Json, value: Value) -> bool:
        if value.code is None:
            return False
        held: Any = made
        for step, following in itertools.pairwise(path):
            if step == "0":
                if not held:
                    held.append({})
                held = held[0]
            else:
                held = held.setdefault(step, [] if following == "0" else {})
        if path[-1] == "0":
            held.append(values.concept(value.code))
        else:
            held[path[-1]] = values.concept(value.code)
        return True

    def get(made: Json) -> Value | None:
        held: Any = made
        for step in path:
            held = (
                (held[0] if held else None)
                if step == "0"
                else held.get(step)
                if isinstance(held, dict)
                else None
            )
            if not held:
                return None
        return Value("CD", code=values.code_of(held))

    return put, get


def _dosage(made: Json) -> Json:
    name = "dosageInstruction" if made["resourceType"] == "MedicationRequest" else "dosage"
    found: Json = made.setdefault(name, [{}])[0]
    return found


def _held_dosage(made: Json) -> Json:
    found: list[Json] = made.get("dosageInstruction") or made.get("dosage") or []
    return found[0] if found else {}


def _put_dose(made: Json, value: Value) -> bool:
    found = values.quantity(value.text, value.unit)
    if found is None or "comparator" in found:
        return False
    _dosage(made)["doseAndRate"] = [{"doseQuantity": found}]
    return True


def _get_dose(made: Json) -> Value | None:
    rates: list[Json] = _held_dosage(made).get("doseAndRate") or [{}]
    found = rates[0].get("doseQuantity")
    return values.quantity_of(found, "PQ") if found else None


_FREQUENCY = re.compile(r"(?:次|/)?\s*(?:/|每)\s*(日|天|d|D|周|w|wk|小时|h)")
_PERIODS = {
    "日": "d",
    "天": "d",
    "d": "d",
    "D": "d",
    "周": "wk",
    "w": "wk",
    "wk": "wk",
    "小时": "h",
    "h": "h",
}


def _put_frequency(made: Json, value: Value) -> bool:
    """Words as the timing's text; a number of times a day, week or hour as frequency and period beside it."""
    if value.code is not None:
        _dosage(made)["timing"] = {"code": values.concept(value.code)}
        return True
    if not value.text:
        return False
    timing: Json = {"code": {"text": f"{value.text}{value.unit}" if value.unit else value.text}}
    every = _FREQUENCY.fullmatch(value.unit)
    if value.type == "PQ":
        times = values.number(value.text)
        if not isinstance(times, int) or not 0 < times < 100 or not every:
            if times is None:
                return False
            timing["code"]["coding"] = [{"code": value.text, "display": value.unit}]
        else:
            timing["repeat"] = {"frequency": times, "period": 1, "periodUnit": _PERIODS[every[1]]}
            timing["code"]["coding"] = [{"code": value.text, "display": value.unit}]
    _dosage(made)["timing"] = timing
    return True


def _get_frequency(made: Json) -> Value | None:
    timing = _held_dosage(made).get("timing")
    if not timing:
        return None
    code = timing.get("code", {})
    first: Json = (code.get("coding") or [{}])[0]
    if first and "system" not in first and values.number(first.get("code", "")) is not None:
        return Value("PQ", first["code"], first.get("display", ""))
    if first:
        return Value("CD", code=values.code_of(code))
    if code.get("text"):
        return Value("ST", code["text"])
    repeat = timing.get("repeat", {})
    if repeat.get("frequency") and repeat.get("period") == 1:
        unit = {"d": "次/日", "wk": "次/周", "h": "次/小时"}.get(repeat.get("periodUnit", ""), "")
        return Value("PQ", str(repeat["frequency"]), unit) if unit else None
    return None


def _put_usage(made: Json, value: Value) -> bool:
    text, dosage = _text(value), _dosage(made)
    if not text or "text" in dosage:
        return False
    dosage["text"] = text
    return True


def _put_route(made: Json, value: Value) -> bool:
    if value.code is None:
        return False
    _dosage(made)["route"] = values.concept(value.code)
    return True


def _get_route(made: Json) -> Value | None:
    route = _held_dosage(made).get("route")
    return Value("CD", code=values.code_of(route)) if route else None


def _get_usage(made: Json) -> Value | None:
    text = _held_dosage(made).get("text")
    return Value("ST", text) if text else None


def _put_number(made: Json, value: Value) -> bool:
    found = values.number(value.text)
    if not isinstance(found, int) or not 0 < found < 1000:
        return False
    made["protocolApplied"] = [{"doseNumberPositiveInt": found}]
    return True


def _get_number(made: Json) -> Value | None:
    applied: list[Json] = made.get("protocolApplied") or [{}]
    found = applied[0].get("doseNumberPositiveInt")
    return Value("INT", str(found)) if found else None


def _put_next(made: Json, value: Value) -> bool:
    when = values.instant(value.text)
    if not when:
        return False
    made["activity"] = [
        {"detail": {"kind": "Appointment", "status": "scheduled", "scheduledPeriod": {"start": when}}}
    ]
    return True


def _get_next(made: Json) -> Value | None:
    activities: list[Json] = made.get("activity") or [{}]
    detail = activities[0].get("detail", {})
    start = detail.get("scheduledPeriod", {}).get("start", "")
    return Value("TS", values.stamp(start)) if start else None


def _allergen(made: Json, value: Value) -> bool:
    """A substance; "none" and "denied" are no allergy (they stay an observation)."""
    text = _text(value)
    if not text or _NEVER.fullmatch(text) or "code" in made:
        return False
    made["code"] = {"text": text}
    return True


PARTS: dict[tuple[str, str], tuple[Put, Get]] = {
    ("Condition", "code"): _concept("code"),
    ("Condition", "name"): _words("code", "text"),
    ("AllergyIntolerance", "name"): (_allergen, _words("code", "text")[1]),
    ("Procedure", "code"): _concept("code"),
    ("Procedure", "name"): _words("code", "text"),
    ("Procedure", "time"): _when("performedDateTime"),
    ("Immunization", "code"): _concept("vaccineCode"),
    ("Immunization", "name"): _words("vaccineCode", "text"),
    ("Immunization", "lot"): _words("lotNumber"),
    ("Immunization", "time"): _when("occurrenceDateTime"),
    ("Immunization", "number"): (_put_number, _get_number),
    ("Immunization", "site"): _words("site", "text"),
    ("Immunization", "maker"): _words("manufacturer", "display"),
    ("Immunization", "place"): _words("location", "display"),
    ("ServiceRequest", "name"): _words("code", "text"),
    ("ServiceRequest", "category"): _coded("category", "0"),
    ("ServiceRequest", "note"): _words("note", "0", "text"),
    ("ServiceRequest", "reason"): _words("reasonCode", "0", "text"),
    ("ServiceRequest", "performer"): _words("performer", "0", "display"),
    ("ServiceRequest", "department"): _words("locationCode", "0", "text"),
    ("ServiceRequest", "time"): _when("occurrenceDateTime"),
    ("CarePlan", "name"): _words("description"),
    ("CarePlan", "next"): (_put_next, _get_next),
}
for _rtype in ("MedicationStatement", "MedicationRequest"):
    PARTS.update(
        {
            (_rtype, "name"): _words("medicationCodeableConcept", "text"),
            (_rtype, "usage"): (_put_usage, _get_usage),
            (_rtype, "frequency"): (_put_frequency, _get_frequency),
            (_rtype, "dose"): (_put_dose, _get_dose),
            (_rtype, "route"): (_put_route, _get_route),
        }
    )
BY_RESOURCE["MedicationRequest"] = BY_RESOURCE["MedicationStatement"]


def begun(rtype: str, subject: Json, negated: bool = False) -> Json:
    """A resource of a type with what R4 demands of it, before its parts."""
    patient = "patient" if rtype in ("AllergyIntolerance", "Immunization") else "subject"
    made: Json = {"resourceType": rtype}
    if rtype == "Condition":
        made["verificationStatus"] = _term("condition-ver-status", "refuted" if negated else "confirmed")
        if not negated:
            made["clinicalStatus"] = _term("condition-clinical", "active")
        made["category"] = [_term("condition-category", "encounter-diagnosis")]
    elif rtype == "AllergyIntolerance":
        made["verificationStatus"] = _term(
            "allergyintolerance-verification", "refuted" if negated else "confirmed"
        )
        made["clinicalStatus"] = _term("allergyintolerance-clinical", "active")
    elif rtype == "Procedure":
        made["status"] = "not-done" if negated else "completed"
    elif rtype == "MedicationStatement":
        made["status"] = "not-taken" if negated else "unknown"
    elif rtype == "MedicationRequest":
        made.update({"status": "active", "intent": "order"})
        if negated:
            made["doNotPerform"] = True
    elif rtype == "Immunization":
        made["status"] = "not-done" if negated else "completed"
    elif rtype == "ServiceRequest":
        made.update({"status": "active", "intent": "order"})
    elif rtype == "CarePlan":
        made.update({"status": "active", "intent": "plan"})
    made[patient] = subject
    return made


def finished(made: Json) -> None:
    """Members R4 demands that no part gave."""
    rtype = made["resourceType"]
    if rtype == "Immunization":
        made.setdefault("vaccineCode", {"text": "未说明"})
        if "occurrenceDateTime" not in made:
            made["occurrenceString"] = "未说明"
    elif rtype in ("MedicationStatement", "MedicationRequest"):
        made.setdefault("medicationCodeableConcept", {"text": "未说明"})


def _term(system: str, code: str) -> Json:
    return {"coding": [{"system": _TERMS + system, "code": code}]}


def holds(element: str, label: str) -> Json:
    """The mark that a resource holds a data element."""
    coding = {"system": ELEMENTS, "code": element}
    if label:
        coding["display"] = label
    return {"url": DATA_ELEMENT, "valueCoding": coding}


def held(made: Json) -> list[tuple[str, str]]:
    """The data elements a resource holds, with the names they came under."""
    return [
        (e["valueCoding"].get("code", ""), e["valueCoding"].get("display", ""))
        for e in made.get("extension", ())
        if e.get("url") == DATA_ELEMENT and "valueCoding" in e
    ]
