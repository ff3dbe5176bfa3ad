"""Values of CDA as FHIR and back: one place for types, codes, times, numbers and units.

What has no exact FHIR type keeps its CDA type in the extension ``CDA_TYPE``, so that it comes back as it was.  A value that does
not fit its type (``120/80`` as a PQ) becomes a string, and the caller is told.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any
from urllib.parse import quote, unquote

from lianxin.exchange.cda.kinds import rows
from lianxin.exchange.cda.model import Code, Id, Value
from lianxin.record.profiles.build import BASE

Json = dict[str, Any]

CDA_TYPE = BASE + "StructureDefinition/cda-type"
UCUM = "http://unitsofmeasure.org"
CURRENCY = "urn:iso:std:iso:4217"
LOCAL = "urn:lianxin:codesystem:"
"""Systems named by a word instead of an OID stand behind this."""

ICD10 = "http://hl7.org/fhir/sid/icd-10"
UNITS = {row["written"]: row["ucum"] for row in rows("units.tsv")}
_KNOWN = set(UNITS.values())
_OID = re.compile(r"[0-2](?:\.(?:0|[1-9]\d*))+")
_SYSTEMS = {row["oid"]: (row["url"], bool(row["both"])) for row in rows("systems.tsv")}
_OIDS: dict[str, str] = {}
for _oid, (_url, _) in _SYSTEMS.items():
    _OIDS[_url] = _oid
_OIDS[ICD10] = "2.16.156.10011.2.3.3.11.3"
_OIDS["http://hl7.org/fhir/sid/icd-9-cm"] = "2.16.156.10011.2.3.3.12"
_ICD = re.compile(r"ICD-?10", re.I)
_NUMBER = re.compile(r"[+-]?(?:\d{1,18}(?:\.\d{0,12})?|\.\d{1,12})(?:[eE][+-]?\d{1,2})?")
_COMPARED = re.compile(r"(<=|>=|<|>|≤|≥|＜|＞)\s*(.+)")
_COMPARATORS = {"≤": "<=", "≥": ">=", "＜": "<", "＞": ">"}
_TS = re.compile(
    r"(\d{4})(?:[-/.年]?(\d{1,2})(?:[-/.月]?(\d{1,2})日?(?:[T ]?(\d{2})(?::?(\d{2})(?::?(\d{2})(\.\d+)?)?)?)?)?)?"
    r"\s*(Z|[+-]\d{2}:?\d{2}|[+-]\d{2})?"
)
_YES = frozenset({"true", "1", "t", "y", "yes", "是", "有"})
_NO = frozenset({"false", "0", "f", "n", "no", "否", "无"})
_SYMBOLS = {"元": "CNY", "RMB": "CNY", "人民币": "CNY", "人民币元": "CNY", "￥": "CNY", "¥": "CNY", "": "CNY"}
NULLS = {
    "UNK": "unknown", "NI": "unknown", "ASKU": "asked-unknown", "NASK": "not-asked", "NAV": "temp-unknown", "MSK": "masked",
    "NA": "not-applicable", "NP": "not-applicable", "OTH": "unsupported", "UNC": "unsupported", "NINF": "negative-infinity",
    "PINF": "positive-infinity",
}  # fmt: skip
"""nullFlavor as data-absent-reason."""
_REASONS = {"unknown": "UNK", "asked-unknown": "ASKU", "not-asked": "NASK", "temp-unknown": "NAV", "masked": "MSK",
            "not-applicable": "NA", "unsupported": "OTH", "negative-infinity": "NINF", "positive-infinity": "PINF"}  # fmt: skip
TEXTS = frozenset({"ST", "ED", "SC", "ENXP", "ON", "PN", "TEL", "AD"})
NUMBERS = frozenset({"PQ", "REAL", "INT", "MO"})


# ------------------------------------------------------------------------------------------------------------ codes


def system(oid: str) -> str:
    """A code system of CDA as FHIR names it."""
    if oid in _SYSTEMS:
        return _SYSTEMS[oid][0]
    if _OID.fullmatch(oid):
        return f"urn:oid:{oid}"
    return oid if ":" in oid and " " not in oid else LOCAL + quote(oid)


def oid(url: str) -> str:
    """A code system of FHIR as CDA names it ("" when it has no OID: then the address itself has to stand in the name)."""
    if url.startswith("urn:oid:"):
        return url[8:]
    if url.startswith(LOCAL):
        return unquote(url[len(LOCAL) :])
    return _OIDS.get(url, url)


def codings(code: Code) -> list[Json]:
    """A code as codings: under the address of its system, and beside it under its OID where several lists share the address."""
    out: list[Json] = []
    word = " ".join(code.code.split())
    if word:
        one: Json = {"code": word}
        if code.display:
            one["display"] = code.display
        if code.system:
            url, both = _SYSTEMS.get(code.system, ("", False))
            if not url and _ICD.search(code.system_name):
                url, both = ICD10, True
            if both:
                out.append({"system": url, **one})
                url = f"urn:oid:{code.system}"
            one = {"system": url or system(code.system), **one}
        out.append(one)
    return out


def concept(code: Code, text: str = "") -> Json:
    """A code as a CodeableConcept; ``text`` wins over display and original text."""
    made: Json = {}
    found = codings(code)
    for other in code.others:
        if other.code:
            found += codings(other)
    if found:
        made["coding"] = found
    if words := text or code.text or code.display:
        made["text"] = words
    return made


def code_of(made: Json) -> Code:
    """A CodeableConcept as a code: of two codings of one code the one with the OID, the rest as translations."""
    out = Code()
    seen: set[str] = set()
    for one in made.get("coding", ()):
        code, url = one.get("code", ""), one.get("system", "")
        if not code:
            continue
        if not out.code:
            out.code, out.system, out.display = code, oid(url), one.get("display", "")
        elif (
            code == out.code
            and url.startswith("urn:oid:")
            and url[8:] in _SYSTEMS
            and _SYSTEMS[url[8:]][0] == system(out.system)
        ):
            out.system = url[8:]
        elif (key := f"{url}|{code}") not in seen:
            out.others.append(Code(code, oid(url), one.get("display", "")))
            seen.add(key)
    text = made.get("text", "")
    if text and text != out.display:
        if out.code and not out.display:
            out.display = text
        else:
            out.text = text
    return out


# ------------------------------------------------------------------------------------------------------------ times


def instant(ts: str) -> str:
    """A TS (or what vendors write for one) as a FHIR dateTime of the same precision; "" when it is no time."""
    found = _TS.fullmatch(ts.strip())
    if not found:
        return ""
    year, month, day, hour, minute, second, part, zone = found.groups()
    try:
        dt.date(int(year), int(month or 1), int(day or 1))
        if hour:
            dt.time(int(hour), int(minute or 0), int(second or 0))
    except ValueError:
        return ""
    if not month:
        return year
    if not day:
        return f"{year}-{int(month):02}"
    date = f"{year}-{int(month):02}-{int(day):02}"
    if not hour:
        return date
    if not zone:
        zone = "+08:00"
    elif zone != "Z":
        zone = f"{zone[:3]}:{zone[-2:] if len(zone) > 3 else '00'}"
    return f"{date}T{hour}:{minute or '00'}:{second or '00'}{(part or '')[:4]}{zone}"


def day(ts: str) -> str:
    """A TS as a FHIR date."""
    return instant(ts)[:10]


def stamp(instant: str) -> str:
    """A FHIR date, dateTime or instant as a TS; China's own zone is left out, as the templates do."""
    date, _, clock = instant.partition("T")
    out = date.replace("-", "")
    if clock:
        found = re.fullmatch(r"(\d{2}):(\d{2}):(\d{2})(\.\d+)?(Z|[+-]\d{2}:\d{2})?", clock)
        if found:
            hour, minute, second, part, zone = found.groups()
            tail = "" if zone in (None, "+08:00") else "+0000" if zone == "Z" else zone.replace(":", "")
            out += hour + minute + second + (part or "") + tail
    return out


# ---------------------------------------------------------------------------------------------------------- numbers


def number(text: str) -> int | float | None:
    """A number as JSON has it, or None."""
    text = text.strip().replace("，", "").replace("．", ".")
    if not _NUMBER.fullmatch(text):
        return None
    made = float(text)
    if made.is_integer() and abs(made) < 1e15:
        return int(made)
    return made


def quantity(text: str, unit: str) -> Json | None:
    """A number with its unit, UCUM where the unit is known; a comparator before the number is understood."""
    made: Json = {}
    compared = _COMPARED.fullmatch(text.strip())
    if compared:
        made["comparator"] = _COMPARATORS.get(compared[1], compared[1])
        text = compared[2]
    found = number(text)
    if found is None:
        return None
    made = {"value": found, **made}
    if unit := " ".join(unit.split()):
        made["unit"] = unit
        if ucum := UNITS.get(unit) or (unit if unit in _KNOWN else ""):
            made["system"], made["code"] = UCUM, ucum
    return made


def money(text: str, currency: str) -> Json | None:
    """An amount as a Quantity in the currency's ISO 4217 code (Observation has no Money)."""
    found = number(text)
    if found is None:
        return None
    code = _SYMBOLS.get(currency.strip(), currency.strip().upper())
    made: Json = {"value": found, "unit": currency.strip() or "元"}
    return {**made, "system": CURRENCY, "code": code} if re.fullmatch("[A-Z]{3}", code) else made


def plain(made: Json) -> str:
    """The number of a Quantity with its comparator, as text."""
    value = made.get("value")
    if value is None:
        return ""
    text = (
        f"{value:.12f}".rstrip("0").rstrip(".")
        if isinstance(value, float) and abs(value) < 1e15
        else str(value)
    )
    return made.get("comparator", "") + text


# ----------------------------------------------------------------------------------------------------------- values


def fhir(value: Value, unit: str = "") -> tuple[str, Any, str]:
    """A value as (name of value[x], JSON, CDA type to be kept with it); ("", None, "") when it says nothing.

    ``unit`` is what the data element is measured in, for a number without one.
    """
    kind = value.type
    if value.code is not None:
        made = concept(value.code)
        return ("valueCodeableConcept", made, "") if made else ("", None, "")
    if value.id is not None:
        return "valueString", str(value.id), "II"
    if value.low is not None or value.high is not None:
        return _interval(value, unit)
    text = value.text
    if not text:
        return "", None, ""
    if kind in ("PQ", "REAL", "RTO_QTY_QTY"):
        made_q = quantity(text, value.unit or (unit if kind == "PQ" else ""))
        return (
            ("valueQuantity", made_q, "") if made_q else ("valueString", f"{text} {value.unit}".strip(), "")
        )
    if kind == "MO":
        made_q = money(text, value.unit)
        return (
            ("valueQuantity", made_q, "") if made_q else ("valueString", f"{text} {value.unit}".strip(), "")
        )
    if kind == "INT":
        found = number(text)
        if isinstance(found, int) and abs(found) < 2**31 and not value.unit:
            return "valueInteger", found, ""
        made_q = quantity(text, value.unit)
        return ("valueQuantity", made_q, "INT") if made_q else ("valueString", text, "")
    if kind == "BL":
        low = text.lower()
        return ("valueBoolean", low in _YES, "") if low in _YES or low in _NO else ("valueString", text, "")
    if kind == "TS":
        when = instant(text)
        return ("valueDateTime", when, "") if when else ("valueString", text, "")
    return "valueString", text, "ED" if kind == "ED" else ""


def _interval(value: Value, unit: str) -> tuple[str, Any, str]:
    low, high = value.low, value.high
    if value.type.startswith("RTO"):
        halves = [quantity(v.text, v.unit) if v else None for v in (low, high)]
        if all(halves):
            return "valueRatio", {"numerator": halves[0], "denominator": halves[1]}, ""
    elif "TS" in value.type:
        made = period(value)
        if made:
            return "valuePeriod", made, ""
    else:
        found = {
            name: q
            for name, v in (("low", low), ("high", high))
            if v and (q := quantity(v.text, v.unit or unit))
        }
        if found and not any("comparator" in q for q in found.values()):
            return "valueRange", found, ""
    words = " – ".join(f"{v.text}{v.unit}" for v in (low, high) if v and v.text)
    return ("valueString", words, "") if words else ("", None, "")


def period(value: Value) -> Json:
    """An interval of time (or a moment, as its beginning) as a Period; empty when it says nothing, or ends before it began."""
    made: Json = {}
    if value.low and (start := instant(value.low.text)):
        made["start"] = start
    if value.high and (end := instant(value.high.text)):
        made["end"] = end
    if not made and (start := instant(value.text)):
        made["start"] = start
    if "start" in made and "end" in made and stamp(made["end"])[:8] < stamp(made["start"])[:8]:
        return {"start": made["start"]}
    return made


def put(into: Json, value: Value, unit: str = "") -> bool:
    """Write a value (or why there is none) into an Observation or component; whether the value fitted its type."""
    name, made, kept = fhir(value, unit)
    if name:
        into[name] = made
        if kept:
            holder = [{"url": CDA_TYPE, "valueCode": kept}]
            if isinstance(made, dict):
                into[name] = {"extension": holder, **made}
            else:
                into["_" + name] = {"extension": holder}
        return not (name == "valueString" and not kept and value.type not in TEXTS)
    if value.null:
        into["dataAbsentReason"] = absent(value.null)
    return True


def absent(null: str) -> Json:
    """A nullFlavor as a data-absent-reason."""
    code = NULLS.get(null, "unknown")
    return {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": code}]}


def value_of(one: Json) -> Value | None:
    """The value of an Observation or component as CDA has it; None when it has neither value nor reason."""
    for name, made in one.items():
        if name.startswith("value") and name != "valueSet":
            return _back(name, made, one)
    if reason := one.get("dataAbsentReason"):
        code = next((c.get("code", "") for c in reason.get("coding", ())), "unknown")
        return Value("ST", null=_REASONS.get(code, "UNK"))
    return None


def _kept(name: str, made: Any, one: Json) -> str:
    holder = made if isinstance(made, dict) else one.get("_" + name, {})
    return next((e.get("valueCode", "") for e in holder.get("extension", ()) if e.get("url") == CDA_TYPE), "")


def _back(name: str, made: Any, one: Json) -> Value | None:
    kept = _kept(name, made, one)
    if name == "valueString":
        if kept == "II":
            root, _, extension = made.partition("^")
            return Value("II", id=Id(root, extension))
        return Value(kept or "ST", made)
    if name == "valueCodeableConcept":
        return Value("CD", code=code_of(made))
    if name == "valueQuantity":
        return quantity_of(made, kept)
    if name == "valueInteger":
        return Value("INT", str(made))
    if name == "valueBoolean":
        return Value("BL", "true" if made else "false")
    if name in ("valueDateTime", "valueTime", "valueInstant", "valueDate"):
        return Value("TS", stamp(made))
    if name == "valuePeriod":
        return interval(made)
    if name == "valueRange":
        return Value("IVL_PQ", low=_half(made.get("low")), high=_half(made.get("high")))
    if name == "valueRatio":
        return Value("RTO_PQ_PQ", low=_half(made.get("numerator")), high=_half(made.get("denominator")))
    return None


def _half(made: Json | None) -> Value | None:
    return quantity_of(made, "PQ") if made else None


def quantity_of(made: Json, kept: str = "") -> Value:
    """A Quantity as PQ, MO (when its unit is a currency), or REAL (when it has none)."""
    if made.get("system") == CURRENCY:
        return Value("MO", plain(made), made.get("code", "CNY"))
    unit = made.get("unit") or made.get("code", "")
    return Value(kept or ("PQ" if unit else "REAL"), plain(made), unit)


def interval(made: Json) -> Value:
    """A Period as IVL<TS>."""
    low, high = made.get("start"), made.get("end")
    return Value(
        "IVL_TS",
        low=Value("TS", stamp(low)) if low else None,
        high=Value("TS", stamp(high)) if high else None,
    )
