"""An examined item as WS/T 445 has it (item code, name, value, unit, judgement: five elements) as one Observation, and back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lianxin.exchange.cda import families, values
from lianxin.exchange.cda.model import Code, Entry, Value

if TYPE_CHECKING:
    from lianxin.exchange.cda.sorting import Group

Json = dict[str, Any]

LABORATORY = {
    "DE04.30.019.00": "item",
    "DE04.30.020.00": "name",
    "DE04.30.015.00": "value",
    "DE04.30.016.00": "unit",
    "DE04.30.017.00": "judgement",
}
ITEMS = values.LOCAL + "item"
"""System of item codes that were sent as plain text."""
_CODE = re.compile(r"[0-9A-Za-z][0-9A-Za-z.\-_/]{0,39}")


def fill(made: Json, group: Group) -> list[Entry]:
    """Put the parts into an Observation; gives back the entries that did not fit."""
    rest: list[Entry] = []
    marks: list[Json] = []
    found = dict(group.parts)
    code: Json = {}
    for part, entry in group.parts:
        value = entry.values[0]
        if (
            len(entry.values) > 1
            or (part == "unit" and (value.type not in values.TEXTS or not _measured(found)))
            or not _put(part, value, code, made)
        ):
            rest.append(entry)
        else:
            marks.append(families.holds(entry.element, entry.label))
    unit = found.get("unit")
    if unit is not None and unit not in rest and "valueQuantity" in made:
        made["valueQuantity"] = values.quantity(values.plain(made["valueQuantity"]), unit.values[0].text)
    if not code:
        first = next((e for e in group.entries if e not in rest), group.entries[0])
        code = {
            "coding": [{"system": families.ELEMENTS, "code": first.element}],
            "text": first.label or first.element,
        }
    made["code"] = code
    if not made.get("category"):
        made["category"] = [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "laboratory",
                    }
                ]
            }
        ]
    if marks:
        made["extension"] = marks
    return rest


def _measured(found: dict[str, Entry]) -> bool:
    """Whether there is a number for the unit to stand behind, without a unit of its own."""
    value = found.get("value")
    if value is None or len(value.values) != 1:
        return False
    one = value.values[0]
    return not one.unit and one.code is None and values.quantity(one.text, "") is not None


def _put(part: str, value: Value, code: Json, made: Json) -> bool:
    if part == "item":
        if value.code is not None:
            codings = values.codings(value.code)
            if not codings:
                return False
            code["coding"] = codings
            if value.code.display and "text" not in code:
                code["text"] = value.code.display
            return True
        text = value.text
        if value.type not in values.TEXTS or not text:
            return False
        if _CODE.fullmatch(text):
            code["coding"] = [{"system": ITEMS, "code": text}]
        else:
            code["coding"] = [{"system": ITEMS, "display": text}]
        code.setdefault("text", text)
        return True
    if part == "name":
        if value.type not in values.TEXTS or not value.text:
            return False
        code["text"] = value.text
        return True
    if part == "value":
        if value.code is not None:
            made["valueCodeableConcept"] = values.concept(value.code)
            return True
        return values.put(made, value) and any(name.startswith("value") for name in made)
    if part == "unit":
        return True
    if value.code is None:
        return False
    made["interpretation"] = [values.concept(value.code)]
    return True


def parts(made: Json, marks: list[tuple[str, str]]) -> list[tuple[str, str, Value]]:
    """The elements an Observation made here holds: (element, label, value)."""
    out: list[tuple[str, str, Value]] = []
    held = {LABORATORY.get(element, ""): (element, label) for element, label in marks}
    for part, (element, label) in held.items():
        value = _get(part, made, "unit" in held)
        if value is not None:
            out.append((element, label, value))
    return out


def _get(part: str, made: Json, apart: bool) -> Value | None:
    code = made.get("code", {})
    if part == "item":
        first: Json = (code.get("coding") or [{}])[0]
        if first.get("system") == ITEMS:
            return Value("ST", first.get("code") or first.get("display", ""))
        return Value("CD", code=values.code_of({"coding": code["coding"]})) if code.get("coding") else None
    if part == "name":
        return Value("ST", code["text"]) if code.get("text") else None
    if part == "value":
        value = values.value_of(made)
        if value is not None and apart:
            value = Value("REAL", value.text)
        return value
    if part == "unit":
        unit = made.get("valueQuantity", {}).get("unit", "")
        return Value("ST", unit) if unit else None
    if part == "judgement":
        judged: list[Json] = made.get("interpretation") or []
        return Value("CD", code=values.code_of(judged[0])) if judged else None
    return None


def native(made: Json) -> list[tuple[str, Value]]:
    """A laboratory Observation of any origin as the five elements."""
    code = made.get("code", {})
    out: list[tuple[str, Value]] = []
    found = values.code_of(code)
    if found.code:
        out.append(("DE04.30.019.00", Value("CD", code=Code(found.code, found.system, found.display))))
    if name := code.get("text") or found.display:
        out.append(("DE04.30.020.00", Value("ST", name)))
    value = values.value_of(made)
    if value is not None and (value or value.null):
        if value.type == "PQ":
            out.append(("DE04.30.015.00", Value("REAL", value.text)))
            out.append(("DE04.30.016.00", Value("ST", value.unit)))
        else:
            out.append(("DE04.30.015.00", value))
    if judged := next(iter(made.get("interpretation", ())), None):
        out.append(("DE04.30.017.00", Value("CD", code=values.code_of(judged))))
    return out
